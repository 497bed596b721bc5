//! Who stands behind what was done: every effect of a busy run is explained down to the person, the launcher and the
//! grant, and none is left out.

use crate::grants::{misbehave, post, socket};
use crate::ledger::Event;
use crate::stack::{LOOK, Options, Stack, fresh};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long an effect may take to be recorded.
const RECORDED_MAX: Duration = Duration::from_secs(60);

async fn tool(socket: &Path, name: &str, args: &Value) -> Value {
    let params = json!({ "name": name, "arguments": args });
    post(socket, "/mcp", &json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).await
}

async fn model(socket: &Path) -> Value {
    let ask = json!({ "model": "m", "messages": [{ "role": "user", "content": "one two three" }] });
    post(socket, "/v1/chat/completions", &ask).await
}

/// The id of the effect that an event is of. Source: `EffectEvent::entity_id`.
fn effect_of(event: &Event) -> String {
    let (dispatch, n) = (event.data["dispatch"].as_str().unwrap(), &event.data["n"]);
    match event.kind.as_str() {
        "effect.model_called" => format!("{dispatch}-m{n}"),
        "effect.budget_warned" | "effect.budget_exhausted" => format!("{dispatch}-budget"),
        _ => format!("{dispatch}-t{n}"),
    }
}

/// Waits for an event of a dispatch.
async fn recorded(stack: &Stack, dispatch: &str, kind: &str) {
    let until = Instant::now() + RECORDED_MAX;
    while !stack.events_of(dispatch).await.iter().any(|e| e.kind == kind) {
        assert!(Instant::now() < until, "no {kind} of {dispatch}: {}", stack.log());
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_effect_of_a_busy_run_is_explained_down_to_person_launcher_and_grant() {
    let config = Some("[runtime]\nrunning_max = 4\n[budgets.subjects.u_eve]\ntokens = 5\n".to_owned());
    let stack = Stack::with(Options { config, ..Options::default() }).await;
    let tools = ["--tool", "workspace_list", "--tool", "card_propose"];
    stack.grant("u_jane", "cli", &tools).await;
    let omars = stack.grant("u_omar", "cli", &tools).await;
    stack.grant("u_eve", "cli", &[]).await;
    // A launcher of its own, with an agent that calls its model; and two persons at the command line.
    let web = stack.launcher("web").await;
    let reply = web.asked(web.signed(web.event(&fresh(), &crate::launcher::unit("web", "hello")))).await;
    assert_eq!(reply.reason, None);
    let of = |person| [&["--as", person], &tools[..]].concat();
    let jane = stack.launch(&misbehave("silent", &of("u_jane"))).await;
    let omar = stack.launch(&misbehave("silent", &of("u_omar"))).await;
    let eve = stack.launch(&misbehave("silent", &["--as", "u_eve"])).await;
    for dispatch in [&jane, &omar, &eve] {
        stack.running(dispatch).await;
    }
    let (janes, at_omars, eves) = (socket(&stack, &jane), socket(&stack, &omar), socket(&stack, &eve));
    // Calls of all at once: made, refused by the list, by a budget, and one that a person approves.
    let card = json!({ "title": "Reply to Bob", "body": "The figure is 4.2 M." });
    let busy = async |socket: &Path| {
        for _ in 0..5 {
            assert!(tool(socket, "workspace_list", &json!({})).await["result"].is_object());
            assert!(model(socket).await["choices"].is_array());
        }
        assert_eq!(tool(socket, "workspace_write", &json!({})).await["error"]["data"]["code"], "TOOL_NOT_LISTED");
    };
    let spent = async {
        assert!(model(&eves).await["choices"].is_array());
        recorded(&stack, &eve, "effect.budget_warned").await;
        assert_eq!(model(&eves).await["error"]["code"], "budget_exhausted");
    };
    let ((), (), ()) = tokio::join!(busy(&janes), busy(&at_omars), spent);
    let waits = tool(&janes, "card_propose", &card).await;
    let id = waits["result"]["structuredContent"]["card"].as_str().unwrap_or_else(|| panic!("{waits}"));
    recorded(&stack, &jane, "effect.tool_awaiting").await;
    let events = stack.events_of(&jane).await;
    let awaiting = events.iter().find(|e| e.kind == "effect.tool_awaiting").unwrap();
    let shown = awaiting.data["args_digest"].as_str().unwrap().to_owned();
    stack.ok(&["inbox", "approve", id, "--as", "u_jane", "--digest", &shown]).await;
    // What is refused after a revocation, each in its own event.
    stack.ok(&["grant", "revoke", &omars, "--why", "enough"]).await;
    let until = Instant::now() + RECORDED_MAX;
    while tool(&at_omars, "workspace_list", &json!({})).await["result"].is_object() {
        assert!(Instant::now() < until, "{}", stack.log());
    }
    stack.ok(&["dispatch", "kill", &jane]).await;
    for dispatch in [jane.as_str(), &omar, &eve, &reply.dispatch] {
        stack.ended(dispatch).await;
    }
    recorded(&stack, &jane, "effect.tool_awaiting").await;
    let made = async {
        while stack.events_of(&jane).await.iter().filter(|e| e.kind == "effect.tool_finished").count() < 6 {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(RECORDED_MAX, made).await.expect("what was approved is made");

    let ledger = stack.ledger().await;
    let kinds: BTreeSet<&str> = ledger.iter().map(|e| e.kind.as_str()).filter(|k| k.starts_with("effect.")).collect();
    assert_eq!(kinds.len(), 7, "every kind of effect is in this run: {kinds:?}");
    let admitted: BTreeMap<&str, &Event> = ledger
        .iter()
        .filter(|e| e.kind == "dispatch.admitted")
        .map(|e| (e.data["dispatch"].as_str().unwrap(), e))
        .collect();
    // Each effect, and the newest event of it.
    let mut effects: BTreeMap<String, &Event> = BTreeMap::new();
    for event in ledger.iter().filter(|e| e.kind.starts_with("effect.")) {
        effects.insert(effect_of(event), event);
    }
    assert!(effects.len() >= 24, "{:?}", effects.keys());
    let mut explained = BTreeSet::new();
    for (effect, event) in &effects {
        let why = stack.ok(&["audit", "why", effect, "-o", "json"]).await.json();
        assert_eq!(why["focus"], event.seq, "{effect}: {why}");
        let ladder = why["ladder"].as_array().unwrap();
        let rung = |what: &str| -> &str {
            let found = ladder.iter().find(|rung| rung["what"] == what);
            found.and_then(|rung| rung["text"].as_str()).unwrap_or_else(|| panic!("{effect} has no {what:?}: {why}"))
        };
        let data = &admitted[event.data["dispatch"].as_str().unwrap()].data;
        let (person, launcher) = (data["unit"]["identity"]["subject"].as_str(), data["launch"]["launcher"].as_str());
        let grant = data["grant"]["checked"]["id"].as_str().unwrap();
        assert!(rung("on behalf of").starts_with(&format!("{} (", person.unwrap())), "{effect}: {why}");
        assert!(rung("launched by").starts_with(&format!("{} (key ", launcher.unwrap())), "{effect}: {why}");
        let under = rung("under grant");
        assert!(under.starts_with(&format!("{grant} ({} → ", person.unwrap())) && under.contains("ws:default:rw"));
        // What it was done by, and for a call of a tool its own scope.
        let by = ladder.first().unwrap()["what"].as_str().unwrap();
        let scoped = ledger.iter().filter(|e| e.kind.starts_with("effect.tool") && effect_of(e) == *effect);
        let scope = scoped.filter_map(|e| e.data["scope"].as_str()).next().map(|scope| format!("under scope {scope}"));
        let first = ladder
            .iter()
            .find(|r| ["let through by", "refused by", "counted by"].contains(&r["what"].as_str().unwrap()));
        let text = first.unwrap_or_else(|| panic!("{effect}, {by}: {why}"))["text"].as_str().unwrap();
        assert!(scope.is_none_or(|scope| text.contains(&scope)), "{effect}: {why}");
        explained.insert(effect.clone());
    }
    // None is left out, and what was never done is not explained.
    assert_eq!(explained, ledger.iter().filter(|e| e.kind.starts_with("effect.")).map(effect_of).collect());
    let never = stack.custody(&["audit", "why", &format!("{jane}-t99")]).await;
    assert_ne!(never.code, Some(0), "{never:?}");
    stack.no_container_left().await;
    stack.nothing_is_wrong().await;
}
