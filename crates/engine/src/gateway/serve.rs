//! One dispatch's socket: who may open it, HTTP/1.1, the upgrade to the worker's channel, the inference door and the MCP
//! door. Must never answer a call of somebody who is not known to be the dispatch's own box.

use super::accounts::Accounts;
use super::budget;
use super::peer::{Known, Peer, stranger};
use super::record::{record_call, recorded};
use super::relay::{Pace, Relay, RelayError};
use super::said::Said;
use super::view::Claimed;
use super::{Gateway, job, replayed};
use crate::accept::accept;
use crate::crash;
use crate::inference::{self, BoxBody, CallContext};
use crate::mcp::{self, Mcp};
use crate::presenting::Presenter;
use crate::replay::{Tape, before, repeats};
use crate::runtime::socket_path;
use bytes::Bytes;
use custody_contracts::approval::ToolAwaiting;
use custody_contracts::box_protocol::{GatewayMessage, LINE_BYTES_MAX, UPGRADE, WorkerMessage};
use custody_contracts::catalogue::{self, CheckError};
use custody_contracts::events::{BudgetMeasure, BudgetScope, FollowUpAccepted};
use custody_ports::output::OutputError;
use custody_trust::grant::Shortfall;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, OnceCell, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Connections of one box at once.
const CONNECTIONS_MAX: usize = 32;
/// How long a call waits until the box that makes it is known. A box that runs is recorded before its agent has begun.
const KNOWN_WAIT: Duration = Duration::from_secs(10);
/// How long the last frame waits for model and tool calls that are still being recorded.
const RECORDS_WAIT: Duration = Duration::from_secs(10);

/// What all connections of one dispatch share.
pub(super) struct Shared {
    pub(super) gateway: Gateway,
    pub(super) claimed: Box<Claimed>,
    /// What everybody has used.
    pub(super) accounts: Arc<Accounts>,
    /// Budgets that this gateway has warned of already.
    pub(super) warned: Mutex<BTreeSet<(BudgetScope, BudgetMeasure)>>,
    /// Budgets whose end stands in the ledger.
    pub(super) exhausted: Mutex<BTreeSet<(BudgetScope, BudgetMeasure)>>,
    /// The recording that it repeats, when its unit names one.
    tape: Option<Arc<Tape>>,
    /// The tools, from the first question about them on.
    mcp: OnceCell<Arc<Mcp>>,
    /// One worker at a time; a new connection waits for the old one to be given up.
    relay: Mutex<Option<Relay>>,
    /// Ordinal of the last model call.
    pub(super) calls: AtomicU32,
    /// Model and tool calls that are not recorded yet.
    open_calls: watch::Sender<u32>,
    /// Replaced by each worker connection: the one before ends.
    worker: watch::Sender<u64>,
    heard: Heard,
    /// The user that this gateway runs as.
    user: u32,
}

/// What the fold tells the connections of a dispatch.
#[derive(Clone)]
pub(super) struct Heard {
    /// What was said to it so far.
    pub(super) said: watch::Receiver<Vec<FollowUpAccepted>>,
    /// Its container, once that runs.
    pub(super) container: watch::Receiver<Option<String>>,
}

