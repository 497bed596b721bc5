//! Every effect resolves to one person, one launcher and one scope.

use super::grants::{asked, begun};
use super::{Script, lie};
use crate::book::{Book, Ending, Ticket, container, sha};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{EffectEvent, Kind, LedgerEvent};
use serde_json::{Value, json};

pub(super) const RESOLVES: Script = Script {
    id: "2-effects-resolve",
    write: resolves,
    lies: &[
        lie("another-person", "an-effect-has-its-admission", "A model call stands in the name of another person."),
        lie("another-launcher", "an-effect-has-its-admission", "A tool call is told to be another launcher's."),
        lie("without-its-grant", "an-effect-has-its-admission", "A refusal does not say which grant it was under."),
        lie("of-nothing", "an-effect-has-its-admission", "A tool was called for a dispatch that nobody admitted."),
        lie("anothers-grant", "an-admission-has-its-grant", "Jane's dispatch was admitted under what Omar gave."),
        lie("scope-of-its-own", "decision", "A call names a scope that none of its tools has."),
        lie("unlisted", "decision", "A call was made of a tool that its dispatch does not have."),
    ],
};

fn call(ticket: &Ticket, n: u32, tool: &str, scope: &str) -> Value {
    let args = sha(&format!("arguments {n}"));
    json!({
        "n": n, "tool": tool, "scope": scope, "effect": "read", "args_digest": args, "input_trust": "trusted",
        "idempotency_key": format!("{}-t{n}:{}", ticket.dispatch, &args[7..23]),
    })
}

/// A call with its outcome, under an envelope that may lie.
fn called(book: &mut Book, ticket: &Ticket, intent: &Value, change: impl Fn(&mut Meta)) {
    let finished = json!({
        "n": intent["n"], "phase": "succeeded", "result_digest": sha("result"), "result_bytes": 12, "duration_ms": 3,
    });
    said(book, ticket, "tool_intended", intent.clone(), &change);
    said(book, ticket, "tool_finished", finished, &change);
}

fn said(book: &mut Book, ticket: &Ticket, event: &str, mut data: Value, change: impl Fn(&mut Meta)) {
    book.tick(40);
    data["dispatch"] = json!(ticket.dispatch);
    let event = LedgerEvent::decode(&format!("custody.effect.{event}.v1"), &data.to_string()).expect("an event");
    let LedgerEvent::Effect(inner) = &event else { panic!("no effect") };
    let id = EffectEvent::entity_id(inner);
    let mut meta = book.of_run(ticket);
    change(&mut meta);
    book.append(Kind::Effect, &id, event, meta);
}

fn resolves(lie: &str) -> Book {
    let mut book = begun();
    for (id, launcher, key, person) in
        [("g-jane", "web-chat", 1, "u_jane"), ("g-omar", "web-chat", 1, "u_omar"), ("g-cal", "calendar", 2, "u_jane")]
    {
        let mut terms = book.terms(id, launcher, key, person);
        terms.tools = vec!["workspace_list".into(), "workspace_read".into()];
        book.grant(terms, None);
    }
    // Two launchers for one person, and one launcher for two persons, at the same time.
    let tools = |unit: &mut Value| unit["tools"] = json!(["workspace_list", "workspace_read"]);
    let launch = asked(&mut book, "web-chat", 1, 1, tools);
    let jane = if lie == "anothers-grant" { book.admit_under(&launch, "g-omar") } else { book.decide(&launch) };
    let launch = asked(&mut book, "calendar", 2, 2, tools);
    let calendar = book.decide(&launch);
    let mut ask = book.ask("web-chat", "m-03", "u_omar", json!({ "entrypoint": { "inline": "Hello." } }));
    tools(&mut ask["data"]);
    let launch = book.launch("web-chat", ask, 1);
    let omar = book.decide(&launch);
    let all = [(&jane, "jane's box"), (&calendar, "the calendar's box"), (&omar, "omar's box")];
    for (ticket, name) in all {
        book.claim(ticket, None);
        book.start(ticket, &container(name));
    }
    let honest = |_: &mut Meta| {};
    for (n, (ticket, _)) in all.into_iter().enumerate() {
        let number = |n: usize| u32::try_from(n).expect("a few");
        let scope = if lie == "scope-of-its-own" && n == 2 { "mail:send" } else { "workspace:read" };
        let tool = if lie == "unlisted" && n == 1 { "workspace_write" } else { "workspace_read" };
        called(&mut book, ticket, &call(ticket, 1, tool, scope), |meta| {
            if lie == "another-launcher" && n == 1 {
                meta.launcher = Some("web-chat".into());
            }
        });
        let detail = "this dispatch has no tool \"mail.send\"";
        let refused = json!({ "n": 2, "reason": "TOOL_NOT_LISTED", "detail": detail, "count": number(n) + 1 });
        said(&mut book, ticket, "tool_refused", refused, |meta| {
            if lie == "without-its-grant" && n == 0 {
                meta.grant = None;
            }
        });
    }
    if lie == "of-nothing" {
        let mut nobody = omar.clone();
        nobody.dispatch = custody_contracts::ids::DispatchId::parse("d-nobodyadmittedthisone").expect("an id");
        called(&mut book, &nobody, &call(&nobody, 1, "workspace_read", "workspace:read"), honest);
    }
    for (ticket, name) in all {
        let mut other = ticket.clone();
        if lie == "another-person" && name == "omar's box" {
            let admitted = other.admitted.as_mut().expect("was admitted");
            admitted.unit.identity.subject = custody_contracts::ids::Subject::parse("u_jane").expect("a person");
        }
        book.call(&other, 1);
        book.finish(ticket, Ending::completed(&container(name), "read it", 1));
    }
    book.checkpoint();
    book
}
