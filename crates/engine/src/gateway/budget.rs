//! Budgets at the inference door: before a call it is asked whether one is used up, after it whether one is low. Must
//! never let a call through once a budget is empty, nor refuse one without an event that says so.

use super::accounts::Whose;
use super::record::append;
use super::serve::Shared;
use crate::inference::CallRecord;
use custody_contracts::canonical::derived_id;
use custody_contracts::events::{Budget, BudgetScope};
use custody_domain::budget::{Allowed, Standing, judge};
use custody_domain::effect::EffectCommand;

/// Why no further call may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// Stable word.
    pub(super) code: &'static str,
    /// A sentence.
    pub(super) message: String,
}

fn whose(shared: &Shared) -> Whose<'_> {
    let admitted = &shared.claimed.admitted;
    Whose {
        dispatch: admitted.dispatch.as_str(),
        subject: admitted.unit.identity.subject.as_str(),
        launcher: admitted.launch.launcher.as_str(),
    }
}

/// Every budget of a dispatch that is low or empty, the emptiest first.
fn standings(shared: &Shared) -> Vec<(Standing, Budget)> {
    let limits = shared.claimed.admitted.unit.limits.as_ref();
    let own = Allowed {
        tokens: limits.and_then(|l| l.tokens),
        cost_micros: limits.and_then(|l| l.cost_micros),
        window_ms: None,
    };
    let now = shared.gateway.clock.now();
    let dispatch = &shared.claimed.admitted.dispatch;
    let all = shared.accounts.standing(whose(shared), own, now);
    let mut found: Vec<_> =
        all.into_iter().flat_map(|(scope, used, allowed)| judge(dispatch, scope, used, allowed)).collect();
    found.sort_by_key(|(standing, _)| std::cmp::Reverse(*standing));
    found
}

/// Whether a budget in money counts for a dispatch.
fn counts_money(shared: &Shared) -> bool {
    let own = shared.claimed.admitted.unit.limits.as_ref().is_some_and(|l| l.cost_micros.is_some());
    let now = shared.gateway.clock.now();
    let all = shared.accounts.standing(whose(shared), Allowed::default(), now);
    own || all.iter().any(|(_, _, allowed)| allowed.cost_micros.is_some())
}

/// Asked before a call. An empty budget is recorded before it is told: the runtime ends the dispatch by that event.
pub(super) async fn before_call(shared: &Shared) -> Result<(), Refused> {
    let runner = shared.claimed.admitted.runner.name.as_str();
    let priced = shared.gateway.door.as_ref().is_none_or(|door| door.models().is_priced(runner));
    if !priced && counts_money(shared) {
        return Err(Refused {
            code: "price_unknown",
            message: "there is a budget in money, and the model that would be called has no price; the operator sets models.<name>.price".to_owned(),
        });
    }
    let empty: Vec<Budget> =
        standings(shared).into_iter().filter(|(s, _)| *s == Standing::Empty).map(|(_, b)| b).collect();
    for budget in &empty {
        // An agent that asks again and again must not make the ledger be read each time.
        let mut told = shared.exhausted.lock().await;
        let key = (budget.scope, budget.measure);
        if !told.contains(&key) && record(shared, "exhausted", budget, EffectCommand::Exhaust(budget.clone())).await {
            told.insert(key);
        }
    }
    match empty.first() {
        None => Ok(()),
        Some(budget) => Err(Refused { code: "budget_exhausted", message: words(budget) }),
    }
}

/// A call was made: counted now, so that the next one is judged with it, and not only when the ledger comes round.
pub(super) fn count(shared: &Shared, n: u32, record: &CallRecord) {
    let entity = format!("{}-m{n}", shared.claimed.admitted.dispatch);
    shared.accounts.called(&entity, whose(shared), shared.gateway.clock.now(), record);
}

/// Warns of every budget that is low or empty, each once in a dispatch.
pub(super) async fn after_call(shared: &Shared) {
    for (_, budget) in standings(shared) {
        let fresh = shared.warned.lock().await.insert((budget.scope, budget.measure));
        if fresh {
            record(shared, "warned", &budget, EffectCommand::Warn(budget.clone())).await;
        }
    }
}

/// False when the ledger did not take it.
async fn record(shared: &Shared, what: &str, budget: &Budget, command: EffectCommand) -> bool {
    let entity = format!("{}-budget", budget.dispatch);
    let parts = [entity.as_str(), what, budget.scope.as_str(), budget.measure.as_str()].map(str::as_bytes);
    append(&shared.gateway, &shared.claimed, &entity, &derived_id("eff-", &parts), command).await
}

fn words(budget: &Budget) -> String {
    let whose = match budget.scope {
        BudgetScope::Dispatch => "this dispatch",
        BudgetScope::Subject => "this person",
        BudgetScope::Launcher => "this launcher",
    };
    let Budget { used, limit, measure, .. } = budget;
    format!("the budget of {whose} is used up: {used} of {limit} {}; the dispatch ends", measure.as_str())
}