pub(super) async fn serve(
    gateway: Gateway,
    mut claimed: Box<Claimed>,
    heard: Heard,
    accounts: Arc<Accounts>,
    cancel: CancellationToken,
) {
    let dispatch = claimed.admitted.dispatch.to_string();
    let socket = socket_path(&gateway.runs.join(&dispatch));
    let listener = match listen(&socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, dispatch, socket = %socket.display(), "dispatch's socket cannot be opened");
            return;
        }
    };
    let again = &claimed.admitted;
    let tape = async {
        let one = repeats(&again.unit)?;
        Some(Arc::new(Tape::of(one, again, gateway.log.as_ref(), gateway.blobs.as_ref()).await))
    };
    // What cannot be read is told by the runtime, which starts nothing then.
    let gone_on_from = async { before(again, gateway.log.as_ref()).await.ok().flatten() };
    // The relay too, while the box is being made: its worker's first word then waits for nothing. One that cannot be had
    // is asked for again by the worker's connection.
    let attempt = claimed.claim.attempt;
    let relay = Relay::open(gateway.output.clone(), gateway.blobs.clone(), &claimed.admitted, attempt);
    let (calls, tape, relay, gone_on_from) =
        tokio::join!(recorded(&gateway, &dispatch, 'm'), tape, relay, gone_on_from);
    if let Some(before) = gone_on_from {
        claimed.agent_session = before.agent_session;
    }
    let shared = Arc::new(Shared {
        gateway,
        claimed,
        accounts,
        warned: Mutex::default(),
        exhausted: Mutex::default(),
        tape,
        mcp: OnceCell::new(),
        relay: Mutex::new(relay.ok()),
        calls: AtomicU32::new(calls),
        open_calls: watch::channel(0).0,
        worker: watch::channel(0).0,
        heard,
        user: rustix::process::geteuid().as_raw(),
    });
    accept("a connection of a box", &listener, CONNECTIONS_MAX, &cancel, |stream| {
        let (shared, ended) = (shared.clone(), cancel.child_token());
        async move { connection(&shared, stream, &ended).await }
    })
    .await;
    drop(listener);
    // Only our own socket: a successor may have bound the path anew, and then this removes nothing that is used,
    // because a successor of this dispatch exists only after this one was cancelled.
    if cancel.is_cancelled() {
        let _gone = std::fs::remove_file(&socket);
    }
}

/// Whether the dispatch's grant stands, and pays for one more model call.
fn granted(shared: &Shared) -> Result<(), Shortfall> {
    let (grants, admitted) = (&shared.gateway.grants, &shared.claimed.admitted);
    let now = shared.gateway.clock.now();
    grants.stands(admitted, now).and_then(|()| grants.affords(admitted, now))
}

/// The MCP door of a dispatch. One whose unit names no tool has an empty list.
async fn mcp_door(shared: &Shared) -> Arc<Mcp> {
    let (gateway, claimed) = (&shared.gateway, &shared.claimed);
    let workspaces = &claimed.admitted.unit.workspaces;
    let run = gateway.runs.join(claimed.admitted.dispatch.as_str());
    Mcp::new(mcp::Needs {
        log: gateway.log.clone(),
        signer: gateway.signer.clone(),
        clock: gateway.clock.clone(),
        blobs: gateway.blobs.clone(),
        admitted: claimed.admitted.clone(),
        meta: claimed.meta(String::new()),
        roots: workspaces.iter().map(|mount| crate::runtime::workspaces::copy_of(&run, mount.id.as_str())).collect(),
        past: mcp::Past::load(gateway.log.as_ref(), claimed.admitted.dispatch.as_str()).await,
        approval_ms: gateway.approval_ms,
        incarnation: gateway.incarnation.clone(),
        tools: gateway.tools.clone(),
        policy: gateway.policy.clone(),
        upstreams: gateway.upstreams.clone(),
        tape: shared.tape.clone(),
        grants: gateway.grants.clone(),
        pass: presenter(gateway, claimed).map(|presenter| presenter.pass(&claimed.admitted.dispatch)),
    })
}

/// Who presents tokens for a dispatch; nobody for one from before grants, because a token rests on one.
fn presenter<'a>(gateway: &'a Gateway, claimed: &Claimed) -> Option<&'a Presenter> {
    gateway.presenter.as_ref().filter(|_| claimed.admitted.grant.id().is_some())
}

/// Follows what was decided about a call that waited. Its run may be over: no file of a workspace waits.
pub(super) async fn release(gateway: &Gateway, claimed: &Claimed, awaiting: &ToolAwaiting) {
    let door = Mcp::new(mcp::Needs {
        log: gateway.log.clone(),
        signer: gateway.signer.clone(),
        clock: gateway.clock.clone(),
        blobs: gateway.blobs.clone(),
        admitted: claimed.admitted.clone(),
        meta: claimed.meta(String::new()),
        roots: Vec::new(),
        past: mcp::Past::default(),
        approval_ms: gateway.approval_ms,
        incarnation: gateway.incarnation.clone(),
        tools: gateway.tools.clone(),
        policy: gateway.policy.clone(),
        upstreams: gateway.upstreams.clone(),
        tape: None,
        grants: gateway.grants.clone(),
        pass: presenter(gateway, claimed)
            .map(|presenter| presenter.pass_for_call(&claimed.admitted.dispatch, awaiting.card())),
    });
    door.release(awaiting).await;
}

