//! Workload identity: Custody's own Workload API, in the process that has the authority, and what the gateway knows of itself,
//! from that one or from another. Must never serve one where another is configured.

use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::server::clock::SystemClock;
use custody_contracts::spiffe::TrustDomain;
use custody_engine::upstream::identified;
use custody_identity::{Authority, Source, bind};
use custody_ports::identity::{NoIdentity, WorkloadIdentity};
use custody_trust::issued::Names;
use custody_trust::svid::Register;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// How long a command waits for its identity.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The authority, who is who, and the socket; `None` when nobody would ask.
pub(crate) fn served(target: &Target, names: &Names) -> CliResult<Option<(Authority, Register, UnixListener)>> {
    let config = &target.config.identity;
    if !config.served(&target.config.tools.servers) {
        return Ok(None);
    }
    let bad = |what: &str, why: &dyn std::fmt::Display| {
        CliError::new(exit::USAGE, "IDENTITY_INVALID", format!("{what}: {why}"))
            .hint("ops/custody.toml explains [identity]; the trust domain is the host of audit.origin")
    };
    let trust_domain = TrustDomain::parse(names.host()).map_err(|e| bad(names.host(), &e))?;
    let own = rustix::process::getuid().as_raw();
    let register = Register::new(trust_domain.clone(), own, &config.workloads).map_err(|e| bad("workloads", &e))?;
    let folder = target.home.path("identity");
    let authority = Authority::open(&folder, trust_domain, Arc::new(SystemClock), config.svid_s);
    let authority = authority.map_err(|e| bad("the authority", &e))?;
    let socket = config.socket(&target.home);
    let listener = bind(&socket).map_err(|e| bad(&socket.display().to_string(), &e))?;
    Ok(Some((authority, register, listener)))
}

/// Where this process learns who it is; `None` when no server asks for it.
pub(crate) fn source(target: &Target) -> Option<Source> {
    let config = &target.config.identity;
    let own = || format!("unix:{}", config.socket(&target.home).display());
    let endpoint = config.workload_api.clone().unwrap_or_else(own);
    identified(&target.config.tools.servers).then(|| Source::new(&endpoint, Arc::new(SystemClock)))
}

/// The identity of a command that asks servers itself: that of its user, which is the gateway's. Followed until cancelled.
pub(crate) async fn now(target: &Target, cancel: CancellationToken) -> CliResult<Arc<dyn WorkloadIdentity>> {
    let Some(source) = source(target) else { return Ok(Arc::new(NoIdentity)) };
    tokio::spawn(source.clone().run(cancel));
    source.ready(WAIT_MAX).await.map_err(|e| {
        CliError::new(exit::UNREACHABLE, "IDENTITY_MISSING", e)
            .hint("its Workload API must run: custody up, or SPIRE's agent")
    })?;
    Ok(Arc::new(source))
}
