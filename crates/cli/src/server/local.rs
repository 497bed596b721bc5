//! What `custody up` runs beside the roles: the nats-server child with its accounts and streams, the local model, the
//! command line's own launcher.

use crate::client::Target;
use crate::commands::run::own_subject;
use crate::error::{CliError, CliResult, exit};
use crate::render::notice;
use crate::server::clock::now_ms;
use crate::server::model;
use crate::server::roles::{Authority, Roles};
use custody_contracts::canonical::{canonical, derived_id, digest};
use custody_contracts::events::{LauncherRegistered, Role, SignatureRule};
use custody_contracts::grant::{
    ApprovalFor, ApprovalRule, ConsentMethod, Grant, GrantLimits, GrantTerms, TriggerPattern,
};
use custody_contracts::ids::{GrantId, LauncherId, LauncherRef, Subject, UnixMillis, WorkspaceId};
use custody_contracts::unit::{Mode, Trigger, WorkspaceMount};
use custody_contracts::workload::LAUNCHER;
use custody_domain::grant::statement;
use custody_domain::tool::Tools;
use custody_engine::authority::grants::IssueGrant;
use custody_engine::authority::launchers::Launchers;
use custody_engine::inference::ModelConfig;
use custody_nats::facts::{SyncAssumption, guard};
use custody_nats::server::{ServerOptions, ServerState, Supervised, find_binary, verify_binary};
use custody_nats::{ConnectOptions, Connection, Credentials, reconcile};
use custody_streams::accounts::{Accounts, Launcher, ServiceUser, SyncInterval, UserKey};
use custody_streams::spec::{StreamOptions, StreamSpec, all};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The launcher that the command line itself uses.
pub(crate) const CLI_LAUNCHER: &str = "cli";

/// The streams of this installation.
pub(crate) fn specs(target: &Target) -> Vec<StreamSpec> {
    let mut options = StreamOptions::one_machine();
    options.ledger_bytes_max = target.config.nats.ledger_bytes_max;
    all(&options)
}

/// Starts our nats-server with the accounts of this state folder.
pub(crate) async fn start_nats(target: &Target) -> CliResult<Arc<Supervised>> {
    let binary = match &target.config.nats.server {
        Some(path) => path.clone(),
        None => find_binary()
            .map_err(|e| CliError::new(exit::FAILED, "NATS_SERVER_MISSING", e).hint("ops/setup installs it"))?,
    };
    let version = verify_binary(&binary).await;
    version
        .map_err(|e| CliError::new(exit::FAILED, "NATS_TOO_OLD", e).hint("ops/setup installs the pinned version"))?;
    let ledger = target.config.nats.ledger_bytes_max;
    let mut options = StreamOptions::one_machine();
    options.ledger_bytes_max = ledger;
    let port = target.config.nats.port;
    let options = ServerOptions {
        binary,
        state_dir: target.home.path("nats"),
        host: "127.0.0.1".into(),
        port: (port != 0).then_some(port),
        file_bytes_max: options.bytes_max(),
        memory_bytes: None,
        sync_interval: SyncInterval::Always,
        accounts: accounts(target, &Launchers::default())?,
    };
    let server = Supervised::start(options).await;
    Ok(Arc::new(server.map_err(|e| {
        CliError::new(exit::UNREACHABLE, "NATS_NOT_STARTED", e).hint("its log is in the state folder under nats")
    })?))
}

