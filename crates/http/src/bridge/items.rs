//! Messages of the log as the bridge keeps them: read once, written once as JSON, sent to many. Pure. Must never keep
//! text in a form that has to be escaped again.

use super::ring::Placed;
use custody_contracts::box_protocol::{Frame, FrameBody};
use custody_contracts::events::{DispatchEvent, KeyEvent, Kind, LedgerEvent};
use custody_contracts::ids::UnixMillis;
use custody_contracts::messages::Chunk;
use custody_contracts::sealed::SubjectKeyState;
use custody_contracts::ws::{AUDIT_ROW, Event, OUTPUT_CHUNK};
use custody_ledger::{Recorded, Stored};
use custody_ports::output::StoredChunk;
use custody_projections::row::audit_row;
use serde_json::Value;

/// One event of the ledger.
#[derive(Debug)]
pub struct LedgerItem {
    /// Its kind.
    pub kind: Kind,
    /// The dispatch it belongs to.
    pub dispatch: Option<String>,
    /// The person in whose name it happened.
    pub subject: Option<String>,
    /// The session, where the event names one.
    pub session: Option<String>,
    /// As an event of a ledger topic.
    pub event: String,
    /// As a row of the topic `audit`.
    pub row: String,
    /// Whether it says that a person was erased.
    pub erases: bool,
}

/// One message of the ledger: the events of one decision, which are never torn.
#[derive(Debug)]
pub struct LedgerMessage {
    /// Its sequence.
    pub seq: u64,
    /// Its events.
    pub items: Vec<LedgerItem>,
}

impl Placed for LedgerMessage {
    fn seq(&self) -> u64 {
        self.seq
    }
    fn bytes(&self) -> usize {
        self.items.iter().map(|i| i.event.len() + i.row.len() + 128).sum::<usize>() + 64
    }
}

/// A stored message, read. One that cannot be read has no events: the audit projection notes it.
pub fn ledger(stored: &Stored) -> LedgerMessage {
    let recorded = custody_engine::follow::read_or_note(stored);
    LedgerMessage { seq: stored.seq.0, items: recorded.iter().map(item).collect() }
}

fn item(recorded: &Recorded) -> LedgerItem {
    let envelope = &recorded.envelope;
    let row = audit_row(recorded);
    let data: Value = serde_json::from_str(envelope.data.get()).unwrap_or_default();
    let event = Event {
        seq: recorded.seq.0,
        id: Some(envelope.id.clone()),
        kind: envelope.kind.clone(),
        time: envelope.time.clone(),
        subject: envelope.subject.clone(),
        launcher: envelope.launcher.clone(),
        grant: envelope.grant.clone(),
        keyid: Some(envelope.keyid.clone()),
        causation: envelope.causation.clone(),
        correlation: envelope.correlation.clone(),
        data,
    };
    let shown = Event {
        id: None,
        keyid: None,
        subject: None,
        launcher: None,
        grant: None,
        causation: None,
        correlation: None,
        kind: AUDIT_ROW.to_owned(),
        data: serde_json::to_value(&row).unwrap_or_default(),
        ..event.clone()
    };
    LedgerItem {
        kind: recorded.entity.kind,
        session: session(recorded),
        dispatch: row.dispatch,
        subject: envelope.subject.clone(),
        event: text(&event),
        row: text(&shown),
        erases: matches!(&recorded.event, Some(LedgerEvent::Key(KeyEvent::Subject(e))) if e.state == SubjectKeyState::Erased),
    }
}

fn session(recorded: &Recorded) -> Option<String> {
    match &recorded.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => Some(e.session.to_string()),
        _ => None,
    }
}

fn text(event: &Event) -> String {
    serde_json::to_string(event).unwrap_or_default()
}

/// One chunk of output.
#[derive(Debug)]
pub struct OutputItem {
    /// Its sequence in OUTPUT.
    pub seq: u64,
    /// As an event of the topic.
    pub event: String,
    /// Whether the dispatch says nothing after it.
    pub last: bool,
}

impl Placed for OutputItem {
    fn seq(&self) -> u64 {
        self.seq
    }
    fn bytes(&self) -> usize {
        self.event.len() + 64
    }
}

/// A stored chunk, read; `None` when it is no chunk of output.v2.
pub fn output(stored: &StoredChunk) -> Option<OutputItem> {
    let chunk: Chunk = serde_json::from_slice(&stored.bytes).ok()?;
    let last = chunk.frames.iter().any(|f| matches!(f.body, FrameBody::Exit { .. }));
    Some(OutputItem { seq: stored.seq, event: chunk_event(stored.seq, &chunk), last })
}

fn chunk_event(seq: u64, chunk: &Chunk) -> String {
    let at = chunk.frames.last().map_or(0, |f| f.at);
    text(&Event {
        seq,
        id: None,
        kind: OUTPUT_CHUNK.to_owned(),
        time: UnixMillis(at).rfc3339(),
        subject: None,
        launcher: None,
        grant: None,
        keyid: None,
        causation: None,
        correlation: None,
        data: serde_json::to_value(chunk).unwrap_or_default(),
    })
}

/// Puts a frame behind others; words that follow words are one frame, so that a long answer is a short snapshot.
pub fn merge(frames: &mut Vec<Frame>, frame: Frame) {
    if let (Some(FrameBody::Text { text: before }), FrameBody::Text { text }) =
        (frames.last_mut().map(|f| &mut f.body), &frame.body)
    {
        before.push_str(text);
        if let Some(last) = frames.last_mut() {
            last.seq = frame.seq;
            last.at = frame.at;
        }
        return;
    }
    frames.push(frame);
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody_contracts::catalogue;

    fn frame(seq: u64, body: FrameBody) -> Frame {
        Frame { seq, at: 1_000 + seq, body }
    }

    fn words(text: &str) -> FrameBody {
        FrameBody::Text { text: text.into() }
    }

    #[test]
    fn a_chunk_is_an_event_of_ws_v1_and_says_when_it_is_the_last() {
        let chunk = Chunk { dispatch: "d-1".into(), attempt: 1, from: 1, to: 1, frames: vec![frame(1, words("hi"))] };
        let stored = StoredChunk { seq: 9, bytes: serde_json::to_vec(&chunk).unwrap() };
        let item = output(&stored).unwrap();
        let event: Value = serde_json::from_str(&item.event).unwrap();
        let ev = serde_json::json!({ "t": "ev", "id": 1, "seq": 9, "prev": 0, "events": [event] });
        assert_eq!(catalogue::check("ws.v1", "ServerFrame", &ev), Ok(()));
        assert!(!item.last);
        assert!(output(&StoredChunk { seq: 1, bytes: b"{}".to_vec() }).is_none());
    }

    #[test]
    fn words_that_follow_words_are_one_frame() {
        let mut frames = Vec::new();
        merge(&mut frames, frame(1, words("a")));
        merge(&mut frames, frame(2, words("b")));
        merge(&mut frames, frame(3, FrameBody::Started { pid: 1, resumed: false }));
        merge(&mut frames, frame(4, words("c")));
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[0], frame(2, words("ab")));
    }
}
