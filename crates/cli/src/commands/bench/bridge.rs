//! The bridge beside a bare broadcast server: the same frames, as often, to as many websockets, in one process with the
//! clients. Ours goes through NATS: publish, store, one tail, then every socket by its own cursor.

use super::{Place, failed};
use crate::error::CliResult;
use custody_contracts::box_protocol::{Frame, FrameBody};
use custody_contracts::ids::UnixMillis;
use custody_contracts::messages::Chunk;
use custody_contracts::unit::Invocation;
use custody_engine::runners::Runners;
use custody_http::HttpSettings;
use custody_http::api::{Evidence, Parts};
use custody_http::auth::users::{User, Users};
use custody_http::auth::{Auth, hash};
use custody_nats::{JetBlobs, JetLog, JetOutput, JetPages};
use custody_ports::asks::{AskFailed, Asks, LaunchFailed, Launched, Launcher};
use custody_ports::clock::Clock;
use custody_ports::output::Output;
use custody_streams::accounts::{ServiceUser, SyncInterval};
use custody_streams::spec::{StreamOptions, all};
use futures::future::BoxFuture;
use futures::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

/// The dispatch that speaks.
const DISPATCH: &str = "d-bench";
/// Words of one frame.
const WORDS: usize = 200;
/// The longest latency that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;
/// How long all clients may take to be there.
const READY_MAX: Duration = Duration::from_secs(120);
/// How long the last frame may take.
const LAST_MAX: Duration = Duration::from_secs(20);

/// What one server did.
pub(super) struct Seen {
    /// Frames that arrived, of all clients.
    pub(super) frames: u64,
    /// Frames that should have.
    pub(super) wanted: u64,
    latencies: Histogram<u64>,
}

impl Seen {
    /// A quantile in milliseconds.
    pub(super) fn ms(&self, quantile: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "at most 60 seconds in microseconds")]
        let micros = self.latencies.value_at_quantile(quantile) as f64;
        micros / 1_000.0
    }
}

/// Both.
pub(super) struct Both {
    /// The bridge.
    pub(super) ours: Seen,
    /// The bare one.
    pub(super) bare: Seen,
}

/// A frame's words: when it was made, in microseconds of this run, between two signs that JSON does not change.
fn words(began: Instant) -> String {
    let at = began.elapsed().as_micros();
    format!("@{at}@{}", "x".repeat(WORDS))
}

/// The times in a message.
fn times(text: &str) -> impl Iterator<Item = u64> {
    text.split('@').skip(1).step_by(2).filter_map(|t| t.parse().ok())
}

/// Measures both, one after the other.
pub(super) async fn measure(place: &Place, clients: usize, frames: u64, every: Duration) -> CliResult<Both> {
    raise_files(clients)?;
    let bare = bare(clients, frames, every).await?;
    let ours = ours(place, clients, frames, every).await?;
    Ok(Both { ours, bare })
}

/// Each client is two open files here, beside those of the servers.
fn raise_files(clients: usize) -> CliResult {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = u64::try_from(clients).unwrap_or(u64::MAX).saturating_mul(2) + 512;
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|c| c >= wanted) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(now.maximum.map_or(wanted, |m| m.min(wanted))), maximum: now.maximum };
    setrlimit(Resource::Nofile, raised).map_err(failed)
}

/// Connects every client; each reads until it has seen `frames` frames.
async fn read_all(
    clients: usize,
    frames: u64,
    began: Instant,
    connect: impl AsyncFn() -> CliResult<tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>>,
    ready: Arc<AtomicUsize>,
    until: tokio::sync::watch::Receiver<bool>,
) -> CliResult<JoinSet<(u64, Histogram<u64>)>> {
    let mut readers = JoinSet::new();
    for _ in 0..clients {
        let mut socket = connect().await?;
        let (ready, mut until) = (ready.clone(), until.clone());
        readers.spawn(async move {
            let mut seen = 0;
            let mut latencies = Histogram::new_with_bounds(1, MICROS_MAX, 3)
                .unwrap_or_else(|_| Histogram::<u64>::new(3).unwrap_or_else(|_| std::process::abort()));
            ready.fetch_add(1, Ordering::Relaxed);
            while seen < frames {
                let message = tokio::select! {
                    message = socket.next() => message,
                    Ok(()) = until.changed() => break,
                };
                let Some(Ok(Message::Text(text))) = message else { break };
                let now = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                for at in times(&text) {
                    seen += 1;
                    latencies.saturating_record(now.saturating_sub(at).max(1));
                }
            }
            (seen, latencies)
        });
    }
    Ok(readers)
}

