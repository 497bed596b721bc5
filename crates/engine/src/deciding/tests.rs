//! Calls before their server, over a log in memory with real tokens: what passes, what is turned away and recorded, and
//! that nobody passes when nobody can say. The numbers are those of the attack list.

use super::*;
use crate::mcp::tests::PermitAll;
use crate::runtime::tests::{admitted, put};
use crate::sealed::SealedBlobs;
use crate::sealed::tests::MemoryKeys;
use crate::tools::{accepted_path, document_path};
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, EffectEvent, GrantCheck, GrantUse, KeyEvent, KeyIntroduced, LedgerEvent, Role,
    TYPES, ToolIntended, ToolRefused,
};
use custody_contracts::grant::{Grant, GrantEvent};
use custody_contracts::ids::UnixMillis;
use custody_contracts::token::{TokenKeyChanged, TokenKeyState, TokenType};
use custody_domain::tool::{Judged, ToolAsked, judge};
use custody_ledger::{Append, AppendError, Entity, MemoryLog, Recorded, Seq, Stored};
use custody_testkit::fakes::{ManualClock, MemoryBlobs};
use custody_trust::RoleKey;
use custody_trust::issued::mint;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use rstest::rstest;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

const NOW: u64 = 1_795_000_000_000;
const MAIL: &str = "https://mail.test/mcp";
const FILES: &str = "https://files.test/mcp";

/// A log that answers, fails, or hangs.
#[derive(Clone)]
struct Moody(MemoryLog, Arc<AtomicU8>);

impl Log for Moody {
    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        match self.1.load(Ordering::SeqCst) {
            0 => self.0.load(entity),
            1 => Box::pin(async { Err(LogError::Unavailable("told to".into())) }),
            _ => Box::pin(std::future::pending()),
        }
    }
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        self.0.append(append)
    }
    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.0.read(from)
    }
    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.0.tail(from)
    }
    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        self.0.last_seq()
    }
}

/// An event of the contract's examples with other fields.
fn golden(shape: &str, changes: &Value) -> LedgerEvent {
    let file = format!("../../contracts/ledger.v2/golden/{shape}.minimal.json");
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let mut value: Value = serde_json::from_slice(&text).unwrap();
    value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let event_type = TYPES.iter().find(|(_, s)| *s == shape).unwrap().0;
    LedgerEvent::decode(event_type, &value.to_string()).unwrap()
}

struct Stand {
    _folder: tempfile::TempDir,
    tools_folder: std::path::PathBuf,
    log: MemoryLog,
    mood: Arc<AtomicU8>,
    clock: Arc<ManualClock>,
    key: RoleKey,
    decisions: Decisions,
}

fn args() -> Value {
    json!({ "to": "bob@acme.test" })
}

fn document(change: &Value) -> Value {
    let mut document = json!({
        "name": "mail__send", "scope": "mail:send", "grant": "auto", "transport": "mcp", "mcp_server": "mail",
        "barriers": [], "effect": "write", "idempotent": false, "constraints": [],
    });
    document.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    document
}

impl Stand {
    /// A dispatch of Jane's that runs and whose first call is on its way.
    async fn new() -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let tools_folder = folder.path().to_owned();
        std::fs::create_dir_all(accepted_path(&tools_folder, "x").parent().unwrap()).unwrap();
        let definition = json!({ "name": "send", "description": "Sends.", "input_schema": { "type": "object" } });
        std::fs::write(accepted_path(&tools_folder, "mail__send"), definition.to_string()).unwrap();
        std::fs::write(document_path(&tools_folder, "mail__send"), document(&json!({})).to_string()).unwrap();
        let tools = ToolBook::read(&tools_folder, ["mail".to_owned()].into()).unwrap();

