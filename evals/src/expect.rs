//! `expect.toml`: what must be true of the log and of what is folded from it. Every assertion has an id of its own.

use crate::pattern::{Pattern, is_pointer};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// The most bytes of `expect.toml`.
pub(crate) const EXPECT_BYTES_MAX: u64 = 262_144;
/// The most assertions of one scenario.
pub(crate) const ASSERTIONS_MAX: usize = 500;

/// How many.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Count {
    /// At least; 0 when absent.
    #[serde(default)]
    pub min: u64,
    /// At most; without limit when absent.
    pub max: Option<u64>,
}

/// The groups that a count holds for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForEach {
    /// Which events make a group.
    pub event: Pattern,
    /// The pointer whose value names the group, on both sides.
    pub same: String,
}

/// How many events match.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventAssertion {
    /// Its id.
    pub id: String,
    /// Which events.
    pub event: Pattern,
    /// How many; at least one when absent.
    pub count: Option<Count>,
    /// Count within each group, instead of in the whole log.
    pub for_each: Option<ForEach>,
    /// Pointers whose values no two matching events share.
    #[serde(default)]
    pub distinct: Vec<String>,
}

/// No event matches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NeverAssertion {
    /// Its id.
    pub id: String,
    /// Which events.
    pub event: Pattern,
}

/// One step before the next, within each group.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderAssertion {
    /// Its id.
    pub id: String,
    /// The steps, two or more.
    pub steps: Vec<Pattern>,
    /// The pointer whose value names the group, for example `/data/dispatch`.
    pub same: String,
    /// How many groups must reach the last step; 1 when absent.
    pub groups: Option<u64>,
}

/// Every event of one kind has an earlier one of another.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CausesAssertion {
    /// Its id.
    pub id: String,
    /// Which events.
    pub each: Pattern,
    /// What must be there before each of them.
    pub needs: Pattern,
    /// Pairs of pointers, of the event and of its cause, that hold the same value.
    #[serde(default)]
    pub equal: Vec<[String; 2]>,
    /// Pairs of pointers that hold different values.
    #[serde(default)]
    pub differ: Vec<[String; 2]>,
    /// How many events there must be; 1 when absent.
    pub min: Option<u64>,
}

/// A launch was refused, and nothing else became of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefusedAssertion {
    /// Its id.
    pub id: String,
    /// Sequence of the launch in LAUNCH.
    pub launch: u64,
    /// The refusal's code.
    pub reason: String,
}

/// What a projection says in the end.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateAssertion {
    /// Its id.
    pub id: String,
    /// `audit`, `dispatches` or `sessions`.
    pub projection: String,
    /// The row's key.
    pub key: String,
    /// JSON pointer into the row; the whole row when absent.
    #[serde(default)]
    pub field: String,
    /// It is this.
    pub equals: Option<Value>,
    /// It is not there, or null.
    pub absent: Option<bool>,
    /// It is what stands at this pointer of the same row.
    pub same_as: Option<String>,
    /// It is not what stands at this pointer of the same row.
    pub differs_from: Option<String>,
    /// It is a list of so many.
    pub length: Option<u64>,
}

/// A projection's digest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DigestAssertion {
    /// Its id.
    pub id: String,
    /// `audit`, `dispatches` or `sessions`.
    pub projection: String,
    /// `sha256:` and 64 digits.
    pub equals: String,
}

/// Texts that are nowhere.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretAssertion {
    /// Its id.
    pub id: String,
    /// The texts.
    pub canaries: Vec<String>,
}

/// What the audit projection found.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditAssertion {
    /// Its id.
    pub id: String,
    /// Exactly so many anomalies.
    pub anomalies: u64,
    /// At least so many checkpoints.
    #[serde(default)]
    pub checkpoints_min: u64,
    /// Whether the recorded model calls of every ended run must be the calls and tokens that its terminal event counts.
    #[serde(default)]
    pub calls_agree: bool,
}

/// All of `expect.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expect {
    /// Counts.
    #[serde(default)]
    pub event: Vec<EventAssertion>,
    /// Absences.
    #[serde(default)]
    pub never: Vec<NeverAssertion>,
    /// Orders.
    #[serde(default)]
    pub order: Vec<OrderAssertion>,
    /// Causes.
    #[serde(default)]
    pub causes: Vec<CausesAssertion>,
    /// Refusals.
    #[serde(default)]
    pub refused: Vec<RefusedAssertion>,
    /// States.
    #[serde(default)]
    pub state: Vec<StateAssertion>,
    /// Digests.
    #[serde(default)]
    pub digest: Vec<DigestAssertion>,
    /// Secrets.
    #[serde(default)]
    pub no_secret: Vec<SecretAssertion>,
    /// Audits.
    #[serde(default)]
    pub audit: Vec<AuditAssertion>,
}

impl Expect {
    /// Reads and checks the text.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence. An assertion that could never fail, or never hold, is wrong.
    pub(crate) fn parse(text: &str) -> Result<Expect, String> {
        let expect: Expect = toml::from_str(text).map_err(|e| e.message().to_owned() + &place(text, e.span()))?;
        expect.check().map(|()| expect)
    }

