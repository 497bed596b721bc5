//! `custody streams`: the streams of a server beside what they should be, and the accounts that an outside server
//! needs. Must never print the secret half of a key.

use super::{Ctx, confirm};
use crate::client::{Target, rows};
use crate::error::{CliError, CliResult, exit};
use crate::home::write_secret;
use crate::render::{Render, col, notice, raw, wide};
use crate::server::local::specs;
use custody_contracts::ids::LauncherId;
use custody_nats::facts::{self, SyncAssumption};
use custody_nats::reconcile::{self, ReconcileError};
use custody_nats::{ApiError, Connection, Seed};
use custody_streams::accounts::{Accounts, Launcher, ServiceUser, UserKey, accounts_text};
use custody_streams::diff::Change;
use custody_streams::guard::{Finding, check_server, check_stream};
use custody_streams::spec::{StreamSpec, TRANSCRIPT};
use serde_json::{Value, json};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Streams: ls, diff, apply, guard, accounts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum StreamsCommand {
    /// Every stream and what it holds
    #[command(visible_alias = "list", after_help = "Examples:\n  custody streams ls\n  custody streams ls -o wide")]
    Ls,
    /// What differs between the streams and what they should be
    #[command(
        visible_alias = "plan",
        after_help = "Examples:\n  custody streams diff\n  custody streams diff -o json | jq '.[] | select(.allowed | not)'\n\nExit codes: 0 nothing, 6 something differs."
    )]
    Diff,
    /// Make the streams what they should be; refuses everything if one change is forbidden
    #[command(
        after_help = "Uses the administrator's credentials, which nothing that runs has.\n\nExamples:\n  custody streams apply\n  custody streams apply --yes -o json\n\nExit codes: 0 done or nothing to do, 5 a change is forbidden."
    )]
    Apply {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Check server and streams against the rules that a ledger needs
    #[command(
        after_help = "Examples:\n  custody streams guard\n  custody streams guard -o json\n\nExit codes: 0 no fatal finding, 9 a fatal one."
    )]
    Guard,
    /// Print the accounts, users and permissions that an outside NATS needs
    #[command(
        after_help = "Prints public keys only. Put the text into the server's configuration (ops/nats.conf includes it) and reload it; do so\nagain after every `custody launcher register`.\n\nExamples:\n  custody streams accounts > accounts.conf\n  custody streams accounts --credentials /etc/custody/users > /etc/nats/accounts.conf"
    )]
    Accounts {
        /// Folder with one `<user>.nk` seed file a user; missing ones are made, mode 0600
        /// [default: nats.credentials of the configuration, or the state folder's users]
        #[arg(long, value_name = "DIR")]
        credentials: Option<PathBuf>,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: StreamsCommand) -> CliResult {
    let target = ctx.target()?;
    match command {
        StreamsCommand::Ls => ls(ctx, &target).await,
        StreamsCommand::Diff => diff(ctx, &target).await,
        StreamsCommand::Apply { yes } => apply(ctx, &target, yes).await,
        StreamsCommand::Guard => guard(ctx, &target).await,
        StreamsCommand::Accounts { credentials } => accounts(&target, credentials).await,
    }
}

/// A connection that sees as many streams as these credentials allow, and those streams.
pub(crate) async fn observer(target: &Target) -> CliResult<(Connection, Vec<StreamSpec>)> {
    let mut specs = specs(target);
    let user = match target.credentials(ServiceUser::Admin) {
        Ok(_) => ServiceUser::Admin,
        Err(_) => {
            // Only the administrator sees this one.
            specs.retain(|s| s.name != TRANSCRIPT);
            ServiceUser::Operator
        }
    };
    Ok((target.connect(user).await?, specs))
}

fn unreachable(error: ApiError) -> CliError {
    CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", error).hint("custody doctor")
}

/// One row for each stream: what it holds, and how much of its limit that is.
pub(crate) async fn usage(connection: &Connection, specs: &[StreamSpec]) -> CliResult<Vec<Value>> {
    let mut out = Vec::new();
    for spec in specs {
        let state = match reconcile::usage(connection, &spec.name).await {
            Ok(state) => state,
            Err(ReconcileError::Api { source: ApiError::Api { .. }, .. }) => {
                out.push(json!({ "stream": spec.name, "state": "missing", "subjects": spec.subjects }));
                continue;
            }
            Err(ReconcileError::Api { source, .. }) => return Err(unreachable(source)),
            Err(error @ ReconcileError::Forbidden(_)) => return Err(CliError::new(exit::FAILED, "STREAMS", error)),
        };
        let bytes = state.get("bytes").and_then(Value::as_u64).unwrap_or(0);
        out.push(json!({
            "stream": spec.name, "state": "there", "subjects": spec.subjects, "messages": state.get("messages"),
            "bytes": bytes, "bytes_max": spec.max_bytes, "used": percent(bytes, spec.max_bytes),
            "first_seq": state.get("first_seq"), "last_seq": state.get("last_seq"),
            "consumers": state.get("consumer_count"),
            "about": spec.description,
        }));
    }
    Ok(out)
}

