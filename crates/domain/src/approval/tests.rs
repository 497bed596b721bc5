//! Tables of given, when, then: each decision that is not taken beside one that is.

use super::*;
use crate::tests::{check, golden};
use custody_contracts::events::{EffectEvent, LedgerEvent};
use rstest::rstest;

const SHOWN: &str = "sha256:1d86a9a75e7c54f39f36598a97cffa9ed8a6a1909e651076b4b9af759114cfb7";
const OTHER: &str = "sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";
const EXPIRES: u64 = 1_790_000_000_000;

fn awaiting() -> ToolAwaiting {
    match golden("ToolAwaiting", &[]) {
        LedgerEvent::Effect(EffectEvent::ToolAwaiting(e)) => *e,
        other => panic!("{other:?}"),
    }
}

/// A decision in few words: `approve`, `approve other`, `edit`, `reject`, `defer`, and `@2` for a version.
fn decide(words: &str) -> Decide {
    let (words, version) = words.split_once(" @").map_or((words, 1), |(w, v)| (w, v.parse().unwrap()));
    let mut decide = Decide {
        awaiting: awaiting(),
        version,
        choice: Choice::Approve,
        by: Subject::parse("u_jane").unwrap(),
        args_digest: None,
        reason: None,
        until: None,
        now: UnixMillis(EXPIRES - 1_000),
    };
    match words {
        "approve" => decide.args_digest = Some(SHOWN.into()),
        "approve other" => decide.args_digest = Some(OTHER.into()),
        "approve nothing" => {}
        "edit" => (decide.choice, decide.args_digest) = (Choice::Edit, Some(OTHER.into())),
        "edit to the same" => (decide.choice, decide.args_digest) = (Choice::Edit, Some(SHOWN.into())),
        "reject" => (decide.choice, decide.reason) = (Choice::Reject, Some("no".into())),
        "reject without a word" => (decide.choice, decide.reason) = (Choice::Reject, Some(String::new())),
        "reject at length" => (decide.choice, decide.reason) = (Choice::Reject, Some("x".repeat(REASON_CHARS_MAX))),
        "reject too long" => (decide.choice, decide.reason) = (Choice::Reject, Some("x".repeat(REASON_CHARS_MAX + 1))),
        "defer" => (decide.choice, decide.until) = (Choice::Defer, Some(UnixMillis(EXPIRES - 1))),
        "defer beyond" => (decide.choice, decide.until) = (Choice::Defer, Some(UnixMillis(EXPIRES))),
        "defer back" => (decide.choice, decide.until) = (Choice::Defer, Some(UnixMillis(EXPIRES - 1_000))),
        other => panic!("{other}"),
    }
    decide
}

fn event(words: &str) -> OfApproval {
    if words == "expired" {
        return OfApproval(ApprovalEvent::Expired(ApprovalExpired {
            card: awaiting().card(),
            dispatch: awaiting().dispatch,
            version: 1,
            expired_at: UnixMillis(EXPIRES),
        }));
    }
    let Decide { awaiting, version, choice, by, args_digest, reason, until, .. } = decide(words);
    let (card, dispatch) = (awaiting.card(), awaiting.dispatch);
    OfApproval(ApprovalEvent::Decided(ApprovalDecided {
        card,
        dispatch,
        version,
        decision: choice,
        by,
        args_digest,
        reason,
        until,
    }))
}

