//! `custody dispatch rerun` and `resume`: new dispatches made from an old one. Both launch like any launcher does, so
//! both are judged anew; must never reuse an old admission.

use super::super::Ctx;
use super::super::run::{LaunchRequest, launch, refused, watch};
use crate::client::{Operator, Target};
use crate::error::{CliError, CliResult, exit};
use crate::render::{line, notice};
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, Kind, LedgerEvent};
use custody_contracts::ids::LauncherRef;
use custody_contracts::unit::{Invocation, SessionStart, Start};
use custody_ledger::{Entity, Log, Recorded};
use serde_json::Value;
use std::io::{Read, Seek, Write};
use std::time::Duration;

/// The longest unit that an editor may give back, in bytes.
const UNIT_BYTES_MAX: u64 = 65_536;
/// What a session is asked when nobody says what.
const GO_ON: &str = "Continue.";

/// How a new dispatch is made.
#[derive(Debug, clap::Args)]
pub(crate) struct RerunArgs {
    /// Id, unique prefix, or `last`
    pub(super) id: String,
    /// Change the unit first, in $VISUAL or $EDITOR
    #[arg(long)]
    edit: bool,
    /// How it is launched
    #[command(flatten)]
    how: How,
}

/// How a session goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {
    /// Id, unique prefix, or `last`
    pub(super) id: String,
    /// What to ask; several words are joined [default: Continue.]
    text: Vec<String>,
    /// How it is launched
    #[command(flatten)]
    how: How,
}

/// Launcher, message id, and whether to wait.
#[derive(Debug, clap::Args)]
struct How {
    /// The launcher whose key is used [default: the one that began it]
    #[arg(long)]
    launcher: Option<String>,
    /// The new message's id; the same id and unit are the same dispatch
    #[arg(long = "id", value_name = "ID")]
    message: Option<String>,
    /// Return as soon as it is admitted
    #[arg(long)]
    detach: bool,
}

pub(super) async fn rerun(ctx: &Ctx, target: &Target, operator: &Operator, id: &str, args: RerunArgs) -> CliResult {
    let admitted = admission(target, operator, id).await?;
    let launcher = args.how.launcher.clone().unwrap_or_else(|| admitted.launch.launcher.to_string());
    let mut unit = by(admitted, &launcher)?;
    if args.edit {
        unit = edited(ctx, &unit)?;
    }
    begin(ctx, target, unit, launcher, args.how).await
}

pub(super) async fn resume(
    ctx: &Ctx,
    target: &Target,
    operator: &Operator,
    id: &str,
    row: &Value,
    args: ResumeArgs,
) -> CliResult {
    let text = |name: &str| row.get(name).and_then(Value::as_str);
    let session = match (text("status"), text("session"), text("session_digest")) {
        (Some("completed" | "parked" | "ended"), Some(session), Some(_)) => session.to_owned(),
        (Some("completed" | "parked" | "ended"), ..) => {
            return Err(CliError::new(
                exit::CONFLICT,
                "NOTHING_TO_RESUME",
                format!("dispatch {id} left no session file"),
            )
            .hint(format!("ask the same again: custody dispatch rerun {id}")));
        }
        (status, ..) => {
            let status = status.unwrap_or("unknown");
            return Err(CliError::new(exit::CONFLICT, "NOT_ENDED", format!("dispatch {id} is {status}"))
                .hint(format!("custody dispatch say {id} TEXT, or wait: custody dispatch wait {id}")));
        }
    };
    let admitted = admission(target, operator, id).await?;
    let launcher = args.how.launcher.clone().unwrap_or_else(|| admitted.launch.launcher.to_string());
    let mut unit = by(admitted, &launcher)?;
    let prompt = if args.text.is_empty() { GO_ON.to_owned() } else { args.text.join(" ") };
    unit.start = Start::Session(SessionStart { reference: session, inline: Some(prompt) });
    begin(ctx, target, unit, launcher, args.how).await
}

/// What was admitted, as the ledger has it.
async fn admission(target: &Target, operator: &Operator, id: &str) -> CliResult<DispatchAdmitted> {
    let missing = || CliError::new(exit::NOT_FOUND, "NOT_ADMITTED", format!("dispatch {id} was never admitted"));
    let entity = Entity::new(Kind::Dispatch, id).ok_or_else(missing)?;
    let history = operator.log().await?.load(&entity).await;
    let history = history.map_err(|e| CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", e))?;
    let recorded = history.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
    let mut admitted = recorded.filter_map(|recorded| match recorded.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => Some(*e),
        _ => None,
    });
    target.opened(&operator.connection, admitted.next().ok_or_else(missing)?).await
}

/// The unit, launched by a launcher of the same sort.
fn by(admitted: DispatchAdmitted, launcher: &str) -> CliResult<Invocation> {
    let mut unit = admitted.unit;
    let sort = unit.identity.launcher.as_str().split_once(':').map_or("user", |(sort, _)| sort).to_owned();
    unit.identity.launcher = LauncherRef::parse(&[&sort, ":", launcher].concat())
        .map_err(|e| CliError::new(exit::USAGE, "LAUNCHER_INVALID", e))?;
    Ok(unit)
}

async fn begin(ctx: &Ctx, target: &Target, unit: Invocation, launcher: String, how: How) -> CliResult {
    let subject = unit.identity.subject.to_string();
    let reply = launch(target, LaunchRequest { launcher: launcher.clone(), id: how.message, unit }).await?;
    if let Some(error) = refused(&reply) {
        notice(format!("dispatch {} is recorded as refused at sequence {}", reply.dispatch, reply.seq));
        return Err(error);
    }
    if how.detach {
        if ctx.render.format.is_some() {
            return ctx.render.one("reply.v1", "dispatch", &serde_json::to_value(&reply)?);
        }
        return line(&reply.dispatch);
    }
    notice(format!("{} admitted for {subject} through {launcher} (sequence {})", reply.dispatch, reply.seq));
    watch(ctx, target, &reply.dispatch, ctx.global.timeout.unwrap_or(Duration::from_secs(3_700))).await
}

/// The unit as the person at the keyboard leaves it.
fn edited(ctx: &Ctx, unit: &Invocation) -> CliResult<Invocation> {
    let usage = |code: &str, why: String| CliError::new(exit::USAGE, code, why);
    if ctx.global.no_input {
        return Err(usage("CONFIRMATION_NEEDED", "--edit needs a person".into()).hint("leave --no-input out"));
    }
    let set = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).ok_or_else(|| {
        usage("NO_EDITOR", "neither VISUAL nor EDITOR names an editor".into())
            .hint("EDITOR=nano custody dispatch rerun …")
    })?;
    let mut file = tempfile::Builder::new().prefix("custody-unit-").suffix(".json").tempfile()?;
    file.write_all(serde_json::to_string_pretty(unit)?.as_bytes())?;
    file.flush()?;
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or_default();
    let status = std::process::Command::new(program).args(words).arg(file.path()).status();
    let status = status.map_err(|e| usage("NO_EDITOR", format!("{program}: {e}")))?;
    if !status.success() {
        return Err(CliError::new(
            exit::REFUSED,
            "NOT_CONFIRMED",
            format!("{program} ended with {status}; nothing was asked"),
        ));
    }
    // An editor may have put another file in its place: it is read by its name.
    let mut text = String::new();
    let mut file = std::fs::File::open(file.path())?;
    file.rewind()?;
    file.take(UNIT_BYTES_MAX).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(|e| {
        usage("UNIT_INVALID", format!("what the editor left is no unit: {e}")).hint("custody contract show unit.v1")
    })
}
