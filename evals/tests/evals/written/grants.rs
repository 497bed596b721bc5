//! Nothing is admitted that no grant of the person covers; a grant that was taken back ends what runs under it; and a
//! grant that is derived from another one only ever shrinks.

use super::{Script, lie};
use crate::book::{Book, Ending, container};
use custody_contracts::events::{SignatureRule, StopReason};
use custody_contracts::unit::Mode;
use custody_contracts::workspace::{Encryption, Workspace, WorkspaceEvent, WorkspaceRegistered};
use custody_evals::LaunchLine;
use serde_json::{Value, json};

pub(super) const REQUIRED: Script = Script {
    id: "2-grant-required",
    write: required,
    lies: &[
        lie("admitted-without", "decision", "A launcher that nobody gave a grant was admitted all the same."),
        lie("not-checked-again", "decision", "What a grant covers was admitted without saying which one."),
        lie("anothers-grant", "decision", "A launcher was admitted under the grant that another one holds."),
        lie("beyond-the-ceiling", "decision", "A dispatch was admitted with a trigger that its grant does not have."),
        lie("another-reason", "decision", "The refusal does not name the ceiling that the dispatch did not fit under."),
    ],
};

pub(super) const REVOKED: Script = Script {
    id: "2-grant-revoked",
    write: revoked,
    lies: &[
        lie("admitted-after", "grant.covered", "A dispatch was admitted under a grant that had been revoked."),
        lie("runs-on", "ended-as-revoked", "What ran under the grant was never stopped, and completed."),
        lie("nobody-asked", "stopped-by-its-grant", "The run ended as revoked, and nobody had asked for a stop."),
    ],
};

pub(super) const ATTENUATED: Script = Script {
    id: "2-attenuation-shrinks",
    write: attenuated,
    lies: &[
        lie("wider-child", "decision", "A grant was derived that has a workspace mode its parent has not."),
        lie("orphan", "grant.covered", "A grant was derived from one that nobody ever gave."),
        lie("outlives-its-parent", "decision", "A dispatch was admitted under a grant whose parent had been revoked."),
        lie("refused-for-nothing", "decision", "A narrower grant was refused as wider."),
    ],
};

fn hello(n: u32) -> Value {
    json!({ "entrypoint": { "inline": format!("Hello {n}.") } })
}

/// Two launchers that may act for Jane and Omar, each of whom has a workspace.
pub(super) fn begun() -> Book {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane", "u_omar"]);
    book.register("calendar", 2, SignatureRule::Required, &["u_jane", "u_omar"]);
    for person in ["u_jane", "u_omar"] {
        book.workspace(WorkspaceEvent::Registered(WorkspaceRegistered {
            workspace: Workspace {
                id: custody_contracts::ids::WorkspaceId::parse(person).expect("an id"),
                bucket: "file:///srv/workspaces".into(),
                mode: Mode::Rw,
                encryption: Encryption::none(),
                purpose: "Notes.".into(),
                trunk: "main".into(),
            },
            owner: person.into(),
            members: Vec::new(),
            by: "operator:cli".into(),
        }));
    }
    book
}

pub(super) fn asked(book: &mut Book, launcher: &str, key: u8, n: u32, change: impl FnOnce(&mut Value)) -> LaunchLine {
    let mut ask = book.ask(launcher, &format!("m-{n:02}"), "u_jane", hello(n));
    change(&mut ask["data"]);
    book.launch(launcher, ask, key)
}

