//! What runs boxes: the engine of this machine, or a cluster, behind the one port; and the gateway's listener for the
//! links of boxes on other machines. Must never give a role another role's key: the runtime's signs links here.

use crate::client::Target;
use crate::config_runtime::{BackendKind, KubernetesConfig};
use crate::error::{CliError, CliResult, exit};
use crate::server::clock::SystemClock;
use custody_contracts::canonical::hex;
use custody_docker::{Docker, Profile};
use custody_engine::gateway::link::LinkServer;
use custody_kube::{KubeSettings, Kubernetes, LinkSettings};
use custody_ledger::Log;
use custody_ports::clock::Clock;
use custody_ports::containers::{BoxError, BoxSpec, Containers};
use custody_trust::RoleKey;
use custody_trust::token::{Claims, LINK, mint};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;

/// A token outlives its box by this much, in seconds, so that the box's last words get through.
const AFTER_DEADLINE_SECS: u64 = 60;

fn unreachable(error: BoxError) -> CliError {
    CliError::new(exit::UNREACHABLE, "ENGINE_UNREACHABLE", error)
}

/// What to do when what runs boxes does not answer.
pub(crate) fn engine_hint(backend: BackendKind) -> &'static str {
    match backend {
        BackendKind::Docker => "install and start it: ops/setup, then ops/docker start; or name it in DOCKER_HOST",
        BackendKind::Kubernetes => {
            "check the cluster and what ops/helm made there: kubectl get networkpolicy,serviceaccount"
        }
    }
}

/// The container port of this installation. `slots` is where blank boxes have their mounts.
pub(crate) async fn containers(target: &Target, key: Arc<RoleKey>, slots: &Path) -> CliResult<Arc<dyn Containers>> {
    let section = &target.config.runtime;
    match &section.kubernetes {
        None => {
            let profile = Profile {
                mount_roots: vec![target.home.path("runs"), slots.to_owned()],
                runtime: section.oci_runtime.clone(),
            };
            let docker = Docker::from_env(profile);
            docker
                .map(|d| Arc::new(d) as Arc<dyn Containers>)
                .map_err(|e| unreachable(e).hint(engine_hint(section.backend)))
        }
        Some(cluster) => {
            // Another part of the process may have done it; both want the same provider.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let sign = Arc::new(move |spec: &BoxSpec| link_token(&key, spec));
            let kube = Kubernetes::connect(settings(cluster), sign, Arc::new(SystemClock)).await;
            kube.map(|k| Arc::new(k) as Arc<dyn Containers>)
                .map_err(|e| unreachable(e).hint(engine_hint(section.backend)))
        }
    }
}

fn settings(cluster: &KubernetesConfig) -> KubeSettings {
    KubeSettings {
        namespace: cluster.namespace.clone(),
        images: cluster.images.clone(),
        service_account: cluster.service_account.clone(),
        seccomp_profile: cluster.seccomp_profile.clone(),
        network_policy: cluster.network_policy.clone(),
        data_claim: cluster.data_claim.clone(),
        data_root: cluster.data_root.clone(),
        runtime_class: cluster.runtime_class.clone(),
        user_namespaces: cluster.user_namespaces,
        link: LinkSettings {
            image: cluster.link_image.clone(),
            connect: cluster.link_connect.clone(),
            server_name: cluster.link_server_name.clone(),
            ca_secret: cluster.link_ca_secret.clone(),
        },
    }
}

/// The token of one box's link: for its dispatch alone, until its deadline.
fn link_token(key: &RoleKey, spec: &BoxSpec) -> Result<String, String> {
    let dispatch = spec.labels.get("custody.dispatch").ok_or("the box names no dispatch")?;
    let now = SystemClock.now().0 / 1_000;
    let until = custody_kube::api::deadline(spec).map_or(now + 3_600, |at| at.0.div_ceil(1_000) + AFTER_DEADLINE_SECS);
    let claims = Claims {
        iss: LINK.issuer.into(),
        sub: dispatch.clone(),
        aud: LINK.audience.into(),
        scope: "link".into(),
        jti: hex(&crate::home::random::<16>().map_err(|e| e.message)?),
        iat: now,
        nbf: now,
        exp: until.max(now + 1),
    };
    mint(key, &LINK, &claims).map_err(|e| e.to_string())
}

/// The gateway's listener for links, when one is configured.
pub(crate) async fn link(target: &Target, log: Arc<dyn Log>) -> CliResult<Option<(LinkServer, TcpListener)>> {
    let section = &target.config.gateway;
    let (Some(listen), Some(certificate), Some(key)) =
        (section.link_listen, &section.link_certificate, &section.link_key)
    else {
        return Ok(None);
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bad = |path: &Path, why: &dyn std::fmt::Display| {
        CliError::new(exit::USAGE, "LINK_INVALID", format!("{}: {why}", path.display()))
            .hint("[gateway] link_certificate and link_key are PEM files that belong together")
    };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|e| bad(certificate, &e))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, &e))?;
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret);
    let config = config.map_err(|e| bad(certificate, &e))?;
    let listener = TcpListener::bind(listen).await.map_err(|e| {
        CliError::new(exit::CONFLICT, "LINK_NOT_LISTENING", format!("{listen}: {e}")).hint("[gateway] link_listen")
    })?;
    let server =
        LinkServer { log, clock: Arc::new(SystemClock), tls: Arc::new(config).into(), runs: target.home.path("runs") };
    Ok(Some((server, listener)))
}
