//! `custody run PROMPT`: a launch as any launcher makes it, and then its output until it ends.

use super::Ctx;
use crate::client::{Operator, Target};
use crate::error::{CliError, CliResult, exit};
use crate::render::{line, notice, raw};
use crate::server::clock::now_ms;
use crate::server::disk;
use crate::server::local::CLI_LAUNCHER;
use custody_contracts::box_protocol::FrameBody;
use custody_contracts::canonical::{canonical, hex};
use custody_contracts::ids::{DispatchId, LauncherId, LauncherRef, RunnerName, Subject, UnixMillis, WorkspaceId};
use custody_contracts::launch::{self, FollowUp};
use custody_contracts::messages::{Chunk, Reply, ReplyOutcome};
use custody_contracts::unit::{
    Entrypoint, Identity, Invocation, Limits, Mode, SessionStart, Start, Trigger, WorkspaceMount,
};
use custody_domain::admission::dispatch_id;
use custody_domain::say::message_id;
use custody_ports::output::Output;
use custody_projections::row::plain;
use custody_streams::subject::LogSubject;
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

/// Dispatch an agent with a prompt and watch it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  custody run 'What is the capital of France?'\n  custody run --session last 'And of Spain?'\n  custody run --workspace notes:ro 'Summarise @plan.md'\n  custody run --tool workspace_list --tool workspace_read 'What is here?'\n  custody run --detach -o json 'Tidy up' | jq -r .dispatch\n  custody run --turns 5 'Read plan.md'; custody run --follow-up last 'Now summarise it'\n\nExit codes: 0 completed, 5 refused, 7 timed out, 10 ended otherwise, 130 interrupted (the dispatch goes on)."
)]
pub(crate) struct RunArgs {
    /// What to ask; several words are joined. `-` reads standard input
    #[arg(required = true)]
    prompt: Vec<String>,
    /// The runner
    #[arg(long, default_value = "custody-agent")]
    runner: String,
    /// A workspace and its mode, ID:ro, ID:rw or ID:propose; may be given several times
    #[arg(long = "workspace", value_name = "ID:MODE")]
    workspaces: Vec<String>,
    /// Go on with a session: its id, a prefix of it, or `last`
    #[arg(long)]
    session: Option<String>,
    /// The person it acts for [default: u_<your login>]
    #[arg(long = "as", value_name = "SUBJECT")]
    subject: Option<String>,
    /// The launcher whose key in the state folder is used
    #[arg(long, default_value = CLI_LAUNCHER)]
    launcher: String,
    /// The message's id; the same id and text are the same dispatch
    #[arg(long)]
    id: Option<String>,
    /// Milliseconds from start to a forced end
    #[arg(long, value_parser = crate::args::parse_duration)]
    wall: Option<Duration>,
    /// Milliseconds without output after which it ends
    #[arg(long, value_parser = crate::args::parse_duration)]
    idle: Option<Duration>,
    /// A tool that it may call through the gateway; may be given several times
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// The most tool calls
    #[arg(long, value_name = "N")]
    tool_calls: Option<u64>,
    /// The most tokens, sent and received
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// The most that its model calls may cost, in millionths of the accounting currency
    #[arg(long, value_name = "N")]
    cost_micros: Option<u64>,
    /// Turns that its box takes; above 1 it stays for follow-ups until it was idle for too long
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    turns: Option<u64>,
    /// Say it to this dispatch that has not ended, instead of beginning one: id, unique prefix, or `last`
    #[arg(long, value_name = "DISPATCH", conflicts_with_all = ["session", "workspaces", "wall", "idle", "turns", "tools", "tool_calls", "tokens", "cost_micros"])]
    follow_up: Option<String>,
    /// Wait for the end; the default
    #[arg(long, conflicts_with = "detach")]
    wait: bool,
    /// Return as soon as it is admitted
    #[arg(long)]
    detach: bool,
}

/// A launch to make.
#[derive(Debug, Clone)]
pub(crate) struct LaunchRequest {
    /// Whose key is used.
    pub(crate) launcher: String,
    /// The message's id; a random one when there is none.
    pub(crate) id: Option<String>,
    /// What.
    pub(crate) unit: Invocation,
}

