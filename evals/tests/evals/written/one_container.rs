//! One dispatch, one container: three dispatches at the same time, three containers.

use super::{Script, lie};
use crate::book::{Book, Ending, container};
use custody_contracts::events::SignatureRule;
use serde_json::json;

pub(super) const SCRIPT: Script = Script {
    id: "1-one-dispatch-one-container",
    write,
    lies: &[
        lie("shared-container", "run.one_container", "The second dispatch ran in the first one's container."),
        lie("started-twice", "one-start-each", "A dispatch started a second container while the first one ran."),
        lie("ended-elsewhere", "run.one_container", "A dispatch ended in another container than it started in."),
        lie("name-of-another", "run.claim", "A dispatch was claimed under the container name of another."),
        lie("claimed-twice", "decision", "A second runtime claimed a dispatch that was claimed."),
    ],
};

fn write(lie: &str) -> Book {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane", "u_omar"]);
    let mut tickets = Vec::new();
    for (id, subject) in [("m-01", "u_jane"), ("m-02", "u_omar"), ("m-03", "u_jane")] {
        let ask = book.ask("web-chat", id, subject, json!({ "entrypoint": { "inline": "Count to ten." } }));
        let launch = book.launch("web-chat", ask, 1);
        tickets.push(book.decide(&launch));
    }
    let first_name = custody_domain::run::container_name(tickets[0].dispatch.as_str(), 1);
    for (n, ticket) in tickets.iter().enumerate() {
        book.claim_with(ticket, None, |claim| {
            if lie == "name-of-another" && n == 1 {
                claim.container_name.clone_from(&first_name);
            }
        });
        if lie == "claimed-twice" && n == 1 {
            book.claim_with(ticket, None, |claim| claim.runtime = "runtime-2".into());
        }
    }
    book.checkpoint();
    let id = |n: usize| {
        container(if lie == "shared-container" && n == 1 { "box 0".to_owned() } else { format!("box {n}") }.as_str())
    };
    for (n, ticket) in tickets.iter().enumerate() {
        book.start(ticket, &id(n));
        if lie == "started-twice" && n == 2 {
            book.start(ticket, &container("box 2 again"));
        }
    }
    for (n, ticket) in tickets.iter().enumerate().rev() {
        book.call(ticket, 1);
        let ended = if lie == "ended-elsewhere" && n == 0 { container("somewhere else") } else { id(n) };
        book.finish(ticket, Ending::completed(&ended, &format!("session of {n}"), 1));
    }
    book.checkpoint();
    book
}
