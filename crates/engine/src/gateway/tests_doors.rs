//! A gateway as it runs: over a log in memory, with real sockets, before a scripted model. What a budget stops, what a
//! recording answers, and what becomes of a call that a restart cut in two.

use super::{Budgets, Gateway, run};
use crate::inference::{Door, ModelConfig, Models};
use crate::runners::Runners;
use crate::runtime::RuntimeLimits;
use crate::runtime::tests::{admitted, put};
use crate::tools::ToolBook;
use crate::upstream::Upstreams;
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, EffectEvent, LedgerEvent, Role, ToolPhase};
use custody_contracts::isolation::Sockets;
use custody_contracts::unit::{Context, ContextKind, Limits, Reference};
use custody_domain::tool::Policy;
use custody_ledger::{MemoryLog, Recorded};
use custody_testkit::fakes::{ManualClock, MemoryBlobs, MemoryOutput};
use custody_testkit::model::{ScriptedModel, Turn};
use custody_trust::RoleKey;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(30);
/// Gateways that were started: no two are one process.
static STARTED: AtomicU32 = AtomicU32::new(0);

pub(super) struct Stand {
    folder: tempfile::TempDir,
    pub(super) log: MemoryLog,
    pub(super) blobs: Arc<MemoryBlobs>,
    pub(super) clock: Arc<ManualClock>,
    /// What is asked about tool calls.
    pub(super) policy: Arc<dyn Policy>,
    model: ScriptedModel,
    pub(super) cancel: CancellationToken,
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn limits() -> RuntimeLimits {
    RuntimeLimits {
        wall_ms: 60_000,
        idle_ms: 60_000,
        grace_ms: 1_000,
        memory_bytes: 1 << 26,
        nano_cpus: 1_000_000_000,
        pids: 16,
        output_bytes: 1 << 20,
        session_bytes: 1 << 20,
        disk_bytes: 1 << 30,
        sockets: Sockets::Unix,
        most: crate::runtime::Room { memory_bytes: 1 << 30, pids: 64, tmp_bytes: 1 << 28, home_bytes: 1 << 28 },
    }
}

impl Stand {
    /// A gateway that has not been started.
    pub(super) async fn new(script: Vec<Turn>) -> Stand {
        let folder = tempfile::Builder::new().prefix("cgw").tempdir_in("/tmp").unwrap();
        Stand {
            folder,
            log: MemoryLog::new(),
            blobs: Arc::default(),
            clock: Arc::new(ManualClock::at(1_000_000)),
            policy: Arc::new(crate::mcp::tests::PermitAll),
            model: ScriptedModel::tcp(script).await.unwrap(),
            cancel: CancellationToken::new(),
        }
    }

    /// Starts a gateway over what the log holds.
    pub(super) fn start(&self, budgets: Budgets, price: Value) {
        let config: ModelConfig = serde_json::from_value(json!({
            "name": "house", "url": self.model.url(), "model": "m", "price": price,
        }))
        .unwrap();
        let gateway = Gateway {
            log: Arc::new(self.log.clone()),
            signer: Arc::new(RoleKey::from_seed(Role::Gateway, &[3; 32])),
            clock: self.clock.clone(),
            output: Arc::new(MemoryOutput::default()),
            inputs: Arc::new(MemoryOutput::default()),
            blobs: self.blobs.clone(),
            runners: Runners::read(&self.folder.path().join("runners")).unwrap(),
            approval_ms: 60_000,
            incarnation: format!("p-{}", STARTED.fetch_add(1, Ordering::SeqCst)),
            tools: ToolBook::builtin(),
            policy: self.policy.clone(),
            upstreams: Upstreams::none(),
            presenter: None,
            door: Some(Door::new(Models::one(config), self.blobs.clone()).unwrap()),
            runs: self.folder.path().join("runs"),
            instance: "i-1".into(),
            limits: limits(),
            budgets,
            grants: crate::grants::Grants::default(),
        };
        tokio::spawn(run(gateway, self.cancel.clone()));
    }

    /// The working copy of a dispatch.
    fn copy(&self, id: &str) -> std::path::PathBuf {
        self.folder.path().join("runs").join(id).join("ws/default")
    }

