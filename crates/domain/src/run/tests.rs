//! Tables of given, when, then.

use super::{Ended, Run, RunCommand, RunRefusal, RunState, container_name, verdict};
use crate::events::OfRun;
use crate::tests::{carried_out, check, given, golden};
use custody_contracts::box_protocol::{EXIT_GATEWAY_LOST, EXIT_IDLE, EXIT_MAX_LIFETIME, EXIT_STOPPED, ExitReason};
use custody_contracts::events::{LedgerEvent, RunEvent, StopReason};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

fn event(shape: &str, changes: &[(&str, Value)]) -> OfRun {
    match golden(shape, changes) {
        LedgerEvent::Run(event) => OfRun(event),
        other => panic!("{other:?}"),
    }
}

fn claimed(by: &str, attempt: u32) -> OfRun {
    event("RunClaimed", &[("runtime", json!(by)), ("attempt", json!(attempt))])
}
fn started(attempt: u32) -> OfRun {
    event("RunStarted", &[("attempt", json!(attempt))])
}
fn finished(attempt: u32) -> OfRun {
    event("RunFinished", &[("attempt", json!(attempt))])
}

/// The command that leads to an event.
fn to(event: OfRun) -> RunCommand {
    match event.0 {
        RunEvent::Claimed(e) => RunCommand::Claim(e),
        RunEvent::Started(e) => RunCommand::Start(e),
        RunEvent::Finished(e) => RunCommand::Finish(e),
    }
}

type Decided = Result<Vec<OfRun>, RunRefusal>;
const fn wrong(asked: u32, current: u32) -> Decided {
    Err(RunRefusal::WrongAttempt { asked, current })
}
fn others() -> Decided {
    Err(RunRefusal::ClaimedByOther("r1".into()))
}

#[rstest]
#[case::claim(&[], claimed("r1", 1), Ok(vec![claimed("r1", 1)]))]
#[case::claim_again(&[claimed("r1", 1)], claimed("r1", 1), Ok(vec![]))]
#[case::claim_again_while_it_runs(&[claimed("r1", 1), started(1)], claimed("r1", 2), Ok(vec![]))]
#[case::claim_anothers(&[claimed("r1", 1)], claimed("r2", 1), others())]
#[case::claim_anothers_while_it_runs(&[claimed("r1", 1), started(1)], claimed("r2", 2), others())]
#[case::claim_what_ended(&[claimed("r1", 1), finished(1)], claimed("r1", 2), Err(RunRefusal::AlreadyFinished))]
#[case::start(&[claimed("r1", 1)], started(1), Ok(vec![started(1)]))]
#[case::start_again(&[claimed("r1", 1), started(1)], started(1), Ok(vec![]))]
#[case::start_what_nobody_claimed(&[], started(1), Err(RunRefusal::NotClaimed))]
#[case::start_another_attempt(&[claimed("r1", 1)], started(2), wrong(2, 1))]
#[case::start_what_ended(&[claimed("r1", 1), started(1), finished(1)], started(1), Err(RunRefusal::AlreadyFinished))]
#[case::finish(&[claimed("r1", 1), started(1)], finished(1), Ok(vec![finished(1)]))]
#[case::finish_what_never_ran(&[claimed("r1", 1)], finished(1), Ok(vec![finished(1)]))]
#[case::finish_twice(&[claimed("r1", 1), finished(1)], finished(1), Err(RunRefusal::AlreadyFinished))]
#[case::finish_what_nobody_claimed(&[], finished(1), Err(RunRefusal::NotClaimed))]
#[case::finish_another_attempt(&[claimed("r1", 1), started(1)], finished(2), wrong(2, 1))]
fn decide(#[case] history: &[OfRun], #[case] command: OfRun, #[case] expected: Decided) {
    check::<Run>(history, to(command), expected);
}

#[rstest]
#[case::unclaimed(&[], 0)]
#[case::claimed(&[claimed("r1", 3)], 3)]
#[case::running(&[claimed("r1", 3), started(3)], 3)]
#[case::ended(&[claimed("r1", 3), finished(3)], 3)]
fn the_state_knows_its_attempt(#[case] history: &[OfRun], #[case] expected: u32) {
    assert_eq!(given::<Run>(history).attempt(), expected);
}

fn any_event() -> impl Strategy<Value = OfRun> {
    let attempt = 1u32..3;
    prop_oneof![
        ("r[12]", attempt.clone()).prop_map(|(by, n)| claimed(&by, n)),
        attempt.clone().prop_map(started),
        attempt.prop_map(finished),
    ]
}

fn terminal(events: &[OfRun]) -> usize {
    events.iter().filter(|e| matches!(e.0, RunEvent::Finished(_))).count()
}