/// The person that a login stands for.
pub(crate) fn own_subject() -> String {
    let login = std::env::var("SUDO_USER")
        .or_else(|_| std::env::var("USER"))
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| "operator".into());
    let clean: String = login.chars().filter(|c| c.is_ascii_alphanumeric() || "_.-".contains(*c)).take(60).collect();
    ["u_", &clean].concat()
}

fn usage(error: impl std::fmt::Display) -> CliError {
    CliError::new(exit::USAGE, "UNIT_INVALID", error)
}

/// A unit from words; everything is checked here and again at admission.
pub(crate) fn unit(
    launcher: &str,
    subject: &str,
    runner: &str,
    workspaces: &[String],
    start: Start,
    limits: Option<Limits>,
) -> CliResult<Invocation> {
    let given: Vec<String> = if workspaces.is_empty() { vec!["default:rw".into()] } else { workspaces.to_vec() };
    let mut mounts = Vec::new();
    for text in given {
        let (id, mode) = text.split_once(':').unwrap_or((&text, "ro"));
        let mode = match mode {
            "ro" => Mode::Ro,
            "rw" => Mode::Rw,
            "propose" => Mode::Propose,
            other => return Err(usage(format!("{other:?} is not a mode")).hint("ro, rw or propose")),
        };
        mounts.push(WorkspaceMount { id: WorkspaceId::parse(id).map_err(usage)?, mode });
    }
    Ok(Invocation {
        identity: Identity {
            subject: Subject::parse(subject).map_err(usage)?,
            launcher: LauncherRef::parse(&["user:", launcher].concat()).map_err(usage)?,
            token: None,
        },
        runner: RunnerName::parse(runner).map_err(usage)?,
        workspaces: mounts,
        tools: Vec::new(),
        trigger: Trigger::Message,
        context: None,
        start,
        limits,
    })
}

/// Refuses where nothing could be recorded: a server with a full disk does not even say no.
fn has_space(target: &Target) -> CliResult {
    let folder = target.home.path("nats");
    if target.config.nats.url.is_some() {
        return Ok(());
    }
    match disk::free(&folder) {
        Some(free) if free < disk::FREE_MIN => {
            let why =
                format!("the disk under {} has {free} bytes left, {} are the least", folder.display(), disk::FREE_MIN);
            Err(CliError::new(exit::UNREACHABLE, "DISK_FULL", why)
                .hint("make space there; Custody goes on by itself within seconds"))
        }
        _ => Ok(()),
    }
}

/// Publishes a launch and waits for its reply. Safe to call again with the same id and unit.
pub(crate) async fn launch(target: &Target, request: LaunchRequest) -> CliResult<Reply> {
    let launcher = LauncherId::parse(&request.launcher).map_err(usage)?;
    let named = request.id.is_some();
    let id = own_id(request.id)?;
    let mut event = launch::unsigned(&id, launcher.as_str(), &UnixMillis(now_ms()).rfc3339(), &request.unit)?;
    if named {
        // Who names a message wants to be able to send it again, byte for byte: no clock may be in it.
        event.remove("time");
    }
    publish(target, &launcher, "dispatch", event, |bytes| {
        // A message under an id that is taken is told apart by its bytes, and its refusal stands under that name.
        vec![dispatch_id(&launcher, Some(&id), bytes), dispatch_id(&launcher, None, bytes)]
    })
    .await
}

/// Says more to a dispatch with the launcher's own key. Safe to call again with the same id and words.
async fn say(target: &Target, launcher: &str, id: Option<String>, follow_up: &FollowUp) -> CliResult<Reply> {
    let launcher = LauncherId::parse(launcher).map_err(usage)?;
    let named = id.is_some();
    let id = own_id(id)?;
    let mut event = launch::unsigned_say(&id, launcher.as_str(), &UnixMillis(now_ms()).rfc3339(), follow_up)?;
    if named {
        event.remove("time");
    }
    publish(target, &launcher, "say", event, |bytes| {
        vec![follow_up.dispatch.clone(), message_id(launcher.as_str(), Some(&id), bytes)]
    })
    .await
}