/// Everybody who may connect: our services, and the launchers that the ledger knows.
fn accounts(target: &Target, launchers: &Launchers) -> CliResult<Accounts> {
    let bad = |e: custody_streams::accounts::AccountsError| CliError::new(exit::FAILED, "ACCOUNTS", e);
    let mut services = Vec::new();
    for user in ServiceUser::ALL {
        let seed = target.home.seed(&format!("users/{}.nk", user.as_str()))?;
        services.push((user, UserKey::parse(user.as_str(), &seed.public_key()).map_err(bad)?));
    }
    let mut known = launchers.enabled();
    for (own, _) in own_launchers(target) {
        let seed = target.home.seed(&format!("launchers/{own}.nk"))?;
        known.entry(own).or_insert_with(|| seed.public_key());
    }
    let mut out = Vec::new();
    for (id, key) in known {
        let Ok(parsed) = LauncherId::parse(&id) else { continue };
        out.push(Launcher { id: parsed, key: UserKey::parse(&id, &key).map_err(bad)? });
    }
    Ok(Accounts { services, launchers: out, system: Vec::new() })
}

/// The launchers of this machine itself, with what people call them: the command line's, the web chat's and, where it is
/// configured, that of the runtime's HTTP face.
fn own_launchers(target: &Target) -> Vec<(String, &'static str)> {
    let face =
        target.config.runtime.http.as_ref().map(|_| (LAUNCHER.to_owned(), "runtime's HTTP face on this machine"));
    let always = [
        (CLI_LAUNCHER.to_owned(), "command line on this machine"),
        (target.config.http.launcher.clone(), "web chat on this machine"),
    ];
    always.into_iter().chain(face).collect()
}

