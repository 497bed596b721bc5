//! What a box left behind: its output topic, its session file, the model calls that were recorded for it.

use super::phases::Spoke;
use super::{Runtime, session};
use custody_contracts::box_protocol::{ExitReason, FrameBody};
use custody_contracts::canonical::hex;
use custody_contracts::events::{EffectEvent, Kind, LedgerEvent, OutputRef, SessionFile, Usage};
use custody_contracts::messages::Chunk;
use custody_contracts::runner::SessionKind;
use custody_contracts::workspace::RunCommit;
use custody_ledger::{Entity, Recorded};
use custody_ports::blobs::BLOB_BYTES_MAX;
use custody_ports::output::StoredChunk;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the gateway may take to publish a box's last frame after the box has ended.
const LAST_FRAME_WAIT: Duration = Duration::from_secs(4);
/// The code of the worker's error frame when a limit that it counts is used up. Source: box.v2.
const LIMIT_REACHED: &str = "limit_reached";
/// `O_NOFOLLOW | O_NONBLOCK` on Linux: a session file that is a link or a pipe is not read.
const O_NOFOLLOW_NONBLOCK: i32 = 0o400_000 | 0o4_000;

/// Everything that was collected.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) output: Option<OutputRef>,
    pub(super) said: Option<ExitReason>,
    pub(super) said_detail: Option<String>,
    pub(super) result: bool,
    /// Whether the worker ended it because a limit that it counts was used up.
    pub(super) limit_reached: bool,
    /// Turns that the box took, when the worker counts them.
    pub(super) turns: Option<u32>,
    pub(super) usage: Usage,
    /// Whether a model call was refused because a budget was used up.
    pub(super) exhausted: bool,
    pub(super) agent_session: Option<String>,
    pub(super) session_bytes: Option<Vec<u8>>,
    pub(super) session: Option<SessionFile>,
    pub(super) commits: Vec<RunCommit>,
    pub(super) session_problem: Option<String>,
    pub(super) spoke: Spoke,
}

/// The output of a box that never said anything.
pub(super) fn no_output(dispatch: &str) -> OutputRef {
    OutputRef {
        subject: ["unit.", dispatch, ".out"].concat(),
        digest: custody_contracts::canonical::digest(&[]),
        ..OutputRef::default()
    }
}

pub(super) async fn collect(runtime: &Runtime, dispatch: &str, folder: &Path, kind: SessionKind) -> Collected {
    let mut collected = Collected::default();
    let chunks = chunks(runtime, dispatch).await;
    read_chunks(runtime, &mut collected, dispatch, &chunks);
    let session = left_session(folder, kind, runtime.config.limits.session_bytes);
    let (usage, exhausted, session) =
        tokio::join!(model_usage(runtime, dispatch), exhausted(runtime, dispatch), session);
    (collected.usage, collected.exhausted) = (usage, exhausted);
    match session {
        Ok(bytes) => collected.session_bytes = bytes,
        Err(why) => collected.session_problem = Some(format!("session file not taken: {why}")),
    }
    collected
}

