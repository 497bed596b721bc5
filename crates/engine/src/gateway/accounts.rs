//! What dispatches, persons and launchers have used: a fold over the recorded model calls, and what was called since and
//! is not folded yet. Must never count a call twice, nor forget one that was made.

use crate::inference::CallRecord;
use custody_contracts::events::{BudgetScope, EffectEvent, LedgerEvent, ModelCalled, RunEvent};
use custody_contracts::ids::UnixMillis;
use custody_domain::budget::{Allowed, Used};
use custody_ledger::Recorded;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The shortest window, in milliseconds: a minute.
pub const WINDOW_MS_MIN: u64 = 60_000;
/// The longest window, in milliseconds: a year.
pub const WINDOW_MS_MAX: u64 = 366 * 86_400_000;

/// A day.
fn day() -> u64 {
    86_400_000
}

/// The `[budgets]` table: what every dispatch, person and launcher may use, and who has a budget of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// Of one dispatch; its own limits only lower it.
    pub dispatch: DispatchBudget,
    /// Of each person, in a window.
    pub subject: WindowBudget,
    /// Of each launcher, in a window.
    pub launcher: WindowBudget,
    /// Of persons by name, instead of `subject`.
    pub subjects: BTreeMap<String, WindowBudget>,
    /// Of launchers by name, instead of `launcher`.
    pub launchers: BTreeMap<String, WindowBudget>,
}

/// What one dispatch may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DispatchBudget {
    /// Tokens sent and received.
    pub tokens: Option<u64>,
    /// Millionths of the accounting currency.
    pub cost_micros: Option<u64>,
}

/// What somebody may use in a window. Windows follow each other from the Unix epoch on: of 86,400,000 ms they are the
/// days of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowBudget {
    /// Tokens sent and received.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Millionths of the accounting currency.
    #[serde(default)]
    pub cost_micros: Option<u64>,
    /// The window's length in milliseconds.
    #[serde(default = "day")]
    pub window_ms: u64,
}

impl Default for WindowBudget {
    fn default() -> Self {
        WindowBudget { tokens: None, cost_micros: None, window_ms: day() }
    }
}

impl Budgets {
    /// Checks every window.
    ///
    /// # Errors
    /// A sentence that names the option and its bounds.
    pub fn check(&self) -> Result<(), String> {
        let each = [("subject", &self.subject), ("launcher", &self.launcher)].into_iter();
        let named = self.subjects.iter().chain(&self.launchers).map(|(name, budget)| (name.as_str(), budget));
        for (name, budget) in each.chain(named) {
            if !(WINDOW_MS_MIN..=WINDOW_MS_MAX).contains(&budget.window_ms) {
                return Err(format!(
                    "budgets: window_ms {} of {name} is not between {WINDOW_MS_MIN} and {WINDOW_MS_MAX}",
                    budget.window_ms
                ));
            }
        }
        Ok(())
    }

    fn window(&self, scope: BudgetScope, name: &str) -> WindowBudget {
        let (each, named) = match scope {
            BudgetScope::Subject => (self.subject, &self.subjects),
            BudgetScope::Launcher | BudgetScope::Dispatch => (self.launcher, &self.launchers),
        };
        named.get(name).copied().unwrap_or(each)
    }
}

/// One call, as it counts.
#[derive(Debug, Clone)]
struct Entry {
    at: UnixMillis,
    dispatch: String,
    subject: String,
    launcher: String,
    used: Used,
}

#[derive(Debug, Default)]
struct Totals {
    dispatches: BTreeMap<String, Used>,
    /// By scope, name and window.
    windows: BTreeMap<(BudgetScope, String, u64), Used>,
    /// Calls that were made and are not folded yet, by entity.
    pending: BTreeMap<String, Entry>,
}

/// The accounts of a gateway.
#[derive(Debug)]
pub(super) struct Accounts {
    budgets: Budgets,
    totals: Mutex<Totals>,
}

/// Whose account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whose<'a> {
    pub(super) dispatch: &'a str,
    pub(super) subject: &'a str,
    pub(super) launcher: &'a str,
}

fn used(call: &ModelCalled) -> Used {
    Used {
        tokens: call.input_tokens.saturating_add(call.output_tokens),
        cost_micros: call.cost_micros.unwrap_or_default(),
    }
}