/// A connection to a server that is not in `up.json` yet.
async fn connect(target: &Target, url: &str, user: ServiceUser) -> CliResult<Connection> {
    let options = ConnectOptions {
        url: url.to_owned(),
        name: format!("custody {}", user.as_str()),
        inbox_prefix: user.inbox_prefix(),
        credentials: Credentials::Seed(target.home.seed(&format!("users/{}.nk", user.as_str()))?),
        wait: Duration::from_secs(10),
    };
    Connection::open(&options).await.map_err(|e| CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", e))
}

/// Makes the streams and refuses a server or a stream that would not keep its promises.
pub(crate) async fn prepare_streams(target: &Target, server: &Supervised) -> CliResult {
    let admin = connect(target, server.url(), ServiceUser::Admin).await?;
    let specs = specs(target);
    let changes = reconcile::apply(&admin, &specs).await.map_err(|e| {
        CliError::new(exit::INTEGRITY, "STREAM_REFUSED", e).hint("custody streams diff shows what differs")
    })?;
    for change in &changes {
        tracing::info!(stream = change.stream, field = change.field, "stream set up");
    }
    let system = server.connect_system().await.map_err(|e| CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", e))?;
    let findings = guard(&admin, Some(&system), SyncAssumption::None, &specs).await;
    let findings = findings.map_err(|e| CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", e))?;
    admin.close().await;
    system.close().await;
    refuse_unsafe(findings)
}

/// Prints harmless findings and refuses on a fatal one, by name.
pub(crate) fn refuse_unsafe(findings: Vec<custody_streams::guard::Finding>) -> CliResult {
    for finding in findings {
        if finding.fatal {
            return Err(CliError::new(
                exit::INTEGRITY,
                &finding.code,
                format!("{}: {}", finding.subject, finding.message),
            )
            .hint(finding.hint));
        }
        notice(format!("{} {}: {} ({})", finding.code, finding.subject, finding.message, finding.hint));
    }
    Ok(())
}

/// The model of this installation: the configured one, or the local one, started here.
pub(crate) async fn model(
    target: &Target,
    url: Option<String>,
    cancel: &CancellationToken,
) -> CliResult<(Option<ModelConfig>, Option<tokio::task::JoinHandle<()>>)> {
    if let Some(url) = url {
        let name = std::env::var("CUSTODY_MODEL").unwrap_or_else(|_| "default".into());
        let mut value = json!({ "name": "model-url", "url": url, "model": name });
        if let Some(path) = std::env::var_os("CUSTODY_MODEL_KEY_FILE") {
            value["api_key_file"] = json!(path.to_string_lossy());
        }
        return Ok((Some(serde_json::from_value(value)?), None));
    }
    if let Some(model) = target.config.default_model() {
        return Ok((Some(model.clone()), None));
    }
    let Some(program) = target.config.local_model().filter(|_| target.config.local_model.enabled) else {
        notice(
            "no model is configured and none is installed: agents that call a model will be told so (ops/setup installs a small one)",
        );
        return Ok((None, None));
    };
    let socket = target.home.path("run/model.sock");
    let child = model::start(program, socket.clone(), target.home.path("run/model.log"), cancel.clone()).await?;
    let value = json!({
        "name": "local", "url": format!("unix:{}", socket.display()), "api": "openai-chat",
        "model": target.config.local_model.name, "timeout_ms": 120_000, "max_output_tokens": 512,
    });
    Ok((Some(serde_json::from_value(value)?), Some(child)))
}

/// Every role of this machine, started in the order in which they need each other.
pub(crate) async fn start_roles(roles: &mut Roles) -> CliResult<Authority> {
    let keys = roles.own_keys(&[Role::Runtime, Role::Gateway])?;
    roles.telemetry(&[Role::Authority, Role::Projector, Role::Gateway, Role::Runtime]).await?;
    let authority = roles.authority(&keys).await?;
    roles.projector().await?;
    roles.gateway().await?;
    roles.runtime().await?;
    Ok(authority)
}

/// Registers the launchers of this machine itself, once.
pub(crate) async fn register_own(target: &Target, authority: &Authority) -> CliResult {
    for (id, name) in own_launchers(target) {
        if authority.launchers.get(&id).registered().is_some() {
            continue;
        }
        let seed = target.home.seed(&format!("launchers/{id}.nk"))?;
        let body = LauncherRegistered {
            launcher: LauncherId::parse(&id).map_err(|e| CliError::new(exit::FAILED, "LAUNCHER", e))?,
            public_key: seed.public_key(),
            name: name.into(),
            signature: SignatureRule::Required,
            subjects: vec!["*".into()],
            by: "custody-up".into(),
        };
        let request = custody_ports::requests::Request {
            subject: "command.launcher.register".into(),
            bytes: serde_json::to_vec(&body)?,
            reply_to: String::new(),
        };
        authority.commands.carry_out(&request).await.map_err(CliError::from_doc)?;
    }
    Ok(())
}

/// How long the grants of this machine's own launchers last.
const OWN_GRANT_MS: u64 = 90 * 86_400_000;
/// So long before their end they are given anew.
const OWN_GRANT_AHEAD_MS: u64 = 30 * 86_400_000;

/// Gives this machine's own launchers a grant in the name of its operator, who sets it up and thereby agrees: once, and
/// anew before it ends. One that was revoked stays revoked.
pub(crate) async fn grant_own(target: &Target, authority: &Authority) -> CliResult {
    let subject = own_subject();
    for (id, _) in own_launchers(target) {
        let named = launcher_ref(target, &id);
        let now = UnixMillis(now_ms());
        let known = authority.commands.grants.grants.with(|book| {
            let of = |grant: &Grant| grant.subject.as_str() == subject && grant.launcher.as_str() == named;
            let own = book.all().filter(|(_, held)| of(&held.issued.grant)).max_by_key(|(_, held)| held.seq);
            own.map(|(_, held)| (held.issued.grant.terms(), held.revoked.is_some()))
        });
        let mut terms = match known {
            Some((_, true)) => continue,
            Some((terms, false)) => {
                let ends = UnixMillis::parse(&terms.expires).unwrap_or_default();
                if ends.0 > now.0 + OWN_GRANT_AHEAD_MS {
                    continue;
                }
                terms
            }
            None => own_terms(target, &subject, &id, &named)?,
        };
        terms.launcher_key = target.home.seed(&format!("launchers/{id}.nk"))?.public_key();
        terms.not_before = now.rfc3339();
        terms.expires = UnixMillis(now.0 + OWN_GRANT_MS).rfc3339();
        let said = canonical(&serde_json::to_value(&terms)?);
        terms.id = GrantId::parse(&derived_id("g-", &[said.as_bytes()])).map_err(bad_grant)?;
        let shown = digest(statement(&terms).as_bytes());
        let ask = IssueGrant {
            wanted: Some(terms),
            request: None,
            method: ConsentMethod::Operator,
            session: None,
            statement_digest: Some(shown),
            parent: None,
            by: "custody-up".into(),
        };
        authority.commands.grants.issue(ask).await.map_err(CliError::from_doc)?;
    }
    Ok(())
}

fn bad_grant(error: impl std::fmt::Display) -> CliError {
    CliError::new(exit::FAILED, "GRANT", error)
}

/// A launcher of this machine as the units that it makes name it.
fn launcher_ref(target: &Target, id: &str) -> String {
    let kind = if id == CLI_LAUNCHER || id == target.config.http.launcher { "user:" } else { "integration:" };
    [kind, id].concat()
}

/// What the operator lets a launcher of this machine do: everything on the workspace that everybody begins with.
fn own_terms(target: &Target, subject: &str, id: &str, named: &str) -> CliResult<GrantTerms> {
    let face = id != CLI_LAUNCHER && id != target.config.http.launcher;
    let on = match face {
        // Its caller says what set a workload off.
        true => vec![Trigger::Message, Trigger::Scheduled, Trigger::Event, Trigger::Transcription],
        false => vec![Trigger::Message],
    };
    Ok(GrantTerms {
        id: GrantId::parse("g-new").map_err(bad_grant)?,
        subject: Subject::parse(subject).map_err(bad_grant)?,
        launcher: LauncherRef::parse(named).map_err(bad_grant)?,
        launcher_key: String::new(),
        tools: Tools::builtin().names().map(str::to_owned).collect(),
        workspaces: vec![WorkspaceMount {
            id: WorkspaceId::parse(super::workspaces::DEFAULT).map_err(bad_grant)?,
            mode: Mode::Rw,
        }],
        trigger: TriggerPattern { on, cron: None, integration: None },
        constraints: Vec::new(),
        limits: GrantLimits { dispatches: 100_000, window_ms: 86_400_000, budget_micros: None, per_dispatch: None },
        approval: ApprovalRule { rule: ApprovalFor::Gated, approvers: None },
        not_before: String::new(),
        expires: String::new(),
    })
}

/// Keeps the server's accounts in step with the launchers of the ledger, until cancelled.
pub(crate) async fn keep_accounts(
    target: Target,
    server: Arc<Supervised>,
    launchers: Launchers,
    cancel: CancellationToken,
) {
    let mut changes = launchers.changes();
    // What the server was started with: a reload that changes nothing is not asked for.
    let mut last = accounts(&target, &Launchers::default()).ok();
    loop {
        match accounts(&target, &launchers) {
            Ok(now) if last.as_ref() == Some(&now) => {}
            Ok(now) => match server.reload(now.clone()).await {
                Ok(()) => last = Some(now),
                Err(error) => {
                    tracing::warn!(%error, "accounts not reloaded; trying again");
                    tokio::select! {
                        () = cancel.cancelled() => return,
                        () = tokio::time::sleep(Duration::from_secs(1)) => continue,
                    }
                }
            },
            Err(error) => tracing::error!(%error, "accounts cannot be written"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Says when the supervised server goes and comes, until cancelled.
pub(crate) async fn watch_server(server: Arc<Supervised>, cancel: CancellationToken) {
    let mut states = server.states();
    loop {
        let state = states.borrow_and_update().clone();
        match state {
            ServerState::Running { pid, restarts: 0 } => tracing::info!(pid, "nats-server runs"),
            ServerState::Running { pid, restarts } => tracing::warn!(pid, restarts, "nats-server runs again"),
            ServerState::Down { why, retry_ms } => tracing::error!(why, retry_ms, "nats-server is down"),
            ServerState::Stopped => return,
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return },
        }
    }
}