    /// Admits and claims a dispatch.
    pub(super) async fn claim(&self, id: &str, change: impl FnOnce(&mut DispatchAdmitted)) {
        let mut admitted = admitted(id, &id.replace("d-", "s-"));
        change(&mut admitted);
        std::fs::create_dir_all(self.copy(id)).unwrap();
        std::fs::write(self.copy(id).join("a.md"), "words").unwrap();
        let claimed = json!({
            "dispatch": admitted.dispatch, "attempt": 1, "runtime": "i-1", "image": admitted.runner.image,
            "container_name": id, "spec_digest": custody_contracts::canonical::digest(b""),
            "session": admitted.session, "resume_digest": null, "deadline_at": 9_000_000,
        });
        let claimed = LedgerEvent::decode("custody.run.claimed.v1", &claimed.to_string()).unwrap();
        put(&self.log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted))), id).await;
        put(&self.log, claimed, id).await;
    }

    /// The agent of a dispatch, once its socket is there.
    pub(super) async fn agent(&self, id: &str) -> Agent {
        let socket = crate::runtime::socket_path(&self.folder.path().join("runs").join(id));
        let there = async {
            while tokio::net::UnixStream::connect(&socket).await.is_err() {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, there).await.unwrap();
        Agent::at(&socket)
    }

    pub(super) fn effects(&self) -> Vec<EffectEvent> {
        let messages = self.log.messages();
        let read = messages.iter().flat_map(|stored| Recorded::read(stored).unwrap());
        read.filter_map(|recorded| match recorded.event {
            Some(LedgerEvent::Effect(e)) => Some(e),
            _ => None,
        })
        .collect()
    }

    /// Effects, once so many are there that a test wants.
    pub(super) async fn wait(&self, what: &str, n: usize, wanted: impl Fn(&EffectEvent) -> bool) -> Vec<EffectEvent> {
        let there = async {
            loop {
                let found: Vec<_> = self.effects().into_iter().filter(&wanted).collect();
                if found.len() >= n {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(LIMIT, there).await;
        found.unwrap_or_else(|_| panic!("{what}: {:#?}", self.effects()))
    }
}

pub(super) struct Agent(reqwest::Client);

impl Agent {
    fn at(socket: &Path) -> Agent {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).unix_socket(socket.to_owned());
        Agent(client.build().unwrap())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Vec<u8>) {
        let sent = self.0.post(format!("http://localhost{path}")).body(body.to_string()).send();
        let answer = tokio::time::timeout(LIMIT, sent).await.unwrap().unwrap();
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    }

    async fn ask(&self, words: &str, stream: bool) -> (u16, Vec<u8>) {
        let body = json!({ "model": "any", "stream": stream, "messages": [{ "role": "user", "content": words }] });
        self.post("/v1/chat/completions", body).await
    }

    pub(super) async fn tool(&self, name: &str, args: Value) -> Value {
        let params = json!({ "name": name, "arguments": args });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        serde_json::from_slice(&self.post("/mcp", body).await.1).unwrap()
    }
}

fn code(body: &[u8]) -> Value {
    serde_json::from_slice::<Value>(body).unwrap()["error"]["code"].clone()
}

fn is_call(effect: &EffectEvent) -> bool {
    matches!(effect, EffectEvent::ModelCalled(_))
}

/// The model counts words: three sent and two received are five tokens.
fn five() -> Turn {
    Turn::Say("four five".to_owned())
}

#[tokio::test]
async fn a_dispatchs_budget_warns_and_stops() {
    let stand = Stand::new(vec![five(), five(), five()]).await;
    stand.start(Budgets::default(), Value::Null);
    stand.claim("d-1", |a| a.unit.limits = Some(Limits { tokens: Some(10), ..Limits::default() })).await;
    let agent = stand.agent("d-1").await;
    for n in 1..=2 {
        assert_eq!(agent.ask("one two three", n == 1).await.0, 200);
        stand.wait("a call", n, is_call).await;
    }
    stand.wait("a warning", 1, |e| matches!(e, EffectEvent::BudgetWarned(_))).await;
    let (status, body) = agent.ask("one two three", true).await;
    assert_eq!((status, code(&body)), (403, json!("budget_exhausted")));
    assert_eq!(stand.model.requests().len(), 2, "the model was not called");
    let out = stand.wait("the end", 1, |e| matches!(e, EffectEvent::BudgetExhausted(_))).await;
    let EffectEvent::BudgetExhausted(budget) = &out[0] else { panic!() };
    assert_eq!((budget.used, budget.limit, budget.window_ms), (10, 10, None));
    // Asked again, it is refused again, and the events stay one of each.
    assert_eq!(agent.ask("one two three", false).await.0, 403);
    assert_eq!(stand.effects().iter().filter(|e| !is_call(e)).count(), 2);
}

#[tokio::test]
async fn a_persons_budget_counts_what_the_ledger_holds_and_what_others_of_theirs_use() {
    let stand = Stand::new(vec![five(), five(), five()]).await;
    stand.claim("d-1", |_| {}).await;
    stand.claim("d-2", |_| {}).await;
    stand.claim("d-3", |a| a.unit.identity.subject = serde_json::from_value(json!("u_joe")).unwrap()).await;
    let budgets: Budgets = serde_json::from_value(json!({ "subject": { "cost_micros": 9 } })).unwrap();
    stand.start(budgets, json!({ "input": 1_000_000, "output": 3_000_000 }));
    let (one, two) = (stand.agent("d-1").await, stand.agent("d-2").await);
    assert_eq!(one.ask("one two three", false).await.0, 200);
    let calls = stand.wait("the call", 1, is_call).await;
    let EffectEvent::ModelCalled(call) = &calls[0] else { panic!() };
    assert_eq!((call.cost_micros, call.attempts, call.provider.as_deref()), (Some(9), Some(1), Some("local")));
    assert_eq!(code(&two.ask("one two three", false).await.1), json!("budget_exhausted"));
    let out = stand.wait("the end", 1, |e| matches!(e, EffectEvent::BudgetExhausted(_))).await;
    assert_eq!(out[0].dispatch().as_str(), "d-2");
    assert_eq!(stand.agent("d-3").await.ask("one two three", false).await.0, 200, "another person");
}

#[tokio::test]
async fn money_cannot_be_counted_without_a_price() {
    let stand = Stand::new(vec![]).await;
    stand.start(Budgets::default(), Value::Null);
    stand.claim("d-1", |a| a.unit.limits = Some(Limits { cost_micros: Some(10), ..Limits::default() })).await;
    let (status, body) = stand.agent("d-1").await.ask("x", false).await;
    assert_eq!((status, code(&body)), (403, json!("price_unknown")));
    assert!(stand.model.requests().is_empty());
}

/// The unit of a dispatch that repeats another one.
pub(super) fn repeats(admitted: &mut DispatchAdmitted, id: &str) {
    let reference = Reference { uri: [crate::replay::REPLAY_URI, id].concat(), etag: None };
    admitted.unit.context = Some(Context { kind: ContextKind::Generic, meeting: None, reference: Some(reference) });
    admitted.unit.tools = vec!["workspace_read".to_owned()];
}

#[tokio::test]
async fn a_run_is_repeated_without_a_model() {
    let stand = Stand::new(vec![five(), Turn::Say("six".to_owned())]).await;
    stand.start(Budgets::default(), Value::Null);
    stand.claim("d-1", |a| a.unit.tools = vec!["workspace_read".to_owned()]).await;
    let agent = stand.agent("d-1").await;
    let first = agent.ask("today is 2026-11-22", true).await;
    let second = agent.ask("and then?", false).await;
    let read = agent.tool("workspace_read", json!({ "path": "a.md" })).await;
    stand.wait("the calls", 2, is_call).await;
    // What is read now is what was read then: the tool itself is not asked.
    stand.claim("d-2", |a| repeats(a, "d-1")).await;
    std::fs::write(stand.copy("d-2").join("a.md"), "other words").unwrap();
    let again = stand.agent("d-2").await;
    assert_eq!(again.ask("today is 2027-01-01", true).await, first);
    assert_eq!(again.ask("and then?", false).await, second);
    assert_eq!(again.tool("workspace_read", json!({ "path": "a.md" })).await["result"], read["result"]);
    assert_eq!(stand.model.requests().len(), 2, "no model was called");
    let calls = stand.wait("the calls again", 4, is_call).await;
    let EffectEvent::ModelCalled(last) = &calls[3] else { panic!() };
    assert_eq!((last.upstream.as_str(), last.attempts, last.input_tokens), ("replay", Some(0), 0));

    // What was not recorded is answered by nobody.
    let (status, body) = again.ask("something else", false).await;
    assert_eq!((status, code(&body)), (409, json!("replay_diverged")));
    let other = again.tool("workspace_read", json!({ "path": "b.md" })).await;
    assert!(other["result"]["content"][0]["text"].as_str().unwrap().starts_with("REPLAY_DIVERGED"), "{other}");
    assert_eq!(stand.model.requests().len(), 2);
    let calls = stand.wait("the divergence", 5, is_call).await;
    let EffectEvent::ModelCalled(last) = &calls[4] else { panic!() };
    assert_eq!((last.status, last.detail.as_deref().map(|d| d.starts_with("REPLAY_DIVERGED"))), (0, Some(true)));
}

#[tokio::test]
async fn a_recording_is_its_persons_own() {
    let stand = Stand::new(vec![five()]).await;
    stand.start(Budgets::default(), Value::Null);
    stand.claim("d-1", |_| {}).await;
    let words = stand.agent("d-1").await.ask("one", false).await;
    assert_eq!(words.0, 200);
    stand.wait("the call", 1, is_call).await;
    stand
        .claim("d-2", |a| {
            repeats(a, "d-1");
            a.unit.identity.subject = serde_json::from_value(json!("u_joe")).unwrap();
        })
        .await;
    let (status, body) = stand.agent("d-2").await.ask("one", false).await;
    assert_eq!(status, 409);
    let said = String::from_utf8(body).unwrap();
    assert!(said.contains("there is no dispatch d-1 of this person") && !said.contains("four five"), "{said}");
}

#[tokio::test]
async fn a_tool_call_that_a_restart_cut_in_two_ends_in_doubt_and_is_not_repeated() {
    let stand = Stand::new(vec![]).await;
    stand.claim("d-1", |a| a.unit.tools = vec!["workspace_read".to_owned()]).await;
    let intended = json!({
        "dispatch": "d-1", "n": 1, "tool": "workspace_read", "scope": "workspace:read", "effect": "read",
        "args_digest": custody_contracts::canonical::digest(b"{}"), "input_trust": "trusted",
        "idempotency_key": "d-1-t1:0000000000000000",
    });
    let event = LedgerEvent::decode("custody.effect.tool_intended.v1", &intended.to_string()).unwrap();
    put(&stand.log, event, "d-1-t1").await;
    stand.start(Budgets::default(), Value::Null);
    let ends = stand.wait("the outcome", 1, |e| matches!(e, EffectEvent::ToolFinished(_))).await;
    let EffectEvent::ToolFinished(end) = &ends[0] else { panic!() };
    assert_eq!((end.phase, end.reason.as_deref()), (ToolPhase::InDoubt, Some("GATEWAY_RESTARTED")));
    let answer = stand.agent("d-1").await.tool("workspace_read", json!({ "path": "a.md" })).await;
    assert_eq!(answer["result"]["content"][0]["text"], "words");
    let numbers: Vec<u32> = stand
        .effects()
        .iter()
        .filter_map(|e| match e {
            EffectEvent::ToolFinished(e) => Some(e.n),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [1, 2], "the next call has the next number");
}

#[tokio::test]
async fn a_dispatch_without_tools_is_offered_none() {
    let stand = Stand::new(vec![]).await;
    stand.start(Budgets::default(), Value::Null);
    stand.claim("d-1", |_| {}).await;
    let agent = stand.agent("d-1").await;
    let (status, body) = agent.post("/mcp", json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" })).await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["result"]["tools"], json!([]));
    let refused = agent.tool("workspace_read", json!({ "path": "a.md" })).await;
    assert_eq!(refused["error"]["data"]["code"], "TOOL_NOT_LISTED");
}

/// Jane's grant to the launcher of these dispatches, which pays for one call.
async fn grant(stand: &Stand) -> impl Fn(&mut DispatchAdmitted) + use<> {
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../contracts/ledger.v2/golden/GrantIssued.minimal.json"
    ));
    let mut issued: Value = serde_json::from_str(&text.unwrap()).unwrap();
    issued["grant"]["id"] = json!("g-1");
    issued["grant"]["tools"] = json!(["workspace_list"]);
    issued["grant"]["not_before"] = json!("1970-01-01T00:00:00.000Z");
    issued["grant"]["expires"] = json!("1970-01-02T00:00:00.000Z");
    issued["grant"]["limits"]["budget_micros"] = json!(1);
    put(&stand.log, LedgerEvent::decode("custody.grant.issued.v1", &issued.to_string()).unwrap(), "g-1").await;
    let seq = stand.log.messages().last().unwrap().seq.0;
    move |admitted| {
        admitted.grant = serde_json::from_value(json!({ "checked": { "id": "g-1", "seq": seq } })).unwrap();
        admitted.unit.tools = vec!["workspace_list".to_owned()];
    }
}

#[tokio::test]
async fn a_grants_budget_pays_for_no_call_beyond_it() {
    let stand = Stand::new(vec![five(), five()]).await;
    stand.start(Budgets::default(), json!({ "input": 1_000_000, "output": 3_000_000 }));
    let under = grant(&stand).await;
    stand.claim("d-1", under).await;
    let agent = stand.agent("d-1").await;
    assert_eq!(agent.ask("one two three", false).await.0, 200);
    stand.wait("the call", 1, is_call).await;
    let (status, body) = agent.ask("and again", false).await;
    assert_eq!((status, code(&body)), (403, json!("GRANT_BUDGET")));
    assert_eq!(stand.effects().into_iter().filter(is_call).count(), 1, "the second one was not made");
}

#[tokio::test]
async fn after_a_revocation_the_next_tool_and_model_call_are_refused() {
    let stand = Stand::new(vec![five()]).await;
    stand.start(Budgets::default(), Value::Null);
    let under = grant(&stand).await;
    stand.claim("d-1", &under).await;
    let agent = stand.agent("d-1").await;
    let listed = agent.tool("workspace_list", json!({})).await;
    assert!(listed["result"].is_object(), "the honest one beside it: {listed}");
    assert_eq!(agent.ask("one two three", false).await.0, 200);
    let revoked = json!({ "grant": "g-1", "by": "u_jane", "why": "the phone was lost" });
    put(&stand.log, LedgerEvent::decode("custody.grant.revoked.v1", &revoked.to_string()).unwrap(), "g-1").await;
    let refused = async {
        loop {
            let answer = agent.tool("workspace_list", json!({})).await;
            if answer["error"].is_object() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let refused = tokio::time::timeout(LIMIT, refused).await.unwrap();
    let text = refused["error"]["message"].as_str().unwrap();
    assert!(text.contains("GRANT_REVOKED") && text.contains("the phone was lost"), "{refused}");
    let (status, body) = agent.ask("and again", false).await;
    assert_eq!((status, code(&body)), (403, json!("GRANT_REVOKED")));
    // Each has an event, and the model's names no tool.
    let of_model = |e: &EffectEvent| match e {
        EffectEvent::ToolRefused(e) => e.tool.is_none() && e.detail.starts_with("a call of the model: "),
        _ => false,
    };
    let is_refusal = |e: &EffectEvent| matches!(e, EffectEvent::ToolRefused(e) if e.reason == "GRANT_REVOKED");
    let told = stand.wait("both refusals' events", 2, is_refusal).await;
    assert_eq!(told.iter().filter(|e| of_model(e)).count(), 1, "{told:?}");
    // Asked again and again, it is refused as often, and the ledger does not grow by as much.
    for _ in 0..50 {
        assert_eq!(agent.ask("and again", false).await.0, 403);
    }
    assert!(stand.effects().iter().filter(|e| of_model(e)).count() <= 3);
}