proptest! {
    #[test]
    fn there_is_at_most_one_last_event_and_nothing_after_it(commands in prop::collection::vec(any_event(), 0..40)) {
        let events = carried_out::<Run>(commands.into_iter().map(to).collect());
        prop_assert!(terminal(&events) <= 1);
        if terminal(&events) == 1 {
            prop_assert!(matches!(events.last().map(|e| &e.0), Some(RunEvent::Finished(_))));
        }
        if let Some(first) = events.first() {
            prop_assert!(matches!(first.0, RunEvent::Claimed(_)));
        }
        prop_assert!(events.len() <= 3, "claimed, started, finished");
    }

    #[test]
    fn evolve_takes_every_order_of_events_and_what_ended_stays_so(events in prop::collection::vec(any_event(), 0..40)) {
        let state = given::<Run>(&events);
        prop_assert_eq!(matches!(state, RunState::Finished(_)), terminal(&events) > 0);
        let first = events.iter().find_map(|e| match &e.0 {
            RunEvent::Finished(f) => Some(f.clone()),
            RunEvent::Claimed(_) | RunEvent::Started(_) => None,
        });
        if let Some(first) = first {
            prop_assert_eq!(state, RunState::Finished(first));
        }
    }

    #[test]
    fn a_verdict_is_success_only_for_exit_code_0_and_the_workers_own_word(ended in any_ending()) {
        let (reason, detail) = verdict(&ended);
        if reason == StopReason::Completed {
            prop_assert_eq!((ended.code, ended.said, ended.oom), (Some(0), Some(ExitReason::Completed), false));
            prop_assert_eq!(detail, None);
        }
        prop_assert!(!ended.oom || reason == StopReason::Oom);
        prop_assert!(reason != StopReason::StartFailed);
        // Nothing ends for a budget or a revocation that nobody spoke of.
        let spoken = ended.stop == Some(reason) || (reason == StopReason::Budget && (ended.limit_reached || ended.exhausted));
        prop_assert!(!matches!(reason, StopReason::Revoked | StopReason::Budget) || spoken);
    }
}

fn any_ending() -> impl Strategy<Value = Ended> {
    let said = prop_oneof![
        Just(ExitReason::Completed),
        Just(ExitReason::Failed),
        Just(ExitReason::IdleTimeout),
        Just(ExitReason::MaxLifetime),
        Just(ExitReason::Stopped),
        Just(ExitReason::GatewayLost),
    ];
    let code = prop_oneof![Just(0i64), Just(1), 110i64..114, Just(120), Just(137), Just(143), any::<i64>()];
    let stop = prop_oneof![Just(StopReason::Stopped), Just(StopReason::Budget), Just(StopReason::Revoked)];
    (prop::option::of(code), any::<bool>(), prop::option::of(said), any::<[bool; 4]>(), prop::option::of(stop))
        .prop_map(|(code, oom, said, [result, limit_reached, past_deadline, exhausted], stop)| Ended {
            code,
            oom,
            said,
            said_detail: None,
            result,
            limit_reached,
            stop,
            past_deadline,
            exhausted,
        })
}

fn ended(code: impl Into<Option<i64>>, said: Option<ExitReason>) -> Ended {
    Ended { code: code.into(), said, ..Ended::default() }
}

