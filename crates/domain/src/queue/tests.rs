//! Tables of who comes next and why not, and properties: nobody starves, and what every runtime computes is the same.

use super::{
    Caps, Claim, Entry, Load, Policy, Rules, Served, WaitsFor, holds_place, next, room, superseded, waits_for,
};
use proptest::prelude::*;
use rstest::rstest;
use std::collections::{BTreeMap, BTreeSet};

/// `seq:subject/launcher/session`; the dispatch is named after its sequence.
fn entries(text: &'static str) -> Vec<Entry<'static>> {
    let entry = |word: &'static str| {
        let (id, rest) = word.split_once(':').unwrap();
        let mut parts = rest.split('/');
        let mut part = || parts.next().unwrap();
        Entry { seq: id.parse().unwrap(), id, subject: part(), launcher: part(), session: part() }
    };
    text.split_whitespace().map(entry).collect()
}

fn served(text: &str) -> Served {
    let mut served = Served::default();
    for word in text.split_whitespace() {
        let (seq, who) = word.split_once(':').unwrap();
        let (subject, launcher) = who.split_once('/').unwrap();
        served.note(subject, launcher, seq.parse().unwrap());
    }
    served
}

const NO_CAPS: Caps = Caps { per_subject: None, per_launcher: None };
const ONE_EACH: Caps = Caps { per_subject: Some(1), per_launcher: None };
const ONE_BY_LAUNCHER: Caps = Caps { per_subject: None, per_launcher: Some(1) };

#[rstest]
#[case::nothing("", "", "", NO_CAPS, None)]
#[case::the_oldest("2:jane/web/a 1:jane/web/b", "", "", NO_CAPS, Some("1"))]
#[case::who_was_served_longer_ago("5:jane/web/a 6:omar/web/b", "", "9:jane/web", NO_CAPS, Some("6"))]
#[case::who_is_new_comes_behind_who_waits("5:jane/web/a 6:omar/web/b", "", "4:jane/web", NO_CAPS, Some("5"))]
#[case::a_flood_takes_one_place(
    "1:jane/web/a 2:jane/web/b 3:jane/web/c 4:omar/web/d",
    "",
    "10:jane/web",
    NO_CAPS,
    Some("4")
)]
#[case::launchers_of_one_person_too("1:jane/web/a 2:jane/web/b 3:jane/mail/c", "", "10:jane/web", NO_CAPS, Some("3"))]
#[case::a_launcher_is_another_ones_for_another_person(
    "3:jane/web/a 4:jane/mail/b",
    "",
    "9:omar/mail",
    NO_CAPS,
    Some("3")
)]
#[case::one_turn_of_a_session_at_once("2:jane/web/a 3:omar/web/b", "1:jane/web/a", "", NO_CAPS, Some("3"))]
#[case::turns_of_a_session_in_order("3:jane/web/a 2:jane/mail/a", "", "9:jane/mail", NO_CAPS, Some("2"))]
#[case::an_earlier_turn_that_waits_holds_the_later_one("2:jane/web/a 3:omar/web/a", "1:jane/web/x", "", ONE_EACH, None)]
#[case::at_the_persons_cap("2:jane/web/a 3:omar/web/b", "1:jane/web/x", "", ONE_EACH, Some("3"))]
#[case::below_the_persons_cap("2:jane/web/a", "1:omar/web/x", "", ONE_EACH, Some("2"))]
#[case::at_the_launchers_cap("2:jane/web/a 3:jane/mail/b", "1:omar/web/x", "", ONE_BY_LAUNCHER, Some("3"))]
#[case::nobody_may("2:jane/web/a", "1:jane/web/x", "", ONE_EACH, None)]
fn who_is_next(
    #[case] waiting: &'static str,
    #[case] running: &'static str,
    #[case] before: &str,
    #[case] caps: Caps,
    #[case] expected: Option<&str>,
) {
    let found = next(&entries(waiting), &entries(running), &served(before), &caps);
    assert_eq!(found.map(|e| e.id), expected);
}

