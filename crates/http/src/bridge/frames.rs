//! Server frames as text. Events are JSON already, so a frame is put together and not serialised again. Pure.

use custody_contracts::ws::{ByeReason, FRAME_BYTES_MAX, GoneReason, NackId, ServerFrame};
use serde_json::Value;

/// Bytes of events after which a frame is closed: far below the cap, so that one more event fits.
pub const EVENTS_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;
/// The longest detail and hint of a nack.
const WORDS_MAX: usize = 1_024;

/// One frame, and where it leaves the cursor of its subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Out {
    /// JSON.
    pub text: String,
    /// The cursor after it, for `Last-Event-ID`.
    pub cursor: Option<u64>,
}

impl Out {
    fn of(frame: &ServerFrame) -> Out {
        Out { text: serde_json::to_string(frame).unwrap_or_default(), cursor: None }
    }
}

/// The first frame.
pub fn hello(now: u64, head: u64, contracts: &str, version: &str, hb_ms: u64) -> Out {
    Out::of(&ServerFrame::Hello { now, head, contracts: contracts.into(), version: version.into(), hb_ms })
}

/// A snapshot; its state is JSON already.
pub fn snap(id: u64, seq: u64, state: &str) -> Out {
    let text = [r#"{"t":"snap","id":"#, &id.to_string(), r#","seq":"#, &seq.to_string(), r#","state":"#, state, "}"];
    Out { text: text.concat(), cursor: Some(seq) }
}

/// Events; each is JSON already.
pub fn ev(id: u64, seq: u64, prev: u64, events: &str) -> Out {
    let [id, at, prev] = [id, seq, prev].map(|n| n.to_string());
    let text = [r#"{"t":"ev","id":"#, &id, r#","seq":"#, &at, r#","prev":"#, &prev, r#","events":["#, events, "]}"];
    Out { text: text.concat(), cursor: Some(seq) }
}

/// Everything there is was sent.
pub fn caught(id: u64, seq: u64) -> Out {
    Out { cursor: Some(seq), ..Out::of(&ServerFrame::Caught { id, seq }) }
}

/// Behind.
pub fn lag(id: u64, behind: u64) -> Out {
    Out::of(&ServerFrame::Lag { id, behind: behind.max(1) })
}

/// The cursor, or the right, is gone.
pub fn gone(id: u64, reason: GoneReason) -> Out {
    Out::of(&ServerFrame::Gone { id, reason })
}

/// Stored.
pub fn ack(id: &str, seq: u64, dispatch: Option<String>) -> Out {
    Out::of(&ServerFrame::Ack { id: id.into(), seq, dispatch })
}

/// Refused.
pub fn nack(id: NackId, problem: &crate::problem::Problem) -> Out {
    let cut = |text: &str| text.chars().take(WORDS_MAX).collect::<String>();
    Out::of(&ServerFrame::Nack {
        id,
        code: problem.code.clone(),
        detail: Some(cut(&problem.detail)),
        hint: problem.hint.as_deref().map(cut),
    })
}

/// Alive.
pub fn hb(now: u64, head: u64) -> Out {
    Out::of(&ServerFrame::Hb { now, head })
}

/// The end.
pub fn bye(reason: ByeReason, retry_ms: u64) -> Out {
    Out::of(&ServerFrame::Bye { reason, retry_ms })
}

/// A list of JSON texts as one.
pub fn joined<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    for part in parts {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(part);
    }
    out
}

/// A state of some fields.
pub fn state(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problem;
    use custody_contracts::catalogue;
    use rstest::rstest;

    const EVENT: &str =
        r#"{"seq":7,"type":"custody.run.started.v1","time":"2026-06-24T10:42:01.118Z","data":{"dispatch":"d-1"}}"#;

    #[rstest]
    #[case::hello(hello(1, 2, &["sha256:", &"0".repeat(64)].concat(), "0.1.0", 10_000))]
    #[case::snap(snap(1, 7, "{}"))]
    #[case::ev(ev(1, 7, 6, EVENT))]
    #[case::several(ev(1, 7, 6, &joined([EVENT, EVENT])))]
    #[case::caught(caught(1, 0))]
    #[case::lag(lag(1, 0))]
    #[case::gone(gone(1, GoneReason::Retention))]
    #[case::ack(ack("m-1", 1, Some("d-1".into())))]
    #[case::nack(nack(NackId::Sub(1), &Problem::not_found()))]
    #[case::nack_of_a_command(nack(NackId::Cmd("m-1".into()), &Problem::not_found().hint("x".repeat(5_000))))]
    #[case::hb(hb(1, 2))]
    #[case::bye(bye(ByeReason::SignedOut, 0))]
    fn every_frame_is_one_of_ws_v1(#[case] out: Out) {
        let value: Value = serde_json::from_str(&out.text).unwrap();
        assert_eq!(catalogue::check("ws.v1", "ServerFrame", &value), Ok(()), "{}", out.text);
        serde_json::from_value::<ServerFrame>(value).unwrap();
    }
}
