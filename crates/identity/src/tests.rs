//! The Workload API over a real socket: with a client of other makers, with one that breaks its rules, and the authority behind
//! it over months of a clock that is set.

use super::messages::{Empty, X509BundlesResponse, X509SvidResponse};
use super::*;
use custody_contracts::ids::UnixMillis;
use custody_contracts::spiffe::{SpiffeId, TrustDomain};
use custody_ports::clock::Clock;
use custody_ports::identity::{IdentityError, WorkloadIdentity};
use custody_testkit::fakes::ManualClock;
use custody_trust::svid::{Register, SVID_SECS};
use rstest::rstest;
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use spiffe::WorkloadApiClient;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// 2026-11-22T21:00:00Z.
const NOW: u64 = 1_795_381_200;
const DAY: u64 = 86_400;
const LONG: Duration = Duration::from_secs(20);

struct Real;

impl Clock for Real {
    #[expect(clippy::disallowed_methods, reason = "certificates of a second's life are checked against the real time")]
    fn now(&self) -> UnixMillis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        UnixMillis(u64::try_from(since.as_millis()).unwrap())
    }
}

fn domain() -> TrustDomain {
    TrustDomain::parse("custody.local").unwrap()
}

fn gateway() -> SpiffeId {
    domain().workload("/gateway").unwrap()
}

/// Who runs the tests.
fn me(folder: &Path) -> u32 {
    std::fs::metadata(folder).unwrap().uid()
}

struct Stand {
    folder: TempDir,
    endpoint: String,
    cancel: CancellationToken,
}

impl Stand {
    /// A Workload API in which who runs the tests is the gateway, or nobody.
    fn new(known: bool, svid_secs: u64) -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let user = me(folder.path());
        let gateway = if known { user } else { user.wrapping_add(1) };
        let register = Register::new(domain(), gateway, &BTreeMap::new()).unwrap();
        let authority = Authority::open(&folder.path().join("authority"), domain(), Arc::new(Real), svid_secs).unwrap();
        let socket = folder.path().join("api.sock");
        let listener = bind(&socket).unwrap();
        let cancel = CancellationToken::new();
        tokio::spawn(serve(authority, register, listener, cancel.clone()));
        Stand { endpoint: format!("unix:{}", socket.display()), folder, cancel }
    }

    fn client(&self) -> impl Future<Output = Result<WorkloadApiClient, spiffe::WorkloadApiError>> {
        WorkloadApiClient::connect_to(self.endpoint.clone())
    }

    /// A client that knows nothing of the API.
    fn raw(&self) -> Grpc<Channel> {
        let address = format!("unix://{}", self.folder.path().join("api.sock").display());
        Grpc::new(Endpoint::from_shared(address).unwrap().connect_lazy())
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn ask<T: prost::Message + Default + Send + 'static>(
    grpc: &mut Grpc<Channel>,
    method: &str,
    headers: &[&'static str],
) -> Result<T, Status> {
    let mut request = Request::new(Empty {});
    for value in headers {
        request.metadata_mut().append("workload.spiffe.io", value.parse().unwrap());
    }
    grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let path = format!("/SpiffeWorkloadAPI/{method}").parse().unwrap();
    let codec: ProstCodec<Empty, T> = ProstCodec::default();
    let mut answers = grpc.server_streaming(request, path, codec).await?.into_inner();
    answers.message().await.map(Option::unwrap)
}

fn good(certificate: &[u8], authorities: &[&[u8]], now: u64) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(*authority)).unwrap();
    }
    let leaf = CertificateDer::from(certificate);
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(now));
    verify_server_cert_signed_by_trust_anchor(&ParsedCertificate::try_from(&leaf)?, &roots, &[], at, algorithms)
}

#[tokio::test]
async fn a_client_of_other_makers_gets_the_certificate_and_the_bundle_of_its_user() {
    let stand = Stand::new(true, SVID_SECS);
    let client = stand.client().await.unwrap();
    let context = client.fetch_x509_context().await.unwrap();
    let svid = context.default_svid().unwrap();
    assert_eq!((context.svids().len(), svid.spiffe_id().to_string()), (1, gateway().to_string()));
    let bundles = client.fetch_x509_bundles().await.unwrap();
    let bundle = bundles.get(&spiffe::TrustDomain::new("custody.local").unwrap()).unwrap();
    assert_eq!(bundle.authorities().len(), 1);
    assert_eq!(bundle.authorities(), context.bundle_set().iter().next().unwrap().1.authorities());
    let now = Real.now().0 / 1_000;
    let authority = bundle.authorities()[0].as_bytes();
    good(svid.leaf().as_bytes(), &[authority], now).unwrap();
    // Not an hour later, and of this authority alone.
    assert!(good(svid.leaf().as_bytes(), &[authority], now + SVID_SECS + 5).is_err());
    let other = Stand::new(true, SVID_SECS).client().await.unwrap().fetch_x509_context().await.unwrap();
    assert!(good(other.default_svid().unwrap().leaf().as_bytes(), &[authority], now).is_err());
}