        let (log, keys, grants) = (MemoryLog::new(), KeyBook::default(), Grants::default());
        let (authority, key) = (RoleKey::from_seed(Role::Authority, &[1; 32]), RoleKey::for_tokens(&[7; 32]));
        let root = KeyIntroduced {
            kid: authority.kid().into(),
            role: Role::Authority,
            public_key: authority.public_hex(),
            instance: "i".into(),
        };
        put(&log, LedgerEvent::Key(KeyEvent::Introduced(root)), authority.kid()).await;
        let signs = TokenKeyChanged {
            kid: key.kid().into(),
            state: TokenKeyState::Active,
            public_key: key.public_hex(),
            by: "t".into(),
            why: "w".into(),
        };
        put(&log, LedgerEvent::Key(KeyEvent::TokenKey(signs)), key.kid()).await;
        let mut given = golden("GrantIssued", &json!({}));
        if let LedgerEvent::Grant(GrantEvent::Issued(issued)) = &mut given {
            issued.grant = granted();
        }
        let seq = put(&log, given, "g-1").await;
        let admitted = dispatch(seq.0);
        put(&log, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted.clone()))), "d-1").await;
        put(&log, golden("RunClaimed", &json!({ "dispatch": "d-1" })), "d-1").await;
        log.messages().iter().for_each(|stored| {
            keys.take_in(stored);
            grants.take_in(stored);
        });
        let (mood, clock) = (Arc::new(AtomicU8::new(0)), Arc::new(ManualClock::at(NOW)));
        let audiences = Audiences::from(
            [("mail", MAIL), ("files", FILES)].map(|(server, uri)| (server.to_owned(), Audience::Server(uri.into()))),
        );
        let decisions = Decisions(Arc::new(Inner {
            log: Arc::new(Moody(log.clone(), mood.clone())),
            signer: Arc::new(RoleKey::from_seed(Role::Gateway, &[3; 32])),
            clock: clock.clone(),
            tools,
            policy: Arc::new(PermitAll),
            grants,
            keys,
            names: Names::of("https://custody.test"),
            audiences: Arc::new(audiences),
            blobs: Arc::new(SealedBlobs::new(Arc::new(MemoryBlobs::default()), Arc::new(MemoryKeys::default()))),
            running: Semaphore::new(RUNNING_MAX),
            passed: Mutex::default(),
            refusals: Mutex::default(),
        }));
        let stand = Stand { _folder: folder, tools_folder, log, mood, clock, key, decisions };
        stand.intend(1).await;
        stand
    }

    /// The digest that the person's key gives the call's arguments.
    fn named(&self) -> String {
        self.decisions.0.args_digest(&dispatch(3), &args(), None).unwrap_or_else(|_| panic!())
    }

    /// Records a call under a number.
    async fn intend(&self, n: u32) -> ToolIntended {
        self.intend_as(n, &self.named()).await
    }

    async fn intend_as(&self, n: u32, args_digest: &str) -> ToolIntended {
        let (tools, grant) = (self.decisions.0.tools.tools(), granted());
        let asked = ToolAsked {
            admitted: &dispatch(3),
            n,
            tool: "mail__send",
            args: &args(),
            args_digest,
            tools: &tools,
            policy: &PermitAll,
            expires_at: UnixMillis(NOW),
            approval: None,
            grant: Some(&grant),
        };
        let Ok(Judged::Permit(permit)) = judge(asked) else { panic!() };
        let intended = permit.into_event();
        let event = LedgerEvent::Effect(EffectEvent::ToolIntended(intended.clone()));
        put(&self.log, event, &format!("d-1-t{n}")).await;
        intended
    }

    fn token(&self, change: &Value) -> String {
        let mut claims = json!({
            "iss": "https://custody.test/sts", "sub": "u_jane", "client_id": "spiffe://custody.test/gateway",
            "act": { "sub": "spiffe://custody.test/gateway", "act": {
                "sub": "spiffe://custody.test/dispatch/d-1", "act": { "sub": "user:cli" } } },
            "launcher": "user:cli", "aud": MAIL, "scope": "tool:mail__send",
            "authorization_details": [{ "type": "mcp", "server": "mail", "tools": ["mail__send"] }],
            "jti": "tk-of-the-first-call", "dispatch_id": "d-1", "grant": "g-1", "txn": "d-1-t1", "input_trust": "trusted",
            "iat": NOW / 1_000, "nbf": NOW / 1_000, "exp": NOW / 1_000 + 120,
        });
        let members = claims.as_object_mut().unwrap();
        members.extend(change.as_object().unwrap().clone());
        members.retain(|_, value| !value.is_null());
        ["Bearer ", &mint(&self.key, TokenType::Tool, &claims).unwrap().token].concat()
    }

    /// What a request comes to: `on`, or its status and code.
    async fn passes(&self, request: &Request) -> String {
        let passing = Passing {
            authorization: request.authorization.as_deref(),
            audience: request.audience,
            method: request.method,
            body: request.body.as_bytes(),
        };
        match self.decisions.passes(passing).await {
            Passed::On => "on".into(),
            Passed::Unavailable(_) => "unavailable".into(),
            Passed::TurnedAway { status, body } => {
                let body: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(body["jsonrpc"], "2.0");
                let code = body["error"]["data"]["code"].as_str().unwrap_or_default();
                format!("{} {code}", status.as_u16()).trim().to_owned()
            }
        }
    }

    async fn evaluates(&self, authorization: Option<&str>, dispatch: &str, arguments: &Value) -> Evaluated {
        let question = json!({
            "subject": { "type": "dispatch", "id": dispatch }, "action": { "name": "tools/call" },
            "resource": { "type": "tool", "id": "mail__send" }, "context": { "arguments": arguments },
        });
        self.decisions.evaluates(authorization, question.to_string().as_bytes()).await
    }

    /// The refusals in the ledger.
    fn refused(&self) -> Vec<ToolRefused> {
        let messages = self.log.messages();
        let read = messages.iter().flat_map(|stored| Recorded::read(stored).unwrap());
        let refused = |one: Recorded| match one.event {
            Some(LedgerEvent::Effect(EffectEvent::ToolRefused(refused))) => Some(refused),
            _ => None,
        };
        read.filter_map(refused).collect()
    }

    /// The document of the tool is another one from here on.
    fn offer(&self, change: &Value) {
        // Of another length, because that is what tells the book.
        let mut text = document(change).to_string();
        text.push('\n');
        std::fs::write(document_path(&self.tools_folder, "mail__send"), text).unwrap();
    }
}

