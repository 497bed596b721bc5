//! Grants at the authority: attacks of the design, each beside the honest launch, and what a revocation sets off.

use super::tests::{Given, NOW, PUBLIC, ask, data, given, grant, launched, message, register, register_workspace};
use crate::grants::{Grants, PROBE_EVERY, SILENCE_MAX};
use custody_contracts::canonical::canonical;
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_contracts::ids::UnixMillis;
use custody_contracts::messages::{Reply, ReplyOutcome};
use custody_domain::grant::Grants as Rule;
use custody_ledger::handle::fold;
use custody_ledger::{Append, AppendError, Entity, Log, LogError, MemoryLog, Seq, Stored};
use custody_ports::clock::Clock;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use rstest::rstest;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

async fn decided(given: &Given, seq: u64, bytes: Vec<u8>) -> Reply {
    given.admission.decide(&launched(seq, bytes)).await.unwrap().unwrap().reply
}

fn changed(id: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut event: Value = serde_json::from_slice(&message(id, "hello")).unwrap();
    change(&mut event);
    canonical(&event).into_bytes()
}

fn revoke() -> Value {
    json!({ "grant": "g-1", "by": "u_jane", "why": "the phone was lost" })
}

#[tokio::test]
async fn t11_a_launch_that_is_replayed_uses_its_grant_once() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    ask(&given.commands, "grant.revoke", revoke()).await.unwrap();
    let once = [("/id", json!("g-2")), ("/limits/dispatches", json!(1))];
    grant(&given.commands, "web", &once).await.unwrap();
    let first = decided(&given, 1, message("m-1", "hello")).await;
    assert_eq!(first.outcome, ReplyOutcome::Admitted, "{first:?}");
    for seq in 2..5 {
        assert_eq!(decided(&given, seq, message("m-1", "hello")).await, first, "the same one");
    }
    let other = decided(&given, 5, message("m-2", "hello")).await;
    assert_eq!(other.reason.as_deref(), Some("GRANT_WINDOW"));
    assert_eq!(data(&given.log, "custody.dispatch.admitted.v1").len(), 1);
}

#[rstest]
#[case::a_tool(|e: &mut Value| e["data"]["tools"] = json!(["workspace_read"]), "GRANT_TOOL")]
#[case::a_mode(|e: &mut Value| e["data"]["workspaces"][0]["mode"] = json!("rw"), "GRANT_MODE")]
#[case::a_workspace(|e: &mut Value| e["data"]["workspaces"][0]["id"] = json!("notes"), "GRANT_WORKSPACE")]
#[case::a_trigger(|e: &mut Value| e["data"]["trigger"] = json!("event"), "GRANT_TRIGGER")]
#[tokio::test]
async fn t17_more_than_is_granted_is_refused_and_recorded(#[case] change: fn(&mut Value), #[case] code: &str) {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    register_workspace(&given.commands, "notes", "u_jane").await.unwrap();
    let honest = decided(&given, 1, message("m-1", "hello")).await;
    assert_eq!(honest.outcome, ReplyOutcome::Admitted, "{honest:?}");
    let refused = decided(&given, 2, changed("m-2", change)).await;
    assert_eq!(refused.reason.as_deref(), Some(code), "{refused:?}");
    assert!(refused.hint.unwrap().contains("custody grant issue --as u_jane --launcher web"));
    assert_eq!(data(&given.log, "custody.dispatch.refused.v1").len(), 1);
}

