//! Named crash points between two durable steps. A process that was started with `CUSTODY_CRASH_AT=<name>` dies at the
//! first pass of that point, as if it had been killed; without the variable a point is one comparison.

use std::sync::OnceLock;

/// Every point, in the order of the walk. The crash tests go through all of them.
pub const POINTS: [&str; 24] = [
    "au.before_decide",
    "au.after_decide",
    "au.after_reply",
    "rt.before_claim",
    "rt.made_ahead",
    "rt.after_claim",
    "rt.after_create",
    "rt.after_start_call",
    "rt.after_started_event",
    "rt.mid_stream",
    "rt.after_exit_seen",
    "ws.after_snapshot",
    "ws.after_pack",
    "ws.after_head",
    "rt.after_exit_event",
    "rt.after_remove",
    "gw.after_frame",
    "gw.after_model_call",
    "gw.after_card",
    "gw.before_release",
    "gw.after_tool_intent",
    "gw.after_tool_call",
    "au.after_erasing",
    "au.after_destroyed",
];

static CHOSEN: OnceLock<Option<String>> = OnceLock::new();

/// Dies here if this point was chosen.
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name), "{name} is not a crash point");
    let chosen = CHOSEN.get_or_init(|| std::env::var("CUSTODY_CRASH_AT").ok());
    if chosen.as_deref() == Some(name) {
        tracing::error!(point = name, "crash point reached");
        std::process::abort();
    }
}
