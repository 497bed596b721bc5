//! An upstream MCP server that is a process on the gateway's host (stdio): one process for all dispatches, started when it is
//! first needed and again when it died. The operator alone says what is started; nothing of a dispatch, an agent or a tool's
//! document is in its command. Must never start one more often than its pauses allow, send a question twice, or let a
//! server hold a question without an end.
//!
//! Source: MCP 2025-06-18, 2025-11-25 and 2026-07-28, "stdio": messages of JSON-RPC, one a line.

mod keep;
mod process;
#[cfg(test)]
mod tests;

use super::alone;
use super::config::{ServerConfig, ServersError};
use super::greeting;
use super::link::{ENVELOPE_BYTES, Failed, RUNNING_MAX, Shown};
use super::told::Changes;
use custody_ports::secrets::{SecretText, Secrets};
use keep::{Keeper, ORDERS_MAX, Order};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

/// From one start to the next: at first, and at most. Each start doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A start so long after the one before begins with the short pause again.
const HEALTHY: Duration = Duration::from_secs(300);

/// What is started.
struct Command {
    /// The program's path and its arguments.
    line: Vec<String>,
    env: BTreeMap<String, String>,
    folder: PathBuf,
}

/// The way to one server.
pub(super) struct Program {
    name: String,
    command: Command,
    /// Variable and reference.
    env_secrets: BTreeMap<String, String>,
    timeout_ms: u64,
    result_bytes: usize,
    secrets: Arc<dyn Secrets>,
    running: Semaphore,
    last: AtomicU64,
    state: Mutex<State>,
    /// No more is started.
    over: CancellationToken,
    changes: Changes,
}

struct State {
    process: Option<Running>,
    started: Option<Instant>,
    pause: Duration,
}

/// A process that was greeted. Dropping this ends it.
struct Running {
    orders: mpsc::Sender<Order>,
    /// It knows no greeting: every request says all about itself.
    alone: bool,
    end: DropGuard,
    keeper: JoinHandle<()>,
}

impl Running {
    /// Ends it, and waits until nothing is left of it.
    async fn end(self) {
        drop(self.end);
        // It can only have broken off, and then what it held was killed.
        let _ended = self.keeper.await;
    }
}

impl Program {
    pub(super) fn new(
        name: &str,
        config: &ServerConfig,
        secrets: Arc<dyn Secrets>,
        changes: Changes,
    ) -> Result<Program, ServersError> {
        let bad = |why: &str| ServersError::Bad { name: name.to_owned(), why: why.to_owned() };
        Ok(Program {
            name: name.to_owned(),
            command: Command {
                line: config.command.clone().ok_or_else(|| bad("there is no command"))?,
                env: config.env.clone(),
                folder: config.folder.clone().ok_or_else(|| bad("its process has no folder to work in"))?,
            },
            env_secrets: config.env_secrets.clone(),
            timeout_ms: config.timeout_ms,
            result_bytes: usize::try_from(config.result_bytes).unwrap_or(usize::MAX),
            secrets,
            running: Semaphore::new(RUNNING_MAX),
            last: AtomicU64::new(0),
            state: Mutex::new(State { process: None, started: None, pause: PAUSE_MIN }),
            over: CancellationToken::new(),
            changes,
        })
    }

    /// The largest result.
    pub(super) fn result_bytes(&self) -> usize {
        self.result_bytes
    }

    /// Asks one thing and waits for its answer. What was sent is not sent again.
    pub(super) async fn request(&self, method: &str, mut params: Value, shown: Shown<'_>) -> Result<Value, Failed> {
        if !matches!(shown, Shown::Secret(None)) {
            let why =
                "a server that is a process here is shown nothing with a call; it has env_secrets in [tools.servers]";
            return Err(Failed::Secret(why.into()));
        }
        let until = Instant::now() + Duration::from_millis(self.timeout_ms);
        let Ok(Ok(_running)) = timeout_at(until, self.running.acquire()).await else {
            return Err(Failed::Unreachable("has too many calls open".into()));
        };
        for again in [true, false] {
            let (orders, alone) = self.process(until).await?;
            if alone {
                alone::envelope(&mut params);
            }
            match self.ask(&orders, method, &params, until).await {
                // It was not sent: the process ended in between.
                Err(Failed::Unreachable(_)) if again && orders.is_closed() => {}
                other => return other,
            }
        }
        Err(Failed::Unreachable("is not there any more".into()))
    }

    /// Ends the process, and starts no other. Takes no longer than an end takes, twice.
    pub(super) async fn end(&self) {
        self.over.cancel();
        let mut state = self.state.lock().await;
        if let Some(running) = state.process.take() {
            running.end().await;
        }
    }