    /// Every assertion's id, in the order of the file's kinds.
    pub(crate) fn ids(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = Vec::new();
        ids.extend(self.event.iter().map(|a| a.id.as_str()));
        ids.extend(self.never.iter().map(|a| a.id.as_str()));
        ids.extend(self.order.iter().map(|a| a.id.as_str()));
        ids.extend(self.causes.iter().map(|a| a.id.as_str()));
        ids.extend(self.refused.iter().map(|a| a.id.as_str()));
        ids.extend(self.state.iter().map(|a| a.id.as_str()));
        ids.extend(self.digest.iter().map(|a| a.id.as_str()));
        ids.extend(self.no_secret.iter().map(|a| a.id.as_str()));
        ids.extend(self.audit.iter().map(|a| a.id.as_str()));
        ids
    }

    fn check(&self) -> Result<(), String> {
        let ids = self.ids();
        if ids.is_empty() {
            return Err("there is no assertion in it".into());
        }
        if ids.len() > ASSERTIONS_MAX {
            return Err(format!("{} assertions are more than {ASSERTIONS_MAX}", ids.len()));
        }
        let mut seen = BTreeSet::new();
        for id in ids {
            if !is_assertion_id(id) {
                return Err(format!("assertion id {id:?} is not 1 to 64 of [a-z0-9-]"));
            }
            if !seen.insert(id) {
                return Err(format!("assertion id {id:?} stands twice"));
            }
        }
        for (id, pattern) in self.patterns() {
            if let Some(problem) = pattern.problem() {
                return Err(format!("{id}: {problem}"));
            }
        }
        for (id, pointer) in self.pointers() {
            if !is_pointer(pointer) {
                return Err(format!("{id}: {pointer:?} is not a JSON pointer; it begins with /"));
            }
        }
        self.check_each()
    }

    fn check_each(&self) -> Result<(), String> {
        for a in &self.event {
            if let Some(Count { min: 0, max: None }) = a.count
                && a.distinct.is_empty()
            {
                return Err(format!("{}: any count passes", a.id));
            }
        }
        if let Some(a) = self.order.iter().find(|a| a.steps.len() < 2) {
            return Err(format!("{}: an order has at least two steps", a.id));
        }
        if let Some(a) = self.causes.iter().find(|a| a.equal.is_empty()) {
            return Err(format!("{}: a cause is tied to its event by at least one pair in equal", a.id));
        }
        for a in &self.state {
            let said = [
                a.equals.is_some(),
                a.absent.is_some(),
                a.same_as.is_some(),
                a.differs_from.is_some(),
                a.length.is_some(),
            ];
            if said.into_iter().filter(|s| *s).count() != 1 {
                return Err(format!("{}: say exactly one of equals, absent, same_as, differs_from, length", a.id));
            }
        }
        let projections = self.state.iter().map(|a| (&a.id, &a.projection));
        for (id, name) in projections.chain(self.digest.iter().map(|a| (&a.id, &a.projection))) {
            if !crate::fold::NAMES.contains(&name.as_str()) {
                return Err(format!(
                    "{id}: there is no projection {name:?}; there are {}",
                    crate::fold::NAMES.join(", ")
                ));
            }
        }
        for a in &self.no_secret {
            if a.canaries.is_empty() {
                return Err(format!("{}: no canary", a.id));
            }
            a.canaries
                .iter()
                .try_for_each(|c| crate::scenario::check_canary(c).map_err(|e| format!("{}: {e}", a.id)))?;
        }
        Ok(())
    }

    fn patterns(&self) -> impl Iterator<Item = (&str, &Pattern)> {
        let events = self.event.iter().flat_map(|a| {
            let group = a.for_each.as_ref().map(|g| (a.id.as_str(), &g.event));
            std::iter::once((a.id.as_str(), &a.event)).chain(group)
        });
        let orders = self.order.iter().flat_map(|a| a.steps.iter().map(|p| (a.id.as_str(), p)));
        let causes = self.causes.iter().flat_map(|a| [(a.id.as_str(), &a.each), (a.id.as_str(), &a.needs)]);
        events.chain(self.never.iter().map(|a| (a.id.as_str(), &a.event))).chain(orders).chain(causes)
    }

    fn pointers(&self) -> impl Iterator<Item = (&str, &str)> {
        let events = self.event.iter().flat_map(|a| {
            let same = a.for_each.as_ref().map(|g| g.same.as_str());
            same.into_iter().chain(a.distinct.iter().map(String::as_str)).map(|p| (a.id.as_str(), p))
        });
        let orders = self.order.iter().map(|a| (a.id.as_str(), a.same.as_str()));
        let causes = self
            .causes
            .iter()
            .flat_map(|a| a.equal.iter().chain(&a.differ).flatten().map(|p| (a.id.as_str(), p.as_str())));
        let states = self.state.iter().flat_map(|a| {
            let field = Some(a.field.as_str()).filter(|f| !f.is_empty());
            let others = [field, a.same_as.as_deref(), a.differs_from.as_deref()];
            others.into_iter().flatten().map(|p| (a.id.as_str(), p))
        });
        events.chain(orders).chain(causes).chain(states)
    }
}

/// An assertion's id never looks like a built-in check's, which holds a dot or is `decision`.
fn is_assertion_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 64
        && id != "decision"
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// ` (line n)` of a span in a text.
pub(crate) fn place(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let before = span.and_then(|s| text.get(..s.start));
    before.map_or_else(String::new, |b| format!(" (line {})", b.matches('\n').count() + 1))
}
