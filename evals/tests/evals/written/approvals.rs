//! Calls that wait for a person: what runs is exactly what was shown, and untrusted input only proposes.

use super::effects::{begun_by, effect, opened};
use super::{Script, lie};
use crate::book::{Book, Ending, Ticket, sha};
use custody_contracts::approval::ApprovalEvent;
use custody_contracts::events::{Kind, LedgerEvent};
use serde_json::{Value, json};

pub(super) const EXACT: Script = Script {
    id: "2-approval-exact",
    write: exact,
    lies: &[
        lie("other-arguments", "decision", "The call was made with other arguments than those that were approved."),
        lie("not-approved", "an-approved-call-has-its-approval", "The call was made, and nobody approved it."),
        lie("approved-what-was-not-shown", "decision", "The approval names a digest that was not on the screen."),
        lie("by-a-stranger", "decision", "Somebody approved who is not one of the card's approvers."),
        lie("made-twice", "an-approval-is-one-call", "One approval let the call through twice."),
        lie("after-a-rejection", "decision", "The call was made after it was rejected."),
        lie("after-its-time", "decision", "The call was begun when its time was up."),
        lie("decided-twice", "decision", "One version was decided about twice."),
    ],
};

pub(super) const PROPOSES: Script = Script {
    id: "2-untrusted-only-proposes",
    write: proposes,
    lies: &[
        lie("sent-at-once", "decision", "Untrusted input sent a mail, and no person was asked."),
        lie("called-trusted", "decision", "The intent says that the input was trusted."),
        lie("its-own-approver", "decision", "The card names an approver who is not the person."),
        lie("done-though-expired", "nothing-undecided-was-done", "Nobody decided in time, and it was done."),
    ],
};

/// A day.
const WAITS_MS: u64 = 86_400_000;

fn awaiting(ticket: &Ticket, book: &Book, n: u32, trust: &str) -> Value {
    let args = sha(&format!("arguments {n}"));
    json!({
        "n": n, "tool": "mail__send", "scope": "mail:send", "effect": "irreversible", "args_digest": args,
        "args_bytes": 57, "input_trust": trust, "idempotency_key": key(ticket, n, &args),
        "policy": { "digest": sha("policy"), "rule": "untrusted-only-proposes" }, "tool_digest": sha("mail__send"),
        "approvers": ["u_jane"], "expires_at": book.now() + WAITS_MS,
    })
}

fn key(ticket: &Ticket, n: u32, args: &str) -> String {
    format!("{}-t{n}:{}", ticket.dispatch, &args[7..23])
}

/// A decision about a card, and its sequence.
fn decided(book: &mut Book, ticket: &Ticket, n: u32, more: Value) -> u64 {
    book.tick(60_000);
    let card = format!("{}-t{n}", ticket.dispatch);
    let mut data = json!({ "card": card, "dispatch": ticket.dispatch, "version": 1, "by": "u_jane" });
    data.as_object_mut().expect("members").extend(more.as_object().expect("members").clone());
    let event = LedgerEvent::decode("custody.approval.decided.v1", &data.to_string()).expect("an event");
    let meta = book.of_run(ticket);
    book.append(Kind::Approval, &card, event, meta)
}

fn made(book: &mut Book, ticket: &Ticket, n: u32, trust: &str, args: &str, approval: &Value) {
    let mut data = json!({
        "n": n, "tool": "mail__send", "scope": "mail:send", "effect": "irreversible", "args_digest": args,
        "input_trust": trust, "idempotency_key": key(ticket, n, args),
        "policy": { "digest": sha("policy"), "rule": "tool-of-the-unit" }, "tool_digest": sha("mail__send"),
    });
    if !approval.is_null() {
        data["approval"] = approval.clone();
    }
    effect(book, ticket, "tool_intended", data);
}

fn finished(book: &mut Book, ticket: &Ticket, n: u32) {
    let data =
        json!({ "n": n, "phase": "succeeded", "result_digest": sha("sent"), "result_bytes": 4, "duration_ms": 90 });
    effect(book, ticket, "tool_finished", data);
}

