//! A private installation for measuring, with a model that is one written answer. Ends with everything it started.

use super::{Place, failed};
use crate::client::{Operator, Target};
use crate::commands::run::{own_subject, unit};
use crate::error::{CliError, CliResult, exit};
use crate::private::{self, Private};
use crate::render::notice;
use crate::server::clock::now_ms;
use crate::server::local::CLI_LAUNCHER;
use custody_contracts::box_protocol::FrameBody;
use custody_contracts::canonical::{canonical, hex};
use custody_contracts::ids::{LauncherId, UnixMillis};
use custody_contracts::launch;
use custody_contracts::messages::Chunk;
use custody_contracts::unit::{Entrypoint, Invocation, Limits, SessionStart, Start};
use custody_domain::admission::dispatch_id;
use custody_engine::runners::read_document;
use custody_nats::{Connection, Seed};
use custody_ports::blobs::Blobs;
use custody_streams::accounts::ServiceUser;
use custody_streams::subject::LogSubject;
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Folders of installations: cold, warm, tool, revoke. Short, because a socket's path must be.
const NAMES: [&str; 4] = ["c", "w", "t", "r"];
/// The longest wait for one dispatch.
const DISPATCH_MAX: Duration = Duration::from_secs(300);
/// The runner that says one line and ends: the platform is measured, not an agent.
pub(super) const TRIVIAL: &str = "bench";
/// The runner that does nothing for a minute.
pub(super) const SLEEPER: &str = "bench-sleeper";
/// What the model of a measurement always says, as OpenAI Chat streams it.
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"ok\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

/// When a dispatch said what.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// The worker's first frame.
    pub(super) frame: Option<Instant>,
    /// The first frame that the agent caused.
    pub(super) byte: Option<Instant>,
    /// The last frame.
    pub(super) end: Option<Instant>,
}

type Seen = Arc<(Mutex<BTreeMap<String, Times>>, watch::Sender<u64>)>;

/// One private installation.
pub(super) struct Installation {
    private: Private,
    /// Its own process.
    pub(super) pid: u32,
    /// Its nats-server.
    pub(super) nats_pid: u32,
    /// The installed runner's name.
    pub(super) runner: String,
    /// Its image.
    pub(super) image: String,
    pub(super) folder: PathBuf,
    pub(super) target: Target,
    pub(super) operator: Operator,
    launcher: LauncherId,
    connection: Connection,
    key: nkeys::KeyPair,
    seen: Seen,
    helpers: Vec<tokio::task::JoinHandle<()>>,
}

/// A launch that was made.
#[derive(Debug, Clone)]
pub(super) struct Launched {
    /// Its dispatch.
    pub(super) dispatch: String,
    /// Just before it was published.
    pub(super) at: Instant,
}

/// What an installation is to be.
pub(super) struct Wanted<'a> {
    /// Its folder's name, one of [`NAMES`].
    pub(super) name: &'static str,
    /// Where runners are installed.
    pub(super) runners: &'a Path,
    /// The one whose image is started.
    pub(super) runner: &'a str,
    /// Blank boxes.
    pub(super) pool: usize,
    /// The most boxes at once, when that is more than this machine's cores call for.
    pub(super) running: usize,
    /// More of its configuration.
    pub(super) more: &'a str,
}

impl Installation {
    /// Starts one.
    pub(super) async fn start(place: &Place, wanted: Wanted<'_>) -> CliResult<Installation> {
        let folder = place.folder.join(wanted.name);
        let runner = wanted.runner;
        std::fs::create_dir_all(&folder)?;
        let image = write_runners(&folder.join("runners"), wanted.runners, runner)?;
        let socket = folder.join("model.sock");
        let mut helpers = vec![tokio::spawn(model(tokio::net::UnixListener::bind(&socket)?))];
        let config = folder.join("custody.toml");
        std::fs::write(&config, configuration(&folder, &socket, &wanted))?;
        let private = Private::start(&folder, &config).await?;
        let target = private.target.clone();
        let launcher = LauncherId::parse(CLI_LAUNCHER).map_err(failed)?;
        let (connection, seed) = target.connect_launcher(launcher.as_str()).await?;
        let key = key_pair(&seed)?;
        let operator = target.operator().await?;
        let seen: Seen = Arc::new((Mutex::default(), watch::channel(0).0));
        let admin = target.connect(ServiceUser::Admin).await?;
        let subscription = admin.client().subscribe("unit.*.out").await.map_err(failed)?;
        admin.client().flush().await.map_err(failed)?;
        helpers.push(tokio::spawn(watch_output(target.blobs(&admin), admin, subscription, seen.clone())));
        let nats_pid = private.nats_pid.ok_or_else(|| failed("there is no nats-server"))?;
        Ok(Installation {
            pid: private.pid,
            private,
            nats_pid,
            runner: runner.to_owned(),
            image,
            folder,
            target,
            operator,
            launcher,
            connection,
            key,
            seen,
            helpers,
        })
    }