#[rstest]
#[case::places("1:jane/web/a 2:jane/web/b 3:omar/web/c", "", NO_CAPS, &[("1", WaitsFor::Place(1)), ("2", WaitsFor::Place(3)), ("3", WaitsFor::Place(2))])]
#[case::a_turn_that_runs("2:jane/web/a", "1:jane/web/a", NO_CAPS, &[("2", WaitsFor::Turn("1"))])]
#[case::a_turn_that_waits("2:jane/web/a 3:jane/web/a", "", NO_CAPS, &[("2", WaitsFor::Place(1)), ("3", WaitsFor::Turn("2"))])]
#[case::both("2:jane/web/a 3:jane/web/a", "1:jane/web/a", NO_CAPS, &[("2", WaitsFor::Turn("1")), ("3", WaitsFor::Turn("1"))])]
#[case::a_persons_cap("2:jane/web/a 3:omar/web/b", "1:jane/web/x", ONE_EACH, &[("2", WaitsFor::Subject(1)), ("3", WaitsFor::Place(1))])]
#[case::a_launchers_cap("2:jane/web/a 3:jane/mail/b", "1:omar/web/x", ONE_BY_LAUNCHER, &[("2", WaitsFor::Launcher(1)), ("3", WaitsFor::Place(1))])]
fn why_it_waits(
    #[case] waiting: &'static str,
    #[case] running: &'static str,
    #[case] caps: Caps,
    #[case] expected: &[(&str, WaitsFor<'_>)],
) {
    let (waiting, running) = (entries(waiting), entries(running));
    let found = waits_for(&waiting, &running, &Served::default(), &caps);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
}

