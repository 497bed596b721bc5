//! Tables of given, when, then.

use super::{Effect, EffectCommand, EffectRefusal};
use crate::events::OfEffect;
use crate::tests::{check, golden};
use crate::tool::tests::{approved, permit, waits};
use custody_contracts::events::{
    Budget, BudgetMeasure, BudgetScope, EffectEvent, LedgerEvent, ModelCalled, ToolFinished, ToolRefused,
};
use rstest::rstest;
use serde_json::json;

fn effect(shape: &str) -> EffectEvent {
    match golden(shape, &[]) {
        LedgerEvent::Effect(effect) => effect,
        other => panic!("{other:?}"),
    }
}

fn called(status: u16) -> ModelCalled {
    match golden("ModelCalled", &[("status", json!(status))]) {
        LedgerEvent::Effect(EffectEvent::ModelCalled(called)) => called,
        other => panic!("{other:?}"),
    }
}

fn finished() -> ToolFinished {
    match effect("ToolFinished") {
        EffectEvent::ToolFinished(e) => e,
        other => panic!("{other:?}"),
    }
}

fn refused() -> ToolRefused {
    match effect("ToolRefused") {
        EffectEvent::ToolRefused(e) => e,
        other => panic!("{other:?}"),
    }
}

fn of(status: u16) -> OfEffect {
    OfEffect(EffectEvent::ModelCalled(called(status)))
}

#[rstest]
#[case::once(&[], 200, &[200])]
#[case::again(&[200], 200, &[])]
#[case::again_with_another_end(&[200], 500, &[])]
fn an_effect_is_recorded_once(#[case] history: &[u16], #[case] command: u16, #[case] expected: &[u16]) {
    let of_all = |statuses: &[u16]| statuses.iter().map(|s| of(*s)).collect::<Vec<_>>();
    check::<Effect>(&of_all(history), EffectCommand::Call(Box::new(called(command))), Ok(of_all(expected)));
}

#[rstest]
#[case::outcome_follows_intent(&["ToolIntended"], EffectCommand::Finish(finished()), Ok(vec!["ToolFinished"]))]
#[case::no_outcome_without_intent(&[], EffectCommand::Finish(finished()), Err(EffectRefusal::NotIntended))]
#[case::one_outcome(&["ToolIntended", "ToolFinished"], EffectCommand::Finish(finished()), Ok(vec![]))]
#[case::no_outcome_of_a_refusal(&["ToolRefused"], EffectCommand::Finish(finished()), Ok(vec![]))]
#[case::refused(&[], EffectCommand::Refuse(refused()), Ok(vec!["ToolRefused"]))]
#[case::refused_once(&["ToolRefused"], EffectCommand::Refuse(refused()), Ok(vec![]))]
#[case::turned_away(&[], EffectCommand::TurnAway(refused()), Ok(vec!["ToolRefused"]))]
#[case::turned_away_where_one_is_made(&["ToolIntended"], EffectCommand::TurnAway(refused()), Err(EffectRefusal::NumberTaken))]
#[case::turned_away_twice(&["ToolRefused"], EffectCommand::TurnAway(refused()), Err(EffectRefusal::NumberTaken))]
fn a_tool_call_has_one_intent_and_one_outcome(
    #[case] history: &[&str],
    #[case] command: EffectCommand,
    #[case] expected: Result<Vec<&str>, EffectRefusal>,
) {
    let of_all = |shapes: &[&str]| shapes.iter().map(|s| OfEffect(effect(s))).collect::<Vec<_>>();
    check::<Effect>(&of_all(history), command, expected.map(|shapes| of_all(&shapes)));
}

