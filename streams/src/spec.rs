//! Every stream as data: the JetStream configuration that `streams diff` and `streams apply` work towards and that the
//! guard measures the server against. Must never name an address, a credential or a folder.

use crate::subject;
use custody_contracts::envelope::MESSAGE_BYTES_MAX;
use custody_contracts::launch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The stream of every decision and effect.
pub const LEDGER: &str = "LEDGER";
/// The stream of what launchers publish.
pub const LAUNCH: &str = "LAUNCH";
/// The stream of what dispatches say and are told.
pub const OUTPUT: &str = "OUTPUT";
/// The stream of meeting segments.
pub const TRANSCRIPT: &str = "TRANSCRIPT";
/// The stream behind the object store `blobs`.
pub const BLOBS: &str = "OBJ_blobs";
/// The object store's bucket: the `<bucket>` of `$O.<bucket>.C.*` and `$O.<bucket>.M.*`.
pub const BLOBS_BUCKET: &str = "blobs";
/// The stream behind the object store `workspaces`.
pub const WORKSPACES: &str = "OBJ_workspaces";
/// The object store of workspaces whose bucket is `nats://workspaces`.
pub const WORKSPACES_BUCKET: &str = "workspaces";
/// The durable consumer of LAUNCH, shared by every replica of authority.
pub const LAUNCH_CONSUMER: &str = "authority";

/// Room for headers beside the largest ledger message: the server counts both against `max_msg_size`.
pub const LEDGER_HEADER_BYTES_MAX: usize = 1024;
/// The largest message of OUTPUT in bytes, headers included. A chunk is flushed at 32 KiB, one frame may be larger.
pub const OUTPUT_MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// One chunk of a blob in bytes. Source: NATS ADR-20, default chunk size 128 KiB.
pub const BLOB_CHUNK_BYTES: usize = 128 * 1024;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;
const GIB: i64 = 1024 * 1024 * 1024;

/// What a full stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discard {
    /// Refuses the new message: evidence is never forgotten.
    New,
    /// Drops the oldest.
    Old,
}

/// When the server answers. Source: NATS ADR for `persist_mode`, server 2.12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersistMode {
    /// When the message is stored, and with `sync_interval: always` on disk.
    Default,
    /// Before it is stored: the last moments may be lost when the power goes.
    Async,
}

/// What an operator decides about streams; everything else is fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// 1 on one machine, 3 in a cluster.
    pub replicas: Replicas,
    /// Bytes of LEDGER after which appends are refused.
    pub ledger_bytes_max: i64,
    /// Bytes of LAUNCH after which launches are refused.
    pub launch_bytes_max: i64,
    /// Bytes of OUTPUT after which the oldest output is dropped.
    pub output_bytes_max: i64,
    /// Bytes of TRANSCRIPT after which segments are refused.
    pub transcript_bytes_max: i64,
    /// Bytes of all blobs after which new ones are refused.
    pub blobs_bytes_max: i64,
    /// Bytes of all workspaces in NATS after which nothing lands in them.
    pub workspaces_bytes_max: i64,
}

/// How many servers hold a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replicas {
    /// One machine.
    One,
    /// A cluster.
    Three,
}

impl StreamOptions {
    /// Sizes for one machine: 24 GiB in all, so that a laptop's disk survives.
    pub fn one_machine() -> StreamOptions {
        StreamOptions {
            replicas: Replicas::One,
            ledger_bytes_max: 8 * GIB,
            launch_bytes_max: GIB,
            output_bytes_max: 4 * GIB,
            transcript_bytes_max: GIB,
            blobs_bytes_max: 6 * GIB,
            workspaces_bytes_max: 4 * GIB,
        }
    }

    /// The sum of all limits in bytes: what the server's `max_file` must at least be.
    pub fn bytes_max(&self) -> i64 {
        [
            self.ledger_bytes_max,
            self.launch_bytes_max,
            self.output_bytes_max,
            self.transcript_bytes_max,
            self.blobs_bytes_max,
            self.workspaces_bytes_max,
        ]
        .into_iter()
        .fold(0, i64::saturating_add)
    }
}

/// The configuration of one stream, in JetStream's own JSON. Every field is always written, so that a comparison with
/// what the server has misses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it captures.
    pub subjects: Vec<String>,
    /// Always `limits`.
    pub retention: String,
    /// Always `file`.
    pub storage: String,
    /// 1 or 3.
    pub num_replicas: u8,
    /// Nanoseconds; 0 is for ever.
    pub max_age: u64,
    /// Bytes.
    pub max_bytes: i64,
    /// Bytes of one message with its headers.
    pub max_msg_size: i64,
    /// -1: no limit.
    pub max_msgs: i64,
    /// -1: no limit.
    pub max_msgs_per_subject: i64,
    /// -1: no limit.
    pub max_consumers: i64,
    /// What a full stream does.
    pub discard: Discard,
    /// Nanoseconds in which a message id is recognised again.
    pub duplicate_window: u64,
    /// No message may be deleted.
    pub deny_delete: bool,
    /// The stream may not be purged.
    pub deny_purge: bool,
    /// `Nats-Rollup` is obeyed.
    pub allow_rollup_hdrs: bool,
    /// Any replica may answer reads.
    pub allow_direct: bool,
    /// Atomic batches, NATS ADR-50.
    pub allow_atomic: bool,
    /// Fast ingest batches.
    pub allow_batched: bool,
    /// `Nats-TTL` is obeyed.
    pub allow_msg_ttl: bool,
    /// `Nats-Schedule` is obeyed.
    pub allow_msg_schedules: bool,
    /// `Nats-Incr` is obeyed.
    pub allow_msg_counter: bool,
    /// `none` or `s2`.
    pub compression: String,
    /// When the server answers.
    pub persist_mode: PersistMode,
    /// Ours begin with `custody.`; the server adds some of its own.
    pub metadata: BTreeMap<String, String>,
}

