//! Accepting launches: from the launch's bytes to a decision that is on disk, beside bare publishes of the same bytes to
//! a plain stream of the same server, which syncs as ours does.

use super::drive::{Pair, TRIES_MAX, drive};
use super::{Place, failed};
use crate::commands::run::unit;
use crate::error::CliResult;
use crate::render::notice;
use crate::server::clock::{SystemClock, now_ms};
use custody_contracts::canonical::canonical;
use custody_contracts::events::{Kind, LauncherRegistered, Role, SignatureRule};
use custody_contracts::ids::{LauncherId, UnixMillis};
use custody_contracts::launch;
use custody_contracts::messages::ReplyOutcome;
use custody_contracts::unit::{Entrypoint, Start};
use custody_domain::queue::{Caps, Policy, Rules};
use custody_engine::authority::admission::Admission;
use custody_engine::authority::launchers::Launchers;
use custody_engine::authority::open::OpenDispatches;
use custody_engine::authority::parts::Parts;
use custody_engine::authority::workspaces::WorkspaceBook;
use custody_engine::grants::Grants;
use custody_engine::runners::Runners;
use custody_engine::sealed::SealedBlobs;
use custody_engine::tools::ToolBook;
use custody_ledger::{Entity, Log};
use custody_nats::server::PrivateServer;
use custody_nats::{Connection, JetBlobs, JetLog, JetOutput};
use custody_ports::launches::Launch;
use custody_ports::requests::Request;
use custody_ports::subjects::SubjectKeys;
use custody_secrets::SubjectKeyFiles;
use custody_streams::accounts::{ServiceUser, SyncInterval};
use custody_streams::spec::{StreamOptions, all};
use custody_trust::RoleKey;
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The stream of the bare publishes.
const BARE_STREAM: &str = "BENCH";
/// Launches that find out how fast this machine is; not measured.
const WARM_UP: usize = 300;
/// The most launches that are prepared for one run: they are held in memory.
const PREPARED_MAX: usize = 300_000;
const LAUNCHER: &str = "bench";
const PERSON: &str = "u_bench";

/// What was measured.
pub(super) struct Accepted {
    /// One launch in flight.
    pub(super) one: Pair,
    /// Many.
    pub(super) many: Pair,
}

/// Everything that a run needs.
struct Bench {
    admission: Admission,
    bare: async_nats::jetstream::Context,
    key: KeyPair,
    payload: bytes::Bytes,
    /// Launches prepared so far: ids never repeat.
    made: usize,
}

/// Measures with one and with `in_flight` launches in flight, `seconds` each run.
pub(super) async fn measure(place: &Place, seconds: u64, in_flight: usize) -> CliResult<Accepted> {
    let launcher = LauncherId::parse(LAUNCHER).map_err(failed)?;
    let server = place.server("accept", &[launcher], SyncInterval::Always).await?;
    server.apply(&all(&StreamOptions::one_machine())).await.map_err(failed)?;
    let authority = server.connect(ServiceUser::Authority).await.map_err(failed)?;
    let admin = server.connect(ServiceUser::Admin).await.map_err(failed)?;
    let mut bench = prepare(&server, &authority, &admin, &place.folder).await?;
    let limit = Duration::from_secs(seconds);
    let one = pair(&mut bench, 1, limit).await?;
    let many = pair(&mut bench, in_flight, limit).await?;
    authority.close().await;
    admin.close().await;
    server.server.stop().await;
    Ok(Accepted { one, many })
}