fn granted() -> Grant {
    let golden = include_str!("../../../../contracts/grant.v1/golden/Grant.minimal.json");
    let mut grant: Value = serde_json::from_str(golden).unwrap();
    grant["id"] = json!("g-1");
    grant["tools"] = json!(["mail__send"]);
    grant["not_before"] = json!(UnixMillis(NOW - 1_000).rfc3339());
    grant["expires"] = json!(UnixMillis(NOW + 3_600_000).rfc3339());
    serde_json::from_value(grant).unwrap()
}

fn dispatch(grant_seq: u64) -> DispatchAdmitted {
    let mut admitted = admitted("d-1", "s-1");
    admitted.unit.tools = vec!["mail__send".into()];
    admitted.grant = GrantCheck::Checked(GrantUse { id: granted().id, seq: grant_seq });
    admitted
}

#[derive(Debug)]
struct Request {
    authorization: Option<String>,
    audience: &'static str,
    method: &'static str,
    body: String,
}

fn call(name: &str, arguments: &Value, key: &str) -> String {
    let params = json!({ "name": name, "arguments": arguments, "_meta": { "custody/idempotency-key": key } });
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params }).to_string()
}

/// The honest request of the first call.
fn honest(stand: &Stand) -> Request {
    let key = format!("d-1-t1:{}", &stand.named()[7..23]);
    let body = call("send", &args(), &key);
    Request { authorization: Some(stand.token(&json!({}))), audience: MAIL, method: "POST", body }
}

fn list() -> String {
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/list" }).to_string()
}