/// Hundredths of a limit that are used; without a limit nothing is.
pub(crate) fn percent(bytes: u64, max: i64) -> u64 {
    u64::try_from(max).ok().filter(|max| *max > 0).map_or(0, |max| bytes.saturating_mul(100) / max)
}

async fn ls(ctx: &Ctx, target: &Target) -> CliResult {
    let (connection, specs) = observer(target).await?;
    let rows = usage(&connection, &specs).await?;
    connection.close().await;
    let columns = [
        col("STREAM", "stream"),
        col("SUBJECTS", "subjects"),
        col("MESSAGES", "messages"),
        col("BYTES", "bytes"),
        col("USED%", "used"),
        col("FIRST", "first_seq"),
        col("LAST", "last_seq"),
        wide("BYTES-MAX", "bytes_max"),
        wide("STATE", "state"),
        wide("ABOUT", "about"),
    ];
    ctx.render.list("stream-usage.v1", "stream", &columns, &rows)
}

async fn plan(target: &Target) -> CliResult<(Connection, Vec<StreamSpec>, Vec<Change>)> {
    let connection = target.connect(ServiceUser::Admin).await?;
    let specs = specs(target);
    let changes = reconcile::plan(&connection, &specs).await.map_err(plan_failed)?;
    Ok((connection, specs, changes))
}

fn plan_failed(error: ReconcileError) -> CliError {
    match error {
        ReconcileError::Api { stream, source } => {
            CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", format!("stream {stream}: {source}"))
                .hint("custody doctor")
        }
        ReconcileError::Forbidden(changes) => forbidden(&changes),
    }
}

fn forbidden(changes: &[Change]) -> CliError {
    let named: Vec<String> =
        changes.iter().filter(|c| !c.allowed).map(|c| format!("{}.{}: {}", c.stream, c.field, c.why)).collect();
    CliError::new(exit::REFUSED, "STREAM_CHANGE_FORBIDDEN", named.join("; "))
        .hint("nothing was changed; custody streams diff shows each value")
}

fn print_changes(render: &Render, changes: &[Change]) -> CliResult {
    let rows = changes.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let columns = [
        col("STREAM", "stream"),
        col("FIELD", "field"),
        col("FROM", "from"),
        col("TO", "to"),
        col("ALLOWED", "allowed"),
        col("WHY", "why"),
    ];
    render.list("stream-change.v1", "field", &columns, &rows)
}

async fn diff(ctx: &Ctx, target: &Target) -> CliResult {
    let (connection, _, changes) = plan(target).await?;
    connection.close().await;
    if changes.is_empty() && !ctx.render.is_json() {
        notice("the streams are as they should be");
        return Ok(());
    }
    print_changes(&ctx.render, &changes)?;
    if changes.is_empty() { Ok(()) } else { Err(CliError::exit_only(exit::CONFLICT)) }
}

async fn apply(ctx: &Ctx, target: &Target, yes: bool) -> CliResult {
    let (connection, specs, changes) = plan(target).await?;
    if changes.iter().any(|c| !c.allowed) {
        return Err(forbidden(&changes));
    }
    if !changes.is_empty() && !yes {
        for change in &changes {
            notice(format!("{}.{}: {} -> {}", change.stream, change.field, change.from, change.to));
        }
        confirm(ctx, &format!("change {} settings of the streams at {}", changes.len(), redact(&target.url()?)))?;
    }
    let done = reconcile::apply(&connection, &specs).await.map_err(plan_failed)?;
    connection.close().await;
    if done.is_empty() && !ctx.render.is_json() {
        notice("nothing to do: the streams are as they should be");
        return Ok(());
    }
    print_changes(&ctx.render, &done)
}