async fn prepare(
    server: &PrivateServer,
    authority: &Connection,
    admin: &Connection,
    folder: &Path,
) -> CliResult<Bench> {
    let log: Arc<dyn Log> = Arc::new(JetLog::open(authority).await.map_err(failed)?);
    let signer = Arc::new(RoleKey::from_seed(Role::Authority, &crate::home::random::<32>()?));
    // What is measured is what an installation does: the words of every launch are sealed.
    let keys: Arc<dyn SubjectKeys> =
        Arc::new(SubjectKeyFiles::at(folder.join("subjects"), folder.join("subjects.age")));
    let parts = Parts {
        log,
        signer,
        clock: Arc::new(SystemClock),
        launchers: Launchers::default(),
        workspaces: WorkspaceBook::default(),
        grants: Grants::default(),
        open: OpenDispatches::default(),
        inputs: Arc::new(JetOutput::new(authority)),
        blobs: Arc::new(SealedBlobs::new(Arc::new(JetBlobs::new(authority)), keys.clone())),
        keys,
        base: "https://custody.bench".to_owned(),
    };
    let commands = parts.commands(None, None);
    let seed = server.launchers.get(LAUNCHER).ok_or_else(|| failed("the launcher has no key"))?;
    let registered = LauncherRegistered {
        launcher: LauncherId::parse(LAUNCHER).map_err(failed)?,
        public_key: seed.public_key(),
        name: LAUNCHER.to_owned(),
        signature: SignatureRule::Required,
        subjects: vec![PERSON.to_owned()],
        by: "custody-bench".to_owned(),
    };
    let request = Request {
        subject: "command.launcher.register".to_owned(),
        bytes: serde_json::to_vec(&registered)?,
        reply_to: String::new(),
    };
    commands.carry_out(&request).await.map_err(|e| failed(e.message))?;
    let document = serde_json::json!({
        "id": "default", "bucket": "file:///nothing-is-mounted", "mode": "rw", "encryption": { "scheme": "none" },
        "purpose": "A bench.", "trunk": "main",
    });
    let request = Request {
        subject: "command.workspace.register".to_owned(),
        bytes: serde_json::json!({ "workspace": document, "owner": "*", "by": "custody-bench" })
            .to_string()
            .into_bytes(),
        reply_to: String::new(),
    };
    commands.carry_out(&request).await.map_err(|e| failed(e.message))?;
    let now = now_ms();
    let terms = serde_json::json!({
        "id": "g-bench", "subject": PERSON, "launcher": format!("user:{LAUNCHER}"), "launcher_key": seed.public_key(),
        "tools": [], "workspaces": [{ "id": "default", "mode": "ro" }], "trigger": { "on": ["message"] },
        "constraints": [], "limits": { "dispatches": 1_000_000, "window_ms": 86_400_000 },
        "approval": { "rule": "gated" }, "not_before": UnixMillis(now).rfc3339(),
        "expires": UnixMillis(now + 86_400_000).rfc3339(),
    });
    let words = custody_domain::grant::statement(&serde_json::from_value(terms.clone())?);
    let shown = custody_contracts::canonical::digest(words.as_bytes());
    let request = Request {
        subject: "command.grant.issue".to_owned(),
        bytes: serde_json::json!({ "wanted": terms, "method": "operator", "by": "custody-bench", "statement_digest": shown })
            .to_string()
            .into_bytes(),
        reply_to: String::new(),
    };
    commands.carry_out(&request).await.map_err(|e| failed(e.message))?;
    let runners = folder.join("runners");
    std::fs::create_dir_all(&runners)?;
    std::fs::write(runners.join("bench.json"), runner().to_string())?;
    let runners = Runners::read(&runners).map_err(failed)?;
    // Nothing here takes a dispatch out of the queue: how much may wait must not be what is measured.
    let rules = Rules {
        caps: Caps::default(),
        policy: Policy::Queue,
        waiting_max: usize::MAX,
        waiting_per_launcher_max: usize::MAX,
    };
    let admission = parts.admission(runners, ToolBook::builtin(), rules);
    let bare = async_nats::jetstream::new(admin.client().clone());
    let stream = async_nats::jetstream::stream::Config {
        name: BARE_STREAM.to_owned(),
        subjects: vec!["bench.>".to_owned()],
        ..Default::default()
    };
    bare.create_stream(stream).await.map_err(failed)?;
    let key = KeyPair::from_seed(seed.expose()).map_err(failed)?;
    let mut bench = Bench { admission, bare, key, payload: bytes::Bytes::new(), made: 0 };
    bench.payload = bench.sample().await?;
    Ok(bench)
}

/// A runner that is only named, never run.
fn runner() -> Value {
    json!({
        "name": "bench", "version": "1", "image": format!("sha256:{}", "0".repeat(64)), "argv": ["/bin/true"], "env": {},
        "stdin": "none", "stream": { "format": "text" },
        "session": { "path": "{{session}}", "resume_argv": [], "id_from": "none" },
        "inference": "none", "files": [], "licence": "Apache-2.0", "homepage": "https://example.org/bench",
    })
}

