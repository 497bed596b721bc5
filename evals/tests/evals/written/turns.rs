//! Two turns of one session were asked for, and the first one was spoken to while it ran: they run one after the other,
//! and what was said is numbered, by its own launcher, while there was somebody to hear it.

use super::{Script, lie};
use crate::book::{Book, Ending, container, sha};
use custody_contracts::events::SignatureRule;
use serde_json::json;

pub(super) const SCRIPT: Script = Script {
    id: "1-one-turn-at-a-time",
    write,
    lies: &[
        lie("two-at-once", "run.one_turn", "A second runtime claimed the second turn while the first one still ran."),
        lie("a-gap", "follow_up.order", "A follow-up was lost between two others, and nobody noticed the number."),
        lie(
            "after-the-end",
            "follow_up.order",
            "Words were accepted for a dispatch that had ended: nobody can have heard them.",
        ),
        lie("other-words", "decision", "The words that were accepted are not those that the launcher signed."),
        lie("a-stranger", "decision", "Another launcher's words were accepted for a dispatch that it did not begin."),
    ],
};

const FIRST: &str = "three turns in one box";

fn write(told: &str) -> Book {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane"]);
    book.register("mail", 2, SignatureRule::Required, &["u_jane"]);
    let mut ask = book.ask("web-chat", "m-01", "u_jane", json!({ "entrypoint": { "inline": "Read plan.md." } }));
    ask["data"]["limits"] = json!({ "turns": 4 });
    let launch = book.launch("web-chat", ask, 1);
    let first = book.decide(&launch);
    let session = first.admitted().session.to_string();
    let start = json!({ "session": { "ref": session, "inline": "And now summarise it." } });
    let ask = book.ask("web-chat", "m-02", "u_jane", start);
    let launch = book.launch("web-chat", ask, 1);
    let second = book.decide(&launch);

    book.claim(&first, None);
    book.start(&first, &container("first box"));
    if told == "two-at-once" {
        book.claim(&second, None);
    }
    let sender = if told == "a-stranger" { ("mail", 2) } else { ("web-chat", 1) };
    book.say(&first, 1, sender, "q-01", "Only the first page.", told == "other-words");
    book.say(&first, if told == "a-gap" { 3 } else { 2 }, ("web-chat", 1), "q-02", "In English.", false);
    if told != "after-the-end" {
        book.say(&first, if told == "a-gap" { 4 } else { 3 }, ("web-chat", 1), "q-03", "And one more thing.", false);
    }
    book.finish(&first, Ending::completed(&container("first box"), FIRST, 0));
    if told == "after-the-end" {
        book.say(&first, 3, ("web-chat", 1), "q-03", "And one more thing.", false);
    }
    if told != "two-at-once" {
        book.claim(&second, Some(sha(FIRST)));
    }
    book.start(&second, &container("second box"));
    book.finish(&second, Ending::completed(&container("second box"), "and a summary", 0));
    book.checkpoint();
    book
}
