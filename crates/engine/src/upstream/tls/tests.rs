//! A server over real TLS that wants a certificate of the gateway: who is taken, by either side, and who is not. Every refusal
//! stands beside the honest call, which differs from it in one thing.

use super::super::{ServerConfig, Upstreams};
use custody_contracts::spiffe::{SpiffeId, TrustDomain};
use custody_ports::identity::{Identity, IdentityError, PrivateKey, Svid, WorkloadIdentity};
use custody_ports::secrets::{SecretError, SecretText, Secrets};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rstest::rstest;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig as Tls};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio_rustls::TlsAcceptor;

const GATEWAY: &str = "spiffe://td.test/gateway";
const FILES: &str = "spiffe://td.test/workload/files";

fn domain() -> TrustDomain {
    TrustDomain::parse("td.test").unwrap()
}

struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

/// Years of a certificate's life: all of them, or those that have passed or are to come.
#[derive(Clone, Copy)]
enum Life {
    Good,
    Ended,
    NotYet,
}

impl Ca {
    fn new() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.subject_alt_names = vec![SanType::URI(domain().id().try_into().unwrap())];
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Ca { certificate, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, ids: &[&str], life: Life) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let (from, to) = match life {
            Life::Good => (1975, 4096),
            Life::Ended => (1975, 1976),
            Life::NotYet => (4095, 4096),
        };
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = ids.iter().map(|id| SanType::URI((*id).try_into().unwrap())).collect();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }
}

/// What the gateway has, settable.
struct Fake(Mutex<Result<Arc<Identity>, IdentityError>>);

impl Fake {
    fn of(version: u64, leaf: &Leaf, ca: &Ca) -> Arc<Identity> {
        Arc::new(Identity {
            version,
            svid: Svid {
                id: SpiffeId::parse(GATEWAY).unwrap(),
                chain: leaf.chain.iter().map(|certificate| certificate.to_vec()).collect(),
                key: PrivateKey::new(leaf.key.clone()),
                not_after: u64::MAX,
            },
            bundles: BTreeMap::from([(domain(), vec![ca.certificate.to_vec()])]),
        })
    }

    fn set(&self, now: Result<Arc<Identity>, IdentityError>) {
        *self.0.lock().unwrap() = now;
    }
}

impl WorkloadIdentity for Fake {
    fn current(&self) -> Result<Arc<Identity>, IdentityError> {
        self.0.lock().unwrap().clone()
    }
}

struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, reference: &str) -> Result<SecretText, SecretError> {
        Err(SecretError::Unknown(reference.to_owned()))
    }

    fn replace(&self, reference: &str, _: &SecretText, _: &SecretText) -> Result<bool, SecretError> {
        Err(SecretError::Unwritable(reference.to_owned()))
    }
}

/// The certificates that callers showed, one a connection.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let message: Value = serde_json::from_slice(&body).unwrap();
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({ "protocolVersion": "2025-06-18", "capabilities": {} }),
        _ => json!({ "tools": [{ "name": "read", "description": "Reads.", "inputSchema": { "type": "object" } }] }),
    };
    let text = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
    Ok(Response::builder().header("content-type", "application/json").body(Full::new(text.into())).unwrap())
}

/// A server that shows `leaf` and takes callers with a certificate of `callers`.
async fn server(leaf: Leaf, callers: RootCertStore) -> (String, Heard) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let verifier = WebPkiClientVerifier::builder(Arc::new(callers)).build().unwrap();
    let key = PrivatePkcs8KeyDer::from(leaf.key);
    let tls = Tls::builder().with_client_cert_verifier(verifier).with_single_cert(leaf.chain, key.into()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/mcp", listener.local_addr().unwrap());
    let heard = Heard::default();
    let told = heard.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, told) = (acceptor.clone(), told.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                told.lock().unwrap().push(shown);
                let io = TokioIo::new(stream);
                let service = hyper::service::service_fn(answer);
                let _ended = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            });
        }
    });
    (url, heard)
}

fn upstreams(url: &str, expected: &str, identity: Arc<Fake>) -> Upstreams {
    let config: ServerConfig =
        serde_json::from_value(json!({ "url": url, "spiffe_id": expected, "timeout_ms": 20_000 })).unwrap();
    Upstreams::new(&BTreeMap::from([("files".to_owned(), config)]), Arc::new(NoSecrets), identity).unwrap()
}

/// What the server shows, in what it differs from the honest one.
enum Shows {
    Honest,
    Ids(&'static [&'static str]),
    Life(Life),
    AnotherAuthority,
}