/// Metadata key of the contract whose messages a stream holds.
pub const SCHEMA_KEY: &str = "custody.schema";

fn base(options: &StreamOptions, name: &str, description: &str, schema: &str, subjects: &[&str]) -> StreamSpec {
    StreamSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        subjects: subjects.iter().map(|s| (*s).to_owned()).collect(),
        retention: "limits".to_owned(),
        storage: "file".to_owned(),
        num_replicas: match options.replicas {
            Replicas::One => 1,
            Replicas::Three => 3,
        },
        max_age: 0,
        max_bytes: -1,
        max_msg_size: -1,
        max_msgs: -1,
        max_msgs_per_subject: -1,
        max_consumers: -1,
        discard: Discard::New,
        duplicate_window: 2 * MINUTE,
        deny_delete: false,
        deny_purge: false,
        allow_rollup_hdrs: false,
        allow_direct: false,
        allow_atomic: false,
        allow_batched: false,
        allow_msg_ttl: false,
        allow_msg_schedules: false,
        allow_msg_counter: false,
        compression: "none".to_owned(),
        persist_mode: PersistMode::Default,
        metadata: BTreeMap::from([(SCHEMA_KEY.to_owned(), schema.to_owned())]),
    }
}

/// LEDGER: one order of everything. Refuses rather than forgets; atomic batches carry the coalescing appender.
pub fn ledger(options: &StreamOptions) -> StreamSpec {
    StreamSpec {
        max_bytes: options.ledger_bytes_max,
        max_msg_size: int(MESSAGE_BYTES_MAX + LEDGER_HEADER_BYTES_MAX),
        duplicate_window: 10 * MINUTE,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        allow_atomic: true,
        compression: "s2".to_owned(),
        ..base(options, LEDGER, "Every decision and effect, in one order.", "ledger.v2", &[subject::LEDGER_ALL])
    }
}

/// LAUNCH: what launchers published, also what was refused. Every feature that a header can ask for is off, because
/// no permission checks headers. A full stream refuses launches: their senders learn it from the missing ack.
pub fn launch(options: &StreamOptions) -> StreamSpec {
    StreamSpec {
        max_age: 30 * DAY,
        max_bytes: options.launch_bytes_max,
        max_msg_size: int(launch::BYTES_MAX),
        deny_delete: true,
        deny_purge: true,
        ..base(options, LAUNCH, "What launchers published, also what was refused.", "unit.v1", &[subject::LAUNCH_ALL])
    }
}

/// OUTPUT: what dispatches say and are told. Discards the oldest when full: a dispatch must never stop because nobody
/// clears the text of last week, and the ledger keeps digest, size and place of what was said.
pub fn output(options: &StreamOptions) -> StreamSpec {
    StreamSpec {
        max_age: 7 * DAY,
        max_bytes: options.output_bytes_max,
        max_msg_size: int(OUTPUT_MESSAGE_BYTES_MAX),
        discard: Discard::Old,
        allow_direct: true,
        // The server refuses asynchronous persistence on replicated streams, which flush through their Raft log anyway.
        persist_mode: match options.replicas {
            Replicas::One => PersistMode::Async,
            Replicas::Three => PersistMode::Default,
        },
        ..base(options, OUTPUT, "What dispatches say and are told.", "output.v2", &[subject::OUT_ALL, subject::IN_ALL])
    }
}

/// TRANSCRIPT: segments of meetings, kept like evidence.
pub fn transcript(options: &StreamOptions) -> StreamSpec {
    StreamSpec {
        max_bytes: options.transcript_bytes_max,
        max_msg_size: int(MESSAGE_BYTES_MAX + LEDGER_HEADER_BYTES_MAX),
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        compression: "s2".to_owned(),
        ..base(options, TRANSCRIPT, "Segments of meetings.", "transcript.v1", &[subject::TRANSCRIPT_ALL])
    }
}

/// The object store `blobs`; what is larger than a chunk has the form that every NATS client reads. Purging stays possible
/// for the administrator alone, because session files hold personal data that may have to go; a changed blob no longer has
/// its digest.
pub fn blobs(options: &StreamOptions) -> StreamSpec {
    StreamSpec {
        max_bytes: options.blobs_bytes_max,
        max_msg_size: int(BLOB_CHUNK_BYTES + LEDGER_HEADER_BYTES_MAX),
        allow_direct: true,
        ..base(
            options,
            BLOBS,
            "Whatever is too large for the ledger, by digest.",
            "blob.v1",
            &["$O.blobs.C.>", "$O.blobs.M.>"],
        )
    }
}

/// The object store of workspaces whose bucket is `nats://workspaces`. Purging is possible for who mounts them: after a
/// rotation of keys the packs for the old key go.
pub fn workspaces(options: &StreamOptions) -> StreamSpec {
    StreamSpec {
        max_bytes: options.workspaces_bytes_max,
        max_msg_size: int(BLOB_CHUNK_BYTES + LEDGER_HEADER_BYTES_MAX),
        allow_direct: true,
        ..base(
            options,
            WORKSPACES,
            "Workspaces that are kept in NATS: packs and heads.",
            "workspace.v1",
            &["$O.workspaces.C.>", "$O.workspaces.M.>"],
        )
    }
}

/// Every stream of ours, in the order in which they are made.
pub fn all(options: &StreamOptions) -> Vec<StreamSpec> {
    vec![ledger(options), launch(options), output(options), transcript(options), blobs(options), workspaces(options)]
}

fn int(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
