//! The runtime dies between every two steps of a run and comes back: every dispatch has exactly one terminal event.

use super::{Script, lie};
use crate::book::{Book, Ending, Ticket, container};
use custody_contracts::box_protocol::ExitReason;
use custody_contracts::events::{SignatureRule, StopReason};
use custody_domain::run::{Ended, verdict};
use serde_json::json;

pub(super) const SCRIPT: Script = Script {
    id: "1-crash-one-terminal",
    write,
    lies: &[
        lie(
            "second-terminal",
            "run.terminal",
            "After the restart the runtime recorded an end that was recorded before.",
        ),
        lie("no-terminal", "one-end-each", "The run that was cut after its start never got an end."),
        lie("goes-on-after-end", "run.terminal", "After its terminal event the dispatch started once more."),
        lie("claimed-by-another", "decision", "After the crash a second runtime claimed what the first one held."),
        lie("end-of-another-attempt", "decision", "The end was recorded for an attempt that nobody claimed."),
        lie("two-ends-two-reasons", "one-end-each", "One dispatch is both failed and completed."),
    ],
};

/// Where the runtime died.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Before it claimed: another loop, or itself, claims later.
    BeforeClaim,
    /// After the claim, before the container was made.
    AfterClaim,
    /// After the container ran, before that was recorded.
    BeforeStarted,
    /// After the start was recorded; the box went on and ended by itself.
    AfterStarted,
    /// The box was removed while the runtime was away.
    BoxGone,
    /// The deadline passed while the runtime was away.
    PastDeadline,
    /// A stop was asked for while the runtime was away, before anything started.
    StoppedBeforeStart,
}

const CUTS: [(Cut, &str); 7] = [
    (Cut::BeforeClaim, "m-01"),
    (Cut::AfterClaim, "m-02"),
    (Cut::BeforeStarted, "m-03"),
    (Cut::AfterStarted, "m-04"),
    (Cut::BoxGone, "m-05"),
    (Cut::PastDeadline, "m-06"),
    (Cut::StoppedBeforeStart, "m-07"),
];

fn write(lie: &str) -> Book {
    let mut book = Book::new();
    book.register("web-chat", 1, SignatureRule::Required, &["u_jane"]);
    let mut runs = Vec::new();
    for (cut, id) in CUTS {
        let ask = book.ask("web-chat", id, "u_jane", json!({ "entrypoint": { "inline": "Work for a while." } }));
        let launch = book.launch("web-chat", ask, 1);
        runs.push((cut, id, book.decide(&launch)));
    }
    for (cut, id, ticket) in &runs {
        if *cut == Cut::BeforeClaim {
            continue;
        }
        book.claim(ticket, None);
        if matches!(cut, Cut::AfterStarted | Cut::BoxGone | Cut::PastDeadline) {
            book.start(ticket, &container(id));
            book.call(ticket, 1);
        }
    }
    // Here the runtime dies. Authority goes on.
    for (cut, _, ticket) in &runs {
        if *cut == Cut::StoppedBeforeStart {
            book.stop(ticket);
        }
    }
    book.checkpoint();
    book.tick(60_000);
    // Here it comes back, with the same name, and takes up what it finds.
    for (cut, id, ticket) in &runs {
        resume(&mut book, *cut, id, ticket, lie);
    }
    tell_more(&mut book, &runs, lie);
    book.checkpoint();
    book
}

fn resume(book: &mut Book, cut: Cut, id: &str, ticket: &Ticket, lie: &str) {
    if lie == "claimed-by-another" && cut == Cut::AfterClaim {
        book.claim_with(ticket, None, |claim| claim.runtime = "runtime-2".into());
    }
    if cut == Cut::BeforeClaim {
        book.claim(ticket, None);
    }
    if matches!(cut, Cut::BeforeClaim | Cut::AfterClaim | Cut::BeforeStarted) {
        book.start(ticket, &container(id));
        book.call(ticket, 1);
    }
    if lie == "no-terminal" && cut == Cut::AfterStarted {
        return;
    }
    let seen = match cut {
        Cut::BoxGone => Ended::default(),
        Cut::PastDeadline => Ended { code: Some(137), past_deadline: true, ..Ended::default() },
        Cut::StoppedBeforeStart => Ended { stop: Some(StopReason::Stopped), ..Ended::default() },
        _ => Ended { code: Some(0), said: Some(ExitReason::Completed), result: true, ..Ended::default() },
    };
    let (reason, detail) = verdict(&seen);
    let boxed = cut != Cut::StoppedBeforeStart;
    let whole = seen.said == Some(ExitReason::Completed);
    book.finish(
        ticket,
        Ending {
            reason,
            detail,
            container: boxed.then(|| container(id)),
            exit_code: seen.code,
            session: whole.then(|| format!("session of {id}")),
            frames: if boxed { 4 } else { 0 },
            tokens: None,
            calls: u64::from(boxed),
            attempt: if lie == "end-of-another-attempt" && cut == Cut::AfterClaim { 2 } else { 1 },
        },
    );
}

/// What a runtime that forgot its own log would add.
fn tell_more(book: &mut Book, runs: &[(Cut, &str, Ticket)], lie: &str) {
    let of = |wanted: Cut| runs.iter().find(|(cut, ..)| *cut == wanted).expect("a run");
    match lie {
        "second-terminal" => {
            let (_, id, ticket) = of(Cut::AfterStarted);
            book.finish(ticket, Ending::completed(&container(id), &format!("session of {id}"), 1));
        }
        "two-ends-two-reasons" => {
            let (_, id, ticket) = of(Cut::BoxGone);
            book.finish(ticket, Ending::completed(&container(id), &format!("session of {id}"), 1));
        }
        "goes-on-after-end" => {
            let (_, id, ticket) = of(Cut::StoppedBeforeStart);
            book.start(ticket, &container(id));
        }
        _ => {}
    }
}
