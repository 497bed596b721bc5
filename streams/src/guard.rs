//! The rules that a server and its streams must keep before anything of ours runs on them, by name. Pure: judges facts
//! that the adapter gathered.

use crate::diff::{FOREIGN_FIELDS, is_empty};
use crate::spec::{Discard, StreamSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The server version everything is tested with.
pub const SERVER_VERSION: (u64, u64, u64) = (2, 15, 1);
/// Versions from here on are refused: nothing is known about them.
pub const SERVER_VERSION_END: (u64, u64, u64) = (3, 0, 0);

/// What is known of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerFacts {
    /// Its version, for example `2.15.1`.
    pub version: String,
    /// Whether JetStream is on.
    pub jetstream: bool,
    /// Whether an acknowledged message is on disk; `None` when the server would not say.
    pub sync_interval_always: Option<bool>,
    /// An operator vouched for `sync_interval: always` on a server that would not say.
    pub assume_sync_always: bool,
}

/// What is known of a stream: its configuration as the server has it, and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamFacts {
    /// JetStream's JSON.
    pub config: Value,
    /// First sequence.
    pub first_seq: u64,
    /// Last sequence.
    pub last_seq: u64,
    /// How many messages.
    pub messages: u64,
}

/// One broken rule, or one thing worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable, for example `SYNC_INTERVAL_UNSAFE`.
    pub code: String,
    /// `server`, or the stream's name.
    pub subject: String,
    /// What is wrong, in a sentence.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Whether nothing may run.
    pub fatal: bool,
}

fn finding(code: &str, subject: &str, message: String, hint: &str, fatal: bool) -> Finding {
    Finding { code: code.to_owned(), subject: subject.to_owned(), message, hint: hint.to_owned(), fatal }
}

/// The three numbers of a version; a suffix (`-RC.1`) does not count.
pub fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let text = text.trim().trim_start_matches('v');
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut parts = text[..end].split('.');
    let version = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(version)
}

/// What is wrong with a server.
pub fn check_server(facts: &ServerFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(check_version(&facts.version));
    if !facts.jetstream {
        found.push(finding(
            "JETSTREAM_OFF",
            "server",
            "the server runs without JetStream, so it stores nothing".to_owned(),
            "add a jetstream block to the server's configuration",
            true,
        ));
    }
    match (facts.sync_interval_always, facts.assume_sync_always) {
        (Some(true), _) => {}
        (Some(false), _) => found.push(finding(
            "SYNC_INTERVAL_UNSAFE",
            "server",
            "the server acknowledges messages before they are on disk; a power cut loses them".to_owned(),
            "set `jetstream { sync_interval: always }` and restart the server",
            true,
        )),
        (None, true) => found.push(finding(
            "SYNC_INTERVAL_ASSUMED",
            "server",
            "the server did not say whether acknowledged messages are on disk; an operator vouched for it".to_owned(),
            "give a user of the system account to have it checked",
            false,
        )),
        (None, false) => found.push(finding(
            "SYNC_INTERVAL_UNKNOWN",
            "server",
            "the server did not say whether acknowledged messages are on disk".to_owned(),
            "give a user of the system account, or vouch for it with --assume-sync-always",
            true,
        )),
    }
    found
}

fn check_version(text: &str) -> Option<Finding> {
    let shown: String = text.chars().take(40).collect();
    let (a, b, c) = SERVER_VERSION;
    let hint = format!("run nats-server {a}.{b}.{c}");
    let Some(version) = parse_version(text) else {
        let message = format!("the server calls itself {shown:?}, which is not a version");
        return Some(finding("NATS_VERSION_UNREADABLE", "server", message, &hint, true));
    };
    if version < SERVER_VERSION {
        let message = format!("nats-server {shown} lacks fixes that the ledger relies on");
        return Some(finding("NATS_TOO_OLD", "server", message, &hint, true));
    }
    if version >= SERVER_VERSION_END {
        let message = format!("nats-server {shown} is a new major version that nothing here was tested with");
        return Some(finding("NATS_TOO_NEW", "server", message, &hint, true));
    }
    (version != SERVER_VERSION).then(|| {
        let message = format!("nats-server {shown} is newer than the tested {a}.{b}.{c}");
        finding("NATS_UNTESTED", "server", message, "watch the release notes", false)
    })
}

