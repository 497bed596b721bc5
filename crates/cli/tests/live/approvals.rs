//! Calls that wait for a person, from end to end: an upstream server that counts what reaches it, a box that asks, persons
//! at the command line, and an installation that dies in between.

use crate::grants::{misbehave, post, socket};
use crate::peer::{Peer, tool};
use crate::stack::{LOOK, Options, Stack};
use custody_contracts::canonical::digest;
use rstest::rstest;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long a card may take from one state to the next.
const STATE_MAX: Duration = Duration::from_secs(60);

/// The tool, as its server says it: both texts must be there, and nothing else.
fn sends() -> Value {
    let mut tool = tool("send", "Sends a mail.", &["to", "text"]);
    tool["inputSchema"]["required"] = json!(["to", "text"]);
    tool["inputSchema"]["additionalProperties"] = json!(false);
    tool
}

/// An installation whose one upstream tool waits for a person, and a box that may call it in Jane's name.
struct Given {
    peer: Peer,
    stack: Stack,
    dispatch: String,
    grant: String,
}

async fn given(approval_ms: u64, env: &[(&str, &str)]) -> Given {
    let peer = Peer::start(sends()).await;
    let config = format!("[tools]\napproval_ms = {approval_ms}\n[tools.servers.mail]\nurl = {:?}\n", peer.url);
    let mut stack = Stack::prepared(Options { config: Some(config), ..Options::default() });
    let document = json!({
        "name": "mail__send", "scope": "mail:send", "grant": "gate", "transport": "mcp", "mcp_server": "mail",
        "barriers": [], "effect": "irreversible", "idempotent": false, "constraints": [],
    });
    let file = stack.home().join("mail-send.json");
    std::fs::write(&file, document.to_string()).unwrap();
    stack.up(env).await;
    stack.ok(&["tool", "add", file.to_str().unwrap()]).await;
    stack.ok(&["tool", "accept", "mail__send"]).await;
    let grant = stack.grant("u_jane", "cli", &["--tool", "mail__send"]).await;
    let dispatch = stack.launch(&misbehave("silent", &["--as", "u_jane", "--tool", "mail__send"])).await;
    stack.running(&dispatch).await;
    Given { peer, stack, dispatch, grant }
}

fn mail(text: &str) -> Value {
    json!({ "to": "bob@acme.test", "text": text })
}

