//! `custody serve`: some roles in this process, against an outside NATS. One role a process keeps keys apart.

use super::Ctx;
use crate::client::Target;
use crate::error::{CliError, CliResult, exit};
use crate::render::line;
use crate::server::{local, roles::Roles};
use custody_contracts::canonical::hex;
use custody_contracts::events::{KeyIntroduced, Role};
use custody_nats::facts::{SyncAssumption, guard};
use custody_nats::{ConnectOptions, Connection, Credentials, Seed};
use custody_streams::accounts::{ServiceUser, inbox_prefix};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Run some roles in this process against an outside NATS.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The configuration file names the server: [nats] url and credentials. `custody streams accounts` prints the\naccounts it needs, `custody streams apply` makes the streams.\n\nExamples:\n  custody serve --roles authority\n  custody serve --roles runtime,gateway --state /var/lib/custody\n  custody serve --roles authority --introduce runtime:PUBLIC_KEY:INSTANCE"
)]
pub(crate) struct ServeArgs {
    /// authority, runtime, gateway, projector, api, or all; comma-separated
    #[arg(long, value_delimiter = ',', required = true)]
    roles: Vec<String>,
    /// For authority: introduce another process's key, as ROLE:PUBLIC_KEY:INSTANCE; may be given several times
    #[arg(long)]
    introduce: Vec<String>,
    /// Print this state folder's role keys, in the form of --introduce, and end
    #[arg(long)]
    show_keys: bool,
}

/// Roles that exist in this version, in the order in which they start.
const ROLES: [Role; 5] = [Role::Authority, Role::Projector, Role::Gateway, Role::Runtime, Role::Api];

