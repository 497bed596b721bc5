//! What every route and every connection shares: the ports, the tails, the users. Must never hold what another role
//! holds: no signing key, no engine's socket, no model key.

use crate::assets::Assets;
use crate::auth::Auth;
use crate::bridge::health::Health;
use crate::bridge::hub::Hub;
use crate::problem::{Code, Problem};
use crate::settings::HttpSettings;
use custody_contracts::messages::ErrorDoc;
use custody_engine::runners::Runners;
use custody_ledger::Log;
use custody_ports::asks::{AskFailed, Asks, Launcher};
use custody_ports::blobs::Blobs;
use custody_ports::clock::Clock;
use custody_ports::pages::{LogPages, OutputPages};
use custody_ports::sign_in::IdentityProvider;
use custody_streams::subject::LogSubject;
use custody_trust::verify::KeptHead;
use futures::future::BoxFuture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// The log as it is stored, with sealed words sealed: only that can be verified. And what the operator knows beside it:
/// checkpoints kept outside, and whose log it must be.
#[derive(Clone)]
pub struct Evidence {
    /// The ledger as it is stored.
    pub log: Arc<dyn Log>,
    /// The same, a page at a time.
    pub pages: Arc<dyn LogPages>,
    /// Heads of checkpoints that were kept outside.
    pub kept: Arc<dyn Fn() -> Vec<KeptHead> + Send + Sync>,
    /// The first key that the log must have.
    pub root_key: Option<String>,
}

/// Facts about the installation that only the edge can ask for, as one JSON object.
pub type Probe = Arc<dyn Fn() -> BoxFuture<'static, Value> + Send + Sync>;

/// Everything the role is given.
pub struct Parts {
    /// What the operator decided.
    pub settings: HttpSettings,
    /// Users and sessions.
    pub auth: Auth,
    /// Who else vouches for people who sign in.
    pub provider: Option<Arc<dyn IdentityProvider>>,
    /// The ledger, to be shown.
    pub log: Arc<dyn Log>,
    /// The same, a page at a time.
    pub pages: Arc<dyn LogPages>,
    /// The output.
    pub output: Arc<dyn OutputPages>,
    /// Arguments of calls that wait, to be shown to who decides. Nothing else is read here.
    pub blobs: Arc<dyn Blobs>,
    /// Projector and authority.
    pub asks: Arc<dyn Asks>,
    /// The web chat's own launcher.
    pub launcher: Arc<dyn Launcher>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Runner documents.
    pub runners: Runners,
    /// What proves the log from outside.
    pub evidence: Evidence,
    /// How the installation is.
    pub probe: Probe,
    /// The role ends.
    pub cancel: CancellationToken,
}

/// The role's shared state. Clones share it.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

/// See [`Parts`].
pub struct Inner {
    /// What it was given.
    pub parts: Parts,
    /// The tails.
    pub hub: Hub,
    /// How the installation is, looked at once for everybody.
    pub health: Health,
    /// The UI.
    pub assets: Assets,
    places: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Deref for Api {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Deref for Inner {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Api {
    /// From its parts and the tails.
    pub fn new(parts: Parts, hub: Hub) -> Api {
        let assets = Assets::new(parts.settings.ui.clone());
        let health = Health::default();
        Api(Arc::new(Inner { parts, hub, health, assets, places: Arc::default() }))
    }

    /// Asks the projector.
    ///
    /// # Errors
    /// What the projector refused, or that it did not answer.
    pub async fn query(&self, verb: &str, body: Value) -> Result<Value, Problem> {
        let subject = LogSubject::query(verb).map_err(|e| Problem::new(Code::Internal, e))?;
        self.ask(&subject.to_string(), body).await
    }

    /// Commands the authority.
    ///
    /// # Errors
    /// What the authority refused, or that it did not answer.
    pub async fn command(&self, verb: &str, body: Value) -> Result<Value, Problem> {
        let subject = LogSubject::command(verb).map_err(|e| Problem::new(Code::Internal, e))?;
        self.ask(&subject.to_string(), body).await
    }

    /// Asks the runtime what a workspace holds. It answers whoever may ask at all: who may see it is decided before.
    ///
    /// # Errors
    /// `NOT_FOUND`, what is wrong with the workspace, or that nobody answered.
    pub async fn content(&self, verb: &str, body: Value) -> Result<Value, Problem> {
        let subject = LogSubject::content(verb).map_err(|e| Problem::new(Code::Internal, e))?;
        self.ask(&subject.to_string(), body).await
    }

    async fn ask(&self, subject: &str, body: Value) -> Result<Value, Problem> {
        let bytes = self.asks.ask(subject, body.to_string().into_bytes()).await.map_err(|error| match error {
            AskFailed::NobodyThere(_) => {
                Problem::new(Code::Unavailable, "the role that answers this is not running").hint("custody status")
            }
            AskFailed::TimedOut(_) => Problem::new(Code::TimedOut, "no answer in time").hint("custody status"),
            AskFailed::Lost(_) => {
                Problem::new(Code::Unavailable, "the connection to NATS is lost").hint("custody doctor")
            }
        })?;
        let mut value: Value =
            serde_json::from_slice(&bytes).map_err(|_| Problem::new(Code::Internal, "an answer that is no JSON"))?;
        match value.get_mut("ok") {
            Some(ok) => Ok(ok.take()),
            None => match serde_json::from_value::<ErrorDoc>(value) {
                Ok(doc) => Err(doc.into()),
                Err(_) => Err(Problem::new(Code::Internal, "an answer of no known form")),
            },
        }
    }

    /// A place for one more connection of a person; it is given back when the value is dropped.
    ///
    /// # Errors
    /// `TOO_MANY_STREAMS`.
    pub fn place(&self, subject: &str) -> Result<Place, Problem> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = places.values().sum();
        let own = places.entry(subject.to_owned()).or_insert(0);
        if all >= crate::bridge::CONNECTIONS_MAX || *own >= crate::bridge::CONNECTIONS_EACH_MAX {
            return Err(Problem::new(Code::TooManyStreams, "close a page that is open elsewhere"));
        }
        *own += 1;
        Ok(Place { subject: subject.to_owned(), places: self.places.clone() })
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

/// One connection's place.
#[derive(Debug)]
pub struct Place {
    subject: String,
    places: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = places.get_mut(&self.subject) {
            *own -= 1;
            if *own == 0 {
                places.remove(&self.subject);
            }
        }
    }
}