fn required(lie: &str) -> Book {
    let mut book = begun();
    let terms = book.terms("g-web", "web-chat", 1, "u_jane");
    book.grant(terms, None);
    // 41: calendar has none. 42: it may not use the web chat's either.
    let launch = asked(&mut book, "calendar", 2, 1, |_| {});
    if lie == "admitted-without" {
        book.admit_under(&launch, "")
    } else {
        book.decide(&launch)
    };
    let launch = asked(&mut book, "calendar", 2, 2, |_| {});
    if lie == "anothers-grant" {
        book.admit_under(&launch, "g-web")
    } else {
        book.decide(&launch)
    };
    // 43: by an event, which Jane did not grant. 44: with a tool that she did not grant.
    let launch = asked(&mut book, "web-chat", 1, 3, |unit| unit["trigger"] = json!("event"));
    if lie == "beyond-the-ceiling" {
        book.admit_under(&launch, "g-web")
    } else {
        book.decide(&launch)
    };
    let launch = asked(&mut book, "web-chat", 1, 4, |unit| unit["tools"] = json!(["workspace_list"]));
    book.decide(&launch);
    // 45: in the name of Omar, who granted nothing.
    let ask = book.ask("web-chat", "m-05", "u_omar", hello(5));
    let launch = book.launch("web-chat", ask, 1);
    if lie == "another-reason" {
        let said = ["GRANT_EXPIRED", "u_omar has given integration:web-chat no grant", "ask Omar"];
        super::stranger::refuse(&mut book, &launch, false, said, Some("u_omar"));
    } else {
        book.decide(&launch);
    }
    // 46: the honest one.
    let launch = asked(&mut book, "web-chat", 1, 6, |_| {});
    let honest = if lie == "not-checked-again" { book.admit_under(&launch, "") } else { book.decide(&launch) };
    book.claim(&honest, None);
    book.start(&honest, &container("the honest box"));
    book.call(&honest, 1);
    book.finish(&honest, Ending::completed(&container("the honest box"), "hello", 1));
    book.checkpoint();
    book
}

fn revoked(lie: &str) -> Book {
    let mut book = begun();
    let terms = book.terms("g-web", "web-chat", 1, "u_jane");
    book.grant(terms, None);
    let launch = asked(&mut book, "web-chat", 1, 1, |_| {});
    let running = book.decide(&launch);
    book.claim(&running, None);
    book.start(&running, &container("a box"));
    book.tick(5_000);
    book.revoke("g-web");
    if !matches!(lie, "runs-on" | "nobody-asked") {
        book.stop_revoked(&running, "g-web");
    }
    let mut ending = Ending::completed(&container("a box"), "half of it", 0);
    if lie != "runs-on" {
        ending.reason = StopReason::Revoked;
        ending.exit_code = Some(143);
    }
    book.finish(&running, ending);
    let launch = asked(&mut book, "web-chat", 1, 2, |_| {});
    if lie == "admitted-after" {
        book.admit_under(&launch, "g-web")
    } else {
        book.decide(&launch)
    };
    book.checkpoint();
    book
}

fn attenuated(lie: &str) -> Book {
    let mut book = begun();
    let mut wide = book.terms("g-wide", "web-chat", 1, "u_jane");
    wide.workspaces[0].mode = Mode::Propose;
    wide.tools = vec!["workspace_read".into()];
    book.grant(wide.clone(), None);
    let derived = |id: &str, change: &dyn Fn(&mut custody_contracts::grant::GrantTerms)| {
        let mut terms = wide.clone();
        terms.id = custody_contracts::ids::GrantId::parse(id).expect("an id");
        change(&mut terms);
        terms
    };
    let reads = derived("g-reads", &|t| t.workspaces[0].mode = Mode::Ro);
    if lie == "refused-for-nothing" {
        book.refuse_grant(reads.clone(), Some("g-wide"), ["GRANT_WIDER", "workspaces: it is wider", "leave it out"]);
    }
    book.grant(reads, Some("g-wide"));
    let writes = derived("g-writes", &|t| t.workspaces[0].mode = Mode::Rw);
    if lie == "wider-child" {
        book.grant_anyway(writes, Some("g-wide"));
    } else {
        book.grant(writes, Some("g-wide"));
    }
    let sends = derived("g-sends", &|t| t.tools = vec!["workspace_write".into()]);
    book.grant(sends, Some("g-wide"));
    let orphan = derived("g-orphan", &|_| {});
    if lie == "orphan" {
        book.grant_anyway(orphan, Some("g-nobody"));
    } else {
        book.grant(orphan, Some("g-nobody"));
    }
    // 41: the first grant that covers it is used. 42: after that one is revoked none does, the derived one neither.
    let ro = |unit: &mut Value| unit["workspaces"][0]["mode"] = json!("ro");
    let launch = asked(&mut book, "web-chat", 1, 1, ro);
    let first = book.decide(&launch);
    book.claim(&first, None);
    book.start(&first, &container("a box"));
    book.finish(&first, Ending::completed(&container("a box"), "read it", 0));
    book.revoke("g-wide");
    let launch = asked(&mut book, "web-chat", 1, 2, ro);
    if lie == "outlives-its-parent" {
        book.admit_under(&launch, "g-reads")
    } else {
        book.decide(&launch)
    };
    book.checkpoint();
    book
}