async fn follow_up(ctx: &Ctx, target: &Target, id: &str, text: String, args: &RunArgs) -> CliResult {
    let answer = target.operator().await?.query("dispatch.get", json!({ "id": id })).await?;
    let dispatch = answer.pointer("/row/dispatch").and_then(Value::as_str).unwrap_or_default();
    let dispatch = DispatchId::parse(dispatch).map_err(usage)?;
    let reply = say(target, &args.launcher, args.id.clone(), &FollowUp { dispatch, text }).await?;
    if let Some(error) = refused(&reply) {
        notice(format!("the follow-up is recorded as refused at sequence {}", reply.seq));
        return Err(error);
    }
    if ctx.render.format.is_some() {
        return ctx.render.one("reply.v1", "dispatch", &serde_json::to_value(&reply)?);
    }
    line(format!("{} follow-up accepted (sequence {})", reply.dispatch, reply.seq))
}

fn own_id(id: Option<String>) -> CliResult<String> {
    match id {
        Some(id) => Ok(id),
        None => Ok(hex(&crate::home::random::<16>()?)),
    }
}

/// Signs an event, publishes it on `launch.<launcher>.<verb>` and waits for the reply under one of the names.
async fn publish(
    target: &Target,
    launcher: &LauncherId,
    verb: &str,
    mut event: serde_json::Map<String, Value>,
    names: impl FnOnce(&[u8]) -> Vec<DispatchId>,
) -> CliResult<Reply> {
    has_space(target)?;
    let (connection, seed) = target.connect_launcher(launcher.as_str()).await?;
    let key = nkeys::KeyPair::from_seed(seed.expose())
        .map_err(|e| CliError::new(exit::NOT_SIGNED_IN, "SEED_UNREADABLE", e))?;
    custody_trust::launch::sign(&mut event, &key).map_err(|e| CliError::new(exit::NOT_SIGNED_IN, "SIGNING", e))?;
    let event_id = event.get("id").and_then(Value::as_str).map(str::to_owned);
    let bytes = canonical(&Value::Object(event)).into_bytes();
    if bytes.len() > launch::BYTES_MAX {
        return Err(CliError::new(
            exit::USAGE,
            "MESSAGE_TOO_LARGE",
            format!("the launch has {} bytes, {} are the most", bytes.len(), launch::BYTES_MAX),
        )
        .hint("put the text into a workspace file and ask with @FILE"));
    }
    let names = names(&bytes);
    let bad = |e: custody_streams::subject::BadSubject| usage(e);
    let mut replies = futures::stream::SelectAll::new();
    for name in &names {
        let subject = LogSubject::reply(launcher.as_str(), name.as_str()).map_err(bad)?.to_string();
        let subscriber = connection.client().subscribe(subject).await;
        replies.push(subscriber.map_err(|e| CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", e))?);
    }
    // The subscriptions must be with the server before the message is.
    connection.client().flush().await.map_err(|e| CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", e))?;
    let publish = LogSubject::launch(launcher.as_str(), verb).map_err(bad)?.to_string();
    let ack = tokio::time::timeout(target.timeout, connection.client().request(publish, bytes.into())).await;
    let ack = ack.map_err(|_| {
        CliError::new(exit::TIMED_OUT, "NO_ACK", "the launch was not acknowledged in time")
            .hint("run it again with the same --id: it will be the same dispatch")
    })?;
    let ack = ack.map_err(|e| CliError::new(exit::UNREACHABLE, "NOT_PUBLISHED", e).hint("custody doctor"))?;
    let ack: Value = serde_json::from_slice(&ack.payload)?;
    if let Some(error) = ack.get("error") {
        return Err(CliError::new(exit::FAILED, "LAUNCH_NOT_STORED", error).hint("custody doctor"));
    }
    let wait = target.timeout.max(Duration::from_secs(10));
    // A dispatch that is spoken to by many answers all of them on one subject.
    let answered = async {
        while let Some(message) = replies.next().await {
            let reply: Reply = serde_json::from_slice(&message.payload)?;
            if reply.event_id == event_id {
                return Ok::<_, CliError>(Some(reply));
            }
        }
        Ok(None)
    };
    let reply = tokio::time::timeout(wait, answered).await.map_err(|_| {
        let named = names.first().map_or_else(String::new, ToString::to_string);
        CliError::new(
            exit::TIMED_OUT,
            "NO_REPLY",
            format!("the message is stored, and nothing is decided yet ({named})"),
        )
        .hint("is the authority role running? custody status")
    })??;
    let reply = reply
        .ok_or_else(|| CliError::new(exit::UNREACHABLE, "CONNECTION_LOST", "the connection ended before the reply"))?;
    connection.close().await;
    Ok(reply)
}

/// The refusal of a reply as this command's error.
pub(crate) fn refused(reply: &Reply) -> Option<CliError> {
    (reply.outcome == ReplyOutcome::Refused).then(|| {
        let code = reply.reason.as_deref().unwrap_or("REFUSED");
        let mut error =
            CliError::new(exit::REFUSED, code, format!("refused: {}", reply.detail.as_deref().unwrap_or("no detail")));
        error.hint = reply.hint.clone();
        error
    })
}

/// Everything that a dispatch's assistant said, as one text.
pub(crate) async fn words_of(output: &dyn Output, dispatch: &str) -> CliResult<String> {
    let stored = output.all(dispatch).await.map_err(|e| CliError::new(exit::UNREACHABLE, "OUTPUT_UNAVAILABLE", e))?;
    let mut words = String::new();
    for chunk in stored.iter().filter_map(|stored| serde_json::from_slice::<Chunk>(&stored.bytes).ok()) {
        for frame in chunk.frames {
            if let FrameBody::Text { text } = frame.body {
                words.push_str(&text);
            }
        }
    }
    Ok(words)
}

/// Waits until a dispatch has ended and gives its row.
pub(crate) async fn wait_end(operator: &Operator, dispatch: &str, limit: Duration) -> CliResult<Value> {
    wait_end_telling(operator, dispatch, limit, |_| {}).await
}

/// Waits until a dispatch has ended; `told` hears of each change of what it waits for before it has a box.
async fn wait_end_telling(
    operator: &Operator,
    dispatch: &str,
    limit: Duration,
    mut told: impl FnMut(&str),
) -> CliResult<Value> {
    let until = tokio::time::Instant::now() + limit;
    let (mut before, mut last_told) = (None, None);
    loop {
        match operator.query("dispatch.get", json!({ "id": dispatch })).await {
            Ok(answer) => {
                let row = answer.get("row").cloned().unwrap_or(Value::Null);
                let status = row.get("status").and_then(Value::as_str).unwrap_or_default();
                if matches!(status, "completed" | "parked" | "ended" | "refused") {
                    return Ok(row);
                }
                // Only what holds for two looks is worth a line: most wait for milliseconds.
                let waits_for = row.get("waits_for").and_then(Value::as_str).map(str::to_owned);
                if let Some(now) = waits_for.as_ref().filter(|now| before.as_ref() == Some(*now))
                    && last_told.as_ref() != Some(now)
                {
                    told(now);
                    last_told = Some(now.clone());
                }
                before = waits_for;
            }
            // Not folded yet, or the projector is just being restarted.
            Err(error) if matches!(error.exit, exit::NOT_FOUND | exit::UNREACHABLE | exit::TIMED_OUT) => {}
            Err(error) => return Err(error),
        }
        if tokio::time::Instant::now() >= until {
            return Err(CliError::new(exit::TIMED_OUT, "TIMED_OUT", format!("dispatch {dispatch} has not ended"))
                .hint(format!("custody dispatch watch {dispatch}")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) async fn run(ctx: &Ctx, args: RunArgs) -> CliResult {
    let target = ctx.target()?;
    let prompt = match args.prompt.as_slice() {
        [dash] if dash == "-" => std::io::read_to_string(std::io::Read::take(std::io::stdin(), 1 << 20))?,
        words => words.join(" "),
    };
    if let Some(id) = &args.follow_up {
        return follow_up(ctx, &target, id, prompt, &args).await;
    }
    let start = match &args.session {
        None => Start::Entrypoint(Entrypoint::Inline(prompt)),
        Some(id) => {
            let operator = target.operator().await?;
            let answer = operator.query("session.get", json!({ "id": id })).await?;
            let row = answer.get("row").cloned().unwrap_or(Value::Null);
            let session = row.get("session").and_then(Value::as_str).unwrap_or_default().to_owned();
            Start::Session(SessionStart { reference: session, inline: Some(prompt) })
        }
    };
    let ms = |d: Option<Duration>| d.and_then(|d| u64::try_from(d.as_millis()).ok());
    let limits = Limits {
        wall_ms: ms(args.wall),
        idle_ms: ms(args.idle),
        tokens: args.tokens,
        cost_micros: args.cost_micros,
        turns: args.turns,
        tool_calls: args.tool_calls,
    };
    let limits = (limits != Limits::default()).then_some(limits);
    let subject = args.subject.clone().unwrap_or_else(own_subject);
    let mut unit = unit(&args.launcher, &subject, &args.runner, &args.workspaces, start, limits)?;
    unit.tools.clone_from(&args.tools);
    let reply = launch(&target, LaunchRequest { launcher: args.launcher.clone(), id: args.id.clone(), unit }).await?;
    if let Some(error) = refused(&reply) {
        notice(format!("dispatch {} is recorded as refused at sequence {}", reply.dispatch, reply.seq));
        return Err(error);
    }
    if args.detach {
        if ctx.render.format.is_some() {
            return ctx.render.one("reply.v1", "dispatch", &serde_json::to_value(&reply)?);
        }
        return line(&reply.dispatch);
    }
    notice(format!("{} admitted for {subject} through {} (sequence {})", reply.dispatch, args.launcher, reply.seq));
    let limit = ctx.global.timeout.unwrap_or(Duration::from_secs(3_700));
    watch(ctx, &target, &reply.dispatch, limit).await
}

/// Shows a dispatch's output as it comes, until its end; the exit code says how it ended.
pub(crate) async fn watch(ctx: &Ctx, target: &Target, dispatch: &str, limit: Duration) -> CliResult {
    let operator = target.operator().await?;
    let output = target.output(&operator.connection);
    let until = tokio::time::Instant::now() + limit;
    let show = show(ctx, &output, dispatch);
    let ended = async {
        let told = |waits_for: &str| notice(format!("queued, {waits_for}"));
        let row = wait_end_telling(&operator, dispatch, limit, told).await?;
        // What was stored before the end is shown before the end is told.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, CliError>(row)
    };
    tokio::pin!(ended);
    let row = tokio::select! {
        shown = show => {
            shown?;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            wait_end(&operator, dispatch, left).await?
        }
        row = &mut ended => row?,
        _ = tokio::signal::ctrl_c() => {
            notice(format!("the dispatch goes on: custody dispatch watch {dispatch}, or custody dispatch stop {dispatch}"));
            return Err(CliError::exit_only(exit::INTERRUPTED));
        }
    };
    tell_end(ctx, dispatch, &row)
}

fn tell_end(ctx: &Ctx, dispatch: &str, row: &Value) -> CliResult {
    let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if ctx.render.is_json() {
        ctx.render.one("dispatch.v1", "dispatch", row)?;
    }
    let container: String = text("container").chars().take(12).collect();
    let wall = row.pointer("/usage/wall_ms").and_then(Value::as_u64).unwrap_or(0);
    let tokens = |name: &str| row.pointer(&["/usage/", name].concat()).and_then(Value::as_u64).unwrap_or(0);
    let detail = row.get("detail").and_then(Value::as_str).map_or_else(String::new, |d| format!(": {}", plain(d, 500)));
    notice(format!(
        "{dispatch} {}{detail} · container {container} · {wall} ms · {}+{} tokens · session {}",
        text("reason"),
        tokens("input_tokens"),
        tokens("output_tokens"),
        text("session"),
    ));
    if text("status") == "completed" {
        return Ok(());
    }
    if ctx.render.is_json() {
        return Err(CliError::exit_only(exit::ENDED_FAILED));
    }
    Err(CliError::new(exit::ENDED_FAILED, "ENDED", format!("dispatch {dispatch} ended: {}{detail}", text("reason")))
        .hint(if text("status") == "parked" {
            format!("its session is kept: custody dispatch resume {dispatch}")
        } else {
            format!("custody audit why {dispatch}; custody dispatch logs {dispatch}")
        }))
}

/// Prints frames until the last one.
pub(crate) async fn show(ctx: &Ctx, output: &dyn Output, dispatch: &str) -> CliResult {
    let unavailable = |e: custody_ports::output::OutputError| CliError::new(exit::UNREACHABLE, "OUTPUT_UNAVAILABLE", e);
    let mut seen = 0;
    loop {
        let mut chunks = output.follow(dispatch).await.map_err(unavailable)?;
        while let Some(Ok(stored)) = chunks.next().await {
            let chunk: Chunk = serde_json::from_slice(&stored.bytes)?;
            for frame in chunk.frames.into_iter().filter(|f| f.seq > seen).collect::<Vec<_>>() {
                seen = frame.seq;
                if ctx.render.is_json() {
                    if ctx.render.format == Some(crate::render::Format::Jsonl) {
                        line(json!({ "schema": "box.v2", "dispatch": dispatch, "frame": frame }))?;
                    }
                } else {
                    print_frame(&frame.body)?;
                }
                if matches!(frame.body, FrameBody::Exit { .. }) {
                    return Ok(());
                }
            }
        }
        notice("output lost; reading again");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A frame for people. What an agent says can hold anything, so nothing in it reaches the terminal as a control.
fn print_frame(body: &FrameBody) -> CliResult {
    match body {
        FrameBody::Text { text } => {
            let safe: String = text.split('\n').map(|l| plain(l, usize::MAX)).collect::<Vec<_>>().join("\n");
            raw(safe.as_bytes())
        }
        FrameBody::Result { .. } => raw(b"\n"),
        FrameBody::ToolCall { name, args, .. } => {
            notice(format!("tool {} {}", plain(name, 80), plain(&args.to_string(), 200)));
            Ok(())
        }
        FrameBody::ToolResult { ok, text, .. } => {
            notice(format!("tool {}: {}", if *ok { "ok" } else { "failed" }, plain(text, 200)));
            Ok(())
        }
        FrameBody::Error { code, message } => {
            notice(format!("agent: {}: {}", plain(code, 80), plain(message, 400)));
            Ok(())
        }
        FrameBody::Truncated { bytes } => {
            notice(format!("output was cut after {bytes} bytes"));
            Ok(())
        }
        FrameBody::Log { stream, text } if stream == "stderr" => {
            notice(format!("agent: {}", plain(text.trim_end(), 400)));
            Ok(())
        }
        FrameBody::Started { .. }
        | FrameBody::Usage { .. }
        | FrameBody::Session { .. }
        | FrameBody::Log { .. }
        | FrameBody::Turn { .. }
        | FrameBody::Exit { .. } => Ok(()),
    }
}

/// Prints what is stored of an output.
pub(crate) fn print_chunks(ctx: &Ctx, dispatch: &str, stored: &[custody_ports::output::StoredChunk]) -> CliResult {
    let mut frames = Vec::new();
    for chunk in stored {
        let chunk: Chunk = serde_json::from_slice(&chunk.bytes)?;
        frames.extend(chunk.frames);
    }
    match ctx.render.format {
        Some(crate::render::Format::Json) => line(serde_json::to_string_pretty(
            &json!({ "schema": "output.v2", "dispatch": dispatch, "frames": frames }),
        )?),
        Some(crate::render::Format::Jsonl) => frames
            .iter()
            .try_for_each(|frame| line(json!({ "schema": "box.v2", "dispatch": dispatch, "frame": frame }))),
        None | Some(crate::render::Format::Table) => frames.iter().try_for_each(|frame| print_frame(&frame.body)),
        Some(ref other) => Err(crate::render::unsupported(other)),
    }
}
