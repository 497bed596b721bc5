//! What models and tools were used: for each dispatch, and for each day, person, launcher, runner and model. Tokens are as
//! the upstream counted them and costs as they were priced when the call was made: nothing is priced anew.

use crate::table::{Table, folded_table};
use custody_contracts::events::{DispatchEvent, EffectEvent, EffectOutcome, LedgerEvent, ModelCalled};
use custody_ledger::{Projection, Recorded};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was used. Which of the names are set follows from the row's key: `dispatch/<id>`, or
/// `day/<day>/<subject>/<launcher>/<runner>/<upstream>/<model>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UsageRow {
    /// The dispatch.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dispatch: String,
    /// The day in UTC, `2026-11-22`; of a dispatch the day of its last call.
    pub day: String,
    /// The person.
    pub subject: String,
    /// The launcher.
    pub launcher: String,
    /// The runner.
    pub runner: String,
    /// The model that was asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// The upstream's configured name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub upstream: String,
    /// What was used.
    #[serde(flatten)]
    pub sums: Sums,
    /// Budgets that ran low, and that ran out: `low subject tokens`, `out dispatch cost_micros`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<String>,
}

/// Sums over calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sums {
    /// Calls of models.
    pub model_calls: u64,
    /// Of those, calls whose answer did not come whole.
    pub failed_calls: u64,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Of those, cached by the upstream.
    pub cached_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// Millionths of the accounting currency.
    pub cost_micros: u64,
    /// Calls of models that have no price.
    pub unpriced_calls: u64,
    /// Calls of tools that were made.
    pub tool_calls: u64,
    /// Calls of tools that were refused.
    pub refused_tool_calls: u64,
}

impl Sums {
    /// Both together.
    pub fn plus(self, other: Sums) -> Sums {
        let sum = u64::saturating_add;
        Sums {
            model_calls: sum(self.model_calls, other.model_calls),
            failed_calls: sum(self.failed_calls, other.failed_calls),
            input_tokens: sum(self.input_tokens, other.input_tokens),
            cached_tokens: sum(self.cached_tokens, other.cached_tokens),
            output_tokens: sum(self.output_tokens, other.output_tokens),
            cost_micros: sum(self.cost_micros, other.cost_micros),
            unpriced_calls: sum(self.unpriced_calls, other.unpriced_calls),
            tool_calls: sum(self.tool_calls, other.tool_calls),
            refused_tool_calls: sum(self.refused_tool_calls, other.refused_tool_calls),
        }
    }

    fn of(call: &ModelCalled) -> Sums {
        // An answer from a recording was asked of nobody.
        let asked = call.attempts != Some(0);
        Sums {
            model_calls: 1,
            failed_calls: u64::from(call.outcome == EffectOutcome::Failed),
            input_tokens: call.input_tokens,
            cached_tokens: call.cached_tokens.unwrap_or_default(),
            output_tokens: call.output_tokens,
            cost_micros: call.cost_micros.unwrap_or_default(),
            unpriced_calls: u64::from(asked && call.cost_micros.is_none()),
            ..Sums::default()
        }
    }
}

/// How rows are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// By person.
    Subject,
    /// By launcher.
    Launcher,
    /// By runner.
    Runner,
    /// By upstream and model.
    Model,
    /// By day.
    Day,
    /// By dispatch.
    Dispatch,
}

/// The projection.
#[derive(Debug)]
pub struct Usage;

impl Projection for Usage {
    const NAME: &'static str = "usage";
    const VERSION: u32 = 1;
    type State = Table<UsageRow>;

    fn apply(state: &mut Self::State, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let row = state.edit(&key(e.dispatch.as_str()));
                row.dispatch = e.dispatch.to_string();
                row.subject = e.unit.identity.subject.to_string();
                row.launcher = e.launch.launcher.to_string();
                row.runner = e.runner.name.to_string();
                row.day = day(recorded).to_owned();
            }
            Some(LedgerEvent::Effect(e)) => on_effect(state, recorded, e),
            Some(
                LedgerEvent::Dispatch(_)
                | LedgerEvent::Run(_)
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Checkpoint(_)
                | LedgerEvent::Workspace(_)
                | LedgerEvent::Grant(_)
                | LedgerEvent::Approval(_)
                | LedgerEvent::Token(_),
            )
            | None => {}
        }
    }
}