#[rstest]
#[case::waits(&[], 'w', Ok('w'))]
#[case::waits_once(&['w'], 'w', Err(EffectRefusal::NumberTaken))]
#[case::approved(&['w'], 'a', Ok('a'))]
#[case::approved_once(&['w', 'a'], 'a', Err(EffectRefusal::NumberTaken))]
#[case::approved_and_done_once(&['w', 'a', 'f'], 'a', Err(EffectRefusal::NumberTaken))]
#[case::nothing_waited(&[], 'a', Err(EffectRefusal::NotAwaiting))]
#[case::without_an_approval(&['w'], 'i', Err(EffectRefusal::NumberTaken))]
#[case::refused_while_it_waits(&['w'], 'r', Ok('r'))]
#[case::not_closed_by_what_was_turned_away(&['w'], 't', Err(EffectRefusal::NumberTaken))]
#[case::not_approved_after_a_refusal(&['w', 'r'], 'a', Err(EffectRefusal::NumberTaken))]
#[case::not_approved_where_another_call_was_made(&['i', 'f'], 'a', Err(EffectRefusal::NumberTaken))]
fn what_waits_is_made_once_after_an_approval_or_refused(
    #[case] history: &[char],
    #[case] command: char,
    #[case] expected: Result<char, EffectRefusal>,
) {
    let event = |mark: &char| {
        OfEffect(match mark {
            'w' => EffectEvent::ToolAwaiting(Box::new(waits().into_event())),
            'a' => EffectEvent::ToolIntended(approved().into_event()),
            'i' => EffectEvent::ToolIntended(permit().into_event()),
            'f' => EffectEvent::ToolFinished(finished()),
            _ => EffectEvent::ToolRefused(refused()),
        })
    };
    let command = match command {
        'w' => EffectCommand::Await(Box::new(waits())),
        'a' => EffectCommand::Intend(approved()),
        'i' => EffectCommand::Intend(permit()),
        't' => EffectCommand::TurnAway(refused()),
        _ => EffectCommand::Refuse(refused()),
    };
    let history: Vec<_> = history.iter().map(event).collect();
    check::<Effect>(&history, command, expected.map(|mark| vec![event(&mark)]));
}

#[rstest]
#[case::new(&[], true)]
#[case::taken_by_an_intent(&["ToolIntended"], false)]
#[case::taken_by_a_finished_one(&["ToolIntended", "ToolFinished"], false)]
#[case::taken_by_a_refusal(&["ToolRefused"], false)]
fn an_intent_is_never_written_twice(#[case] history: &[&str], #[case] allowed: bool) {
    let history: Vec<_> = history.iter().map(|s| OfEffect(effect(s))).collect();
    let event = OfEffect(EffectEvent::ToolIntended(permit().into_event()));
    let expected = if allowed { Ok(vec![event]) } else { Err(EffectRefusal::NumberTaken) };
    check::<Effect>(&history, EffectCommand::Intend(permit()), expected);
}

fn budget(measure: BudgetMeasure) -> Budget {
    match effect("BudgetWarned") {
        EffectEvent::BudgetWarned(b) => Budget { scope: BudgetScope::Dispatch, measure, used: 100, limit: 100, ..b },
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::warns(&[], 'w', &['w'])]
#[case::warns_once(&['w'], 'w', &[])]
#[case::ends_after_a_warning(&['w'], 'x', &['x'])]
#[case::ends_without_one(&[], 'x', &['x'])]
#[case::ends_once(&['x'], 'x', &[])]
#[case::does_not_warn_after_the_end(&['x'], 'w', &[])]
#[case::another_measure_is_another_budget(&['W', 'X'], 'x', &['x'])]
fn a_budget_warns_once_and_ends_once(#[case] history: &[char], #[case] command: char, #[case] expected: &[char]) {
    let event = |mark: &char| {
        OfEffect(match mark {
            'w' => EffectEvent::BudgetWarned(budget(BudgetMeasure::Tokens)),
            'x' => EffectEvent::BudgetExhausted(budget(BudgetMeasure::Tokens)),
            'W' => EffectEvent::BudgetWarned(budget(BudgetMeasure::CostMicros)),
            _ => EffectEvent::BudgetExhausted(budget(BudgetMeasure::CostMicros)),
        })
    };
    let history: Vec<_> = history.iter().map(event).collect();
    let command = match command {
        'w' => EffectCommand::Warn(budget(BudgetMeasure::Tokens)),
        _ => EffectCommand::Exhaust(budget(BudgetMeasure::Tokens)),
    };
    check::<Effect>(&history, command, Ok(expected.iter().map(event).collect()));
}

#[rstest]
#[case::most_is_left(79, Err(EffectRefusal::BudgetLeft), Err(EffectRefusal::BudgetLeft))]
#[case::little_is_left(80, Ok(()), Err(EffectRefusal::BudgetLeft))]
#[case::nothing_is_left(100, Ok(()), Ok(()))]
fn a_budget_is_not_told_to_be_lower_than_it_is(
    #[case] used: u64,
    #[case] warned: Result<(), EffectRefusal>,
    #[case] exhausted: Result<(), EffectRefusal>,
) {
    let budget = Budget { used, limit: 100, ..budget(BudgetMeasure::Tokens) };
    let event = |of: fn(Budget) -> EffectEvent| vec![OfEffect(of(budget.clone()))];
    check::<Effect>(&[], EffectCommand::Warn(budget.clone()), warned.map(|()| event(EffectEvent::BudgetWarned)));
    check::<Effect>(
        &[],
        EffectCommand::Exhaust(budget.clone()),
        exhausted.map(|()| event(EffectEvent::BudgetExhausted)),
    );
}