/// An address without a user name or password in it.
pub(crate) fn redact(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

/// Whether our own server was started with `sync_interval: always`, by the configuration that we wrote for it.
fn configured_sync(target: &Target) -> Option<bool> {
    if target.config.nats.url.is_some() {
        return None;
    }
    let text = std::fs::read_to_string(target.home.path("nats/nats-server.conf")).ok()?;
    Some(text.lines().any(|line| line.trim() == "sync_interval: always"))
}

/// Everything that the guard finds here.
pub(crate) async fn findings(
    target: &Target,
    connection: &Connection,
    specs: &[StreamSpec],
) -> CliResult<Vec<Finding>> {
    let assume = if target.config.nats.assume_sync_always { SyncAssumption::Always } else { SyncAssumption::None };
    let mut server = facts::server(connection, None, assume).await.map_err(unreachable)?;
    // The system account of our own server has one user, and only the process that supervises it has that key; it has
    // asked the server itself before it started anything.
    server.sync_interval_always = server.sync_interval_always.or_else(|| configured_sync(target));
    let mut found = check_server(&server);
    for spec in specs {
        let stream = facts::stream(connection, &spec.name).await.map_err(unreachable)?;
        found.extend(check_stream(spec, stream.as_ref()));
    }
    Ok(found)
}

async fn guard(ctx: &Ctx, target: &Target) -> CliResult {
    let (connection, specs) = observer(target).await?;
    let findings = findings(target, &connection, &specs).await?;
    connection.close().await;
    if findings.is_empty() && !ctx.render.is_json() {
        notice(format!("no findings: the server and {} streams keep the rules", specs.len()));
        return Ok(());
    }
    let rows = findings.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let columns = [
        col("CODE", "code"),
        col("SUBJECT", "subject"),
        col("FATAL", "fatal"),
        col("MESSAGE", "message"),
        col("HINT", "hint"),
    ];
    let render = Render { no_trunc: true, ..ctx.render.clone() };
    render.list("finding.v1", "code", &columns, &rows)?;
    if findings.iter().any(|f| f.fatal) { Err(CliError::exit_only(exit::INTEGRITY)) } else { Ok(()) }
}

async fn accounts(target: &Target, folder: Option<PathBuf>) -> CliResult {
    let folder = folder.or_else(|| target.config.nats.credentials.clone()).unwrap_or_else(|| target.home.path("users"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let mut services = Vec::new();
    for user in ServiceUser::ALL {
        let seed = seed(&folder, user.as_str())?;
        services.push((user, UserKey::parse(user.as_str(), &seed.public_key()).map_err(refused)?));
    }
    let launchers = match target.operator().await {
        Ok(operator) => match operator.query("launcher.ls", json!({})).await {
            Ok(answer) => launchers(&rows(&answer))?,
            Err(error) => none(&error),
        },
        Err(error) => none(&error),
    };
    let text = accounts_text(&Accounts { services, launchers, system: Vec::new() }).map_err(refused)?;
    raw(text.as_bytes())
}

fn none(error: &CliError) -> Vec<Launcher> {
    notice(format!("no launchers in this text, because they cannot be asked for now: {error}"));
    Vec::new()
}

fn refused(error: custody_streams::accounts::AccountsError) -> CliError {
    CliError::new(exit::FAILED, "ACCOUNTS", error)
}

/// The launchers that may publish, of the projector's rows.
fn launchers(rows: &[Value]) -> CliResult<Vec<Launcher>> {
    let mut out = Vec::new();
    for row in rows.iter().filter(|r| r.get("disabled").is_none_or(Value::is_null)) {
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default();
        let id = LauncherId::parse(text("launcher")).map_err(|e| CliError::new(exit::FAILED, "ACCOUNTS", e))?;
        let key = UserKey::parse(id.as_str(), text("public_key")).map_err(refused)?;
        out.push(Launcher { id, key });
    }
    Ok(out)
}

/// A user's seed in a folder, made when it is not there.
fn seed(folder: &Path, user: &str) -> CliResult<Seed> {
    let path = folder.join([user, ".nk"].concat());
    let bad =
        |e: &dyn std::fmt::Display| CliError::new(exit::FAILED, "SEED_UNREADABLE", format!("{}: {e}", path.display()));
    match std::fs::read_to_string(&path) {
        Ok(text) => Seed::parse(text.trim()).map_err(|e| bad(&e)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let seed = Seed::generate().map_err(|e| bad(&e))?;
            write_secret(&path, seed.expose().as_bytes())?;
            notice(format!("made the key of user {user}: {}", path.display()));
            Ok(seed)
        }
        Err(error) => Err(bad(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("nats://10.0.4.2:4222", "nats://10.0.4.2:4222")]
    #[case("nats://jane:secret@host:4222", "nats://host:4222")]
    #[case("tls://token@with@sign@host", "tls://host")]
    fn an_address_shows_no_password(#[case] url: &str, #[case] shown: &str) {
        assert_eq!(redact(url), shown);
    }

    #[rstest]
    #[case(50, 200, 25)]
    #[case(50, -1, 0)]
    #[case(50, 0, 0)]
    fn shares(#[case] bytes: u64, #[case] max: i64, #[case] share: u64) {
        assert_eq!(percent(bytes, max), share);
    }

    #[test]
    fn a_disabled_launcher_has_no_user() {
        let key = Seed::generate().unwrap().public_key();
        let rows = [
            json!({ "launcher": "web", "public_key": key, "disabled": null }),
            json!({ "launcher": "old", "public_key": key, "disabled": "key lost" }),
        ];
        let found = launchers(&rows).unwrap();
        assert_eq!(found.iter().map(|l| l.id.as_str()).collect::<Vec<_>>(), ["web"]);
    }

    #[test]
    fn a_seed_is_made_once_and_belongs_to_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = seed(folder.path(), "operator").unwrap().public_key();
        assert_eq!(seed(folder.path(), "operator").unwrap().public_key(), first);
        let mode = std::fs::metadata(folder.path().join("operator.nk")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
