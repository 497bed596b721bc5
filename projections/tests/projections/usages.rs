//! What usage adds up to, by whatever it is asked for.

use crate::fixtures::{fold, recorded};
use crate::logs::CASES;
use custody_projections::Usage;
use custody_projections::usage::{By, grouped, of_dispatch};
use rstest::rstest;

fn effects() -> <Usage as custody_ledger::Projection>::State {
    let (_, make) = CASES.iter().find(|(name, _)| *name == "effects").unwrap();
    fold::<Usage>(&recorded(&make()))
}

#[test]
fn a_dispatchs_usage_is_what_was_recorded_of_it() {
    let state = effects();
    let row = of_dispatch(&state, "d-1").unwrap();
    let sums = row.sums;
    assert_eq!((sums.model_calls, sums.failed_calls, sums.unpriced_calls), (2, 1, 0));
    assert_eq!((sums.input_tokens, sums.cached_tokens, sums.output_tokens, sums.cost_micros), (200, 60, 40, 1_000));
    assert_eq!((sums.tool_calls, sums.refused_tool_calls), (1, 40));
    assert_eq!(row.budgets, ["low dispatch tokens", "out dispatch tokens"]);
    let other = of_dispatch(&state, "d-2").unwrap().sums;
    assert_eq!(
        (other.model_calls, other.unpriced_calls, other.cost_micros),
        (2, 1, 0),
        "a replay has no price to miss"
    );
}

#[rstest]
#[case(By::Subject, 1)]
#[case(By::Launcher, 1)]
#[case(By::Runner, 1)]
#[case(By::Day, 1)]
#[case(By::Model, 4)]
#[case(By::Dispatch, 2)]
fn every_way_to_put_rows_together_has_the_same_sum(#[case] by: By, #[case] rows: usize) {
    let found = grouped(&effects(), by, "");
    assert_eq!(found.len(), rows, "{found:#?}");
    let sum = |of: fn(&custody_projections::usage::Sums) -> u64| found.iter().map(|row| of(&row.sums)).sum::<u64>();
    assert_eq!((sum(|s| s.model_calls), sum(|s| s.cost_micros), sum(|s| s.input_tokens)), (4, 1_000, 300));
    assert_eq!(sum(|s| s.refused_tool_calls), 40);
    assert!(found.windows(2).all(|pair| pair[0].sums.cost_micros >= pair[1].sums.cost_micros));
}

#[test]
fn what_is_older_is_left_out() {
    assert!(!grouped(&effects(), By::Subject, "2000-01-01").is_empty());
    assert!(grouped(&effects(), By::Subject, "9999-01-01").is_empty());
}
