//! Budgets: how much of one is used, and what follows. Pure: what was used comes in.

use custody_contracts::events::{Budget, BudgetMeasure, BudgetScope};
use custody_contracts::ids::DispatchId;

/// From how many hundredths of a budget on it is said to be nearly used up.
pub const WARN_PERCENT: u128 = 80;

/// What was used, of everything that a budget may count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens sent and received.
    pub tokens: u64,
    /// Millionths of the accounting currency.
    pub cost_micros: u64,
}

impl Used {
    /// Both together.
    pub fn plus(self, other: Used) -> Used {
        Used {
            tokens: self.tokens.saturating_add(other.tokens),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
        }
    }
}

/// How much may be used. Absent means without bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Tokens sent and received.
    pub tokens: Option<u64>,
    /// Millionths of the accounting currency.
    pub cost_micros: Option<u64>,
    /// The window that is counted in, in milliseconds; absent for a dispatch, whose whole life counts.
    pub window_ms: Option<u64>,
}

impl Allowed {
    /// The lower of both, measure by measure: a limit only ever lowers another.
    pub fn lowered(self, other: Allowed) -> Allowed {
        let lower = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Allowed {
            tokens: lower(self.tokens, other.tokens),
            cost_micros: lower(self.cost_micros, other.cost_micros),
            window_ms: self.window_ms,
        }
    }
}

/// How a budget stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Enough is left.
    Enough,
    /// Nearly used up.
    Low,
    /// Used up: no further call.
    Empty,
}

/// How one budget stands.
pub fn standing(used: u64, limit: u64) -> Standing {
    if used >= limit {
        return Standing::Empty;
    }
    let low = u128::from(used) * 100 >= u128::from(limit) * WARN_PERCENT;
    if low { Standing::Low } else { Standing::Enough }
}

/// Every budget of a scope that is low or empty.
pub fn judge(dispatch: &DispatchId, scope: BudgetScope, used: Used, allowed: Allowed) -> Vec<(Standing, Budget)> {
    let measures = [
        (BudgetMeasure::Tokens, used.tokens, allowed.tokens),
        (BudgetMeasure::CostMicros, used.cost_micros, allowed.cost_micros),
    ];
    let one = |(measure, used, limit): (BudgetMeasure, u64, Option<u64>)| {
        let limit = limit?;
        let standing = standing(used, limit);
        let window_ms = allowed.window_ms;
        let budget = Budget { dispatch: dispatch.clone(), scope, measure, used, limit, window_ms };
        (standing > Standing::Enough).then_some((standing, budget))
    };
    measures.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::nothing_used(0, 100, Standing::Enough)]
    #[case::below(79, 100, Standing::Enough)]
    #[case::at_the_warning(80, 100, Standing::Low)]
    #[case::the_last_one(99, 100, Standing::Low)]
    #[case::all(100, 100, Standing::Empty)]
    #[case::more_than_all(1_000, 100, Standing::Empty)]
    #[case::nothing_allowed(0, 0, Standing::Empty)]
    #[case::large(u64::MAX - 1, u64::MAX, Standing::Low)]
    fn a_budget_stands(#[case] used: u64, #[case] limit: u64, #[case] expected: Standing) {
        assert_eq!(standing(used, limit), expected);
    }

    #[test]
    fn each_measure_has_its_own_budget() {
        let dispatch = DispatchId::parse("d-1").unwrap();
        let allowed = Allowed { tokens: Some(100), cost_micros: Some(1_000), window_ms: Some(60_000) };
        let used = Used { tokens: 80, cost_micros: 2_000 };
        let found = judge(&dispatch, BudgetScope::Subject, used, allowed);
        let marks: Vec<_> = found.iter().map(|(s, b)| (*s, b.measure, b.used, b.limit, b.window_ms)).collect();
        assert_eq!(
            marks,
            [
                (Standing::Low, BudgetMeasure::Tokens, 80, 100, Some(60_000)),
                (Standing::Empty, BudgetMeasure::CostMicros, 2_000, 1_000, Some(60_000)),
            ]
        );
        assert_eq!(judge(&dispatch, BudgetScope::Subject, used, Allowed::default()), []);
    }

    #[rstest]
    #[case(None, None, None)]
    #[case(Some(5), None, Some(5))]
    #[case(None, Some(5), Some(5))]
    #[case(Some(9), Some(5), Some(5))]
    #[case(Some(5), Some(9), Some(5))]
    fn a_limit_only_lowers(#[case] a: Option<u64>, #[case] b: Option<u64>, #[case] expected: Option<u64>) {
        let of = |tokens| Allowed { tokens, ..Allowed::default() };
        assert_eq!(of(a).lowered(of(b)).tokens, expected);
    }
}