impl Bench {
    /// The bytes that one decision stores: what the bare part publishes.
    async fn sample(&mut self) -> CliResult<bytes::Bytes> {
        let launch = self.launches(1)?.pop().ok_or_else(|| failed("no launch"))?;
        let decision = self.admission.decide(&launch).await.map_err(failed)?.ok_or_else(|| failed("no decision"))?;
        if decision.reply.outcome != ReplyOutcome::Admitted {
            return Err(failed(format!("the sample was refused: {}", decision.reply.detail.unwrap_or_default())));
        }
        let entity = Entity::new(Kind::Dispatch, &decision.reply.dispatch).ok_or_else(|| failed("no entity"))?;
        let mut history = self.admission.log.load(&entity).await.map_err(failed)?;
        Ok(history.pop().ok_or_else(|| failed("the decision is not there"))?.bytes.into())
    }

    /// Signed launches with ids of their own.
    fn launches(&mut self, count: usize) -> CliResult<Vec<Launch>> {
        let prompt = "Summarise the notes of this week and list what is still open.".to_owned();
        let start = Start::Entrypoint(Entrypoint::Inline(prompt));
        let unit = unit(LAUNCHER, PERSON, "bench", &["default:ro".to_owned()], start, None)?;
        let now = UnixMillis(now_ms());
        let mut out = Vec::with_capacity(count);
        for _ in 0..count {
            self.made += 1;
            let mut event = launch::unsigned(&self.made.to_string(), LAUNCHER, &now.rfc3339(), &unit)?;
            custody_trust::launch::sign(&mut event, &self.key).map_err(failed)?;
            out.push(Launch {
                seq: self.made as u64,
                launcher: LAUNCHER.to_owned(),
                verb: "dispatch".to_owned(),
                stored_at: now,
                bytes: canonical(&Value::Object(event)).into_bytes(),
            });
        }
        Ok(out)
    }

    async fn ours(
        &self,
        in_flight: usize,
        launches: Vec<Launch>,
        limit: Duration,
    ) -> CliResult<super::drive::Measured> {
        let (admission, launches) = (self.admission.clone(), Arc::new(launches));
        let count = launches.len();
        let each = move |index: usize| {
            let (admission, launches) = (admission.clone(), launches.clone());
            async move {
                let Some(launch) = launches.get(index) else { return Ok(()) };
                match admission.decide(launch).await.map_err(failed)? {
                    Some(decision) if decision.reply.outcome == ReplyOutcome::Admitted => Ok(()),
                    _ => Err(failed("a launch was not admitted")),
                }
            }
        };
        drive(in_flight, count, limit, each).await
    }

    async fn bare(&self, in_flight: usize, limit: Duration) -> CliResult<super::drive::Measured> {
        let (context, payload) = (self.bare.clone(), self.payload.clone());
        let each = move |index: usize| {
            let (context, payload) = (context.clone(), payload.clone());
            async move {
                let ack = context.publish(["bench.", &index.to_string()].concat(), payload).await.map_err(failed)?;
                ack.await.map_err(failed)?;
                Ok(())
            }
        };
        drive(in_flight, usize::MAX, limit, each).await
    }
}

/// Bare, ours, bare, until the two bare runs agree.
async fn pair(bench: &mut Bench, in_flight: usize, limit: Duration) -> CliResult<Pair> {
    let warm_up = bench.launches(WARM_UP.max(in_flight * 4))?;
    let warmed = bench.ours(in_flight, warm_up, limit).await?;
    let mut tries = 1;
    loop {
        notice(format!("accept, {in_flight} in flight: {} s bare, {0} s ours, {0} s bare", limit.as_secs()));
        let before = bench.bare(in_flight, limit).await?;
        let launches = bench.launches(wanted(warmed.rate(), limit))?;
        let ours = bench.ours(in_flight, launches, limit).await?;
        let after = bench.bare(in_flight, limit).await?;
        let pair = Pair { before, ours, after };
        if !pair.void() || tries >= TRIES_MAX {
            return Ok(pair);
        }
        tries += 1;
    }
}

/// Twice what the warm-up promises, so that time and not supply ends the run.
fn wanted(rate: f64, limit: Duration) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and the result is capped"
    )]
    let wanted = (rate * limit.as_secs_f64() * 2.0) as usize;
    wanted.saturating_add(1_000).min(PREPARED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_keeps_its_contract() {
        assert_eq!(custody_contracts::catalogue::check("agent-runner.v2", "Runner", &runner()), Ok(()));
    }

    #[test]
    fn supply_is_twice_the_demand_and_bounded() {
        assert_eq!(wanted(1_000.0, Duration::from_secs(5)), 11_000);
        assert_eq!(wanted(1e12, Duration::from_secs(5)), PREPARED_MAX);
    }
}