async fn gather(mut readers: JoinSet<(u64, Histogram<u64>)>, clients: usize, frames: u64) -> CliResult<Seen> {
    let wanted = frames * u64::try_from(clients).unwrap_or(u64::MAX);
    let mut seen = Seen { frames: 0, wanted, latencies: Histogram::new_with_bounds(1, MICROS_MAX, 3).map_err(failed)? };
    while let Some(done) = readers.join_next().await {
        let (frames, latencies) = done.map_err(failed)?;
        seen.frames += frames;
        seen.latencies.add(latencies).map_err(failed)?;
    }
    Ok(seen)
}

async fn all_ready(ready: &AtomicUsize, clients: usize) -> CliResult {
    let until = Instant::now() + READY_MAX;
    while ready.load(Ordering::Relaxed) < clients {
        if Instant::now() >= until {
            return Err(failed("the clients were not there in time"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Publishes at a steady pace, whatever a publish takes.
async fn pace(frames: u64, every: Duration, mut publish: impl AsyncFnMut(u64) -> CliResult) -> CliResult {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    for n in 0..frames {
        ticks.tick().await;
        publish(n).await?;
    }
    Ok(())
}

/// A server that does nothing but send every client what was said.
async fn bare(clients: usize, frames: u64, every: Duration) -> CliResult<Seen> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (said, _) = broadcast::channel::<Arc<str>>(1_024);
    let open = Arc::new(AtomicUsize::new(0));
    let (heard, opened) = (said.clone(), open.clone());
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut heard, opened) = (heard.subscribe(), opened.clone());
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                opened.fetch_add(1, Ordering::Relaxed);
                while let Ok(text) = heard.recv().await {
                    if socket.send(Message::text(text.as_ref())).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let began = Instant::now();
    let (done, until) = tokio::sync::watch::channel(false);
    let connect = async || {
        let (socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/")).await.map_err(failed)?;
        Ok(socket)
    };
    let ready = Arc::new(AtomicUsize::new(0));
    let readers = read_all(clients, frames, began, connect, ready.clone(), until).await?;
    all_ready(&ready, clients).await?;
    all_ready(&open, clients).await?;
    pace(frames, every, async |_| {
        let frame = json!({ "t": "ev", "id": 1, "seq": 1, "prev": 0, "events": [{ "text": words(began) }] });
        said.send(frame.to_string().into()).map_err(failed)?;
        Ok(())
    })
    .await?;
    let seen = finish(readers, clients, frames, done).await;
    server.abort();
    seen
}

async fn finish(
    readers: JoinSet<(u64, Histogram<u64>)>,
    clients: usize,
    frames: u64,
    done: tokio::sync::watch::Sender<bool>,
) -> CliResult<Seen> {
    let stop = tokio::spawn(async move {
        tokio::time::sleep(LAST_MAX).await;
        done.send_replace(true);
    });
    let seen = gather(readers, clients, frames).await;
    stop.abort();
    seen
}

/// Nobody: the bench asks and launches nothing.
struct Nobody;

impl Asks for Nobody {
    fn ask<'a>(&'a self, subject: &'a str, _: Vec<u8>) -> BoxFuture<'a, Result<Vec<u8>, AskFailed>> {
        let row = json!({ "ok": { "as_of": 0, "row": { "dispatch": DISPATCH, "subject": "u_bench" }, "rows": [] } });
        let known = subject == "query.dispatch.get";
        Box::pin(async move {
            if known { Ok(row.to_string().into_bytes()) } else { Err(AskFailed::NobodyThere(subject.to_owned())) }
        })
    }
}

impl Launcher for Nobody {
    fn launch<'a>(&'a self, _: &'a str, _: &'a Invocation) -> BoxFuture<'a, Result<Launched, LaunchFailed>> {
        Box::pin(async { Err(LaunchFailed::Unavailable("a bench launches nothing".into())) })
    }
}

/// Our server on a private NATS.
async fn ours(place: &Place, clients: usize, frames: u64, every: Duration) -> CliResult<Seen> {
    let nats = place.server("bridge", &[], SyncInterval::Always).await?;
    nats.apply(&all(&StreamOptions::one_machine())).await.map_err(failed)?;
    let state = place.folder.join("api");
    std::fs::create_dir_all(&state)?;
    let key = crate::server::web::new_key()?;
    let mut users = Users::default();
    users
        .put(User {
            subject: "u_bench".into(),
            name: "bench".into(),
            admin: false,
            key_hash: hash(&key),
            disabled: false,
            linked: None,
            added_at: 0,
        })
        .map_err(failed)?;
    users.write(&state)?;
    let connection = nats.connect(ServiceUser::Api).await.map_err(failed)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let listen = listener.local_addr()?;
    let clock = Arc::new(crate::server::clock::SystemClock);
    let settings = HttpSettings {
        listen,
        origins: Vec::new(),
        session: Duration::from_secs(3_600),
        ui: None,
        state: state.clone(),
        launcher: "web-chat".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        contracts: crate::commands::contract::set_digest(),
        heartbeat: Duration::from_secs(10),
    };
    let auth = Auth::open(state.clone(), clock.clone(), settings.session)?;
    let credential = custody_http::auth::Credential::AccessKey(&key);
    let (token, _) = auth.sign_in(&credential, listen.ip()).map_err(|p| failed(&p.detail))?;
    let cancel = CancellationToken::new();
    let pages = Arc::new(JetPages::new(&connection));
    let log = Arc::new(JetLog::open(&connection).await.map_err(failed)?);
    let parts = Parts {
        settings,
        auth,
        provider: None,
        log: log.clone(),
        pages: pages.clone(),
        output: pages.clone(),
        blobs: Arc::new(JetBlobs::new(&connection)),
        asks: Arc::new(Nobody),
        launcher: Arc::new(Nobody),
        clock,
        runners: Runners::read(&place.folder.join("runners")).map_err(failed)?,
        evidence: Evidence { log, pages, kept: Arc::new(Vec::new), root_key: None },
        probe: Arc::new(|| Box::pin(async { json!({}) })),
        cancel: cancel.clone(),
    };
    let server = tokio::spawn(custody_http::serve::run(parts, listener));
    let output = JetOutput::new(&nats.connect(ServiceUser::Gateway).await.map_err(failed)?);
    let began = Instant::now();
    let (done, until) = tokio::sync::watch::channel(false);
    let connect = async || subscribe(listen, &token).await;
    let ready = Arc::new(AtomicUsize::new(0));
    let readers = read_all(clients, frames, began, connect, ready.clone(), until).await?;
    all_ready(&ready, clients).await?;
    let mut last = 0;
    pace(frames, every, async |n| {
        let at = crate::server::clock::SystemClock.now();
        last = output.append(DISPATCH, last, &format!("m-{n}"), chunk(n, at, began)?).await.map_err(failed)?;
        Ok(())
    })
    .await?;
    let seen = finish(readers, clients, frames, done).await;
    cancel.cancel();
    let _late = tokio::time::timeout(Duration::from_secs(10), server).await;
    seen
}

fn chunk(n: u64, at: UnixMillis, began: Instant) -> CliResult<Vec<u8>> {
    let frame = Frame { seq: n + 1, at: at.0, body: FrameBody::Text { text: words(began) } };
    let chunk = Chunk { dispatch: DISPATCH.into(), attempt: 1, from: n + 1, to: n + 1, frames: vec![frame] };
    Ok(serde_json::to_vec(&chunk)?)
}

/// A client that follows the output and has caught up.
async fn subscribe(
    listen: std::net::SocketAddr,
    token: &str,
) -> CliResult<tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>> {
    let mut request = format!("ws://{listen}/api/v1/ws").into_client_request().map_err(failed)?;
    request.headers_mut().insert("origin", format!("http://{listen}").parse().map_err(failed)?);
    request.headers_mut().insert("cookie", format!("custody={token}").parse().map_err(failed)?);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.map_err(failed)?;
    let sub = json!({ "t": "sub", "id": 1, "topic": format!("output/{DISPATCH}") });
    socket.send(Message::text(sub.to_string())).await.map_err(failed)?;
    while let Some(message) = socket.next().await {
        let message = message.map_err(failed)?;
        if message.to_text().is_ok_and(|text| text.contains(r#""t":"caught""#)) {
            return Ok(socket);
        }
    }
    Err(failed("a client was sent away"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_several_frames_are_read() {
        assert_eq!(times("{\"a\":\"@12@xx\",\"b\":\"@345@yy\"}").collect::<Vec<_>>(), [12, 345]);
        assert_eq!(times("nothing").count(), 0);
    }
}