/// Each beside the honest call, which passes after it. What is refused under a good token is one event; what is no token
/// or no message is none.
#[rstest]
#[case::no_token(|r: &mut Request, _: &Stand| r.authorization = None, "401 TOKEN_MALFORMED", false)]
#[case::no_bearer(|r: &mut Request, s: &Stand| r.authorization = Some(s.token(&json!({})).replace("Bearer", "Basic")), "401 TOKEN_MALFORMED", false)]
#[case::two_tokens(|r: &mut Request, s: &Stand| r.authorization = Some([s.token(&json!({})), s.token(&json!({}))].join(",")), "401 TOKEN_MALFORMED", false)]
#[case::t02_changed(|r: &mut Request, s: &Stand| r.authorization = Some(s.token(&json!({})).replacen("eyJ", "eyK", 1)), "401 TOKEN_MALFORMED", false)]
#[case::t05_expired(|r: &mut Request, s: &Stand| r.authorization = Some(s.token(&json!({ "iat": NOW / 1_000 - 200, "nbf": NOW / 1_000 - 200, "exp": NOW / 1_000 - 80 }))), "401 TOKEN_EXPIRED", false)]
#[case::t07_another_audience(|r: &mut Request, s: &Stand| r.authorization = Some(s.token(&json!({ "aud": FILES }))), "401 TOKEN_AUDIENCE", false)]
#[case::t20_on_another_way(|r: &mut Request, _: &Stand| r.audience = FILES, "401 TOKEN_AUDIENCE", false)]
#[case::another_method(|r: &mut Request, _: &Stand| r.method = "DELETE", "405", false)]
#[case::t26_no_message(|r: &mut Request, _: &Stand| r.body = format!("[{}]", r.body), "400", false)]
#[case::t17_another_tool(|r: &mut Request, _: &Stand| r.body = call("drop", &args(), "k"), "200 TOOL_NOT_LISTED", true)]
#[case::t17_a_token_for_another_tool(|r: &mut Request, s: &Stand| r.authorization = Some(s.token(&json!({ "scope": "tool:mail__read" }))), "200 TOKEN_SCOPE", true)]
#[case::other_arguments(|r: &mut Request, _: &Stand| r.body = r.body.replace("bob@", "eve@"), "200 CALL_CHANGED", true)]
#[case::another_key(|r: &mut Request, _: &Stand| r.body = call("send", &args(), "d-1-t1:other"), "200 CALL_CHANGED", true)]
#[case::no_key(|r: &mut Request, _: &Stand| r.body = call("send", &args(), ""), "200 CALL_CHANGED", true)]
#[case::no_call_was_recorded(|r: &mut Request, s: &Stand| r.authorization = Some(s.token(&json!({ "txn": "d-1-t9" }))), "200 CALL_NOT_OPEN", true)]
#[case::a_token_for_no_call(|r: &mut Request, s: &Stand| r.authorization = Some(s.token(&json!({ "txn": null }))), "200 CALL_NOT_OPEN", true)]
#[case::another_question(|r: &mut Request, _: &Stand| r.body = r.body.replace("tools/call", "resources/read"), "200 METHOD_NOT_ALLOWED", true)]
#[case::a_call_that_wants_no_answer(|r: &mut Request, _: &Stand| r.body = r.body.replace("\"id\":7,", ""), "200 METHOD_NOT_ALLOWED", true)]
#[case::t27_in_two_spellings(|r: &mut Request, _: &Stand| r.body = r.body.replace("\"name\"", "\"Name\":\"drop\",\"name\""), "400", false)]
#[tokio::test]
async fn what_is_not_the_recorded_call_is_turned_away(
    #[case] change: fn(&mut Request, &Stand),
    #[case] expected: &str,
    #[case] recorded: bool,
) {
    let stand = Stand::new().await;
    let mut request = honest(&stand);
    change(&mut request, &stand);
    assert_eq!(stand.passes(&request).await, expected, "{request:?}");
    let refused = stand.refused();
    assert_eq!(refused.len(), usize::from(recorded), "{refused:?}");
    if let [one] = refused.as_slice() {
        assert_eq!(format!("200 {}", one.reason), expected);
        assert_eq!((one.n, one.count), (2, 1), "the next number of the dispatch");
    }
    assert_eq!(stand.passes(&honest(&stand)).await, "on");
}

#[tokio::test]
async fn a_call_that_was_recorded_before_persons_had_keys_passes_as_well() {
    let stand = Stand::new().await;
    let plain = digest(canonical(&args()).as_bytes());
    assert_ne!(plain, stand.named(), "a digest of sealed bytes tells nothing about the words");
    stand.intend_as(2, &plain).await;
    let mut request = honest(&stand);
    request.authorization = Some(stand.token(&json!({ "jti": "tk-of-the-second-call", "txn": "d-1-t2" })));
    let key = format!("d-1-t2:{}", &plain[7..23]);
    request.body = call("send", &json!({ "to": "eve@acme.test" }), &key);
    assert_eq!(stand.passes(&request).await, "200 CALL_CHANGED");
    request.body = call("send", &args(), &key);
    assert_eq!(stand.passes(&request).await, "on");
}

/// T12: the token and the message of a call, taken off the wire and sent again.
#[tokio::test]
async fn t12_a_call_passes_once() {
    let stand = Stand::new().await;
    assert_eq!(stand.passes(&honest(&stand)).await, "on");
    assert_eq!(stand.passes(&honest(&stand)).await, "200 CALL_REPLAYED");
    put(&stand.log, golden("ToolFinished", &json!({ "dispatch": "d-1", "n": 1 })), "d-1-t1").await;
    assert_eq!(stand.passes(&honest(&stand)).await, "200 CALL_NOT_OPEN");
    let lists = Request { body: list(), ..honest(&stand) };
    assert_eq!((stand.passes(&lists).await, stand.passes(&lists).await), ("on".into(), "on".into()));
}