#[rstest]
#[case::honest(Shows::Honest, None)]
#[case::another_workload(Shows::Ids(&["spiffe://td.test/workload/mail"]), Some("is not the workload that is expected"))]
#[case::a_longer_id(Shows::Ids(&["spiffe://td.test/workload/files/x"]), Some("is not the workload that is expected"))]
#[case::a_foreign_trust_domain(Shows::Ids(&["spiffe://other.test/workload/files"]), Some("is not the workload"))]
#[case::two_ids(Shows::Ids(&[FILES, GATEWAY]), Some("is not the workload that is expected"))]
#[case::no_id(Shows::Ids(&[]), Some("is not the workload that is expected"))]
#[case::ended(Shows::Life(Life::Ended), Some("not good now"))]
#[case::not_begun(Shows::Life(Life::NotYet), Some("not good now"))]
#[case::another_authority(Shows::AnotherAuthority, Some("of no authority of its trust domain"))]
#[tokio::test]
async fn t14_a_server_is_taken_by_its_id_alone(#[case] shows: Shows, #[case] refused: Option<&str>) {
    let ca = Ca::new();
    let leaf = match shows {
        Shows::Honest => ca.leaf(&[FILES], Life::Good),
        Shows::Ids(ids) => ca.leaf(ids, Life::Good),
        Shows::Life(life) => ca.leaf(&[FILES], life),
        Shows::AnotherAuthority => Ca::new().leaf(&[FILES], Life::Good),
    };
    let (url, heard) = server(leaf, ca.roots()).await;
    let identity = Fake::of(1, &ca.leaf(&[GATEWAY], Life::Good), &ca);
    let found = upstreams(&url, FILES, Arc::new(Fake(Mutex::new(Ok(identity))))).definitions("files").await;
    match refused {
        None => assert!(found.unwrap().contains_key("read")),
        Some(why) => {
            let (code, detail) = found.unwrap_err();
            assert_eq!(code, "UPSTREAM_UNREACHABLE");
            assert!(detail.contains(why), "{detail}");
            assert!(heard.lock().unwrap().is_empty(), "nothing was said to it");
        }
    }
}

#[rstest]
#[case::ended(Life::Ended, false)]
#[case::another_authority(Life::Good, true)]
#[tokio::test]
async fn t14_a_server_that_does_not_take_the_gateways_certificate_hears_nothing(
    #[case] life: Life,
    #[case] another: bool,
) {
    let ca = Ca::new();
    let (url, heard) = server(ca.leaf(&[FILES], Life::Good), ca.roots()).await;
    let shown = if another { Ca::new().leaf(&[GATEWAY], life) } else { ca.leaf(&[GATEWAY], life) };
    let identity = Arc::new(Fake(Mutex::new(Ok(Fake::of(1, &shown, &ca)))));
    let upstreams = upstreams(&url, FILES, identity.clone());
    let (code, detail) = upstreams.definitions("files").await.unwrap_err();
    assert_eq!(code, "UPSTREAM_UNREACHABLE", "{detail}");
    assert!(heard.lock().unwrap().is_empty());
    // The same gateway with a good certificate.
    identity.set(Ok(Fake::of(2, &ca.leaf(&[GATEWAY], Life::Good), &ca)));
    upstreams.definitions("files").await.unwrap();
}

#[tokio::test]
async fn without_an_identity_of_now_nothing_is_sent_and_a_new_one_counts_at_once() {
    let ca = Ca::new();
    let (url, heard) = server(ca.leaf(&[FILES], Life::Good), ca.roots()).await;
    let identity = Arc::new(Fake(Mutex::new(Err(IdentityError::NotYet("it is not there".into())))));
    let upstreams = upstreams(&url, FILES, identity.clone());
    let refused = |found: Result<_, (&'static str, String)>| found.map(|_: BTreeMap<_, _>| ()).unwrap_err().0;
    assert_eq!(refused(upstreams.definitions("files").await), "IDENTITY_MISSING");
    let (first, second) = (ca.leaf(&[GATEWAY], Life::Good), ca.leaf(&[GATEWAY], Life::Good));
    identity.set(Ok(Fake::of(1, &first, &ca)));
    upstreams.definitions("files").await.unwrap();
    assert!(heard.lock().unwrap().iter().all(|shown| *shown == first.chain[0].as_ref()));
    // Another certificate: the connections of the first are not used again.
    heard.lock().unwrap().clear();
    identity.set(Ok(Fake::of(2, &second, &ca)));
    upstreams.definitions("files").await.unwrap();
    let shown = heard.lock().unwrap().clone();
    assert!(!shown.is_empty() && shown.iter().all(|shown| *shown == second.chain[0].as_ref()));
    // The authority is trusted no more.
    let mut gone = Identity::clone(&Fake::of(3, &second, &ca));
    gone.bundles = BTreeMap::from([(domain(), vec![Ca::new().certificate.to_vec()])]);
    identity.set(Ok(Arc::new(gone)));
    assert_eq!(refused(upstreams.definitions("files").await), "UPSTREAM_UNREACHABLE");
    let ended = SpiffeId::parse(GATEWAY).unwrap();
    identity.set(Err(IdentityError::Ended(ended)));
    heard.lock().unwrap().clear();
    assert_eq!(refused(upstreams.definitions("files").await), "IDENTITY_MISSING");
    assert!(heard.lock().unwrap().is_empty());
}

#[rstest]
#[case::good("https://a.test/mcp", FILES, true)]
#[case::in_the_clear("http://127.0.0.1/mcp", FILES, false)]
fn an_identity_is_shown_in_tls_only(#[case] url: &str, #[case] id: &str, #[case] good: bool) {
    let config: ServerConfig = serde_json::from_value(json!({ "url": url, "spiffe_id": id })).unwrap();
    let servers = BTreeMap::from([("files".to_owned(), config)]);
    assert!(super::super::identified(&servers));
    assert_eq!(super::super::check(&servers).is_ok(), good);
}

#[test]
fn what_is_no_id_is_no_configuration() {
    for id in ["files", "https://td.test/files", "spiffe://td.test", "spiffe://td.test/a/"] {
        assert!(serde_json::from_value::<ServerConfig>(json!({ "url": "https://a.test", "spiffe_id": id })).is_err());
    }
}
