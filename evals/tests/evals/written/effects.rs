//! What a dispatch did through its doors: model calls, tool calls, budgets.

use super::{Script, lie};
use crate::book::{Book, Ending, Ticket, container, sha};
use custody_contracts::events::{EffectEvent, Kind, LedgerEvent, SignatureRule, StopReason};
use serde_json::{Value, json};

pub(super) const TOOLS: Script = Script {
    id: "1-tool-call-recorded",
    write: tools,
    lies: &[
        lie("outcome-without-intent", "outcome-has-its-intent", "A tool call has an outcome, and nobody intended it."),
        lie("two-outcomes", "decision", "One tool call ended twice."),
        lie("unlisted-tool", "decision", "A tool was called that the unit does not name."),
        lie("another-scope", "decision", "The intent names a scope that is not the tool's."),
        lie("repeated-in-doubt", "doubt-is-final", "A call that ended in doubt was made again and ended well."),
    ],
};

pub(super) const BUDGET: Script = Script {
    id: "1-budget-stops",
    write: budget,
    lies: &[
        lie(
            "ended-without-the-event",
            "a-budget-end-has-its-event",
            "The dispatch ended for a budget of which nobody knows.",
        ),
        lie("budget-left", "decision", "The budget was told to be used up, and was not."),
        lie("warned-twice", "decision", "One budget warned twice in one dispatch."),
        lie("warned-too-early", "decision", "The warning came with most of the budget left."),
        lie("another-persons", "decision", "The end is attributed to another person."),
    ],
};

pub(super) const CALLS: Script = Script {
    id: "1-model-call-recorded",
    write: calls,
    lies: &[
        lie(
            "replay-that-spent",
            "a-replay-asks-nobody",
            "An answer from a recording was counted as tokens of a model.",
        ),
        lie("not-counted", "nothing-uncounted", "The gateway recorded a call that the run does not count."),
        lie("no-provider", "each-call-says-who-answered", "A call does not say who answered it."),
    ],
};

fn begun(book: &mut Book, name: &str, tools: &[&str]) -> (Ticket, String) {
    begun_by(book, name, tools, "message")
}

/// A dispatch that a trigger set off, and its container.
pub(super) fn begun_by(book: &mut Book, name: &str, tools: &[&str], trigger: &str) -> (Ticket, String) {
    let mut ask = book.ask("web-chat", name, "u_jane", json!({ "entrypoint": { "inline": "Look it up." } }));
    ask["data"]["tools"] = json!(tools);
    ask["data"]["trigger"] = json!(trigger);
    let launch = book.launch("web-chat", ask, 1);
    let ticket = book.decide(&launch);
    book.claim(&ticket, None);
    let id = container(name);
    book.start(&ticket, &id);
    (ticket, id)
}

pub(super) fn opened() -> Book {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane"]);
    book
}

/// An event of kind effect, from its data.
pub(super) fn effect(book: &mut Book, ticket: &Ticket, event: &str, mut data: Value) {
    book.tick(40);
    data["dispatch"] = json!(ticket.dispatch);
    let kind = format!("custody.effect.{event}.v1");
    let event = LedgerEvent::decode(&kind, &data.to_string()).expect("an event");
    let LedgerEvent::Effect(inner) = &event else { panic!("{kind} is no effect") };
    let id = EffectEvent::entity_id(inner);
    let meta = book.of_run(ticket);
    book.append(Kind::Effect, &id, event, meta);
}

fn intended(ticket: &Ticket, n: u32, tool: &str) -> Value {
    let args = sha(&format!("arguments {n}"));
    let (scope, does) =
        if tool == "workspace_write" { ("workspace:write", "write") } else { ("workspace:read", "read") };
    json!({
        "n": n, "tool": tool, "scope": scope, "effect": does, "args_digest": args, "input_trust": "trusted",
        "idempotency_key": format!("{}-t{n}:{}", ticket.dispatch, &args[7..23]),
    })
}

fn finished(n: u32) -> Value {
    json!({ "n": n, "phase": "succeeded", "result_digest": sha(&format!("result {n}")), "result_bytes": 12, "duration_ms": 3 })
}