#[tokio::test]
async fn t18_a_right_that_was_lost_since_is_not_granted_any_more() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let document = json!({ "id": "shared", "bucket": "file:///b", "mode": "rw", "encryption": { "scheme": "none" }, "purpose": "p", "trunk": "main" });
    let share =
        |members: Value| json!({ "workspace": document, "owner": "u_omar", "members": members, "by": "u_omar" });
    ask(&given.commands, "workspace.register", share(json!([{ "subject": "u_jane", "mode": "ro" }]))).await.unwrap();
    let on = [("/id", json!("g-2")), ("/workspaces/0/id", json!("shared"))];
    grant(&given.commands, "web", &on).await.unwrap();
    let asked = |id: &str| changed(id, |e| e["data"]["workspaces"][0]["id"] = json!("shared"));
    assert_eq!(decided(&given, 1, asked("m-1")).await.outcome, ReplyOutcome::Admitted);
    ask(&given.commands, "workspace.register", share(json!([]))).await.unwrap();
    assert_eq!(decided(&given, 2, asked("m-2")).await.reason.as_deref(), Some("WORKSPACE_FORBIDDEN"));
    // And nobody grants what they have not.
    let again = [("/id", json!("g-3")), ("/workspaces/0/id", json!("shared"))];
    assert_eq!(grant(&given.commands, "web", &again).await.unwrap_err().code, "WORKSPACE_FORBIDDEN");
    let refused = data(&given.log, "custody.grant.refused.v1");
    assert_eq!(refused[0]["reason"], "WORKSPACE_FORBIDDEN", "{refused:?}");
}

#[tokio::test]
async fn t19_a_launcher_cannot_use_the_grant_of_another() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let mail = json!({ "launcher": "mail", "public_key": "UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN", "name": "m", "signature": "optional", "subjects": ["u_jane"], "by": "t" });
    ask(&given.commands, "launcher.register", mail).await.unwrap();
    // Under its own name it has none; under the web chat's name it is not the web chat.
    for (named, code) in [("user:mail", "GRANT_MISSING"), ("user:web", "LAUNCHER_MISMATCH")] {
        let mut launch = launched(1, changed(named, |e| e["data"]["identity"]["launcher"] = json!(named)));
        launch.launcher = "mail".into();
        let reply = given.admission.decide(&launch).await.unwrap().unwrap().reply;
        assert_eq!(reply.reason.as_deref(), Some(code), "{reply:?}");
    }
    // A key that the person did not grant is another launcher, whatever it is called.
    let other =
        [("/id", json!("g-2")), ("/launcher_key", json!("UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN"))];
    assert_eq!(grant(&given.commands, "web", &other).await.unwrap_err().code, "GRANT_KEY");
    let honest = decided(&given, 9, message("m-9", "hello")).await;
    assert_eq!(honest.outcome, ReplyOutcome::Admitted, "{honest:?}");
}

#[tokio::test]
async fn t22_what_a_message_says_of_its_launcher_decides_nothing() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let said = changed("m-1", |e| {
        e["source"] = json!("launcher/somebody");
        e["launcher"] = json!("somebody");
    });
    let reply = decided(&given, 1, said).await;
    assert_eq!((reply.outcome, reply.launcher.as_str()), (ReplyOutcome::Admitted, "web"), "{reply:?}");
    let mut launch = launched(2, message("m-2", "hello"));
    launch.launcher = "nobody".into();
    let reply = given.admission.decide(&launch).await.unwrap().unwrap().reply;
    assert_eq!(reply.reason.as_deref(), Some("LAUNCHER_UNKNOWN"), "the account says who it is");
}

#[tokio::test]
async fn t42_a_revoked_grant_admits_nothing_and_stops_what_runs() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let child = json!({
        "wanted": wanted(&[("/id", json!("g-2")), ("/limits/dispatches", json!(5))]), "method": "operator", "by": "t",
        "parent": "g-1",
    });
    ask(&given.commands, "grant.issue", child).await.unwrap();
    let mut running = Vec::new();
    for n in 0..10 {
        running.push(decided(&given, n + 1, message(&format!("m-{n}"), "hello")).await.dispatch);
    }
    given.log.messages().iter().for_each(|stored| given.commands.grants.grants.learn(stored));
    let cancel = CancellationToken::new();
    let reacting = tokio::spawn(given.commands.grants.clone().end_fallen(cancel.clone()));
    ask(&given.commands, "grant.revoke", revoke()).await.unwrap();
    assert_eq!(ask(&given.commands, "grant.revoke", revoke()).await.unwrap()["changed"], false, "taken back once");
    let refused = decided(&given, 50, message("m-50", "hello")).await;
    assert_eq!(refused.reason.as_deref(), Some("GRANT_REVOKED"), "{refused:?}");
    while data(&given.log, "custody.dispatch.stop_requested.v1").len() < running.len() {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    reacting.await.unwrap();
    let stops = data(&given.log, "custody.dispatch.stop_requested.v1");
    assert_eq!(stops.len(), running.len(), "each one once");
    for stop in &stops {
        assert_eq!((stop["reason"].as_str(), stop["grace_ms"].as_u64()), (Some("revoked"), Some(500)), "{stop}");
        assert_eq!(stop["by"], "grant:g-1/GRANT_REVOKED");
    }
}