impl Accounts {
    pub(super) fn new(budgets: Budgets) -> Accounts {
        Accounts { budgets, totals: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds one event.
    pub(super) fn apply(&self, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Effect(effect @ EffectEvent::ModelCalled(call))) => {
                let mut totals = self.lock();
                totals.pending.remove(&effect.entity_id());
                let envelope = &recorded.envelope;
                let entry = Entry {
                    at: UnixMillis::parse(&envelope.time).unwrap_or_default(),
                    dispatch: call.dispatch.to_string(),
                    subject: envelope.subject.clone().unwrap_or_default(),
                    launcher: envelope.launcher.clone().unwrap_or_default(),
                    used: used(call),
                };
                self.add(&mut totals, &entry);
            }
            Some(LedgerEvent::Run(RunEvent::Finished(e))) => {
                self.lock().dispatches.remove(e.dispatch.as_str());
            }
            Some(
                LedgerEvent::Effect(
                    EffectEvent::ToolIntended(_)
                    | EffectEvent::ToolFinished(_)
                    | EffectEvent::ToolRefused(_)
                    | EffectEvent::ToolAwaiting(_)
                    | EffectEvent::BudgetWarned(_)
                    | EffectEvent::BudgetExhausted(_),
                )
                | LedgerEvent::Run(RunEvent::Claimed(_) | RunEvent::Started(_))
                | LedgerEvent::Dispatch(_)
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

    /// A call was made and is about to be recorded as this entity.
    pub(super) fn called(&self, entity: &str, whose: Whose<'_>, at: UnixMillis, record: &CallRecord) {
        let used = Used {
            tokens: record.input_tokens.saturating_add(record.output_tokens),
            cost_micros: record.cost_micros.unwrap_or_default(),
        };
        let entry = Entry {
            at,
            dispatch: whose.dispatch.to_owned(),
            subject: whose.subject.to_owned(),
            launcher: whose.launcher.to_owned(),
            used,
        };
        self.lock().pending.insert(entity.to_owned(), entry);
    }

    fn add(&self, totals: &mut Totals, entry: &Entry) {
        let of = totals.dispatches.entry(entry.dispatch.clone()).or_default();
        *of = of.plus(entry.used);
        for (scope, name) in [(BudgetScope::Subject, &entry.subject), (BudgetScope::Launcher, &entry.launcher)] {
            let window = entry.at.0 / self.budgets.window(scope, name).window_ms;
            // Windows that are over are asked for no more.
            totals.windows.retain(|(s, n, w), _| *s != scope || n != name || *w >= window);
            let of = totals.windows.entry((scope, name.clone(), window)).or_default();
            *of = of.plus(entry.used);
        }
    }

    /// What was used of each budget that counts for a dispatch, and what may be.
    pub(super) fn standing(
        &self,
        whose: Whose<'_>,
        own: Allowed,
        now: UnixMillis,
    ) -> [(BudgetScope, Used, Allowed); 3] {
        let totals = self.lock();
        let pending = |counts: &dyn Fn(&Entry) -> bool| {
            totals.pending.values().filter(|entry| counts(entry)).fold(Used::default(), |sum, e| sum.plus(e.used))
        };
        let folded = totals.dispatches.get(whose.dispatch).copied().unwrap_or_default();
        let dispatch = folded.plus(pending(&|entry| entry.dispatch == whose.dispatch));
        let DispatchBudget { tokens, cost_micros } = self.budgets.dispatch;
        let most = Allowed { tokens, cost_micros, window_ms: None };
        let in_window = |scope, name: &str, own: &dyn Fn(&Entry) -> bool| {
            let WindowBudget { tokens, cost_micros, window_ms } = self.budgets.window(scope, name);
            let window = now.0 / window_ms;
            let folded = totals.windows.get(&(scope, name.to_owned(), window)).copied().unwrap_or_default();
            let used = folded.plus(pending(&|entry| own(entry) && entry.at.0 / window_ms == window));
            (scope, used, Allowed { tokens, cost_micros, window_ms: Some(window_ms) })
        };
        [
            (BudgetScope::Dispatch, dispatch, most.lowered(own)),
            in_window(BudgetScope::Subject, whose.subject, &|entry| entry.subject == whose.subject),
            in_window(BudgetScope::Launcher, whose.launcher, &|entry| entry.launcher == whose.launcher),
        ]
    }
}

#[cfg(test)]
#[path = "tests_accounts.rs"]
mod tests;