fn exact(lie: &str) -> Book {
    let mut book = opened();
    let (ticket, id) = begun_by(&mut book, "m-01", &["mail__send"], "message");
    let trust = "trusted";
    let shown = sha("arguments 1");
    let card = awaiting(&ticket, &book, 1, trust);
    effect(&mut book, &ticket, "tool_awaiting", card);
    let card = awaiting(&ticket, &book, 2, trust);
    effect(&mut book, &ticket, "tool_awaiting", card);
    book.call(&ticket, 1);
    book.finish(&ticket, Ending::completed(&id, "a session", 1));
    // The box is gone when the person decides.
    let digest = if lie == "approved-what-was-not-shown" { sha("others") } else { shown.clone() };
    let by = if lie == "by-a-stranger" { "u_joe" } else { "u_jane" };
    let mut seq = 0;
    if lie != "not-approved" {
        seq = decided(&mut book, &ticket, 1, json!({ "decision": "approve", "args_digest": digest, "by": by }));
    }
    if lie == "decided-twice" {
        decided(&mut book, &ticket, 1, json!({ "decision": "reject", "reason": "No." }));
    }
    if lie == "after-its-time" {
        book.tick(WAITS_MS);
    }
    let args = if lie == "other-arguments" { sha("other arguments") } else { digest };
    let approval = match lie {
        "not-approved" => Value::Null,
        _ => json!({ "seq": seq, "version": 1, "by": by }),
    };
    made(&mut book, &ticket, 1, trust, &args, &approval);
    finished(&mut book, &ticket, 1);
    if lie == "made-twice" {
        made(&mut book, &ticket, 1, trust, &args, &approval);
    }
    decided(&mut book, &ticket, 2, json!({ "decision": "reject", "reason": "Wrong addressee." }));
    if lie == "after-a-rejection" {
        let approval = json!({ "seq": 1, "version": 1, "by": "u_jane" });
        made(&mut book, &ticket, 2, trust, &sha("arguments 2"), &approval);
    } else {
        let closed = json!({
            "n": 2, "tool": "mail__send", "args_digest": sha("arguments 2"), "reason": "APPROVAL_REJECTED",
            "detail": "u_jane said no", "count": 1,
        });
        effect(&mut book, &ticket, "tool_refused", closed);
    }
    book.checkpoint();
    book
}

fn proposes(lie: &str) -> Book {
    let mut book = opened();
    let (ticket, id) = begun_by(&mut book, "m-01", &["mail__send"], "event");
    if lie == "sent-at-once" {
        made(&mut book, &ticket, 1, "untrusted", &sha("arguments 1"), &Value::Null);
        finished(&mut book, &ticket, 1);
    } else {
        let mut card = awaiting(&ticket, &book, 1, "untrusted");
        if lie == "its-own-approver" {
            card["approvers"] = json!(["u_mallory"]);
        }
        effect(&mut book, &ticket, "tool_awaiting", card);
    }
    let card = awaiting(&ticket, &book, 2, "untrusted");
    let ends = card["expires_at"].clone();
    effect(&mut book, &ticket, "tool_awaiting", card);
    book.call(&ticket, 1);
    book.finish(&ticket, Ending::completed(&id, "a session", 1));
    if lie != "sent-at-once" {
        let by = if lie == "its-own-approver" { "u_mallory" } else { "u_jane" };
        let said = json!({ "decision": "approve", "args_digest": sha("arguments 1"), "by": by });
        let seq = decided(&mut book, &ticket, 1, said);
        let trust = if lie == "called-trusted" { "trusted" } else { "untrusted" };
        let approval = json!({ "seq": seq, "version": 1, "by": by });
        made(&mut book, &ticket, 1, trust, &sha("arguments 1"), &approval);
        finished(&mut book, &ticket, 1);
    }
    // The second one is seen by nobody.
    book.tick(WAITS_MS + 1);
    let card = format!("{}-t2", ticket.dispatch);
    let expired = json!({ "card": card, "dispatch": ticket.dispatch, "version": 1, "expired_at": ends });
    let event = LedgerEvent::decode("custody.approval.expired.v1", &expired.to_string()).expect("an event");
    assert!(matches!(event, LedgerEvent::Approval(ApprovalEvent::Expired(_))));
    let meta = book.of_run(&ticket);
    book.append(Kind::Approval, &card, event, meta);
    if lie == "done-though-expired" {
        made(&mut book, &ticket, 2, "untrusted", &sha("arguments 2"), &Value::Null);
    } else {
        let closed = json!({
            "n": 2, "tool": "mail__send", "args_digest": sha("arguments 2"), "reason": "APPROVAL_EXPIRED",
            "detail": "nobody approved it in time", "count": 1,
        });
        effect(&mut book, &ticket, "tool_refused", closed);
    }
    book.checkpoint();
    book
}
