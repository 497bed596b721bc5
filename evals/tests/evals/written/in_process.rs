//! Nothing is done outside a container: no output, no model call, no session file.

use super::{Script, lie};
use crate::book::{Book, Ending, Ticket, container};
use custody_contracts::events::{SignatureRule, StopReason};
use serde_json::json;

pub(super) const SCRIPT: Script = Script {
    id: "1-no-in-process-path",
    write,
    lies: &[
        lie("effect-before-claim", "effect.claimed", "A model was called before any runtime had claimed the dispatch."),
        lie("no-container-id", "every-start-has-a-container", "The run started in something that is no container id."),
        lie(
            "output-without-container",
            "run.has_container",
            "There was output and a session file, and no container ever started.",
        ),
        lie(
            "work-nobody-claimed",
            "run.terminal",
            "The run has calls, output and an end, and no runtime ever claimed it: it ran in somebody's process.",
        ),
        lie("effect-of-nobody", "run.admitted", "A model was called for a dispatch that nobody admitted."),
        lie("secret-in-the-log", "log.no_secret", "The end of a run tells a secret that the agent printed."),
        lie("calls-not-counted", "nothing-uncounted", "The gateway recorded a call that the run does not count."),
    ],
};

fn write(lie: &str) -> Book {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane"]);
    let ask = book.ask("web-chat", "m-01", "u_jane", json!({ "entrypoint": { "inline": "Summarise my open tasks." } }));
    let launch = book.launch("web-chat", ask, 1);
    let ticket = book.decide(&launch);
    if lie == "effect-before-claim" {
        book.call(&ticket, 1);
    }
    if lie != "work-nobody-claimed" {
        book.claim(&ticket, None);
    }
    let id = if lie == "no-container-id" { "in-process".to_owned() } else { container("jane's first") };
    let boxed = !matches!(lie, "output-without-container" | "work-nobody-claimed");
    if boxed {
        book.start(&ticket, &id);
    }
    if lie != "effect-before-claim" {
        book.call(&ticket, 1);
    }
    book.call(&ticket, 2);
    let mut ending = Ending::completed(&id, "jane's session after one turn", 2);
    if !boxed || lie == "no-container-id" {
        ending.container = None;
    }
    if lie == "calls-not-counted" {
        ending.calls = 1;
    }
    if lie == "secret-in-the-log" {
        ending.detail = Some("the agent said sk-canary-3b1f7c".into());
    }
    book.finish(&ticket, ending);
    if lie == "effect-of-nobody" {
        let nobody = Ticket { admitted: None, ..ticket.clone() };
        let dispatch = custody_contracts::ids::DispatchId::parse("d-nobody").expect("an id");
        book.call(&Ticket { dispatch, ..nobody }, 1);
    }
    book.checkpoint();
    // A dispatch that never got its box leaves an end and nothing else.
    let ask = book.ask("web-chat", "m-02", "u_jane", json!({ "entrypoint": { "inline": "And the closed ones?" } }));
    let launch = book.launch("web-chat", ask, 1);
    let ticket = book.decide(&launch);
    book.claim(&ticket, None);
    let missing = "IMAGE_MISSING: the image is not on this machine and nothing is pulled";
    book.finish(&ticket, Ending::without_box(StopReason::StartFailed, missing));
    book.checkpoint();
    book
}