pub(crate) async fn run(ctx: &Ctx, args: ServeArgs) -> CliResult {
    super::up::init_tracing();
    let target = ctx.target()?;
    let wanted = parse_roles(&args.roles)?;
    target.home.prepare()?;
    if args.show_keys {
        let instance = target.home.instance()?;
        // The api role and the projector sign nothing, so they have no key to introduce.
        for role in wanted.iter().filter(|r| !matches!(r, Role::Api | Role::Projector)) {
            let key = target.home.role_key(*role)?;
            line(format!("{}:{}:{instance}", role.as_str(), key.public_hex()))?;
        }
        return Ok(());
    }
    if target.config.nats.url.is_none() {
        return Err(CliError::new(
            exit::USAGE,
            "NO_NATS",
            "serve needs an outside NATS: [nats] url and credentials in the configuration",
        )
        .hint("custody up runs everything here, NATS too"));
    }
    let mut introduce = args.introduce.iter().map(|t| parse_key(t)).collect::<CliResult<Vec<_>>>()?;
    check_server(&target).await?;
    let cancel = CancellationToken::new();
    let models = target.config.models(target.config.default_model().cloned());
    let mut roles = Roles::new(target, models, cancel.clone())?;
    let others: Vec<Role> = wanted.iter().copied().filter(|r| matches!(r, Role::Runtime | Role::Gateway)).collect();
    introduce.extend(roles.own_keys(&others)?);
    let mut web = None;
    roles.telemetry(&wanted).await?;
    for role in ROLES.iter().filter(|r| wanted.contains(r)) {
        match role {
            Role::Authority => drop(roles.authority(&introduce).await?),
            Role::Projector => roles.projector().await?,
            Role::Gateway => roles.gateway().await?,
            Role::Runtime => roles.runtime().await?,
            Role::Api => web = Some(roles.api().await?),
            Role::Scheduler => {}
        }
    }
    let names: Vec<_> = wanted.iter().map(|r| r.as_str()).collect();
    line(format!("serving {}", names.join(", ")))?;
    if let Some(url) = web {
        line(format!("open {url}"))?;
    }
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut joined = tokio::spawn(roles.join());
    tokio::select! {
        ended = &mut joined => return ended.map_err(|e| CliError::new(exit::FAILED, "ROLE_FAILED", e)).and_then(|r| r),
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    cancel.cancel();
    let _late = tokio::time::timeout(Duration::from_secs(5), joined).await;
    Ok(())
}

/// Refuses a server or a stream that would not keep its promises, by name.
async fn check_server(target: &Target) -> CliResult {
    let user = if target.credentials(ServiceUser::Admin).is_ok() { ServiceUser::Admin } else { ServiceUser::Operator };
    let connection = target.connect(user).await?;
    let assume = if target.config.nats.assume_sync_always { SyncAssumption::Always } else { SyncAssumption::None };
    let mut specs = local::specs(target);
    if user != ServiceUser::Admin {
        specs.retain(|s| s.name != custody_streams::spec::TRANSCRIPT);
    }
    let system = system(target).await?;
    let findings = guard(&connection, system.as_ref(), assume, &specs).await;
    let findings =
        findings.map_err(|e| CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", e).hint("custody streams diff"))?;
    connection.close().await;
    if let Some(system) = system {
        system.close().await;
    }
    local::refuse_unsafe(findings)
}

/// A connection of a user of the system account, where the credentials folder has `system.creds` or `system.nk`: a
/// server tells its settings to nobody else.
async fn system(target: &Target) -> CliResult<Option<Connection>> {
    let Some(folder) = &target.config.nats.credentials else { return Ok(None) };
    let (creds, seed) = (folder.join("system.creds"), folder.join("system.nk"));
    let unreadable = |why: String| CliError::new(exit::NOT_SIGNED_IN, "SEED_UNREADABLE", why);
    let credentials = if creds.is_file() {
        Credentials::File(creds)
    } else if seed.is_file() {
        let text = std::fs::read_to_string(&seed).map_err(|e| unreadable(format!("{}: {e}", seed.display())))?;
        let parsed = Seed::parse(text.trim()).map_err(|e| unreadable(format!("{}: {e}", seed.display())))?;
        Credentials::Seed(parsed)
    } else {
        return Ok(None);
    };
    let options = ConnectOptions {
        url: target.url()?,
        name: "custody system".into(),
        inbox_prefix: inbox_prefix("system"),
        credentials,
        wait: Duration::from_secs(5),
    };
    let opened = Connection::open(&options).await;
    opened.map(Some).map_err(|e| {
        CliError::new(exit::NOT_SIGNED_IN, "CREDENTIALS_REFUSED", format!("the system account's user: {e}"))
            .hint("repair or remove system.nk or system.creds in the credentials folder")
    })
}

fn parse_roles(words: &[String]) -> CliResult<Vec<Role>> {
    if words.iter().any(|w| w == "all") {
        return Ok(ROLES.to_vec());
    }
    words
        .iter()
        .map(|word| match Role::parse(word).filter(|r| ROLES.contains(r)) {
            Some(role) => Ok(role),
            None => {
                Err(CliError::new(exit::USAGE, "ROLE_UNKNOWN", format!("there is no role {word:?} in this version"))
                    .hint("authority, runtime, gateway, projector, api, all"))
            }
        })
        .collect()
}

fn parse_key(text: &str) -> CliResult<KeyIntroduced> {
    let bad = || {
        CliError::new(exit::USAGE, "KEY_INVALID", format!("{text:?} is not ROLE:PUBLIC_KEY:INSTANCE"))
            .hint("custody serve --roles ROLE --show-keys prints it")
    };
    let mut parts = text.splitn(3, ':');
    let (Some(role), Some(public), Some(instance)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad());
    };
    let role = Role::parse(role).ok_or_else(bad)?;
    let key = custody_trust::key::parse_public(public).ok_or_else(bad)?;
    Ok(KeyIntroduced {
        kid: custody_trust::key::kid(role, &key),
        role,
        public_key: hex(key.as_bytes()),
        instance: instance.to_owned(),
    })
}