#[rstest]
#[case::did_its_work(ended(0, Some(ExitReason::Completed)), StopReason::Completed, None)]
#[case::did_its_work_and_was_asked_to_stop_too_late(Ended { stop: Some(StopReason::Stopped), ..ended(0, Some(ExitReason::Completed)) }, StopReason::Completed, None)]
#[case::exit_0_without_a_word(ended(0, None), StopReason::Failed, Some("never said that it was done"))]
#[case::exit_0_without_a_result(ended(0, Some(ExitReason::Failed)), StopReason::Failed, Some("without a result"))]
#[case::a_word_without_exit_0(ended(1, Some(ExitReason::Completed)), StopReason::Failed, Some("exit code 1"))]
#[case::failed(ended(1, Some(ExitReason::Failed)), StopReason::Failed, Some("exit code 1"))]
#[case::failed_with_a_reason(Ended { said_detail: Some("bad job".into()), ..ended(120, Some(ExitReason::Failed)) }, StopReason::Failed, Some("bad job"))]
#[case::killed_from_outside(ended(137, None), StopReason::Failed, Some("exit code 137"))]
#[case::idle(ended(EXIT_IDLE, Some(ExitReason::IdleTimeout)), StopReason::IdleTimeout, None)]
#[case::idle_by_its_code_alone(ended(EXIT_IDLE, None), StopReason::IdleTimeout, None)]
#[case::idle_by_its_word_alone(ended(137, Some(ExitReason::IdleTimeout)), StopReason::IdleTimeout, None)]
#[case::too_long(ended(EXIT_MAX_LIFETIME, Some(ExitReason::MaxLifetime)), StopReason::MaxLifetime, None)]
#[case::too_long_by_its_code_alone(ended(EXIT_MAX_LIFETIME, None), StopReason::MaxLifetime, None)]
#[case::killed_at_its_deadline(Ended { past_deadline: true, ..ended(137, None) }, StopReason::MaxLifetime, Some("at its deadline"))]
#[case::killed_at_its_deadline_while_stopping(Ended { past_deadline: true, stop: Some(StopReason::Stopped), ..ended(137, None) }, StopReason::MaxLifetime, Some("at its deadline"))]
#[case::stopped(ended(EXIT_STOPPED, Some(ExitReason::Stopped)), StopReason::Stopped, None)]
#[case::stopped_at_its_deadline(Ended { past_deadline: true, ..ended(EXIT_STOPPED, Some(ExitReason::Stopped)) }, StopReason::MaxLifetime, Some("at its deadline"))]
#[case::stopped_by_its_code_alone(ended(EXIT_STOPPED, None), StopReason::Stopped, None)]
#[case::killed_after_its_grace(Ended { stop: Some(StopReason::Stopped), ..ended(137, None) }, StopReason::Stopped, Some("after its grace"))]
#[case::stopped_for_its_budget(Ended { stop: Some(StopReason::Budget), ..ended(EXIT_STOPPED, Some(ExitReason::Stopped)) }, StopReason::Budget, None)]
#[case::killed_for_its_budget(Ended { stop: Some(StopReason::Budget), ..ended(137, None) }, StopReason::Budget, Some("after its grace"))]
#[case::stopped_for_a_revocation(Ended { stop: Some(StopReason::Revoked), ..ended(EXIT_STOPPED, None) }, StopReason::Revoked, None)]
#[case::gone_after_a_revocation(Ended { stop: Some(StopReason::Revoked), ..ended(None, None) }, StopReason::Revoked, Some("after a stop"))]
#[case::used_up_a_limit_that_the_worker_counts(Ended { limit_reached: true, said_detail: Some("3 tool calls are the most".into()), ..ended(1, Some(ExitReason::Failed)) }, StopReason::Budget, Some("3 tool calls"))]
#[case::did_its_work_within_its_limits(Ended { limit_reached: true, ..ended(0, Some(ExitReason::Completed)) }, StopReason::Completed, None)]
#[case::lost_its_gateway(
    ended(EXIT_GATEWAY_LOST, Some(ExitReason::GatewayLost)),
    StopReason::Failed,
    Some("lost its gateway")
)]
#[case::out_of_memory(Ended { oom: true, ..ended(137, None) }, StopReason::Oom, Some("for memory"))]
#[case::out_of_memory_in_a_child(Ended { oom: true, ..ended(0, Some(ExitReason::Completed)) }, StopReason::Oom, Some("for memory"))]
#[case::out_of_memory_and_gone(Ended { oom: true, ..ended(None, None) }, StopReason::Oom, Some("for memory"))]
#[case::gone(ended(None, None), StopReason::Failed, Some("removed it from outside"))]
#[case::gone_though_it_said_it_was_done(
    ended(None, Some(ExitReason::Completed)),
    StopReason::Failed,
    Some("removed it from outside")
)]
#[case::gone_at_its_deadline(Ended { past_deadline: true, ..ended(None, None) }, StopReason::MaxLifetime, Some("gone at its deadline"))]
#[case::a_budget_is_used_up(Ended { exhausted: true, ..ended(1, Some(ExitReason::Failed)) }, StopReason::Budget, Some("used up"))]
#[case::a_budget_is_used_up_and_it_was_stopped(Ended { exhausted: true, ..ended(EXIT_STOPPED, Some(ExitReason::Stopped)) }, StopReason::Budget, Some("used up"))]
#[case::a_budget_is_used_up_however_it_took_it(Ended { exhausted: true, ..ended(0, Some(ExitReason::Completed)) }, StopReason::Budget, Some("used up"))]
#[case::gone_after_a_stop(Ended { stop: Some(StopReason::Stopped), ..ended(None, None) }, StopReason::Stopped, Some("after a stop"))]
fn the_verdict_over_a_box(#[case] ended: Ended, #[case] reason: StopReason, #[case] says: Option<&str>) {
    let (found, detail) = verdict(&ended);
    assert_eq!(found, reason, "{detail:?}");
    match says {
        Some(says) => assert!(detail.as_deref().is_some_and(|d| d.contains(says)), "{detail:?}"),
        None => assert_eq!(detail, None),
    }
}

#[test]
fn a_containers_name_follows_from_dispatch_and_attempt() {
    assert_eq!(container_name("d-1", 1), "custody-d-1");
    assert_eq!(container_name("d-1", 2), "custody-d-1-2");
}

#[rstest]
#[case::idle(StopReason::IdleTimeout, true, true)]
#[case::too_long(StopReason::MaxLifetime, true, true)]
#[case::without_a_file(StopReason::IdleTimeout, false, false)]
#[case::completed(StopReason::Completed, true, false)]
#[case::stopped(StopReason::Stopped, true, false)]
#[case::failed(StopReason::Failed, true, false)]
#[case::out_of_budget(StopReason::Budget, true, false)]
fn only_what_ran_out_of_time_and_left_a_file_is_parked(
    #[case] reason: StopReason,
    #[case] file: bool,
    #[case] expected: bool,
) {
    assert_eq!(super::is_parked(reason, file), expected);
}