#[rstest]
#[case::approve(&[], "approve", "approve")]
#[case::other_arguments_than_shown(&[], "approve other", "other arguments")]
#[case::without_saying_what(&[], "approve nothing", "names the digest")]
#[case::edit(&[], "edit", "edit")]
#[case::an_edit_that_changes_nothing(&[], "edit to the same", "")]
#[case::approve_an_edit(&["edit"], "approve other @2", "approve other @2")]
#[case::approve_what_was_edited_away(&["edit"], "approve @2", "other arguments")]
#[case::approve_the_version_before(&["edit"], "approve", "version 1 was shown")]
#[case::a_version_that_is_not_there(&[], "approve @2", "version 2 was shown")]
#[case::reject(&[], "reject", "reject")]
#[case::reject_without_a_word(&[], "reject without a word", "a rejection has a reason")]
#[case::the_longest_reason(&[], "reject at length", "reject at length")]
#[case::a_longer_one(&[], "reject too long", "a rejection has a reason")]
#[case::defer(&[], "defer", "defer")]
#[case::defer_beyond_its_time(&[], "defer beyond", "put off only until")]
#[case::defer_into_the_past(&[], "defer back", "put off only until")]
#[case::approve_what_was_deferred(&["defer"], "approve", "approve")]
#[case::twice(&["approve"], "approve", "")]
#[case::reject_twice(&["reject"], "reject", "")]
#[case::reject_after_an_approval(&["approve"], "reject", "decided already: approved")]
#[case::approve_after_a_rejection(&["reject"], "approve", "decided already: rejected")]
#[case::edit_after_an_approval(&["approve"], "edit", "decided already: approved")]
#[case::after_its_end(&["expired"], "approve", "its time was up")]
fn a_decision_is_taken_once_and_about_what_was_shown(
    #[case] history: &[&str],
    #[case] command: &str,
    #[case] expected: &str,
) {
    let history: Vec<_> = history.iter().map(|w| event(w)).collect();
    let state = history.iter().fold(ApprovalState::default(), Approvals::evolve);
    match Approvals::decide(&state, ApprovalCommand::Decide(Box::new(decide(command)))) {
        Ok(events) if expected.is_empty() => assert_eq!(events, []),
        Ok(events) => assert_eq!(events, [event(expected)]),
        Err(refusal) => assert!(!expected.is_empty() && refusal.to_string().contains(expected), "{refusal}"),
    }
}

#[rstest]
#[case::the_person("u_jane", 0, true)]
#[case::a_stranger("u_eve", 0, false)]
#[case::at_its_end("u_jane", EXPIRES, true)]
#[case::after_its_end("u_jane", EXPIRES + 1, false)]
fn only_somebody_who_may_decides_and_in_time(#[case] by: &str, #[case] now: u64, #[case] good: bool) {
    let asked = Decide { by: Subject::parse(by).unwrap(), now: UnixMillis(now), ..decide("approve") };
    let found = Approvals::decide(&ApprovalState::default(), ApprovalCommand::Decide(Box::new(asked)));
    assert_eq!(found.is_ok(), good, "{found:?}");
}

#[rstest]
#[case::in_time(&[], EXPIRES, Err(ApprovalRefusal::NotYet))]
#[case::after(&[], EXPIRES + 1, Ok(vec!["expired"]))]
#[case::approved_before(&["approve"], EXPIRES + 1, Ok(vec![]))]
#[case::once(&["expired"], EXPIRES + 1, Ok(vec![]))]
fn what_nobody_decided_ends(
    #[case] history: &[&str],
    #[case] now: u64,
    #[case] expected: Result<Vec<&str>, ApprovalRefusal>,
) {
    let history: Vec<_> = history.iter().map(|w| event(w)).collect();
    let command = ApprovalCommand::Expire { awaiting: Box::new(awaiting()), now: UnixMillis(now) };
    check::<Approvals>(&history, command, expected.map(|words| words.into_iter().map(event).collect()));
}

#[rstest]
#[case::edits("edit", VERSIONS_MAX - 1)]
#[case::deferrals("defer", DEFERRALS_MAX)]
fn a_card_is_edited_and_deferred_so_often_and_no_more(#[case] words: &str, #[case] most: u32) {
    let mut state = ApprovalState::default();
    let ask = |state: &ApprovalState, n: u32| {
        let mut asked = decide(words);
        asked.version = state.version();
        if words == "edit" {
            asked.args_digest = Some(format!("sha256:{n:064}"));
        }
        Approvals::decide(state, ApprovalCommand::Decide(Box::new(asked)))
    };
    for n in 0..most {
        let events = ask(&state, n).unwrap();
        state = events.iter().fold(state, Approvals::evolve);
    }
    assert_eq!(ask(&state, most), Err(ApprovalRefusal::TooOften(100)));
}
