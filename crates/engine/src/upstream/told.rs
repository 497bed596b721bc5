//! What a server said of its tools, and whether that counts as what it says now. Must never let a server have its list read
//! more often than once in [`REREAD_MIN`] by saying that it changed.
//!
//! Source: MCP 2025-06-18 and 2025-11-25, "Tools", "List Changed Notification".

use custody_domain::tool::Definition;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How long what a server said of its tools counts as what it says now.
pub const FRESH: Duration = Duration::from_secs(60);
/// How long it counts at least, however often the server says that it changed.
pub(super) const REREAD_MIN: Duration = Duration::from_secs(5);
/// The most tools that the log names at once.
const NAMES_MAX: usize = 8;
const LIST_CHANGED: &str = "notifications/tools/list_changed";

/// How often a server has said that its list changed. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes(Arc<AtomicU64>);

impl Changes {
    /// Takes note of a message of the server, if it says that.
    pub(super) fn hear(&self, message: &Value) {
        if message["method"] == LIST_CHANGED && message.get("id").is_none() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A list as it was read.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) at: Instant,
    /// How often the server had said that it changed when it was asked for.
    changes: u64,
    pub(super) definitions: BTreeMap<String, Definition>,
}

impl Told {
    /// A list that has just come. `changes` was counted before it was asked for: what was said meanwhile counts the next time.
    pub(super) fn now(changes: u64, definitions: BTreeMap<String, Definition>) -> Told {
        Told { at: Instant::now(), changes, definitions }
    }

    /// Whether the server must be asked again.
    pub(super) fn is_stale(&self, changes: u64, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        age >= FRESH || (changes != self.changes && age >= REREAD_MIN)
    }

    /// Writes into the log which tools are not what they were. What was accepted of them is refused at the next call.
    pub(super) fn compare(&self, server: &str, now: &BTreeMap<String, Definition>) {
        let other =
            |(name, before): &(&String, &Definition)| now.get(*name).is_none_or(|n| n.digest() != before.digest());
        let names: Vec<&String> = self.definitions.iter().filter(other).map(|(name, _)| name).take(NAMES_MAX).collect();
        if !names.is_empty() {
            tracing::warn!(server, tools = ?names, "a server of tools says something else of them than before");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::just_read(0, Duration::ZERO, false)]
    #[case::almost_too_old(0, FRESH - Duration::from_millis(1), false)]
    #[case::too_old(0, FRESH, true)]
    #[case::changed_just_now(1, REREAD_MIN - Duration::from_millis(1), false)]
    #[case::changed(1, REREAD_MIN, true)]
    #[case::changed_again_and_again(u64::MAX, REREAD_MIN - Duration::from_millis(1), false)]
    fn a_list_is_read_again_when_it_is_old_or_changed_and_never_sooner(
        #[case] more: u64,
        #[case] age: Duration,
        #[case] stale: bool,
    ) {
        let told = Told::now(7, BTreeMap::new());
        assert_eq!(told.is_stale(7_u64.wrapping_add(more), told.at + age), stale);
    }

    #[rstest]
    #[case::said(json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" }), 1)]
    #[case::of_other_lists(json!({ "jsonrpc": "2.0", "method": "notifications/prompts/list_changed" }), 0)]
    #[case::a_question(json!({ "jsonrpc": "2.0", "id": 1, "method": "notifications/tools/list_changed" }), 0)]
    #[case::an_answer(json!({ "jsonrpc": "2.0", "id": 1, "result": { "method": "notifications/tools/list_changed" } }), 0)]
    fn only_a_notice_about_tools_counts(#[case] message: Value, #[case] count: u64) {
        let changes = Changes::default();
        changes.clone().hear(&message);
        assert_eq!(changes.count(), count);
    }
}