#[tokio::test]
async fn a_user_who_is_not_registered_gets_nothing() {
    let stand = Stand::new(false, SVID_SECS);
    let refused = stand.client().await.unwrap().fetch_x509_context().await.unwrap_err();
    assert!(matches!(refused, spiffe::WorkloadApiError::PermissionDenied(_)), "{refused}");
    let mut raw = stand.raw();
    let bundles = ask::<X509BundlesResponse>(&mut raw, "FetchX509Bundles", &["true"]).await.unwrap_err();
    assert_eq!(bundles.code(), Code::PermissionDenied);
    let source = Source::new(&stand.endpoint, Arc::new(Real));
    tokio::spawn(source.clone().run(stand.cancel.clone()));
    let why = source.ready(Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(why, IdentityError::NotYet(_)), "{why}");
}

#[rstest]
#[case::honest("FetchX509SVID", &["true"], Code::Ok)]
#[case::without_the_header("FetchX509SVID", &[], Code::InvalidArgument)]
#[case::another_value("FetchX509SVID", &["1"], Code::InvalidArgument)]
#[case::capitals("FetchX509SVID", &["True"], Code::InvalidArgument)]
#[case::twice("FetchX509SVID", &["true", "true"], Code::InvalidArgument)]
#[case::of_bundles("FetchX509Bundles", &[], Code::InvalidArgument)]
#[case::of_what_is_not_there("FetchJWTSVID", &[], Code::InvalidArgument)]
#[case::no_jwt_svid("FetchJWTSVID", &["true"], Code::Unimplemented)]
#[case::no_jwt_bundle("FetchJWTBundles", &["true"], Code::Unimplemented)]
#[case::no_jwt_validation("ValidateJWTSVID", &["true"], Code::Unimplemented)]
#[case::no_such_method("Fetch", &["true"], Code::Unimplemented)]
#[tokio::test]
async fn a_caller_says_that_it_means_this_api(
    #[case] method: &str,
    #[case] headers: &'static [&'static str],
    #[case] code: Code,
) {
    let stand = Stand::new(true, SVID_SECS);
    let found = ask::<X509SvidResponse>(&mut stand.raw(), method, headers).await;
    assert_eq!(found.map_or_else(|status| status.code(), |_| Code::Ok), code);
}

#[tokio::test]
async fn a_user_has_so_many_connections_and_no_more_and_an_ended_one_makes_room() {
    for (known, most, code) in [(true, PER_USER_MAX, Code::Ok), (false, STRANGERS_MAX, Code::PermissionDenied)] {
        let stand = Stand::new(known, SVID_SECS);
        let mut open = Vec::new();
        for _ in 0..most {
            let mut raw = stand.raw();
            let found = ask::<X509SvidResponse>(&mut raw, "FetchX509SVID", &["true"]).await;
            assert_eq!(found.map_or_else(|status| status.code(), |_| Code::Ok), code);
            open.push(raw);
        }
        let mut more = stand.raw();
        let refused = ask::<X509SvidResponse>(&mut more, "FetchX509SVID", &["true"]).await.unwrap_err();
        assert!(!matches!(refused.code(), Code::PermissionDenied), "closed unread: {refused}");
        drop(open);
        // That an end is seen takes as long as it takes; the test's own limit ends a wait for ever.
        let room = async {
            while ask::<X509SvidResponse>(&mut more, "FetchX509SVID", &["true"])
                .await
                .map_or_else(|status| status.code(), |_| Code::Ok)
                != code
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, room).await.unwrap();
    }
}

