//! The second turn of a session resumes from the file that the first one left, in another container.

use super::{Script, lie};
use crate::book::{Book, Ending, container, sha};
use custody_contracts::events::SignatureRule;
use custody_contracts::ids::SessionId;
use serde_json::json;

pub(super) const SCRIPT: Script = Script {
    id: "1-second-turn-resumes",
    write,
    lies: &[
        lie("starts-afresh", "second-turn-resumes", "The second turn began without the session file of the first."),
        lie("resumes-another-file", "resumes-what-was-left", "The second turn resumed from a file that nobody left."),
        lie(
            "same-container",
            "another-container",
            "The second turn ran in the container of the first: nothing was resumed.",
        ),
        lie(
            "another-session",
            "run.claim",
            "The second turn was claimed for another session than the one it was admitted for.",
        ),
        lie(
            "file-of-another-session",
            "resumes-what-was-left",
            "The second turn resumed from the session file of another person's session.",
        ),
    ],
};

const FIRST: &str = "what jane and the agent said first";
const SECOND: &str = "what jane and the agent said first, and then";
const OMAR: &str = "what omar and the agent said";

fn write(lie: &str) -> Book {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane", "u_omar"]);
    let ask = book.ask("web-chat", "m-01", "u_jane", json!({ "entrypoint": { "inline": "Remember the word heron." } }));
    let launch = book.launch("web-chat", ask, 1);
    let first = book.decide(&launch);
    book.claim(&first, None);
    book.start(&first, &container("first box"));
    book.call(&first, 1);
    book.finish(&first, Ending::completed(&container("first box"), FIRST, 1));

    let ask = book.ask("web-chat", "m-02", "u_omar", json!({ "entrypoint": { "inline": "Good morning." } }));
    let launch = book.launch("web-chat", ask, 1);
    let omar = book.decide(&launch);
    book.claim(&omar, None);
    book.start(&omar, &container("omar's box"));
    book.call(&omar, 1);
    book.finish(&omar, Ending::completed(&container("omar's box"), OMAR, 1));
    book.checkpoint();

    let session = first.admitted().session.to_string();
    let start = json!({ "session": { "ref": session, "inline": "Which word was it?" } });
    let ask = book.ask("web-chat", "m-03", "u_jane", start);
    let launch = book.launch("web-chat", ask, 1);
    let second = book.decide(&launch);
    let resume = match lie {
        "starts-afresh" => None,
        "resumes-another-file" => Some(sha("a file that nobody left")),
        "file-of-another-session" => Some(sha(OMAR)),
        _ => Some(sha(FIRST)),
    };
    book.claim_with(&second, resume, |claim| {
        if lie == "another-session" {
            claim.session = SessionId::parse("s-another").expect("an id");
        }
    });
    let id = container(if lie == "same-container" { "first box" } else { "second box" });
    book.start(&second, &id);
    book.call(&second, 1);
    book.finish(&second, Ending::completed(&id, SECOND, 1));
    book.checkpoint();
    book
}
