//! `custody replay DISPATCH`: the same dispatch again, answered from its recording. No model is called and no tool is
//! carried out.

use super::Ctx;
use super::run::{LaunchRequest, launch, refused, wait_end, words_of};
use crate::client::Operator;
use crate::error::{CliError, CliResult, exit};
use crate::render::{line, notice};
use crate::server::local::CLI_LAUNCHER;
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, Kind, LedgerEvent};
use custody_contracts::ids::LauncherRef;
use custody_contracts::unit::{Context, ContextKind, Entrypoint, Invocation, Mode, Reference, Start};
use custody_engine::replay::REPLAY_URI;
use custody_ledger::{Entity, Log, Recorded};
use custody_nats::JetLog;
use custody_ports::output::Output;
use serde_json::{Value, json};
use std::time::Duration;

/// Run a dispatch again, answered from its recording
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A new dispatch of the same person, runner, prompt, workspaces and tools starts. Its model calls and its tool calls are answered with what the first one was answered; a call that is not in the recording is refused, recorded, and carried out by nobody. Workspaces that were mounted for writing are mounted as copies (propose). A turn of a session goes on from the session file that it went on from then, in a session of its own. A call that waited for a person is answered as it was then, and nobody is asked.\n\nExamples:\n  custody replay last\n  custody replay d-7f3a -o json | jq .same\n\nExit codes: 0 the same, 5 refused, 7 timed out, 10 it went another way."
)]
pub(crate) struct ReplayArgs {
    /// Id, unique prefix, or `last`
    id: String,
    /// The launcher whose key in the state folder is used
    #[arg(long, default_value = CLI_LAUNCHER)]
    launcher: String,
    /// Mount for writing what was mounted for writing, and not a copy of it: what the first run wrote is written again
    #[arg(long)]
    write: bool,
}

/// What is compared of two dispatches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    reason: String,
    model_calls: u64,
    words: String,
}

pub(crate) async fn run(ctx: &Ctx, args: ReplayArgs) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let answer = operator.query("dispatch.get", json!({ "id": args.id })).await?;
    let first = answer.get("row").cloned().unwrap_or(Value::Null);
    let id = first.get("dispatch").and_then(Value::as_str).unwrap_or_default().to_owned();
    let log = JetLog::open(&operator.connection).await;
    let log = log.map_err(|e| CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", e))?;
    let admitted = admitted(&log, &id).await?;
    let before = match &admitted.unit.start {
        Start::Session(_) => Some(turn_before(&operator, &id, admitted.session.as_str()).await?),
        Start::Entrypoint(_) => None,
    };
    let asked = target.opened(&operator.connection, *admitted).await?;
    let unit = again(&id, before, Box::new(asked), &args)?;
    let reply = launch(&target, LaunchRequest { launcher: args.launcher.clone(), id: None, unit }).await?;
    if let Some(error) = refused(&reply) {
        return Err(error);
    }
    notice(format!("{} repeats {id} from its recording", reply.dispatch));
    let limit = ctx.global.timeout.unwrap_or(Duration::from_secs(3_700));
    let second = wait_end(&operator, &reply.dispatch, limit).await?;
    let output = target.output(&operator.connection);
    let (one, two) = (way(&output, &id, &first).await?, way(&output, &reply.dispatch, &second).await?);
    let same = one == two;
    let told = json!({
        "dispatch": reply.dispatch, "of": id, "same": same,
        "reason": [one.reason, two.reason], "model_calls": [one.model_calls, two.model_calls],
        "same_words": one.words == two.words, "detail": second.get("detail"),
    });
    if ctx.render.format.is_some() {
        ctx.render.one("replay.v1", "dispatch", &told)?;
    } else if same {
        line(format!(
            "{} went as {id}: {}, {} model calls, the same words",
            reply.dispatch, two.reason, two.model_calls
        ))?;
    }
    if same {
        return Ok(());
    }
    let what = format!(
        "{} went another way than {id}: {} after {} model calls, {} after {} then; the words are {}",
        reply.dispatch,
        two.reason,
        two.model_calls,
        one.reason,
        one.model_calls,
        if one.words == two.words { "the same" } else { "others" },
    );
    Err(CliError::new(exit::ENDED_FAILED, "REPLAY_DIFFERS", what)
        .hint(format!("custody audit ls --dispatch {} shows where", reply.dispatch)))
}

async fn way(output: &dyn Output, dispatch: &str, row: &Value) -> CliResult<Way> {
    Ok(Way {
        reason: row.get("reason").and_then(Value::as_str).unwrap_or_default().to_owned(),
        model_calls: row.pointer("/usage/model_calls").and_then(Value::as_u64).unwrap_or_default(),
        words: words_of(output, dispatch).await?,
    })
}

async fn admitted(log: &JetLog, id: &str) -> CliResult<Box<DispatchAdmitted>> {
    let gone = || CliError::new(exit::NOT_FOUND, "NOT_FOUND", format!("dispatch {id:?} was never admitted"));
    let entity = Entity::new(Kind::Dispatch, id).ok_or_else(gone)?;
    let history = log.load(&entity).await.map_err(|e| CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", e))?;
    let mut read = history.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
    let found = read.find_map(|recorded| match recorded.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => Some(e),
        _ => None,
    });
    found.ok_or_else(gone)
}

/// The dispatch whose session file a turn went on from.
async fn turn_before(operator: &Operator, id: &str, session: &str) -> CliResult<String> {
    let answer = operator.query("session.get", json!({ "id": session })).await?;
    let turns = answer.pointer("/row/turns").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |turn: &Value, name: &str| turn.get(name).and_then(Value::as_str).map(str::to_owned);
    let place = turns.iter().position(|turn| text(turn, "dispatch").as_deref() == Some(id));
    let (earlier, from) = match place.and_then(|place| turns.split_at_checked(place)) {
        Some((earlier, [turn, ..])) => (earlier, text(turn, "resumed_from")),
        _ => (turns, None),
    };
    let found = earlier.iter().rev().find(|turn| from.is_some() && text(turn, "left") == from);
    found.and_then(|turn| text(turn, "dispatch")).ok_or_else(|| {
        let why = format!("the turn before {id} in session {session} is not known any more");
        CliError::new(exit::NOT_FOUND, "REPLAY_OF_A_TURN", why).hint("replay the dispatch that began the session")
    })
}

/// The unit of the repetition. A turn of a session is repeated in a session of its own: the one that it was of has gone on.
fn again(
    id: &str,
    before: Option<String>,
    admitted: Box<DispatchAdmitted>,
    args: &ReplayArgs,
) -> CliResult<Invocation> {
    let mut unit = admitted.unit;
    if let Start::Session(turn) = unit.start {
        unit.start = Start::Entrypoint(Entrypoint::Inline(turn.inline.unwrap_or_default()));
    }
    unit.identity.launcher = LauncherRef::parse(&["user:", &args.launcher].concat())
        .map_err(|e| CliError::new(exit::USAGE, "UNIT_INVALID", e))?;
    for mount in unit.workspaces.iter_mut().filter(|mount| mount.mode == Mode::Rw && !args.write) {
        // What the first run wrote is there already; the second one writes into a copy.
        mount.mode = Mode::Propose;
    }
    let reference = Reference { uri: [REPLAY_URI, id].concat(), etag: before };
    unit.context = Some(Context { kind: ContextKind::Generic, meeting: None, reference: Some(reference) });
    Ok(unit)
}