/// All chunks, once the last frame is there or has been waited for long enough.
async fn chunks(runtime: &Runtime, dispatch: &str) -> Vec<StoredChunk> {
    let until = tokio::time::Instant::now() + LAST_FRAME_WAIT;
    loop {
        let last = runtime.output.last(dispatch).await;
        let ended = last.as_ref().is_ok_and(|chunk| chunk.as_ref().is_some_and(|chunk| has_exit(runtime, chunk)));
        if ended || tokio::time::Instant::now() >= until {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..5 {
        match runtime.output.all(dispatch).await {
            Ok(chunks) => return chunks,
            Err(error) => tracing::warn!(%error, dispatch, "output not read; trying again"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Vec::new()
}

fn has_exit(runtime: &Runtime, chunk: &StoredChunk) -> bool {
    opened(runtime, chunk).is_some_and(|c| c.frames.iter().any(|f| matches!(f.body, FrameBody::Exit { .. })))
}

/// A chunk as it was before its person's key sealed it; `None` when nobody can read it.
fn opened(runtime: &Runtime, stored: &StoredChunk) -> Option<Chunk> {
    serde_json::from_slice(&runtime.blobs.open(stored.bytes.clone()).ok()?).ok()
}

fn read_chunks(runtime: &Runtime, collected: &mut Collected, dispatch: &str, chunks: &[StoredChunk]) {
    let mut hash = Sha256::new();
    let mut output = no_output(dispatch);
    for stored in chunks {
        hash.update(&stored.bytes);
        output.bytes += stored.bytes.len() as u64;
        let Some(chunk) = opened(runtime, stored) else { continue };
        output.frames += chunk.frames.len() as u64;
        for frame in chunk.frames {
            collected.spoke.hear(&frame);
            match frame.body {
                FrameBody::Exit { reason, detail, .. } => {
                    collected.said = Some(reason);
                    collected.said_detail = detail;
                }
                FrameBody::Result { .. } => collected.result = true,
                FrameBody::Session { agent_session } => {
                    collected.agent_session = Some(agent_session.chars().take(256).collect())
                }
                FrameBody::Truncated { .. } => output.truncated = true,
                FrameBody::Error { code, message } => {
                    collected.limit_reached |= code == LIMIT_REACHED;
                    if collected.said_detail.is_none() {
                        collected.said_detail = Some(format!("{code}: {message}"));
                    }
                }
                FrameBody::Started { .. }
                | FrameBody::Text { .. }
                | FrameBody::ToolCall { .. }
                | FrameBody::ToolResult { .. }
                | FrameBody::Usage { .. }
                | FrameBody::Log { .. } => {}
                FrameBody::Turn { turn, .. } => collected.turns = Some(turn),
            }
        }
    }
    output.digest = ["sha256:", &hex(&hash.finalize())].concat();
    collected.output = Some(output);
}

/// Tokens as the upstream counts them, from the recorded calls. The gateway records every call before it publishes the
/// box's last frame, so none is missing here.
async fn model_usage(runtime: &Runtime, dispatch: &str) -> Usage {
    let mut usage = Usage::default();
    for n in 1u32.. {
        let Some(entity) = Entity::new(Kind::Effect, &format!("{dispatch}-m{n}")) else { break };
        let Ok(history) = runtime.log.load(&entity).await else { break };
        let Some(stored) = history.first() else { break };
        for recorded in Recorded::read(stored).unwrap_or_default() {
            if let Some(LedgerEvent::Effect(EffectEvent::ModelCalled(call))) = recorded.event {
                usage.input_tokens += call.input_tokens;
                usage.output_tokens += call.output_tokens;
                usage.model_calls += 1;
            }
        }
    }
    usage
}

/// Whether the ledger holds the end of a budget: the gateway writes it before the agent is told, so it is there now.
async fn exhausted(runtime: &Runtime, dispatch: &str) -> bool {
    let Some(entity) = Entity::new(Kind::Effect, &format!("{dispatch}-budget")) else { return false };
    let history = runtime.log.load(&entity).await.unwrap_or_default();
    let mut read = history.iter().flat_map(|stored| Recorded::read(stored).unwrap_or_default());
    read.any(|recorded| matches!(recorded.event, Some(LedgerEvent::Effect(EffectEvent::BudgetExhausted(_)))))
}

/// What a box left of its session: the file, or the archive of its folder.
async fn left_session(folder: &Path, kind: SessionKind, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
    let folder = folder.to_owned();
    let reading = move || match kind {
        SessionKind::File => read_session(&session_file(&folder), bytes_max),
        SessionKind::Directory => session::pack(&folder.join("session"), bytes_max.min(BLOB_BYTES_MAX)),
    };
    tokio::task::spawn_blocking(reading).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// Puts a session where its next box finds it.
///
/// # Errors
/// A sentence.
pub(super) fn restore(folder: &Path, kind: SessionKind, bytes: &[u8], uid: u32) -> Result<(), String> {
    match kind {
        SessionKind::File => {
            let file = session_file(folder);
            write_for_box(&file, bytes, uid).map_err(|e| format!("writing {}: {e}", file.display()))
        }
        SessionKind::Directory => {
            session::unpack(bytes, &folder.join("session"), |path, mode| give_with_mode(path, mode, uid))
        }
    }
}

/// The session file of a run.
pub(super) fn session_file(folder: &Path) -> PathBuf {
    folder.join("session").join("session.jsonl")
}

/// The file's bytes; `None` when the agent left none.
fn read_session(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, String> {
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW_NONBLOCK).open(path);
    let file = match file {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let facts = file.metadata().map_err(|e| e.to_string())?;
    let most = bytes_max.min(BLOB_BYTES_MAX);
    if !facts.is_file() {
        return Err("it is not a regular file".into());
    }
    if facts.len() > most {
        return Err(format!("{} bytes are more than {most}", facts.len()));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok((!bytes.is_empty()).then_some(bytes))
}

/// Lets the box's user write into a folder; nobody but root and that user may look.
pub(super) fn give_to_box(folder: &Path, uid: u32) -> std::io::Result<()> {
    match std::os::unix::fs::chown(folder, Some(uid), Some(uid)) {
        Ok(()) => std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)),
        // Without root the owner cannot be given away: the folder is opened instead, inside a parent of mode 0700.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777))
        }
        Err(e) => Err(e),
    }
}

/// Gives a restored file or folder to the box's user.
fn give_with_mode(path: &Path, mode: u32, uid: u32) -> std::io::Result<()> {
    match std::os::unix::fs::chown(path, Some(uid), Some(uid)) {
        // Without root the owner cannot be given away: opened instead, inside a parent of mode 0700.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | mode >> 3 | mode >> 6))
        }
        other => other,
    }
}

/// Writes a file that the box's user may change.
pub(super) fn write_for_box(path: &Path, bytes: &[u8], uid: u32) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match std::os::unix::fs::chown(path, Some(uid), Some(uid)) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        }
        other => other,
    }
}