/// Binds the socket anew; a left-over one of an earlier process is removed first.
fn listen(socket: &Path) -> std::io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    // The box's user must be able to connect; the folder above is closed to everybody else on the host.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// One connection, which ends as soon as it is known to be a stranger's.
async fn connection(shared: &Arc<Shared>, stream: UnixStream, ended: &CancellationToken) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer.known(shared.user),
        Err(error) => Known::Stranger(format!("a user that the kernel does not name: {error}")),
    };
    let service = service_fn(|request| {
        let (shared, peer, ended) = (shared.clone(), peer.clone(), ended.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(shared, peer, request, ended).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        biased;
        who = strange(shared, &peer) => turned_away(shared, &who).await,
        served = served => if let Err(error) = served {
            tracing::debug!(%error, "connection of a box ended");
        },
    }
}

/// Returns when the one at the other end is known to be a stranger, and never for the dispatch's own box.
async fn strange(shared: &Shared, peer: &Known) -> String {
    match stranger(peer, shared.heard.container.clone()).await {
        Some(who) => who,
        None => std::future::pending().await,
    }
}

/// A stranger is told nothing; the ledger is, and not once for each try.
async fn turned_away(shared: &Shared, who: &str) {
    let door = shared.mcp.get_or_init(|| mcp_door(shared)).await;
    door.note_refusal("SOCKET_STRANGER", format!("the dispatch's socket was opened by {who}")).await;
}

async fn answer(
    shared: Arc<Shared>,
    peer: Known,
    request: Request<Incoming>,
    ended: CancellationToken,
) -> Response<BoxBody> {
    if request.uri().path() == "/worker" {
        return upgrade(shared, peer, request, ended);
    }
    // The worker may begin before the ledger says that its box runs; a call may not.
    if !matches!(tokio::time::timeout(KNOWN_WAIT, stranger(&peer, shared.heard.container.clone())).await, Ok(None)) {
        let text = r#"{"error":{"type":"box_unknown","message":"this box is not recorded as the dispatch's own"}}"#;
        return status(StatusCode::SERVICE_UNAVAILABLE, text);
    }
    if request.uri().path() == mcp::PATH {
        let door = shared.mcp.get_or_init(|| mcp_door(&shared)).await.clone();
        shared.open_calls.send_modify(|open| *open += 1);
        let answered = door.serve(request).await;
        shared.open_calls.send_modify(|open| *open -= 1);
        return answered;
    }
    if let Some(tape) = &shared.tape {
        shared.open_calls.send_modify(|open| *open += 1);
        let answered = replayed::answer(&shared, tape, request).await;
        shared.open_calls.send_modify(|open| *open -= 1);
        return answered;
    }
    let Some(door) = shared.gateway.door.clone() else {
        let text = r#"{"error":{"type":"no_model","message":"no model is configured; set [model] in the configuration or --model-url"}}"#;
        return status(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    if request.method() == Method::POST
        && let Err(short) = granted(&shared)
    {
        let door = shared.mcp.get_or_init(|| mcp_door(&shared)).await;
        door.note_refusal(short.code, format!("a call of the model: {}", short.detail)).await;
        let message = format!("{}; no model is called for this dispatch any more", short.detail);
        return inference::refuse(request.uri().path(), 403, short.code, message);
    }
    if request.method() == Method::POST
        && let Err(refused) = budget::before_call(&shared).await
    {
        return inference::refuse(request.uri().path(), 403, refused.code, refused.message);
    }
    let dispatch = shared.claimed.admitted.dispatch.to_string();
    let (done, record) = oneshot::channel();
    shared.open_calls.send_modify(|open| *open += 1);
    let recording = shared.clone();
    tokio::spawn(async move {
        // The number is taken when there is something to record, so that the numbers have no gaps: a restart finds
        // the next one by counting. No record means that no model was called.
        if let Ok(record) = record.await {
            let n = recording.calls.fetch_add(1, Ordering::SeqCst) + 1;
            budget::count(&recording, n, &record);
            record_call(&recording.gateway, &recording.claimed, n, record).await;
            budget::after_call(&recording).await;
        }
        recording.open_calls.send_modify(|open| *open -= 1);
    });
    let begun = shared.calls.load(Ordering::SeqCst) + 1;
    let runner = shared.claimed.admitted.runner.name.to_string();
    let subject = shared.claimed.admitted.unit.identity.subject.clone();
    door.serve(CallContext { dispatch, subject, runner, n: begun }, request, done).await
}

fn upgrade(
    shared: Arc<Shared>,
    peer: Known,
    request: Request<Incoming>,
    cancel: CancellationToken,
) -> Response<BoxBody> {
    let wanted = request.headers().get(header::UPGRADE).and_then(|v| v.to_str().ok());
    if wanted != Some(UPGRADE) {
        return status(StatusCode::UPGRADE_REQUIRED, r#"{"error":{"message":"upgrade to custody-box.v2"}}"#);
    }
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let dispatch = shared.claimed.admitted.dispatch.to_string();
        let mut own = 0;
        shared.worker.send_modify(|n| {
            *n += 1;
            own = *n;
        });
        let mut replaced = shared.worker.subscribe();
        let channel = channel(&shared, TokioIo::new(upgraded));
        let mut other = None;
        let ended = tokio::select! {
            () = cancel.cancelled() => return,
            who = strange(&shared, &peer) => {
                other = Some(who);
                Ok(())
            }
            _ = replaced.wait_for(|n| *n != own) => Ok(()),
            ended = channel => ended,
        };
        if let Some(who) = other {
            return turned_away(&shared, &who).await;
        }
        if let Err(error) = ended {
            tracing::warn!(%error, dispatch, "worker's channel ended");
        }
    });
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, UPGRADE)
        .body(full(""));
    response.unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR, "{}"))
}