/// T42, T18: what was taken back or has ended is felt by the very next question, also when the fold did not hear of it.
#[rstest]
#[case::revoked("GrantRevoked", json!({ "grant": "g-1" }), "g-1", "200 GRANT_REVOKED")]
#[case::ended("RunFinished", json!({ "dispatch": "d-1" }), "d-1", "200 TOKEN_DISPATCH_NOT_RUNNING")]
#[tokio::test]
async fn t42_what_stands_no_more_is_turned_away_at_once(
    #[case] shape: &str,
    #[case] of: Value,
    #[case] id: &str,
    #[case] expected: &str,
) {
    let stand = Stand::new().await;
    let lists = Request { body: list(), ..honest(&stand) };
    assert_eq!(stand.passes(&lists).await, "on");
    if shape == "RunFinished" {
        let from = json!({ "jti": "tk-of-the-dispatch-1", "dispatch": "d-1", "grant": "g-1" });
        put(&stand.log, golden("TokenIssued", &from), "tk-of-the-dispatch-1").await;
        let own = json!({ "jti": "tk-of-the-first-call", "typ": "at+jwt", "dispatch": "d-1", "grant": "g-1", "from": "tk-of-the-dispatch-1" });
        put(&stand.log, golden("TokenIssued", &own), "tk-of-the-first-call").await;
    }
    put(&stand.log, golden(shape, &of), id).await;
    assert_eq!(stand.passes(&lists).await, expected);
    assert_eq!(stand.passes(&honest(&stand)).await, expected);
    assert!(matches!(stand.evaluates(honest(&stand).authorization.as_deref(), "d-1", &args()).await,
        Evaluated::Decided(answer) if answer["decision"] == false && expected.ends_with(answer["context"]["code"].as_str().unwrap())));
}

/// What is offered otherwise now is judged as it is now.
#[tokio::test]
async fn a_tool_that_was_narrowed_meanwhile_is_judged_as_it_is() {
    let stand = Stand::new().await;
    stand.offer(&json!({ "constraints": [{ "on": "recipient", "argument": "/to", "allow": ["omar@acme.test"] }] }));
    assert_eq!(stand.passes(&honest(&stand)).await, "200 RECIPIENT_NOT_ALLOWED");
    stand.offer(&json!({ "grant": "gate" }));
    assert_eq!(stand.passes(&honest(&stand)).await, "200 APPROVAL_NEEDED");
    let refused = stand.refused();
    assert_eq!(refused[1].policy.as_ref().unwrap().rule, "tool-is-gated");
    stand.offer(&json!({}));
    assert_eq!(stand.passes(&honest(&stand)).await, "on");
}

/// T45: nobody passes when nobody can say, and a question ends.
#[rstest]
#[case::down(1)]
#[case::slow(2)]
#[tokio::test(start_paused = true)]
async fn t45_who_cannot_read_the_ledger_passes_nothing(#[case] mood: u8) {
    let stand = Stand::new().await;
    stand.mood.store(mood, Ordering::SeqCst);
    assert_eq!(stand.passes(&honest(&stand)).await, "unavailable");
    let authorization = honest(&stand).authorization;
    let asked = stand.evaluates(authorization.as_deref(), "d-1", &args()).await;
    assert!(matches!(asked, Evaluated::Unavailable(_)), "{asked:?}");
    stand.mood.store(0, Ordering::SeqCst);
    assert_eq!(stand.passes(&honest(&stand)).await, "on");
}

/// T43: who hears nothing of the ledger passes nothing.
#[tokio::test(start_paused = true)]
async fn t43_who_hears_nothing_of_the_ledger_passes_nothing() {
    let stand = Stand::new().await;
    tokio::time::advance(crate::grants::SILENCE_MAX + Duration::from_millis(1)).await;
    assert_eq!(stand.passes(&honest(&stand)).await, "200 REVOCATION_FEED_LOST");
}

