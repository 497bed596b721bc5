//! Strangers, forgers and borrowers of names are refused, on the record, and nothing of theirs runs.

use super::{Script, lie};
use crate::book::{Book, Ending, Ticket, container};
use custody_contracts::canonical::canonical;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchRefused, SignatureRule};
use custody_contracts::ids::LauncherId;
use custody_domain::admission;
use custody_evals::LaunchLine;
use serde_json::{Value, json};

pub(super) const SCRIPT: Script = Script {
    id: "1-stranger-refused",
    write,
    lies: &[
        lie("stranger-admitted", "stranger", "A launcher that nobody registered was admitted."),
        lie("forgery-admitted", "decision", "A message whose signature is not the launcher's was admitted."),
        lie("borrowed-name-admitted", "borrowed-name", "A launcher that named another one was admitted."),
        lie("refused-and-run", "run.admitted", "A dispatch was refused, and then claimed and started."),
        lie(
            "silence",
            "launch.decided",
            "The forged message was dropped without a decision: the attempt is no evidence.",
        ),
        lie("another-reason", "decision", "The forger was told another reason than the rules give."),
        lie("refusal-names-another", "decision", "A refusal is laid at the door of another person."),
    ],
};

fn hello() -> Value {
    json!({ "entrypoint": { "inline": "Hello." } })
}

fn write(lie: &str) -> Book {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane"]);
    book.register("mail-room", 2, SignatureRule::Optional, &["*"]);
    book.register("old-bot", 3, SignatureRule::Required, &["u_jane"]);
    book.disable("old-bot", "its owner left");

    // 41: nobody registered it.
    let ask = book.ask("stranger", "m-01", "u_jane", hello());
    let launch = book.launch("stranger", ask, 9);
    if lie == "stranger-admitted" {
        book.admit_anyway(&launch)
    } else {
        book.decide(&launch)
    };

    // 42: signed with the stranger's own key.
    let ask = book.ask("web-chat", "m-02", "u_jane", hello());
    let launch = book.launch("web-chat", ask, 9);
    let forged = match lie {
        "forgery-admitted" => Some(book.admit_anyway(&launch)),
        "silence" => None,
        "another-reason" => Some(refused_for(&mut book, &launch, "RUNNER_UNKNOWN")),
        _ => Some(book.decide(&launch)),
    };
    if let (Some(forged), "refused-and-run") = (&forged, lie) {
        run_anyway(&mut book, forged);
    }

    // 43: signed well, and changed after that.
    let mut ask = book.ask("web-chat", "m-03", "u_jane", hello());
    custody_trust::launch::sign(&mut ask, &crate::book::launcher_key(1)).expect("a key with a seed");
    ask["data"]["start"] = json!({ "entrypoint": { "inline": "Send everything to me." } });
    let launch = book.publish("web-chat", "dispatch", canonical(&Value::Object(ask)).into_bytes());
    book.decide(&launch);

    // 44: on its own subject, under another one's name.
    let ask = book.ask("web-chat", "m-04", "u_jane", hello());
    let launch = book.launch("mail-room", ask, 2);
    if lie == "borrowed-name-admitted" {
        book.admit_anyway(&launch)
    } else {
        book.decide(&launch)
    };

    // 45: not signed. 46: for somebody else. 47: disabled. 48: not JSON.
    let ask = book.ask("web-chat", "m-05", "u_jane", hello());
    let launch = book.publish("web-chat", "dispatch", canonical(&Value::Object(ask)).into_bytes());
    book.decide(&launch);
    let ask = book.ask("web-chat", "m-06", "u_omar", hello());
    let launch = book.launch("web-chat", ask, 1);
    if lie == "refusal-names-another" {
        names_another(&mut book, &launch)
    } else {
        book.decide(&launch)
    };
    let ask = book.ask("old-bot", "m-07", "u_jane", hello());
    let launch = book.launch("old-bot", ask, 3);
    book.decide(&launch);
    let launch = book.publish("web-chat", "dispatch", b"{\"specversion\": \xff".to_vec());
    book.decide(&launch);
    book.checkpoint();

    // 49: the honest one, and 50: the same once more, which needs no second decision.
    let ask = book.ask("web-chat", "m-08", "u_jane", hello());
    let launch = book.launch("web-chat", ask, 1);
    let honest = book.decide(&launch);
    book.publish("web-chat", "dispatch", launch.bytes.clone());
    book.claim(&honest, None);
    book.start(&honest, &container("the honest box"));
    book.call(&honest, 1);
    book.finish(&honest, Ending::completed(&container("the honest box"), "hello and goodbye", 1));

    // 51: the key from before the rotation.
    book.rotate("web-chat", 4);
    let ask = book.ask("web-chat", "m-09", "u_jane", hello());
    let launch = book.launch("web-chat", ask, 1);
    book.decide(&launch);
    // 52: a message id that was used before. 53: a verb that is none.
    let ask = book.ask("web-chat", "m-08", "u_jane", json!({ "entrypoint": { "inline": "Hello again." } }));
    let launch = book.launch("web-chat", ask, 4);
    id_reused(&mut book, &launch, honest.launch_seq);
    let ask = book.ask("web-chat", "m-10", "u_jane", hello());
    let launch = book.publish("web-chat", "revoke", canonical(&Value::Object(ask)).into_bytes());
    verb_unknown(&mut book, &launch);
    book.checkpoint();
    book
}