/// Why a worker's channel ended early.
#[derive(Debug, thiserror::Error)]
enum ChannelError {
    #[error("socket: {0}")]
    Io(#[from] std::io::Error),
    #[error("a line of the worker is not a box.v2 message: {0}")]
    Message(#[from] serde_json::Error),
    #[error("a line of the worker breaks box.v2: {0}")]
    Contract(#[from] CheckError),
    #[error("a line of the worker is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error("what was said cannot be read: {0}")]
    Said(#[from] OutputError),
}

/// A line of the worker, checked against its contract: serde alone would not see an unknown field inside a frame.
fn read_message(line: &[u8]) -> Result<WorkerMessage, ChannelError> {
    let value: serde_json::Value = serde_json::from_slice(line)?;
    catalogue::check("box.v2", "WorkerMessage", &value)?;
    Ok(serde_json::from_value(value)?)
}

async fn channel(shared: &Shared, io: TokioIo<hyper::upgrade::Upgraded>) -> Result<(), ChannelError> {
    let mut slot = shared.relay.lock().await;
    let mut relay = match slot.take() {
        Some(relay) => relay,
        None => {
            let claim = &shared.claimed.claim;
            let (output, blobs) = (shared.gateway.output.clone(), shared.gateway.blobs.clone());
            Relay::open(output, blobs, &shared.claimed.admitted, claim.attempt).await?
        }
    };
    let talked = talk(shared, &mut relay, io).await;
    // A topic that somebody else has written, or that could not be written, is looked at anew by the next connection. So
    // is one whose connection was given up in the middle of a write: then this is not reached.
    if !matches!(talked, Err(ChannelError::Relay(_))) {
        *slot = Some(relay);
    }
    talked
}

/// One worker's frames into the topic, and what is said to it back, until it goes away.
async fn talk(shared: &Shared, relay: &mut Relay, io: TokioIo<hyper::upgrade::Upgraded>) -> Result<(), ChannelError> {
    let (reader, mut writer) = tokio::io::split(io);
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let mut line = Vec::new();
    let mut flush_at: Option<tokio::time::Instant> = None;
    let mut pace = Pace::full(tokio::time::Instant::now());
    let mut said = Said::new(shared.heard.said.clone());
    loop {
        let due = async {
            match flush_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            read = read_line(&mut reader, &mut line) => read,
            () = due => {
                flush_at = None;
                pace.spend(tokio::time::Instant::now());
                publish(shared, relay, &mut writer).await?;
                continue;
            }
            () = said.more() => {
                while let Some(input) = said.next(shared.gateway.inputs.as_ref(), shared.gateway.blobs.as_ref()).await? {
                    send(&mut writer, &input).await?;
                }
                continue;
            }
        };
        if !read? {
            // The worker is gone or comes again: what it was told is stored, what was not it will send again.
            return publish(shared, relay, &mut tokio::io::sink()).await;
        }
        let message = read_message(&line)?;
        line.clear();
        match message {
            WorkerMessage::Hello { inputs, .. } => {
                send(&mut writer, &GatewayMessage::Ack { seq: relay.stored() }).await?;
                match job::job(&shared.gateway, &shared.claimed) {
                    Ok(job) => {
                        send(&mut writer, &GatewayMessage::Job { job: Box::new(job) }).await?;
                        said.greeted(inputs.unwrap_or_default());
                    }
                    Err(why) => {
                        // A worker without a job ends by itself; the sentence goes where people look.
                        tracing::error!(why, dispatch = %shared.claimed.admitted.dispatch, "no job can be given");
                        return Ok(());
                    }
                }
            }
            WorkerMessage::Frame { frame } => {
                let whole = relay.take(frame)?;
                crash::point("gw.after_frame");
                let now = tokio::time::Instant::now();
                // A timer would be late by up to a millisecond. What has come already goes along.
                let due = relay.is_waiting() && pace.due(now) <= now && !reader.buffer().contains(&b'\n');
                if whole || due {
                    flush_at = None;
                    if !whole {
                        pace.spend(now);
                    }
                    publish(shared, relay, &mut writer).await?;
                } else if relay.is_waiting() && flush_at.is_none() {
                    flush_at = Some(pace.due(now));
                }
            }
        }
    }
}

/// Stores what waits and acknowledges it. The last frame is stored only after every call is recorded.
async fn publish(
    shared: &Shared,
    relay: &mut Relay,
    writer: &mut (impl AsyncWrite + Unpin),
) -> Result<(), ChannelError> {
    if relay.holds_exit() {
        let mut open = shared.open_calls.subscribe();
        let recorded = tokio::time::timeout(RECORDS_WAIT, open.wait_for(|n| *n == 0)).await.is_ok();
        if !recorded {
            tracing::warn!(dispatch = %shared.claimed.admitted.dispatch, "a call is still not recorded");
        }
        if let Some(mcp) = shared.mcp.get() {
            mcp.record_noted().await;
        }
    }
    relay.flush().await?;
    let ack = GatewayMessage::Ack { seq: relay.stored() };
    match send(writer, &ack).await {
        // A worker that has left after its last frame needs no acknowledgement.
        Err(ChannelError::Io(_)) => Ok(()),
        other => other,
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), message: &GatewayMessage) -> Result<(), ChannelError> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    writer.write_all(&bytes).await?;
    writer.flush().await?;
    Ok(())
}

/// Reads one line; false at the end of the stream. Cancel-safe: what was read stays in `line`.
async fn read_line(
    reader: &mut (impl tokio::io::AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> Result<bool, ChannelError> {
    loop {
        let left = (LINE_BYTES_MAX + 1).saturating_sub(line.len()) as u64;
        let read = (&mut *reader).take(left).read_until(b'\n', line).await?;
        if line.last() == Some(&b'\n') {
            return Ok(true);
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(ChannelError::LineTooLong);
        }
        if read == 0 {
            return Ok(false);
        }
    }
}

pub(super) fn status(code: StatusCode, json: &str) -> Response<BoxBody> {
    let mut response = Response::new(full(json.to_owned()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// A body that is all there.
pub(super) fn full(text: impl Into<Bytes>) -> BoxBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}