fn tools(lie: &str) -> Book {
    let mut book = opened();
    let (ticket, id) = begun(&mut book, "m-01", &["workspace_read", "workspace_write"]);
    if lie != "outcome-without-intent" {
        let tool = if lie == "unlisted-tool" { "workspace_list" } else { "workspace_read" };
        let mut first = intended(&ticket, 1, tool);
        if lie == "another-scope" {
            first["scope"] = json!("workspace:write");
        }
        effect(&mut book, &ticket, "tool_intended", first);
    }
    effect(&mut book, &ticket, "tool_finished", finished(1));
    if lie == "two-outcomes" {
        effect(&mut book, &ticket, "tool_finished", finished(1));
    }
    effect(&mut book, &ticket, "tool_intended", intended(&ticket, 2, "workspace_write"));
    let doubt = json!({ "n": 2, "phase": "in_doubt", "reason": "GATEWAY_RESTARTED", "duration_ms": 0 });
    effect(&mut book, &ticket, "tool_finished", doubt);
    if lie == "repeated-in-doubt" {
        effect(&mut book, &ticket, "tool_finished", finished(2));
    }
    let detail = "this dispatch has no tool \"mail.send\"";
    let refused = json!({ "n": 3, "tool": "mail.send", "reason": "TOOL_NOT_LISTED", "detail": detail, "count": 1 });
    effect(&mut book, &ticket, "tool_refused", refused);
    let flood = "9000 calls came faster than 50 a second";
    let flood = json!({ "n": 4, "reason": "RATE_LIMITED", "detail": flood, "count": 9000 });
    effect(&mut book, &ticket, "tool_refused", flood);
    book.call(&ticket, 1);
    book.finish(&ticket, Ending::completed(&id, "a session", 1));
    book.checkpoint();
    book
}

fn budget(lie: &str) -> Book {
    let mut book = opened();
    let (ticket, id) = begun(&mut book, "m-01", &[]);
    let of = |used: u64| json!({ "scope": "subject", "measure": "tokens", "used": used, "limit": 240, "window_ms": 86_400_000 });
    book.call(&ticket, 1);
    effect(&mut book, &ticket, "budget_warned", of(if lie == "warned-too-early" { 120 } else { 200 }));
    if lie == "warned-twice" {
        effect(&mut book, &ticket, "budget_warned", of(220));
    }
    book.call(&ticket, 2);
    if lie != "ended-without-the-event" {
        let mut theirs = ticket.clone();
        if lie == "another-persons" {
            let admitted = theirs.admitted.as_mut().expect("admitted");
            admitted.unit.identity.subject = serde_json::from_value(json!("u_joe")).expect("a person");
        }
        effect(&mut book, &theirs, "budget_exhausted", of(if lie == "budget-left" { 239 } else { 240 }));
    }
    let mut ending = Ending::completed(&id, "a session", 2);
    (ending.reason, ending.exit_code) = (StopReason::Budget, Some(113));
    book.finish(&ticket, ending);
    book.checkpoint();
    book
}

fn calls(lie: &str) -> Book {
    let mut book = opened();
    let (ticket, id) = begun(&mut book, "m-01", &[]);
    let call = |n: u32, more: Value| {
        let mut data = json!({
            "n": n, "api": "openai-responses", "upstream": "house", "model": "small-1",
            "request_digest": sha(&format!("request {n}")), "response_digest": sha(&format!("response {n}")),
            "status": 200, "outcome": "succeeded", "input_tokens": 100, "output_tokens": 20, "duration_ms": 700,
            "cached_tokens": 60, "cost_micros": 900, "attempts": 1, "provider": "local", "response_model": "small-1-q4",
        });
        let members = data.as_object_mut().expect("members");
        members.extend(more.as_object().expect("members").clone());
        members.retain(|_, value| !value.is_null());
        data
    };
    let first = if lie == "no-provider" { json!({ "provider": null }) } else { json!({}) };
    effect(&mut book, &ticket, "model_called", call(1, first));
    let failed = json!({ "status": 429, "outcome": "failed", "attempts": 4, "detail": "the upstream answered 429", "response_model": null });
    effect(&mut book, &ticket, "model_called", call(2, failed));
    let mut ending = Ending::completed(&id, "a session", 2);
    if lie == "not-counted" {
        ending.calls = 1;
    }
    book.finish(&ticket, ending);
    book.checkpoint();
    // The same dispatch again, from the recording.
    let (ticket, id) = begun(&mut book, "m-02", &[]);
    let spent = if lie == "replay-that-spent" { 100 } else { 0 };
    let taped = json!({
        "upstream": "replay", "attempts": 0, "input_tokens": spent, "output_tokens": 0, "cost_micros": null,
        "cached_tokens": null, "provider": null,
    });
    effect(&mut book, &ticket, "model_called", call(1, taped));
    let mut ending = Ending::completed(&id, "another session", 1);
    ending.tokens = Some((spent, 0));
    book.finish(&ticket, ending);
    book.checkpoint();
    book
}