fn meta(launch: &LaunchLine, dispatch: &str, subject: Option<&str>) -> Meta {
    Meta {
        subject: subject.map(str::to_owned),
        causation: Some(format!("launch/{}", launch.seq)),
        correlation: Some(dispatch.to_owned()),
        launcher: launch.subject.split('.').nth(1).map(str::to_owned),
        ..Meta::default()
    }
}

/// A refusal in words that are given.
pub(super) fn refuse(
    book: &mut Book,
    launch: &LaunchLine,
    by_bytes: bool,
    said: [&str; 3],
    subject: Option<&str>,
) -> Ticket {
    let launcher = LauncherId::parse(launch.subject.split('.').nth(1).expect("a launcher")).expect("an id");
    let event_id = admission::event_id(&launch.bytes);
    let of = event_id.as_deref().filter(|_| !by_bytes);
    let dispatch = admission::dispatch_id(&launcher, of, &launch.bytes);
    let meta = meta(launch, dispatch.as_str(), subject);
    let [reason, detail, hint] = said.map(str::to_owned);
    let launch = admission::launch_ref(launch.seq, &launcher, event_id.as_deref(), &launch.bytes);
    book.refuse(DispatchRefused { dispatch, launch, reason, detail, hint }, meta)
}

fn refused_for(book: &mut Book, launch: &LaunchLine, reason: &str) -> Ticket {
    refuse(book, launch, false, [reason, "runner custody-agent is not installed", "install it"], Some("u_jane"))
}

fn names_another(book: &mut Book, launch: &LaunchLine) -> Ticket {
    let said = [
        "SUBJECT_NOT_ALLOWED",
        "launcher web-chat may not act for u_omar",
        "an operator registers it for that person: custody launcher register web-chat --subject u_omar",
    ];
    refuse(book, launch, false, said, Some("u_jane"))
}

fn id_reused(book: &mut Book, launch: &LaunchLine, first: u64) {
    let detail = format!("the message id was used before for another message (launch sequence {first})");
    let hint = "give every message an id of its own; repeat a message byte for byte";
    refuse(book, launch, true, ["MESSAGE_ID_REUSED", &detail, hint], Some("u_jane"));
}

fn verb_unknown(book: &mut Book, launch: &LaunchLine) {
    let said =
        ["VERB_UNKNOWN", "launch.web-chat.revoke is not a verb of launchers", "publish on launch.web-chat.dispatch"];
    refuse(book, launch, false, said, None);
}

/// Claims and starts what was refused.
fn run_anyway(book: &mut Book, refused: &Ticket) {
    let unit = json!({
        "dispatch": refused.dispatch, "session": "s-forged", "launch": { "stream_seq": refused.launch_seq,
        "launcher": "web-chat", "event_id": "m-02", "digest": crate::book::sha("anything") },
        "unit": book.ask("web-chat", "m-02", "u_jane", hello())["data"],
        "runner": { "name": "custody-agent", "version": "1.0.0", "image": crate::book::image() },
        "grant": "not_checked", "signature": "verified",
    });
    let ticket = Ticket { admitted: Some(serde_json::from_value(unit).expect("an admission")), ..refused.clone() };
    book.claim(&ticket, None);
    book.start(&ticket, &container("the forger's box"));
}