fn claim(claimed: u64, text: &'static str) -> Claim<'static> {
    Claim { claimed, entry: entries(text)[0] }
}

#[rstest]
#[case::alone(&[], ONE_EACH, true)]
#[case::the_earlier_claim_has_the_place(&[(5, "1:jane/web/x")], ONE_EACH, false)]
#[case::a_later_claim_does_not_take_it(&[(11, "1:jane/web/x")], ONE_EACH, true)]
#[case::another_person(&[(5, "1:omar/web/x")], ONE_EACH, true)]
#[case::the_launchers(&[(5, "1:omar/web/x")], ONE_BY_LAUNCHER, false)]
#[case::an_earlier_claim_of_the_session(&[(5, "1:omar/mail/a")], NO_CAPS, false)]
#[case::no_caps(&[(5, "1:jane/web/x"), (6, "2:jane/web/y")], NO_CAPS, true)]
fn a_claim_has_its_place(#[case] others: &[(u64, &'static str)], #[case] caps: Caps, #[case] expected: bool) {
    let own = claim(10, "3:jane/web/a");
    let mut claims: Vec<Claim<'_>> = others.iter().map(|(at, text)| claim(*at, text)).collect();
    claims.push(own);
    assert_eq!(holds_place(&own, &claims, &caps), expected);
}

const RULES: Rules = Rules {
    caps: Caps { per_subject: Some(2), per_launcher: Some(3) },
    policy: Policy::Queue,
    waiting_max: 10,
    waiting_per_launcher_max: 5,
};
const REJECT: Rules = Rules { policy: Policy::Reject, ..RULES };
const CANCEL: Rules = Rules { policy: Policy::CancelOld, ..RULES };

fn load(waiting: usize, waiting_of_launcher: usize, open_of_subject: usize, open_of_launcher: usize) -> Load {
    Load { waiting, waiting_of_launcher, open_of_subject, open_of_launcher }
}

#[rstest]
#[case::empty(load(0, 0, 0, 0), REJECT, None)]
#[case::one_below_the_queue(load(9, 4, 0, 0), RULES, None)]
#[case::the_queue_is_full(load(10, 0, 0, 0), RULES, Some("QUEUE_FULL"))]
#[case::the_launchers_share_is_full(load(5, 5, 0, 0), RULES, Some("QUEUE_FULL"))]
#[case::full_whatever_the_policy(load(10, 0, 0, 0), CANCEL, Some("QUEUE_FULL"))]
#[case::a_cap_makes_it_wait(load(0, 0, 9, 9), RULES, None)]
#[case::a_cap_makes_another_give_way(load(0, 0, 9, 9), CANCEL, None)]
#[case::one_below_the_cap(load(0, 0, 1, 2), REJECT, None)]
#[case::at_the_persons_cap(load(0, 0, 2, 0), REJECT, Some("LIMIT_REACHED"))]
#[case::at_the_launchers_cap(load(0, 0, 0, 3), REJECT, Some("LIMIT_REACHED"))]
#[case::no_cap(load(0, 0, 9, 9), Rules { caps: NO_CAPS, ..REJECT }, None)]
fn one_more(#[case] load: Load, #[case] rules: Rules, #[case] expected: Option<&str>) {
    let found = room(&load, &rules);
    assert_eq!(found.as_ref().err().map(|refusal| refusal.code), expected, "{found:?}");
    if let Err(refusal) = found {
        assert!(refusal.hint.contains("again in 30 s under another message id"), "{refusal:?}");
    }
}

#[rstest]
#[case::within(&[(1, "a"), (2, "b")], CANCEL, &[])]
#[case::one_beyond(&[(3, "c"), (1, "a"), (2, "b")], CANCEL, &["a"])]
#[case::many_beyond(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")], CANCEL, &["a", "b"])]
#[case::another_policy(&[(1, "a"), (2, "b"), (3, "c")], RULES, &[])]
fn who_gives_way(#[case] open: &[(u64, &str)], #[case] rules: Rules, #[case] expected: &[&str]) {
    assert_eq!(superseded(open, rules.caps.per_subject, &rules), expected);
    assert!(superseded(open, None, &rules).is_empty());
}

/// Owned, so that a strategy can make it.
type Waiting = (u8, u8, u8);

fn queue(waiting: &[Waiting]) -> Vec<(String, String, String, String)> {
    let name = |(index, (subject, launcher, session)): (usize, &Waiting)| {
        (format!("d-{index}"), format!("u{subject}"), format!("l{launcher}"), format!("s{session}"))
    };
    waiting.iter().enumerate().map(name).collect()
}

fn borrowed(queue: &[(String, String, String, String)]) -> Vec<Entry<'_>> {
    // Even sequences, so that a claim fits between two admissions.
    let numbered = queue.iter().enumerate().map(|(index, row)| (2 * (index as u64 + 1), row));
    numbered.map(|(seq, (id, subject, launcher, session))| Entry { seq, id, subject, launcher, session }).collect()
}