    /// The way to the process, which is started where there is none.
    async fn process(&self, until: Instant) -> Result<(mpsc::Sender<Order>, bool), Failed> {
        let late = |_| Failed::Unreachable("is still being started".into());
        let mut state = timeout_at(until, self.state.lock()).await.map_err(late)?;
        if let Some(running) = state.process.as_ref().filter(|running| !running.orders.is_closed()) {
            return Ok((running.orders.clone(), running.alone));
        }
        // Two of them would share a folder.
        if let Some(before) = state.process.take() {
            before.end().await;
        }
        let over = || Failed::Unreachable("is not asked any more".into());
        if let Some(started) = state.started {
            let next = started + state.pause;
            if next > until {
                let ms = next.saturating_duration_since(Instant::now()).as_millis();
                return Err(Failed::Unreachable(format!("died and is started again in {ms} ms")));
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.over.cancelled() => return Err(over()),
            }
            let healthy = started.elapsed() >= HEALTHY;
            state.pause = if healthy { PAUSE_MIN } else { (state.pause * 2).min(PAUSE_MAX) };
        }
        if self.over.is_cancelled() {
            return Err(over());
        }
        let secrets = self.opened()?;
        state.started = Some(Instant::now());
        let mut running = self.start(secrets)?;
        let greeted = tokio::select! {
            greeted = self.greet(&running.orders, until) => greeted,
            () = self.over.cancelled() => Err(over()),
        };
        match greeted {
            Ok(alone) => running.alone = alone,
            Err(failed) => {
                running.end().await;
                return Err(failed);
            }
        }
        let way = (running.orders.clone(), running.alone);
        state.process = Some(running);
        Ok(way)
    }

    fn opened(&self) -> Result<Vec<(String, SecretText)>, Failed> {
        let open = |(name, reference): (&String, &String)| {
            let secret = self.secrets.get(reference).map_err(|e| Failed::Secret(e.to_string()))?;
            Ok((name.clone(), secret))
        };
        self.env_secrets.iter().map(open).collect()
    }

    fn start(&self, secrets: Vec<(String, SecretText)>) -> Result<Running, Failed> {
        let process = process::start(&self.command, &secrets).map_err(|error| {
            tracing::warn!(server = self.name, %error, program = self.command.line.first(), "a server of tools is not started");
            Failed::Unreachable("cannot be started".into())
        })?;
        tracing::info!(server = self.name, pid = process.child.id(), "a server of tools is started");
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let secrets = secrets.into_iter().map(|(_, secret)| secret).collect();
        let line_bytes_max = self.result_bytes.saturating_add(ENVELOPE_BYTES);
        let keeper = Keeper::new(&self.name, process, secrets, line_bytes_max, taken, self.changes.clone());
        let end = CancellationToken::new();
        let keeper = tokio::spawn(keeper.run(end.clone()));
        Ok(Running { orders, alone: false, end: end.drop_guard(), keeper })
    }

    /// Greets a process; says whether it is one that knows no greeting.
    async fn greet(&self, orders: &mpsc::Sender<Order>, until: Instant) -> Result<bool, Failed> {
        let told = match self.ask(orders, "initialize", &greeting::params(), until).await {
            Ok(told) => told,
            Err(failed) => {
                let mut params = json!({});
                alone::envelope(&mut params);
                if matches!(failed, Failed::Rpc(..))
                    && let Ok(told) = self.ask(orders, "server/discover", &params, until).await
                    && greeting::stands_alone(&told)
                {
                    return Ok(true);
                }
                return Err(greeting::failed(failed));
            }
        };
        greeting::version(&told)?;
        let ready = Order::Tell(greeting::ready().to_string());
        match timeout_at(until, orders.send(ready)).await {
            Ok(Ok(())) => Ok(false),
            _ => Err(Failed::Unreachable("did not greet".into())),
        }
    }

    async fn ask(
        &self,
        orders: &mpsc::Sender<Order>,
        method: &str,
        params: &Value,
        until: Instant,
    ) -> Result<Value, Failed> {
        let id = self.last.fetch_add(1, Ordering::SeqCst) + 1;
        let line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        let (answer, answered) = oneshot::channel();
        if !matches!(timeout_at(until, orders.send(Order::Ask { id, line, answer })).await, Ok(Ok(()))) {
            return Err(Failed::Unreachable("is not there any more".into()));
        }
        match timeout_at(until, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failed::Broken("broke off".into())),
            Err(_) => {
                // Where there is no room it is found out with the next question.
                let _full = orders.try_send(Order::GaveUp(id));
                Err(Failed::Silent(self.timeout_ms))
            }
        }
    }
}