    /// Stops it; its boxes are gone then.
    pub(super) async fn stop(self) -> CliResult {
        for helper in &self.helpers {
            helper.abort();
        }
        self.private.stop().await
    }

    /// A command of this binary on this installation; its output, when that is one document.
    pub(super) async fn custody(&self, arguments: &[&str]) -> CliResult<Value> {
        self.private.custody(&self.folder.join("custody.toml"), arguments).await
    }

    /// Launches a dispatch whose agent says one word and whose box then stays, for a person and with tools; returns when
    /// its worker has been heard of.
    pub(super) async fn stays(&self, subject: &str, tools: &[&str]) -> CliResult<Launched> {
        let start = Start::Entrypoint(Entrypoint::Inline("hello".into()));
        let limits = Limits { turns: Some(2), ..Limits::default() };
        let workspaces = ["default:ro".to_owned()];
        let mut unit = unit(self.launcher.as_str(), subject, &self.runner, &workspaces, start, Some(limits))?;
        unit.tools = tools.iter().map(|tool| (*tool).to_owned()).collect();
        let launched = self.publish(&unit).await?;
        self.until(&launched, |times| times.frame).await?;
        Ok(launched)
    }

    /// Where the gateway serves a dispatch's box.
    pub(super) fn socket(&self, launched: &Launched) -> PathBuf {
        self.target.home.path(&["runs/", &launched.dispatch, "/gw/gw.sock"].concat())
    }

    /// Publishes a launch, and returns when it is stored.
    pub(super) async fn launch(&self, runner: &str, session: Option<&str>) -> CliResult<Launched> {
        let start = match session {
            None => Start::Entrypoint(Entrypoint::Inline("hello".into())),
            Some(id) => Start::Session(SessionStart { reference: id.to_owned(), inline: Some("again".into()) }),
        };
        let workspaces = ["default:rw".to_owned()];
        self.publish(&unit(self.launcher.as_str(), &own_subject(), runner, &workspaces, start, None)?).await
    }

    async fn publish(&self, unit: &Invocation) -> CliResult<Launched> {
        let id = hex(&crate::home::random::<16>()?);
        let mut event = launch::unsigned(&id, self.launcher.as_str(), &UnixMillis(now_ms()).rfc3339(), unit)?;
        custody_trust::launch::sign(&mut event, &self.key).map_err(failed)?;
        let bytes = canonical(&Value::Object(event)).into_bytes();
        let dispatch = dispatch_id(&self.launcher, Some(&id), &bytes).to_string();
        let subject = LogSubject::launch(self.launcher.as_str(), "dispatch").map_err(failed)?.to_string();
        let at = Instant::now();
        let ack = self.connection.client().request(subject, bytes.into()).await.map_err(failed)?;
        let ack: Value = serde_json::from_slice(&ack.payload)?;
        match ack.get("error") {
            Some(error) => Err(failed(error)),
            None => Ok(Launched { dispatch, at }),
        }
    }

    /// Waits until something is known of a dispatch.
    pub(super) async fn until<T>(&self, launched: &Launched, known: impl Fn(&Times) -> Option<T>) -> CliResult<T> {
        let mut version = self.seen.1.subscribe();
        let waiting = async {
            loop {
                version.borrow_and_update();
                let times = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner).get(&launched.dispatch).copied();
                if let Some(found) = times.and_then(|times| known(&times)) {
                    return Ok(found);
                }
                version.changed().await.map_err(failed)?;
            }
        };
        match tokio::time::timeout(DISPATCH_MAX, waiting).await {
            Ok(found) => found,
            Err(_) => Err(failed(format!("dispatch {} did not get there in time; see up.log", launched.dispatch))),
        }
    }

    /// Waits for a dispatch's end in the ledger, and gives its row.
    pub(super) async fn ended(&self, launched: &Launched) -> CliResult<Value> {
        crate::commands::run::wait_end(&self.operator, &launched.dispatch, DISPATCH_MAX).await
    }
}

fn key_pair(seed: &Seed) -> CliResult<nkeys::KeyPair> {
    nkeys::KeyPair::from_seed(seed.expose()).map_err(failed)
}