fn key(dispatch: &str) -> String {
    ["dispatch/", dispatch].concat()
}

fn day(recorded: &Recorded) -> &str {
    recorded.envelope.time.get(..10).unwrap_or_default()
}

fn on_effect(state: &mut Table<UsageRow>, recorded: &Recorded, effect: &EffectEvent) {
    let dispatch = effect.dispatch().as_str();
    let (sums, upstream, model) = match effect {
        EffectEvent::ModelCalled(e) => (Sums::of(e), e.upstream.as_str(), e.model.as_str()),
        EffectEvent::ToolFinished(_) => (Sums { tool_calls: 1, ..Sums::default() }, "", ""),
        EffectEvent::ToolRefused(e) => (Sums { refused_tool_calls: e.count, ..Sums::default() }, "", ""),
        EffectEvent::ToolIntended(_) | EffectEvent::ToolAwaiting(_) => return,
        EffectEvent::BudgetWarned(e) | EffectEvent::BudgetExhausted(e) => {
            let word = if matches!(effect, EffectEvent::BudgetWarned(_)) { "low" } else { "out" };
            let said = format!("{word} {} {}", e.scope.as_str(), e.measure.as_str());
            let row = state.edit(&key(dispatch));
            if !row.budgets.contains(&said) {
                row.budgets.push(said);
            }
            return;
        }
    };
    let row = state.edit(&key(dispatch));
    row.sums = row.sums.plus(sums);
    day(recorded).clone_into(&mut row.day);
    let (subject, launcher, runner) = (row.subject.clone(), row.launcher.clone(), row.runner.clone());
    // Model names are text from outside; a slash in one makes an odd key and nothing else.
    let cell = ["day", day(recorded), &subject, &launcher, &runner, upstream, model].join("/");
    let row = state.edit(&cell);
    day(recorded).clone_into(&mut row.day);
    (row.subject, row.launcher, row.runner) = (subject, launcher, runner);
    upstream.clone_into(&mut row.upstream);
    model.clone_into(&mut row.model);
    row.sums = row.sums.plus(sums);
}

/// What one dispatch used.
pub fn of_dispatch<'a>(state: &'a Table<UsageRow>, dispatch: &str) -> Option<&'a UsageRow> {
    state.get(&key(dispatch))
}

/// Sums since a day (`2026-11-22`, or empty for all), the most expensive first.
pub fn grouped(state: &Table<UsageRow>, by: By, since: &str) -> Vec<UsageRow> {
    let mut groups: BTreeMap<Vec<String>, UsageRow> = BTreeMap::new();
    let prefix = if by == By::Dispatch { "dispatch/" } else { "day/" };
    for (_, row) in state.with_prefix(prefix).filter(|(_, row)| row.day.as_str() >= since) {
        let mut named = UsageRow::default();
        match by {
            By::Subject => named.subject.clone_from(&row.subject),
            By::Launcher => named.launcher.clone_from(&row.launcher),
            By::Runner => named.runner.clone_from(&row.runner),
            By::Day => named.day.clone_from(&row.day),
            By::Model => {
                named.upstream.clone_from(&row.upstream);
                named.model.clone_from(&row.model);
            }
            By::Dispatch => named = UsageRow { sums: Sums::default(), ..row.clone() },
        }
        let group = [
            &named.dispatch,
            &named.day,
            &named.subject,
            &named.launcher,
            &named.runner,
            &named.upstream,
            &named.model,
        ];
        let group = group.map(Clone::clone).to_vec();
        let into = groups.entry(group).or_insert(named);
        into.sums = into.sums.plus(row.sums);
    }
    let mut rows: Vec<UsageRow> = groups.into_values().filter(|row| row.sums != Sums::default()).collect();
    let weight = |s: &Sums| (s.cost_micros, s.input_tokens.saturating_add(s.output_tokens), s.tool_calls);
    rows.sort_by_key(|row| std::cmp::Reverse(weight(&row.sums)));
    rows
}

folded_table!(Usage);
