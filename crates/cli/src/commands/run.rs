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
use custody_contracts::ids::{LauncherId, LauncherRef, RunnerName, Subject, UnixMillis, WorkspaceId};
use custody_contracts::launch;
use custody_contracts::messages::{Chunk, Reply, ReplyOutcome};
use custody_contracts::unit::{
    Entrypoint, Identity, Invocation, Limits, Mode, SessionStart, Start, Trigger, WorkspaceMount,
};
use custody_domain::admission::dispatch_id;
use custody_nats::JetOutput;
use custody_ports::output::Output;
use custody_projections::row::plain;
use custody_streams::subject::LogSubject;
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

/// Dispatch an agent with a prompt and watch it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  custody run 'What is the capital of France?'\n  custody run --session last 'And of Spain?'\n  custody run --workspace notes:ro 'Summarise @plan.md'\n  custody run --detach -o json 'Tidy up' | jq -r .dispatch\n\nExit codes: 0 completed, 5 refused, 7 timed out, 10 ended otherwise, 130 interrupted (the dispatch goes on)."
)]
pub(crate) struct RunArgs {
    /// What to ask; several words are joined. `-` reads standard input
    #[arg(required = true)]
    prompt: Vec<String>,
    /// The runner
    #[arg(long, default_value = "custody-agent")]
    runner: String,
    /// A workspace and its mode, ID:ro or ID:rw; may be given several times
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
    has_space(target)?;
    let (connection, seed) = target.connect_launcher(launcher.as_str()).await?;
    let named = request.id.is_some();
    let id = match request.id {
        Some(id) => id,
        None => hex(&crate::home::random::<16>()?),
    };
    let mut event = launch::unsigned(&id, launcher.as_str(), &UnixMillis(now_ms()).rfc3339(), &request.unit)?;
    if named {
        // Who names a message wants to be able to send it again, byte for byte: no clock may be in it.
        event.remove("time");
    }
    let key = nkeys::KeyPair::from_seed(seed.expose())
        .map_err(|e| CliError::new(exit::NOT_SIGNED_IN, "SEED_UNREADABLE", e))?;
    custody_trust::launch::sign(&mut event, &key).map_err(|e| CliError::new(exit::NOT_SIGNED_IN, "SIGNING", e))?;
    let bytes = canonical(&Value::Object(event)).into_bytes();
    if bytes.len() > launch::BYTES_MAX {
        return Err(CliError::new(
            exit::USAGE,
            "MESSAGE_TOO_LARGE",
            format!("the launch has {} bytes, {} are the most", bytes.len(), launch::BYTES_MAX),
        )
        .hint("put the text into a workspace file and ask with @FILE"));
    }
    let dispatch = dispatch_id(&launcher, Some(&id), &bytes);
    let bad = |e: custody_streams::subject::BadSubject| usage(e);
    // A message under an id that is taken is told apart by its bytes, and its refusal stands under that name.
    let by_bytes = dispatch_id(&launcher, None, &bytes);
    let mut replies = futures::stream::SelectAll::new();
    for dispatch in [&dispatch, &by_bytes] {
        let subject = LogSubject::reply(launcher.as_str(), dispatch.as_str()).map_err(bad)?.to_string();
        let subscriber = connection.client().subscribe(subject).await;
        replies.push(subscriber.map_err(|e| CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", e))?);
    }
    // The subscriptions must be with the server before the message is.
    connection.client().flush().await.map_err(|e| CliError::new(exit::UNREACHABLE, "NATS_UNREACHABLE", e))?;
    let publish = LogSubject::launch(launcher.as_str(), "dispatch").map_err(bad)?.to_string();
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
    let reply = tokio::time::timeout(wait, replies.next()).await.map_err(|_| {
        CliError::new(
            exit::TIMED_OUT,
            "NO_REPLY",
            format!("the launch is stored, and dispatch {dispatch} is not decided yet"),
        )
        .hint("is the authority role running? custody status")
    })?;
    let reply = reply
        .ok_or_else(|| CliError::new(exit::UNREACHABLE, "CONNECTION_LOST", "the connection ended before the reply"))?;
    let reply = serde_json::from_slice(&reply.payload)?;
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

/// Waits until a dispatch has ended and gives its row.
pub(crate) async fn wait_end(operator: &Operator, dispatch: &str, limit: Duration) -> CliResult<Value> {
    let until = tokio::time::Instant::now() + limit;
    loop {
        match operator.query("dispatch.get", json!({ "id": dispatch })).await {
            Ok(answer) => {
                let row = answer.get("row").cloned().unwrap_or(Value::Null);
                let status = row.get("status").and_then(Value::as_str).unwrap_or_default();
                if matches!(status, "completed" | "ended" | "refused") {
                    return Ok(row);
                }
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
    let limits = Limits { wall_ms: ms(args.wall), idle_ms: ms(args.idle), ..Limits::default() };
    let limits = (limits != Limits::default()).then_some(limits);
    let subject = args.subject.clone().unwrap_or_else(own_subject);
    let unit = unit(&args.launcher, &subject, &args.runner, &args.workspaces, start, limits)?;
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
    let output = JetOutput::new(&operator.connection);
    let until = tokio::time::Instant::now() + limit;
    let show = show(ctx, &output, dispatch);
    let ended = async {
        let row = wait_end(&operator, dispatch, limit).await?;
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
        .hint(format!("custody audit why {dispatch}; custody dispatch logs {dispatch}")))
}

/// Prints frames until the last one.
pub(crate) async fn show(ctx: &Ctx, output: &JetOutput, dispatch: &str) -> CliResult {
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
                        line(json!({ "schema": "box.v1", "dispatch": dispatch, "frame": frame }))?;
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
            &json!({ "schema": "output.v1", "dispatch": dispatch, "frames": frames }),
        )?),
        Some(crate::render::Format::Jsonl) => frames
            .iter()
            .try_for_each(|frame| line(json!({ "schema": "box.v1", "dispatch": dispatch, "frame": frame }))),
        None | Some(crate::render::Format::Table) => frames.iter().try_for_each(|frame| print_frame(&frame.body)),
        Some(ref other) => Err(crate::render::unsupported(other)),
    }
}