#[tokio::test]
async fn no_launch_is_admitted_between_a_revocation_and_its_record() {
    let given = Arc::new(given().await);
    register(&given.commands, "web").await.unwrap();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..60u64 {
        let given = given.clone();
        all.spawn(async move {
            if n == 30 {
                ask(&given.commands, "grant.revoke", revoke()).await.unwrap();
            } else {
                decided(&given, n + 1, message(&format!("m-{n}"), "hello")).await;
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    let mut revoked = false;
    for stored in given.log.messages() {
        for one in crate::follow::read_or_note(&stored) {
            match one.event {
                Some(LedgerEvent::Grant(custody_contracts::grant::GrantEvent::Revoked(_))) => revoked = true,
                Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                    assert!(!revoked, "{} came after", e.dispatch)
                }
                _ => {}
            }
        }
    }
    assert!(revoked);
}

fn wanted(changes: &[(&str, Value)]) -> Value {
    let mut wanted = json!({
        "id": "g-1", "subject": "u_jane", "launcher": "user:web", "launcher_key": PUBLIC, "tools": [],
        "workspaces": [{ "id": "default", "mode": "ro" }], "trigger": { "on": ["message"] }, "constraints": [],
        "limits": { "dispatches": 100_000, "window_ms": 86_400_000 }, "approval": { "rule": "gated" },
        "not_before": UnixMillis(NOW).rfc3339(), "expires": UnixMillis(NOW + 86_400_000).rfc3339(),
    });
    for (pointer, change) in changes {
        *wanted.pointer_mut(pointer).unwrap() = change.clone();
    }
    wanted
}

#[tokio::test]
async fn a_grant_is_given_once_signed_and_kept_as_it_was() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    assert_eq!(
        grant(&given.commands, "web", &[]).await.unwrap()["changed"],
        false,
        "the same terms are the same grant"
    );
    let other = grant(&given.commands, "web", &[("/limits/dispatches", json!(7))]).await;
    assert_eq!(other.unwrap_err().code, "GRANT_REFUSED", "a grant never changes");
    let unseen = json!({ "wanted": wanted(&[("/id", json!("g-9"))]), "method": "operator", "by": "t" });
    assert_eq!(ask(&given.commands, "grant.issue", unseen).await.unwrap_err().code, "CONSENT_STATEMENT");
    let entity = Entity::new(custody_contracts::events::Kind::Grant, "g-1").unwrap();
    let state = fold::<Rule>(&entity, &given.log.load(&entity).await.unwrap()).unwrap();
    let issued = state.issued().unwrap();
    let mut verifier = custody_trust::verify::Verifier::new(&[], None);
    given.log.messages().iter().for_each(|stored| verifier.push(stored).unwrap());
    assert_eq!(custody_trust::grant::prove(verifier.ring(), issued), Ok(()));
    assert_eq!(verifier.finish().unwrap().grants, 1);
}

#[tokio::test]
async fn what_is_asked_for_lets_nobody_do_anything_until_it_is_given() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    ask(&given.commands, "grant.revoke", revoke()).await.unwrap();
    let terms = wanted(&[("/id", json!("g-2"))]);
    let request = json!({ "wanted": terms, "by": "u_omar", "why": "the brief" });
    ask(&given.commands, "grant.request", request).await.unwrap();
    assert_eq!(decided(&given, 1, message("m-1", "hello")).await.reason.as_deref(), Some("GRANT_REVOKED"));
    let words = custody_domain::grant::statement(&serde_json::from_value(terms).unwrap());
    let shown = custody_contracts::canonical::digest(words.as_bytes());
    let give = json!({ "request": "g-2", "method": "operator", "by": "u_jane", "statement_digest": shown });
    ask(&given.commands, "grant.issue", give).await.unwrap();
    assert_eq!(decided(&given, 2, message("m-2", "hello")).await.outcome, ReplyOutcome::Admitted);
}

/// A log whose server goes on answering while its messages arrive no more, that answers nothing at all, or that says
/// something else of where it ends.
struct Deaf {
    log: MemoryLog,
    tail: Arc<AtomicBool>,
    dead: Arc<AtomicBool>,
    says: Arc<Mutex<Option<Result<Seq, LogError>>>>,
}

impl Log for Deaf {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Seq, AppendError>> {
        self.log.append(append)
    }
    fn load<'a>(&'a self, entity: &'a Entity) -> BoxFuture<'a, Result<Vec<Stored>, LogError>> {
        self.log.load(entity)
    }
    fn read(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        self.log.read(from)
    }
    fn tail(&self, from: Seq) -> BoxFuture<'_, Result<BoxStream<'static, Result<Stored, LogError>>, LogError>> {
        let cut = self.tail.clone();
        Box::pin(async move {
            let tail = self.log.tail(from).await?;
            let open = tail.filter_map(move |one| {
                let cut = cut.load(Ordering::SeqCst);
                async move { (!cut).then_some(one) }
            });
            Ok(open.boxed())
        })
    }
    fn last_seq(&self) -> BoxFuture<'_, Result<Seq, LogError>> {
        if self.dead.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        if let Some(says) = self.says.lock().unwrap().clone() {
            return Box::pin(std::future::ready(says));
        }
        self.log.last_seq()
    }
}