/// What is wrong with a stream (`None`: it does not exist).
pub fn check_stream(spec: &StreamSpec, facts: Option<&StreamFacts>) -> Vec<Finding> {
    let name = &spec.name;
    let Some(facts) = facts else {
        return vec![finding(
            "STREAM_MISSING",
            name,
            format!("stream {name} does not exist"),
            "run `custody streams apply`",
            true,
        )];
    };
    let mut found = Vec::new();
    let mut add = |code: &str, message: String, hint: &str| found.push(finding(code, name, message, hint, true));
    let config = &facts.config;
    let on = |field: &str| config.get(field).and_then(Value::as_bool).unwrap_or(false);
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |field: &str| config.get(field).and_then(Value::as_i64).unwrap_or(0);

    for (wanted, field) in [(spec.deny_delete, "deny_delete"), (spec.deny_purge, "deny_purge")] {
        if wanted && !on(field) {
            let message = format!("{name} has {field} off: its messages can be taken away");
            add("DENY_FLAGS_MISSING", message, "run `custody streams apply`");
        }
    }
    if spec.discard == Discard::New && text("discard") != "new" {
        let message = format!("{name} drops its oldest messages when it is full");
        add("LIMITS_DISCARD", message, "set discard to new: a full log must refuse, not forget");
    }
    for field in ["max_msgs", "max_msgs_per_subject"] {
        if number(field) > 0 {
            let message = format!("{name} has {field} = {}, which cuts history", number(field));
            add("LIMITS_DISCARD", message, "remove the limit; a limit in bytes is enough");
        }
    }
    if number("max_age") > 0 && (spec.max_age == 0 || number("max_age").unsigned_abs() < spec.max_age) {
        let message = format!("{name} forgets messages after {} seconds", number("max_age") / 1_000_000_000);
        add("LIMITS_DISCARD", message, "run `custody streams diff` to see what it should be");
    }
    if text("storage") != "file" {
        add("STORAGE_NOT_FILE", format!("{name} is kept in memory"), "make the stream anew with file storage");
    }
    if spec.retention == "limits" && !matches!(text("retention").as_str(), "limits" | "") {
        let message = format!("{name} has retention {}: reading takes messages away", text("retention"));
        add("RETENTION_WRONG", message, "make the stream anew with limits retention");
    }
    if spec.persist_mode == crate::spec::PersistMode::Default && text("persist_mode") == "async" {
        let message = format!("{name} acknowledges messages before they are stored");
        add("PERSIST_ASYNC", message, "make the stream anew without persist_mode async");
    }
    if spec.allow_atomic && !on("allow_atomic") {
        add("ATOMIC_OFF", format!("{name} does not take atomic batches"), "run `custody streams apply`");
    }
    let features = [
        ("allow_msg_ttl", spec.allow_msg_ttl),
        ("allow_msg_schedules", spec.allow_msg_schedules),
        ("allow_msg_counter", spec.allow_msg_counter),
        ("allow_rollup_hdrs", spec.allow_rollup_hdrs),
        ("allow_atomic", spec.allow_atomic),
    ];
    let foreign = FOREIGN_FIELDS.into_iter().filter(|f| config.get(f).is_some_and(|v| !is_empty(v)));
    let headers = features.into_iter().filter(|(f, wanted)| !wanted && on(f)).map(|(f, _)| f);
    for field in headers.chain(foreign) {
        let message = format!("{name} has {field} on, which lets a message or the server change what is stored");
        add("FEATURE_FORBIDDEN", message, "switch it off; where the server cannot, make the stream anew");
    }
    let subjects: Vec<&str> =
        config.get("subjects").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    if subjects.iter().copied().ne(spec.subjects.iter().map(String::as_str)) {
        let message = format!("{name} captures [{}], not [{}]", subjects.join(" "), spec.subjects.join(" "));
        add("SUBJECTS_DIFFER", message, "run `custody streams diff`");
    }
    found.extend(check_history(spec, facts));
    found
}

/// A log that never forgets starts at 1 and has no holes.
fn check_history(spec: &StreamSpec, facts: &StreamFacts) -> Option<Finding> {
    let keeps = spec.max_age == 0 && spec.discard == Discard::New && spec.deny_purge;
    if !keeps || facts.last_seq == 0 {
        return None;
    }
    if facts.first_seq == 1 && facts.messages == facts.last_seq {
        return None;
    }
    let message = format!(
        "{} holds {} messages from {} to {}: history was cut",
        spec.name, facts.messages, facts.first_seq, facts.last_seq
    );
    Some(finding("HISTORY_TRIMMED", &spec.name, message, "restore the stream from a backup", true))
}