#[tokio::test(start_paused = true)]
async fn there_is_room_for_so_many_questions_at_once() {
    let stand = Arc::new(Stand::new().await);
    stand.mood.store(2, Ordering::SeqCst);
    let asking: Vec<_> = (0..RUNNING_MAX)
        .map(|_| {
            let stand = stand.clone();
            tokio::spawn(async move { stand.passes(&honest(&stand)).await })
        })
        .collect();
    while stand.decisions.0.running.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    stand.mood.store(0, Ordering::SeqCst);
    assert_eq!(stand.passes(&honest(&stand)).await, "unavailable");
    for one in asking {
        assert_eq!(one.await.unwrap(), "unavailable");
    }
    assert_eq!(stand.passes(&honest(&stand)).await, "on");
}

#[tokio::test]
async fn a_message_has_a_largest_size() {
    let stand = Stand::new().await;
    let of = |len: usize| {
        let body = list().replace("\"id\":7", &format!("\"id\":\"{}\"", "x".repeat(len - list().len() - 1)));
        assert_eq!(body.len(), len);
        Request { body, ..honest(&stand) }
    };
    assert_eq!(stand.passes(&of(MESSAGE_BYTES_MAX)).await, "on");
    assert_eq!(stand.passes(&of(MESSAGE_BYTES_MAX + 1)).await, "413");
}

/// As many refusals as a minute has room for are written down, the others counted; and none closes a call that waits.
#[tokio::test]
async fn refusals_are_bounded_and_take_no_number_that_is_taken() {
    let stand = Stand::new().await;
    stand.intend(2).await;
    put(&stand.log, golden("ToolAwaiting", &json!({ "dispatch": "d-1", "n": 3 })), "d-1-t3").await;
    let bad = Request { body: honest(&stand).body.replace("bob@", "eve@"), ..honest(&stand) };
    for _ in 0..70 {
        assert_eq!(stand.passes(&bad).await, "200 CALL_CHANGED");
    }
    let numbers: Vec<u32> = stand.refused().iter().map(|one| one.n).collect();
    assert_eq!(numbers, (4..64).collect::<Vec<_>>());
    stand.clock.advance(60_000);
    stand.passes(&bad).await;
    assert_eq!(stand.refused().last().map(|one| one.count), Some(11));
    assert_eq!(stand.passes(&honest(&stand)).await, "on");
}

/// AuthZEN: the same decision, and nothing follows from it.
#[tokio::test]
async fn an_evaluation_is_the_same_decision_and_changes_nothing() {
    let stand = Stand::new().await;
    let own = honest(&stand).authorization;
    let told = |answer: Evaluated| match answer {
        Evaluated::Decided(answer) => {
            let context = &answer["context"];
            let word = context["code"].as_str().or_else(|| context["rule"].as_str()).unwrap();
            format!("{} {word}", answer["decision"])
        }
        Evaluated::Unauthenticated(code) => code.to_owned(),
        other => panic!("{other:?}"),
    };
    for _ in 0..2 {
        assert_eq!(told(stand.evaluates(own.as_deref(), "d-1", &args()).await), "true tool-of-the-unit");
    }
    assert_eq!(stand.refused(), []);
    let eve = json!({ "to": "eve@acme.test" });
    assert_eq!(told(stand.evaluates(own.as_deref(), "d-1", &eve).await), "false CALL_CHANGED");
    assert_eq!(told(stand.evaluates(own.as_deref(), "d-2", &args()).await), "false TOKEN_DISPATCH");
    assert_eq!(stand.refused().len(), 2, "refusals are events");
    assert_eq!(told(stand.evaluates(None, "d-1", &args()).await), "TOKEN_MALFORMED");
    let elsewhere = stand.token(&json!({ "aud": "https://evil.test/mcp" }));
    assert_eq!(told(stand.evaluates(Some(&elsewhere), "d-1", &args()).await), "TOKEN_AUDIENCE");
    // Before a call is begun: would it be let through?
    let before = stand.token(&json!({ "txn": null }));
    assert_eq!(told(stand.evaluates(Some(&before), "d-1", &eve).await), "true tool-of-the-unit");
    stand.offer(&json!({ "grant": "gate" }));
    assert_eq!(told(stand.evaluates(Some(&before), "d-1", &eve).await), "false APPROVAL_NEEDED");
    let unfit = stand.decisions.evaluates(own.as_deref(), b"{}").await;
    assert!(matches!(unfit, Evaluated::Unfit(_)), "{unfit:?}");
    stand.offer(&json!({}));
    assert_eq!(stand.passes(&honest(&stand)).await, "on", "no evaluation took the call");
}