/// T43. Time is the runtime's, paused: the ten seconds are exact.
#[tokio::test(start_paused = true)]
async fn who_hears_nothing_of_the_ledger_calls_no_tool() {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    let (tail, dead) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let log: Arc<dyn Log> =
        Arc::new(Deaf { log: given.log.clone(), tail: tail.clone(), dead: dead.clone(), says: Arc::default() });
    let (grants, cancel) = (Grants::default(), CancellationToken::new());
    let folding = grants.clone();
    tokio::spawn(crate::follow::follow(log.clone(), Seq(0), cancel.clone(), move |stored| folding.take_in(&stored)));
    tokio::spawn(grants.clone().listen(log, cancel.clone()));
    let wait = async |time: Duration| {
        tokio::time::sleep(time).await;
        grants.hears()
    };
    // A quiet ledger is heard of.
    assert_eq!(wait(SILENCE_MAX * 6).await, Ok(()));
    // The server says that there is more, and it does not arrive.
    tail.store(true, Ordering::SeqCst);
    ask(&given.commands, "grant.revoke", revoke()).await.unwrap();
    assert_eq!(wait(SILENCE_MAX - PROBE_EVERY * 2).await, Ok(()));
    assert_eq!(wait(PROBE_EVERY * 3).await.unwrap_err().code, "REVOCATION_FEED_LOST");
    cancel.cancel();

    // The server says nothing; and when it does again, so is heard.
    let (tail, cancel) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
    let log: Arc<dyn Log> = Arc::new(Deaf { log: given.log.clone(), tail, dead: dead.clone(), says: Arc::default() });
    let grants = Grants::default();
    let folding = grants.clone();
    tokio::spawn(crate::follow::follow(log.clone(), Seq(0), cancel.clone(), move |stored| folding.take_in(&stored)));
    tokio::spawn(grants.clone().listen(log, cancel.clone()));
    tokio::time::sleep(PROBE_EVERY * 2).await;
    assert_eq!(grants.hears(), Ok(()));
    dead.store(true, Ordering::SeqCst);
    tokio::time::sleep(SILENCE_MAX + PROBE_EVERY).await;
    assert_eq!(grants.hears().unwrap_err().code, "REVOCATION_FEED_LOST");
    dead.store(false, Ordering::SeqCst);
    tokio::time::sleep(SILENCE_MAX).await;
    assert_eq!(grants.hears(), Ok(()));
    cancel.cancel();
}