async fn send(socket: &Path, args: &Value) -> Value {
    let params = json!({ "name": "mail__send", "arguments": args });
    post(socket, "/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).await
}

impl Given {
    /// Calls the tool as the agent does, and gives back the card.
    async fn proposed(&self, text: &str) -> String {
        let answer = send(&socket(&self.stack, &self.dispatch), &mail(text)).await;
        let told = &answer["result"]["structuredContent"];
        assert_eq!(told["status"], "pending", "{answer}");
        told["card"].as_str().unwrap().to_owned()
    }

    /// The card's row once it is in a state.
    async fn card(&self, card: &str, state: &str) -> Value {
        let operator = self.stack.operator().await;
        let until = Instant::now() + STATE_MAX;
        loop {
            let answer = operator.ask("query.inbox.get", &json!({ "id": card })).await;
            let row = &answer["ok"]["row"];
            if row["state"] == state {
                return row.clone();
            }
            assert!(Instant::now() < until, "{card} is never {state}: {answer}\n{}", self.stack.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The digest that a card names its arguments by, once that is not `before`.
    async fn shown(&self, card: &str, before: &str) -> String {
        let operator = self.stack.operator().await;
        let until = Instant::now() + STATE_MAX;
        loop {
            let answer = operator.ask("query.inbox.get", &json!({ "id": card })).await;
            if let Some(digest) = answer["ok"]["row"]["args_digest"].as_str().filter(|digest| *digest != before) {
                return digest.to_owned();
            }
            assert!(Instant::now() < until, "{card} shows nothing else: {answer}\n{}", self.stack.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn decide(&self, arguments: &[&str], code: i32) -> String {
        self.stack.custody(&[&["inbox"], arguments].concat()).await.ended(code).err
    }

    async fn end(self) {
        // Its box may have ended while nobody was there to feed it.
        let killed = self.stack.custody(&["dispatch", "kill", &self.dispatch]).await;
        assert!(killed.code == Some(0) || killed.err.contains("ALREADY_ENDED"), "{killed:?}");
        self.stack.ended(&self.dispatch).await;
        self.stack.no_container_left().await;
        self.stack.nothing_is_wrong().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_call_waits_as_a_card_and_an_approval_makes_exactly_what_was_shown_once() {
    let given = given(600_000, &[]).await;
    let stack = &given.stack;
    let card = given.proposed("The figure is 4.2 M.").await;
    let first = given.shown(&card, "").await;

    // What is shown is what would be done, under the digest of it.
    let listed = stack.ok(&["inbox", "ls", "-o", "json"]).await.json();
    assert_eq!((&listed[0]["card"], &listed[0]["state"]), (&json!(card), &json!("waiting")), "{listed}");
    let shown = stack.ok(&["inbox", "show", &card, "-o", "json"]).await.json();
    assert_eq!((&shown["args"], &shown["row"]["args_digest"]), (&mail("The figure is 4.2 M."), &json!(first)));
    custody_contracts::catalogue::check("proactive-card.v1", "Card", &shown["card"]).unwrap();
    let text = stack.ok(&["inbox", "show", &card]).await.out;
    assert!(text.contains("rule tool-is-gated") && text.contains(&first) && text.contains("The figure is 4.2 M."));
    assert!(stack.ok(&["inbox", "next", "--as", "u_jane"]).await.out.contains(&card));
    assert!(stack.ok(&["inbox", "next", "--as", "u_eve"]).await.err.contains("nothing waits for u_eve"));

    // Neither somebody else, nor for something else, nor unseen.
    let said = given.decide(&["approve", &card, "--as", "u_eve", "--digest", &first], 5).await;
    assert!(said.contains("[APPROVAL_NOT_YOURS]"), "{said}");
    let other = digest(b"Something else.");
    let said = given.decide(&["approve", &card, "--as", "u_jane", "--digest", &other], 6).await;
    assert!(said.contains("[APPROVAL_STALE]"), "{said}");
    let said = given.decide(&["approve", &card, "--as", "u_jane"], 2).await;
    assert!(said.contains("[CONFIRMATION_NEEDED]") && said.contains(&first), "{said}");

    // Put off and edited; what was approved before the edit is no approval of it.
    given.decide(&["defer", &card, "--as", "u_jane", "--until", "1m"], 0).await;
    assert!(stack.ok(&["inbox", "next", "--as", "u_jane"]).await.err.contains("nothing waits"));
    let edited = mail("The figure is 4.3 M.");
    let file = stack.home().join("edited.json");
    std::fs::write(&file, edited.to_string()).unwrap();
    given.decide(&["edit", &card, "--as", "u_jane", "--args", file.to_str().unwrap()], 0).await;
    let said = given.decide(&["approve", &card, "--as", "u_jane", "--digest", &first], 6).await;
    assert!(said.contains("[APPROVAL_STALE]"), "{said}");
    assert_eq!(given.peer.sent(), Vec::<Value>::new());
    let second = given.shown(&card, &first).await;
    given.decide(&["approve", &card, "--as", "u_jane", "--digest", &second], 0).await;
    given.card(&card, "succeeded").await;
    assert_eq!(given.peer.sent(), std::slice::from_ref(&edited));

    // A second decision: the same one is no new one, another one comes too late.
    let said = given.decide(&["approve", &card, "--as", "u_jane", "--digest", &second], 0).await;
    assert!(said.contains("was decided so before"), "{said}");
    let said = given.decide(&["reject", &card, "--as", "u_jane", "--reason", "No."], 6).await;
    assert!(said.contains("[APPROVAL_DECIDED]"), "{said}");
    // The agent's same call again is answered from the record.
    let again = send(&socket(stack, &given.dispatch), &mail("The figure is 4.2 M.")).await;
    assert_eq!(again["result"]["content"][0]["text"], "sent", "{again}");
    assert_eq!(given.peer.sent().len(), 1);

    let events = stack.events_of(&given.dispatch).await;
    let intent = events.iter().find(|e| e.kind == "effect.tool_intended").unwrap();
    let approved = (&intent.data["args_digest"], &intent.data["approval"]["by"], &intent.data["approval"]["version"]);
    assert_eq!(approved, (&json!(second), &json!("u_jane"), &json!(2)));
    let why = stack.ok(&["audit", "why", &intent.seq.to_string()]).await.out;
    assert!(why.contains("approved by") && why.contains("u_jane") && why.contains(&second), "{why}");
    given.end().await;
}

/// Dead between a decision and its effect: begun by nobody it is done once after the restart; begun, it is in doubt and says
/// so, and nobody does it again.
#[rstest]
#[case::before_it_was_begun("gw.before_release", "succeeded", 1)]
#[case::begun_and_not_called("gw.after_tool_intent", "in_doubt", 0)]
#[case::called_and_not_recorded("gw.after_tool_call", "in_doubt", 1)]
#[tokio::test(flavor = "multi_thread")]
async fn a_death_after_the_decision_is_made_good_or_ends_in_doubt(
    #[case] point: &str,
    #[case] state: &str,
    #[case] calls: usize,
) {
    let mut given = given(600_000, &[("CUSTODY_CRASH_AT", point)]).await;
    let card = given.proposed("Once.").await;
    // Whether the answer still comes is a matter of who is quicker.
    let digest = given.shown(&card, "").await;
    given.stack.custody(&["inbox", "approve", &card, "--as", "u_jane", "--digest", &digest]).await;
    let status = given.stack.died(Duration::from_secs(60)).await;
    assert_eq!(status.signal(), Some(6), "{status}: {}", given.stack.log());
    assert!(given.stack.log().contains(point), "{}", given.stack.log());

    given.stack.up(&[]).await;
    given.card(&card, state).await;
    // And once more: what ended stays ended.
    given.stack.stop().await;
    given.stack.up(&[]).await;
    given.card(&card, state).await;
    assert_eq!(given.peer.sent(), vec![mail("Once."); calls]);
    given.end().await;
}

/// Dead after the card was written and before the agent was told: the same call again is the same card.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_after_the_card_leaves_one_card() {
    let mut given = given(600_000, &[("CUSTODY_CRASH_AT", "gw.after_card")]).await;
    let (at, args) = (socket(&given.stack, &given.dispatch), mail("Once."));
    // Nobody answers it.
    tokio::spawn(async move { send(&at, &args).await });
    let status = given.stack.died(Duration::from_secs(60)).await;
    assert_eq!(status.signal(), Some(6), "{status}: {}", given.stack.log());
    given.stack.up(&[]).await;
    given.stack.running(&given.dispatch).await;
    let at = socket(&given.stack, &given.dispatch);
    let until = Instant::now() + STATE_MAX;
    while tokio::net::UnixStream::connect(&at).await.is_err() {
        assert!(Instant::now() < until, "the socket is not opened again: {}", given.stack.log());
        tokio::time::sleep(LOOK).await;
    }
    let card = given.proposed("Once.").await;
    assert_eq!(card, format!("{}-t1", given.dispatch));
    let shown = given.shown(&card, "").await;
    given.decide(&["approve", &card, "--as", "u_jane", "--digest", &shown], 0).await;
    given.card(&card, "succeeded").await;
    assert_eq!(given.peer.sent(), [mail("Once.")]);
    given.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_expires_or_lost_its_grant_is_never_made() {
    let given = given(15_000, &[]).await;
    let (rejected, expires) = (given.proposed("Rejected.").await, given.proposed("Expires.").await);
    given.decide(&["reject", &rejected, "--as", "u_jane", "--reason", "Wrong addressee."], 0).await;
    assert_eq!(given.card(&rejected, "rejected").await["reason"], "Wrong addressee.");
    let shown = given.shown(&rejected, "").await;
    let said = given.decide(&["approve", &rejected, "--as", "u_jane", "--digest", &shown], 6).await;
    assert!(said.contains("[APPROVAL_DECIDED]"), "{said}");
    given.card(&expires, "expired").await;
    let shown = given.shown(&expires, "").await;
    let said = given.decide(&["approve", &expires, "--as", "u_jane", "--digest", &shown], 6).await;
    assert!(said.contains("[APPROVAL_EXPIRED]"), "{said}");
    let again = send(&socket(&given.stack, &given.dispatch), &mail("Expires.")).await;
    assert_eq!(again["error"]["data"]["code"], "APPROVAL_EXPIRED", "{again}");

    // What was granted when it was proposed is asked for again when it is approved.
    let revoked = given.proposed("Revoked.").await;
    given.stack.ok(&["grant", "revoke", &given.grant, "--why", "enough"]).await;
    given.stack.ended(&given.dispatch).await;
    let shown = given.shown(&revoked, "").await;
    given.decide(&["approve", &revoked, "--as", "u_jane", "--digest", &shown], 0).await;
    assert_eq!(given.card(&revoked, "refused").await["reason"], "GRANT_REVOKED");
    assert_eq!(given.peer.sent(), Vec::<Value>::new());
    given.stack.no_container_left().await;
    given.stack.nothing_is_wrong().await;
}
