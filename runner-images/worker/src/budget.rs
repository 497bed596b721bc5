//! Counts the agent's output against `limits.output_bytes`. Must never drop the frames that say how the agent ended
//! while there are few of them, and must never let through an unbounded number of any kind.

use crate::protocol::FrameBody;

/// How many results, errors, usages and sessions pass after the limit.
pub const AFTER_LIMIT_MAX: u32 = 256;

/// What a frame's line holds besides its body: type, number, time, braces.
const ENVELOPE_BYTES: u64 = 72;

/// What is left of the agent's output.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: u64,
    truncated: bool,
    after_limit: u32,
}

impl Budget {
    /// A budget of so many bytes of frames, as lines.
    pub fn new(limit: u64) -> Self {
        Self { limit, used: 0, truncated: false, after_limit: 0 }
    }

    /// The frames to send for this one: itself, or one `truncated` the first time that something does not fit, or
    /// nothing. Frames that tell the end pass in a bounded number.
    pub fn admit(&mut self, body: FrameBody) -> Vec<FrameBody> {
        let cost = cost(&body);
        if !self.truncated && self.used + cost <= self.limit {
            self.used += cost;
            return vec![body];
        }
        let mut out = Vec::new();
        if !self.truncated {
            self.truncated = true;
            out.push(FrameBody::Truncated { bytes: self.used });
        }
        if tells_the_end(&body) && self.after_limit < AFTER_LIMIT_MAX {
            self.after_limit += 1;
            out.push(body);
        }
        out
    }
}

/// Bytes of this frame's line, near enough: the number's and the time's digits vary.
fn cost(body: &FrameBody) -> u64 {
    ENVELOPE_BYTES + serde_json::to_vec(body).map_or(0, |bytes| bytes.len() as u64)
}

fn tells_the_end(body: &FrameBody) -> bool {
    match body {
        FrameBody::Result { .. } | FrameBody::Error { .. } | FrameBody::Usage { .. } | FrameBody::Session { .. } => {
            true
        }
        FrameBody::Started { .. } | FrameBody::Truncated { .. } | FrameBody::Turn { .. } | FrameBody::Exit { .. } => {
            true
        }
        FrameBody::Text { .. } | FrameBody::Log { .. } => false,
        FrameBody::ToolCall { .. } | FrameBody::ToolResult { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    /// `{"kind":"text","text":"abc"}` is 28 bytes, with its envelope 100.
    #[rstest]
    #[case::under(1000, json!([{"kind":"text","text":"abc"}]), json!([{"kind":"text","text":"abc"}]))]
    #[case::exactly(100, json!([{"kind":"text","text":"abc"}]), json!([{"kind":"text","text":"abc"}]))]
    #[case::crossing(199, json!([{"kind":"text","text":"abc"},{"kind":"text","text":"def"},{"kind":"text","text":""}]),
        json!([{"kind":"text","text":"abc"},{"kind":"truncated","bytes":100}]))]
    #[case::escapes_count(104, json!([{"kind":"text","text":"\u{1}bc"}]), json!([{"kind":"truncated","bytes":0}]))]
    #[case::the_end_is_told(99, json!([{"kind":"text","text":"abc"},{"kind":"result","text":"long enough"},{"kind":"text","text":"x"}]),
        json!([{"kind":"truncated","bytes":0},{"kind":"result","text":"long enough"}]))]
    #[case::tool_calls_are_dropped(150, json!([{"kind":"text","text":"abc"},{"kind":"tool_call","id":"1","name":"n","args":{}}]),
        json!([{"kind":"text","text":"abc"},{"kind":"truncated","bytes":100}]))]
    #[case::a_result_may_cross(2, json!([{"kind":"result","text":"abc"}]), json!([{"kind":"truncated","bytes":0},{"kind":"result","text":"abc"}]))]
    fn admits(#[case] limit: u64, #[case] input: Value, #[case] expected: Value) {
        let mut budget = Budget::new(limit);
        let input: Vec<FrameBody> = serde_json::from_value(input).unwrap();
        let out: Vec<_> = input.into_iter().flat_map(|body| budget.admit(body)).collect();
        assert_eq!(serde_json::to_value(out).unwrap(), expected);
    }

    #[test]
    fn a_flood_of_results_is_bounded() {
        let mut budget = Budget::new(1);
        let passed: usize = (0..10_000).map(|_| budget.admit(FrameBody::Result { text: "xx".into() }).len()).sum();
        assert_eq!(passed, AFTER_LIMIT_MAX as usize + 1);
    }
}