fn configuration(folder: &Path, model: &Path, wanted: &Wanted<'_>) -> String {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    format!(
        "[local_model]\nenabled = false\n[model]\nname = \"bench\"\nurl = \"unix:{}\"\napi = \"openai-chat\"\nmodel = \"m\"\n\
         [runners]\nfolder = \"{}\"\n[runtime]\nrunning_max = {}\n[runtime.pool]\nsize = {}\n{}",
        model.display(),
        folder.join("runners").display(),
        // As many at once as are started at once, with room for those that are just ending.
        (cores * 4).max(16).max(wanted.running),
        wanted.pool,
        wanted.more,
    )
}

/// The installed runner, and two of its image that need no model.
fn write_runners(into: &Path, from: &Path, name: &str) -> CliResult<String> {
    std::fs::create_dir_all(into)?;
    let document = std::fs::read_dir(from)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| read_document(&entry.path()).ok())
        .find(|runner| runner.name.as_str() == name)
        .ok_or_else(|| {
            CliError::new(exit::NOT_FOUND, "RUNNER_NOT_INSTALLED", format!("no runner {name} in {}", from.display()))
                .hint("cargo xtask image custody-agent --load; or name another with --runner")
        })?;
    let image = document.image.clone();
    let mut value = serde_json::to_value(&document)?;
    let write = |name: &str, value: &Value| std::fs::write(into.join(format!("{name}.json")), value.to_string());
    write(name, &value)?;
    value["inference"] = json!("none");
    value["stream"] = json!({ "format": "text" });
    value["name"] = json!(TRIVIAL);
    // A command line that the agent refuses: one line, and the end.
    let program = value["argv"][0].clone();
    value["argv"] = json!([program]);
    write(TRIVIAL, &value)?;
    value["name"] = json!(SLEEPER);
    // A worker without a gateway: it tries to connect for a minute and does nothing else.
    value["argv"] = json!(["/usr/local/bin/custody-worker"]);
    value["env"] = json!({ "CUSTODY_GW_SOCK": "/tmp/nobody" });
    write(SLEEPER, &value)?;
    Ok(image)
}

/// Answers every request with the same words.
async fn model(listener: tokio::net::UnixListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = vec![0; 65_536];
            let mut have = 0;
            // The head and, by its length, the body: a writer that still writes must not be cut off.
            while let Some(left) = request.get_mut(have..).filter(|left| !left.is_empty()) {
                match stream.read(left).await {
                    Ok(n) if n > 0 => have += n,
                    _ => return,
                }
                if whole(request.get(..have).unwrap_or_default()) {
                    break;
                }
            }
            let _left = stream.write_all(ANSWER.as_bytes()).await;
            let _closed = stream.shutdown().await;
        });
    }
}

/// Whether a request is all there. Source: RFC 9112, 6.
fn whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) => body.len() >= length,
        None => body.ends_with("0\r\n\r\n") || body.is_empty(),
    }
}

/// Keeps when each dispatch said what, from the topics as they are written.
async fn watch_output(keys: Arc<dyn Blobs>, _open: Connection, mut subscription: async_nats::Subscriber, seen: Seen) {
    while let Some(message) = subscription.next().await {
        let now = Instant::now();
        // As it is kept it is sealed with the person's key.
        let Ok(bytes) = keys.open(message.payload.to_vec()) else { continue };
        let Ok(chunk) = serde_json::from_slice::<Chunk>(&bytes) else { continue };
        {
            let mut all = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
            let times = all.entry(chunk.dispatch.clone()).or_default();
            for frame in &chunk.frames {
                times.frame.get_or_insert(now);
                match frame.body {
                    FrameBody::Started { .. } => {}
                    FrameBody::Exit { .. } => times.end = Some(now),
                    _ => {
                        times.byte.get_or_insert(now);
                    }
                }
            }
        }
        seen.1.send_modify(|version| *version += 1);
    }
}

/// Measures with installations in a place of their own, which is cleared whatever came of it, also an interruption.
pub(super) async fn in_a_place<T>(
    name: &str,
    dir: Option<PathBuf>,
    measure: impl AsyncFnOnce(&Place) -> CliResult<T>,
) -> CliResult<T> {
    if cfg!(debug_assertions) {
        notice(format!("this is a debug build: cargo run --release -p custody-cli -- bench {name}"));
    }
    let place = Place::make(dir)?;
    notice(format!("measuring in {}{}", place.folder.display(), super::in_memory(&place.folder)));
    let result = tokio::select! {
        result = measure(&place) => result,
        _ = tokio::signal::ctrl_c() => Err(CliError::exit_only(exit::INTERRUPTED)),
    };
    sweep(&place.folder).await;
    place.clear().await;
    result
}

/// Ends what an interrupted measurement left in its folders.
async fn sweep(folder: &Path) {
    for name in NAMES {
        private::sweep(&folder.join(name)).await;
    }
}
