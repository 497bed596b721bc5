//! Three runs begin at one commit: the first lands, the second lands merged, the third conflicts and waits for the owner,
//! who says yes later. Nothing that a run changed is lost.

use super::{Script, lie};
use crate::book::{Book, Ending, Ticket, container};
use custody_contracts::events::SignatureRule;
use custody_contracts::workspace::{MountBase, RunCommit, WorkspaceEvent};
use serde_json::{Value, json};

pub(super) const SCRIPT: Script = Script {
    id: "1-workspace-nothing-lost",
    write,
    lies: &[
        lie(
            "overwritten",
            "each-lands-on-a-base-of-its-own",
            "The second run landed on the first one's base, over its changes.",
        ),
        lie("forgotten", "the-conflict-waits", "The third run's changes were proposed, and nobody was told."),
        lie("another-commit", "what-waits-is-what-was-made", "What waits for the owner is not what the run made."),
        lie("landed-unasked", "decision", "A proposal landed without the owner's yes."),
        lie("landed-twice", "decision", "A proposal landed twice."),
        lie("a-strangers-yes", "decision", "Somebody else said yes in the owner's place."),
        lie(
            "dropped",
            "every-change-is-somewhere",
            "The third run changed files, and its last event says that it did not.",
        ),
    ],
};

/// A commit's id that stands for something.
fn commit(of: &str) -> String {
    custody_contracts::canonical::digest(of.as_bytes()).chars().skip(7).take(40).collect()
}

fn event(kind: &str, data: Value) -> WorkspaceEvent {
    let read = |what: &str| format!("{what}: {data}");
    match kind {
        "registered" => WorkspaceEvent::Registered(
            serde_json::from_value(data.clone()).unwrap_or_else(|e| panic!("{}: {e}", read(kind))),
        ),
        "opened" => WorkspaceEvent::ProposalOpened(
            serde_json::from_value(data.clone()).unwrap_or_else(|e| panic!("{}: {e}", read(kind))),
        ),
        "accepted" => WorkspaceEvent::ProposalAccepted(
            serde_json::from_value(data.clone()).unwrap_or_else(|e| panic!("{}: {e}", read(kind))),
        ),
        _ => WorkspaceEvent::ProposalLanded(
            serde_json::from_value(data.clone()).unwrap_or_else(|e| panic!("{}: {e}", read(kind))),
        ),
    }
}

fn run(book: &mut Book, name: &str) -> Ticket {
    let ask = book.ask("web-chat", name, "u_jane", json!({ "entrypoint": { "inline": "Write the plan." } }));
    let launch = book.launch("web-chat", ask, 1);
    let ticket = book.decide(&launch);
    let mount: MountBase =
        serde_json::from_value(json!({ "workspace": "u_jane", "mode": "rw", "base": commit("base") }))
            .expect("a mount");
    book.claim_with(&ticket, None, |claim| claim.mounts = vec![mount]);
    book.start(&ticket, &container(name));
    book.call(&ticket, 1);
    ticket
}

fn finish(book: &mut Book, ticket: &Ticket, name: &str, what: Value) {
    let commit: RunCommit = serde_json::from_value(what).expect("a commit");
    book.finish_with(ticket, Ending::completed(&container(name), name, 1), vec![commit]);
}

fn write(lie: &str) -> Book {
    let mut book = Book::new();
    let document = json!({
        "id": "u_jane", "bucket": "nats://workspaces", "mode": "rw", "encryption": { "scheme": "none" },
        "purpose": "Jane's plans.", "trunk": "main",
    });
    book.workspace(event("registered", json!({ "workspace": document, "owner": "u_jane", "by": "u_jane" })));
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane"]);
    let [first, second, third] = ["m-01", "m-02", "m-03"].map(|name| run(&mut book, name));
    let tree = custody_contracts::canonical::digest(b"a tree");
    let of = |outcome: &str, base: &str, made: &str| json!({ "workspace": "u_jane", "mode": "rw", "base": base, "commit": commit(made), "outcome": outcome, "tree": tree });
    finish(&mut book, &first, "m-01", of("landed", &commit("base"), "first"));
    let second_outcome = if lie == "overwritten" { "landed" } else { "merged" };
    finish(&mut book, &second, "m-02", of(second_outcome, &commit("base"), "second"));
    let mut waits = of("proposed", &commit("base"), "third");
    waits["reason"] = json!("MERGE_CONFLICT: plan.md changed since the run began");
    if lie == "dropped" {
        waits = json!({ "workspace": "u_jane", "mode": "rw", "base": commit("base"), "outcome": "unchanged" });
    }
    finish(&mut book, &third, "m-03", waits);
    book.checkpoint();

    let proposal = third.dispatch.to_string();
    if lie != "forgotten" {
        let made = if lie == "another-commit" { "something else" } else { "third" };
        book.workspace(event(
            "opened",
            json!({
                "workspace": "u_jane", "proposal": proposal, "subject": "u_jane", "base": commit("base"),
                "commit": commit(made), "reason": "MERGE_CONFLICT: plan.md changed since the run began",
            }),
        ));
        if lie != "landed-unasked" {
            let by = if lie == "a-strangers-yes" { "u_omar" } else { "u_jane" };
            book.workspace(event("accepted", json!({ "workspace": "u_jane", "proposal": proposal, "by": by })));
        }
        let landed = json!({ "workspace": "u_jane", "proposal": proposal, "commit": commit("fourth"), "by": "u_jane" });
        book.workspace(event("landed", landed.clone()));
        if lie == "landed-twice" {
            book.workspace(event("landed", landed));
        }
    }
    book.checkpoint();
    book
}
