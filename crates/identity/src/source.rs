//! The identity of this process from the Workload API at a socket, whoever serves it. Must never hand out a certificate that
//! has ended, and never stop asking.

use custody_contracts::spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
use custody_ports::clock::Clock;
use custody_ports::identity::{Bundles, Identity, IdentityError, PrivateKey, Svid, WorkloadIdentity};
use futures::StreamExt;
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The longest wait for a connection and for the first answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Between two tries: at first, and at most.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The most trust domains, and the most authorities of one.
const BUNDLES_MAX: usize = 64;

/// Why there is no identity, or none any more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Api(#[from] WorkloadApiError),
    #[error("no answer within {} s", ANSWER_MAX.as_secs())]
    Silent,
    #[error("it ended its answers")]
    Ended,
    #[error("no new certificate came before the last one ended")]
    NotRenewed,
    #[error("its certificate cannot be used: {0}")]
    Odd(String),
}

impl From<SpiffeIdError> for Lost {
    fn from(error: SpiffeIdError) -> Lost {
        Lost::Odd(error.to_string())
    }
}

/// The Workload API at one socket.
#[derive(Clone)]
pub struct Source {
    endpoint: String,
    clock: Arc<dyn Clock>,
    told: watch::Sender<Option<Arc<Identity>>>,
    why: Arc<Mutex<String>>,
}

impl Source {
    /// At an endpoint such as `unix:/run/spire/agent/api.sock`. Nothing is asked before [`Source::run`].
    pub fn new(endpoint: &str, clock: Arc<dyn Clock>) -> Source {
        let why = Arc::new(Mutex::new("the Workload API has not answered".to_owned()));
        Source { endpoint: endpoint.to_owned(), clock, told: watch::Sender::new(None), why }
    }

    /// Follows until cancelled; asks anew whenever the answers end.
    pub async fn run(self, cancel: CancellationToken) {
        let mut wait = RETRY_MIN;
        loop {
            let before = self.told.borrow().as_ref().map(|identity| identity.version);
            let lost = tokio::select! {
                () = cancel.cancelled() => return,
                lost = self.follow() => lost,
            };
            tracing::warn!(endpoint = self.endpoint, %lost, "no answers of the Workload API");
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) = lost.to_string();
            let after = self.told.borrow().as_ref().map(|identity| identity.version);
            wait = if before == after { (wait * 2).min(RETRY_MAX) } else { RETRY_MIN };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Waits until there is an identity, `most` at the longest.
    ///
    /// # Errors
    /// [`IdentityError`] when none has come by then.
    pub async fn ready(&self, most: Duration) -> Result<(), IdentityError> {
        let mut told = self.told.subscribe();
        // Whether one came in time is what `current` says.
        drop(tokio::time::timeout(most, told.wait_for(Option::is_some)).await);
        self.current().map(|_| ())
    }

    /// Each version as it comes, for who has to do something then.
    pub fn changes(&self) -> watch::Receiver<Option<Arc<Identity>>> {
        self.told.subscribe()
    }

    async fn follow(&self) -> Lost {
        match self.answers().await {
            Err(lost) => lost,
            Ok(never) => match never {},
        }
    }

    async fn answers(&self) -> Result<std::convert::Infallible, Lost> {
        let opening = async {
            let client = WorkloadApiClient::connect_to(&self.endpoint).await?;
            client.stream_x509_contexts().await
        };
        let opened = tokio::time::timeout(ANSWER_MAX, opening).await.map_err(|_| Lost::Silent)??;
        let mut contexts = pin!(opened);
        let mut most = ANSWER_MAX;
        loop {
            let Ok(next) = tokio::time::timeout(most, contexts.next()).await else {
                return Err(if self.told.borrow().is_some() { Lost::NotRenewed } else { Lost::Silent });
            };
            let (svid, bundles) = read(&next.ok_or(Lost::Ended)??)?;
            most = Duration::from_secs(svid.not_after.saturating_sub(self.now()).max(1));
            self.tell(svid, bundles);
        }
    }

    fn tell(&self, svid: Svid, bundles: Bundles) {
        self.told.send_if_modified(|told| {
            let version = told.as_ref().map_or(0, |old| old.version);
            let same = told.as_ref().is_some_and(|old| old.svid == svid && old.bundles == bundles);
            if !same {
                tracing::info!(id = %svid.id, not_after = svid.not_after, "workload identity");
                *told = Some(Arc::new(Identity { version: version + 1, svid, bundles }));
            }
            !same
        });
    }

    fn now(&self) -> u64 {
        self.clock.now().0 / 1_000
    }
}

impl WorkloadIdentity for Source {
    fn current(&self) -> Result<Arc<Identity>, IdentityError> {
        let Some(identity) = self.told.borrow().clone() else {
            return Err(IdentityError::NotYet(self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()));
        };
        if identity.svid.not_after < self.now() {
            return Err(IdentityError::Ended(identity.svid.id.clone()));
        }
        Ok(identity)
    }
}

/// The first certificate of an answer, which is the one to use where nothing says otherwise (SPIFFE Workload API, 5.3), and
/// all authorities.
fn read(context: &X509Context) -> Result<(Svid, Bundles), Lost> {
    let first = context.default_svid().ok_or_else(|| Lost::Odd("there is none".into()))?;
    let (_, leaf) = X509Certificate::from_der(first.leaf().as_bytes()).map_err(|e| Lost::Odd(e.to_string()))?;
    let svid = Svid {
        id: SpiffeId::parse(&first.spiffe_id().to_string())?,
        chain: first.cert_chain().iter().map(|certificate| certificate.as_bytes().to_vec()).collect(),
        key: PrivateKey::new(first.private_key().as_bytes().to_vec()),
        not_after: u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0),
    };
    let mut bundles = BTreeMap::new();
    for (domain, bundle) in context.bundle_set().iter() {
        if bundles.len() >= BUNDLES_MAX || bundle.authorities().len() > BUNDLES_MAX {
            return Err(Lost::Odd(format!("more than {BUNDLES_MAX} trust domains or authorities of one")));
        }
        let authorities = bundle.authorities().iter().map(|certificate| certificate.as_bytes().to_vec()).collect();
        bundles.insert(TrustDomain::parse(domain.as_str())?, authorities);
    }
    Ok((svid, bundles))
}