/// T33: whoever may administer the server cuts, empties, takes back or removes the ledger under a gateway that has read it
/// already. Time is the runtime's, paused.
#[rstest]
#[case::its_head_was_cut(Err(LogError::Broken { seq: 1, why: "5 messages are left from 6 to 10".into() }), false)]
#[case::it_ends_earlier(Ok(Seq(1)), false)]
#[case::it_is_empty(Ok(Seq(0)), false)]
#[case::it_is_not_there(Err(LogError::Broken { seq: 0, why: "the stream does not exist".into() }), true)]
#[tokio::test(start_paused = true)]
async fn t33_a_ledger_that_is_not_whole_stops_every_tool_call_within_a_checkpoint(
    #[case] said: Result<Seq, LogError>,
    #[case] passes: bool,
) {
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    assert!(given.log.last_seq().await.unwrap() > Seq(1));
    let says: Arc<Mutex<Option<Result<Seq, LogError>>>> = Arc::default();
    let (tail, dead) = (Arc::default(), Arc::default());
    let log: Arc<dyn Log> = Arc::new(Deaf { log: given.log.clone(), tail, dead, says: says.clone() });
    let (grants, cancel) = (Grants::default(), CancellationToken::new());
    let folding = grants.clone();
    tokio::spawn(crate::follow::follow(log.clone(), Seq(0), cancel.clone(), move |stored| folding.take_in(&stored)));
    tokio::spawn(grants.clone().listen(log, cancel.clone()));
    let interval = crate::authority::notary::INTERVAL;
    let after = async |time: Duration| {
        tokio::time::sleep(time).await;
        grants.hears()
    };
    // The honest ledger beside it: whole, also when it is quiet, and when it grows.
    assert_eq!(after(SILENCE_MAX * 2).await, Ok(()));
    ask(&given.commands, "grant.revoke", revoke()).await.unwrap();
    assert_eq!(after(interval * 2).await, Ok(()));

    *says.lock().unwrap() = Some(said);
    let refused = after(interval + Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(refused.code, "LEDGER_BROKEN", "{refused:?}");
    // What says no more than before is no reason to go on; what is as long as it was may be, if nothing was seen to be gone.
    *says.lock().unwrap() = None;
    assert_eq!(after(interval * 3).await.is_ok(), passes);
    cancel.cancel();
}

/// T44: what ends by time ends also when the machine's clock is moved back to before it; beside it, the honest clock of a
/// moment before.
#[tokio::test]
async fn t44_a_clock_that_is_moved_back_keeps_no_grant_and_no_window_open() {
    const HOUR: u64 = 3_600_000;
    let given = given().await;
    register(&given.commands, "web").await.unwrap();
    ask(&given.commands, "grant.revoke", revoke()).await.unwrap();
    let few = json!({ "dispatches": 2, "window_ms": HOUR });
    let ends = json!(UnixMillis(NOW + 2 * HOUR).rfc3339());
    grant(&given.commands, "web", &[("/id", json!("g-2")), ("/limits", few), ("/expires", ends)]).await.unwrap();
    let asked = async |seq: u64, id: &str| decided(&given, seq, message(id, "hello")).await;

    // The window's two, the second of them at the next window's eve; then the clock is moved to before the first.
    assert_eq!(asked(1, "m-1").await.outcome, ReplyOutcome::Admitted);
    given.clock.advance(HOUR / 2);
    assert_eq!(asked(2, "m-2").await.outcome, ReplyOutcome::Admitted);
    given.clock.move_back(24 * HOUR);
    let full = asked(3, "m-3").await;
    assert_eq!(full.reason.as_deref(), Some("GRANT_WINDOW"), "{full:?}");
    // The next window is as long off as it was, whatever the machine says.
    given.clock.advance(HOUR);
    let next = asked(4, "m-4").await;
    assert_eq!(next.outcome, ReplyOutcome::Admitted, "{next:?}");

    // Half an hour before its end the grant stands; after it, under a clock of the day before, it does not.
    let admitted = data(&given.log, "custody.dispatch.admitted.v1").pop().unwrap();
    let admitted = serde_json::from_value(admitted).unwrap();
    let grants = &given.admission.grants;
    assert_eq!(grants.stands(&admitted, given.clock.now()), Ok(()));
    given.clock.advance(HOUR);
    given.clock.move_back(24 * HOUR);
    assert_eq!(grants.stands(&admitted, given.clock.now()).unwrap_err().code, "GRANT_EXPIRED");
    let late = asked(5, "m-5").await;
    assert_eq!(late.reason.as_deref(), Some("GRANT_EXPIRED"), "{late:?}");
}