#[tokio::test]
async fn a_source_follows_renewals_and_outlives_its_server() {
    let stand = Stand::new(true, 2);
    let source = Source::new(&stand.endpoint, Arc::new(Real));
    let stop = CancellationToken::new();
    tokio::spawn(source.clone().run(stop.clone()));
    source.ready(LONG).await.unwrap();
    let first = source.current().unwrap();
    assert_eq!((first.svid.id.clone(), first.version), (gateway(), 1));
    let mut changes = source.changes();
    let renewed = changes.wait_for(|told| told.as_ref().is_some_and(|identity| identity.version >= 3));
    let renewed = tokio::time::timeout(LONG, renewed).await.unwrap().unwrap().clone().unwrap();
    assert!(renewed.svid.key != first.svid.key && renewed.svid.chain != first.svid.chain, "another key each time");
    assert_eq!(renewed.bundles, first.bundles);
    // The server ends; what it gave is good until its end and no longer.
    stand.cancel.cancel();
    let ended = async {
        loop {
            match source.current() {
                Err(IdentityError::Ended(id)) => return id,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    assert_eq!(tokio::time::timeout(LONG, ended).await.unwrap(), gateway());
    // Another one at the same socket, with the same authority.
    let folder = stand.folder.path();
    let authority = Authority::open(&folder.join("authority"), domain(), Arc::new(Real), SVID_SECS).unwrap();
    let register = Register::new(domain(), me(folder), &BTreeMap::new()).unwrap();
    tokio::spawn(serve(authority, register, bind(&folder.join("api.sock")).unwrap(), stop.clone()));
    let last = source.current().map_or(0, |identity| identity.version);
    let back =
        changes.wait_for(|told| told.as_ref().is_some_and(|identity| identity.version > last.max(renewed.version)));
    let back = tokio::time::timeout(LONG, back).await.unwrap().unwrap().clone().unwrap();
    assert_eq!(back.bundles, first.bundles);
    source.current().unwrap();
    stop.cancel();
}

fn authority(folder: &Path, clock: &Arc<ManualClock>) -> Authority {
    Authority::open(folder, domain(), clock.clone(), SVID_SECS).unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// The certificates of a bundle.
fn split(bundle: &[u8]) -> Vec<&[u8]> {
    let mut rest = bundle;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (after, _) = x509_parser::parse_x509_certificate(rest).unwrap();
        found.push(&rest[..rest.len() - after.len()]);
        rest = after;
    }
    found
}

#[test]
fn a_certificate_is_kept_until_half_of_its_life_and_the_authority_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("identity");
    let clock = Arc::new(ManualClock::at(NOW * 1_000));
    let first = authority(&folder, &clock);
    let one = first.issue(&gateway()).unwrap();
    clock.advance(1_799_000);
    assert!(first.issue(&gateway()).unwrap().key == one.key);
    clock.advance(1_000);
    let two = first.issue(&gateway()).unwrap();
    assert!(two.key != one.key && two.certificate != one.certificate);
    let bundle = first.bundle().unwrap();
    assert_eq!(authority(&folder, &clock).bundle().unwrap(), bundle);
    let [file] = files(&folder).try_into().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&folder)), (0o600, 0o700));
}

#[test]
fn an_authority_gives_way_to_the_next_while_certificates_of_both_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(NOW * 1_000));
    let ca = authority(folder.path(), &clock);
    let first = ca.bundle().unwrap();
    // Half of its life: the next is published, and the first goes on signing.
    clock.advance(15 * DAY * 1_000);
    let both = ca.bundle().unwrap();
    let authorities = split(&both);
    assert_eq!((authorities.len(), authorities[0]), (2, first.as_ref()));
    let at = |days: u64| NOW + days * DAY;
    let of_first = ca.issue(&gateway()).unwrap().certificate;
    good(&of_first, &authorities[..1], at(15)).unwrap();
    // A day later the next signs; whoever has the bundle of half an hour ago takes both.
    clock.advance(DAY * 1_000);
    let of_second = ca.issue(&gateway()).unwrap().certificate;
    good(&of_second, &authorities[1..], at(16)).unwrap();
    good(&of_second, &authorities, at(16)).unwrap();
    assert!(good(&of_second, &authorities[..1], at(16)).is_err());
    // The same after a restart in the middle of it.
    assert_eq!(authority(folder.path(), &clock).bundle().unwrap(), both);
    // The first ends: it is published no more, and its key is gone.
    clock.advance(14 * DAY * 1_000 + 1_000);
    assert_eq!(split(&ca.bundle().unwrap())[0], authorities[1]);
    assert!(files(folder.path()).iter().all(|path| !path.ends_with(format!("authority-{NOW}.pem"))));
}

/// What becomes of the file.
#[derive(Clone, Copy)]
enum Made {
    Readable,
    Cut,
    Long,
    Link,
    WithAnotherKey,
    OfAnotherDomain,
}

#[rstest]
#[case::others_may_read(Made::Readable, "others may read")]
#[case::cut(Made::Cut, "authority-")]
#[case::too_large(Made::Long, "not the file of an authority")]
#[case::a_link(Made::Link, "not the file of an authority")]
#[case::another_key(Made::WithAnotherKey, "do not belong together")]
#[case::another_trust_domain(Made::OfAnotherDomain, "another trust domain")]
fn a_file_that_is_not_as_it_was_written_is_not_used(#[case] made: Made, #[case] why: &str) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(NOW * 1_000));
    drop(authority(folder.path(), &clock));
    let [file] = files(folder.path()).try_into().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    let mut wanted = domain();
    match made {
        Made::Readable => std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap(),
        Made::Cut => std::fs::write(&file, &text[..text.len() / 2]).unwrap(),
        Made::Long => std::fs::write(&file, text + &"\n".repeat(20_000)).unwrap(),
        Made::Link => {
            let elsewhere = folder.path().join("elsewhere");
            std::fs::rename(&file, &elsewhere).unwrap();
            std::os::unix::fs::symlink(elsewhere, &file).unwrap();
        }
        Made::WithAnotherKey => {
            let certificate = &text[text.find("-----BEGIN CERTIFICATE").unwrap()..];
            std::fs::write(&file, rcgen::KeyPair::generate().unwrap().serialize_pem() + certificate).unwrap();
        }
        Made::OfAnotherDomain => wanted = TrustDomain::parse("other.test").unwrap(),
    }
    let found = Authority::open(folder.path(), wanted, clock, SVID_SECS).map(|_| ()).unwrap_err();
    assert!(found.to_string().contains(why), "{found}");
}