proptest! {
    #[test]
    fn everybody_comes_and_the_places_told_are_the_order_kept(waiting in prop::collection::vec((0u8..4, 0u8..3, 0u8..200), 0..40)) {
        let owned = queue(&waiting);
        let mut left = borrowed(&owned);
        let mut served = Served::default();
        let mut clock = 1_000;
        let told = waits_for(&left, &[], &served, &NO_CAPS);
        let mut order = Vec::new();
        while let Some(entry) = next(&left, &[], &served, &NO_CAPS) {
            clock += 1;
            served.note(entry.subject, entry.launcher, clock);
            left.retain(|e| e.id != entry.id);
            order.push(entry.id);
        }
        prop_assert!(left.is_empty(), "never served: {left:?}");
        let sessions: BTreeSet<u8> = waiting.iter().map(|w| w.2).collect();
        // With a session for each nobody holds another one up, and the places are exact.
        if sessions.len() == waiting.len() {
            let places: BTreeMap<&str, usize> = order.iter().enumerate().map(|(n, id)| (*id, n + 1)).collect();
            for (id, reason) in told {
                prop_assert_eq!(reason, WaitsFor::Place(places[id]));
            }
        }
    }

    #[test]
    fn who_waits_is_served_within_one_round_whatever_comes_after(
        before in prop::collection::vec((0u8..6, 0u8..3), 0..30),
        flood in prop::collection::vec((0u8..12, 0u8..3), 60),
    ) {
        // Everybody has a session of their own. The patient one has one dispatch; others keep coming, one for each claim.
        let mut names: Vec<(String, String, String, String)> = Vec::new();
        let push = |names: &mut Vec<(String, String, String, String)>, subject: String, launcher: u8| {
            let n = names.len();
            names.push((format!("d-{n}"), subject, format!("l{launcher}"), format!("s{n}")));
        };
        before.iter().for_each(|(s, l)| push(&mut names, format!("u{s}"), *l));
        push(&mut names, "patient".into(), 0);
        let first = names.len();
        flood.iter().for_each(|(s, l)| push(&mut names, format!("u{s}"), *l));
        let all = borrowed(&names);
        let persons: BTreeSet<&str> = all[..first].iter().map(|e| e.subject).collect();
        let mut left: Vec<Entry<'_>> = all[..first].to_vec();
        let mut served = Served::default();
        let mut claims = 0;
        for newcomer in &all[first..] {
            let Some(entry) = next(&left, &[], &served, &NO_CAPS) else { break };
            claims += 1;
            if entry.subject == "patient" {
                break;
            }
            // A claim's sequence is above every admission before it and below every one after it.
            served.note(entry.subject, entry.launcher, newcomer.seq - 1);
            left.retain(|e| e.id != entry.id);
            left.push(*newcomer);
        }
        prop_assert!(claims <= persons.len(), "{claims} claims with {} persons", persons.len());
    }

    #[test]
    fn two_who_flood_get_the_same_share(jane in 5usize..30, omar in 5usize..30) {
        let owned = queue(&(0..jane + omar).map(|n| (u8::from(n >= jane), 0, u8::try_from(n).unwrap())).collect::<Vec<_>>());
        let mut left = borrowed(&owned);
        let mut served = Served::default();
        let mut counts = BTreeMap::from([("u0", 0usize), ("u1", 0)]);
        for clock in 0..2 * jane.min(omar) {
            let entry = next(&left, &[], &served, &NO_CAPS).unwrap();
            served.note(entry.subject, entry.launcher, 1_000 + clock as u64);
            left.retain(|e| e.id != entry.id);
            *counts.get_mut(entry.subject).unwrap() += 1;
            prop_assert!(counts["u0"].abs_diff(counts["u1"]) <= 1, "{counts:?}");
        }
    }

    #[test]
    fn caps_and_sessions_hold_whatever_runs(
        waiting in prop::collection::vec((0u8..3, 0u8..3, 0u8..5), 0..30),
        caps in (prop::option::of(1usize..3), prop::option::of(1usize..3)),
    ) {
        let caps = Caps { per_subject: caps.0, per_launcher: caps.1 };
        let owned = queue(&waiting);
        let mut left = borrowed(&owned);
        let mut running: Vec<Entry<'_>> = Vec::new();
        while let Some(entry) = next(&left, &running, &Served::default(), &caps) {
            left.retain(|e| e.id != entry.id);
            running.push(entry);
            let most = |count: &dyn Fn(&Entry<'_>) -> bool| running.iter().filter(|e| count(e)).count();
            prop_assert!(caps.per_subject.is_none_or(|cap| most(&|e| e.subject == entry.subject) <= cap));
            prop_assert!(caps.per_launcher.is_none_or(|cap| most(&|e| e.launcher == entry.launcher) <= cap));
            prop_assert_eq!(most(&|e| e.session == entry.session), 1);
        }
        // And every one that still waits is told why.
        let reasons = waits_for(&left, &running, &Served::default(), &caps);
        prop_assert_eq!(reasons.len(), left.len());
    }
}
