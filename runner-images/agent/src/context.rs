//! What of a conversation fits the model: the newest whole turns, and in the newest turn what fits of its tool results.
//! Must never change the session, only what is sent; must never send a tool call without its result.

use crate::message::Message;
use std::collections::BTreeSet;

/// Bytes of messages that are sent, besides the system's words.
pub const CONTEXT_BYTES_MAX: usize = 24 * 1024;
/// Stands for a result that is not sent any more.
const DROPPED: &str = "[dropped to fit]";
/// Stands for a result that never came, because an earlier run ended before it.
const INTERRUPTED: &str = "error: interrupted before the tool answered";

/// The messages to send, and how many older ones are left out.
pub fn fit(messages: &[Message], max: usize) -> (Vec<Message>, usize) {
    let messages = answered(messages);
    let starts: Vec<usize> =
        (0..messages.len()).filter(|index| matches!(messages[*index], Message::User { .. })).collect();
    let newest = starts.last().copied().unwrap_or(0);
    let fits = |start: &usize| messages[*start..].iter().map(Message::size).sum::<usize>() <= max;
    let start = starts.iter().copied().find(fits).unwrap_or(newest);
    let mut kept = messages[start..].to_vec();
    shrink(&mut kept, max);
    (kept, start)
}

/// A conversation in which every tool call has a result right after it.
fn answered(messages: &[Message]) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut open: Vec<String> = Vec::new();
    for message in messages {
        if let Message::Tool { tool_call_id, .. } = message {
            open.retain(|id| id != tool_call_id);
        } else {
            out.extend(open.drain(..).map(interrupted));
        }
        if let Message::Assistant { tool_calls, .. } = message {
            open = tool_calls.iter().map(|call| call.id.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        }
        out.push(message.clone());
    }
    out.extend(open.into_iter().map(interrupted));
    out
}

fn interrupted(id: String) -> Message {
    Message::Tool { tool_call_id: id, content: INTERRUPTED.to_owned() }
}

/// Drops the oldest results of the one turn that is left until it fits, then shortens what is longest.
fn shrink(messages: &mut [Message], max: usize) {
    let size = |messages: &[Message]| messages.iter().map(Message::size).sum::<usize>();
    let last = messages.len().saturating_sub(1);
    for index in 0..last {
        if size(messages) <= max {
            return;
        }
        match &mut messages[index] {
            Message::Tool { content, .. } if content.len() > DROPPED.len() => *content = DROPPED.to_owned(),
            // A file that the model wrote is in the workspace; its text need not be said again.
            Message::Assistant { tool_calls, .. } => {
                for call in tool_calls.iter_mut().filter(|call| call.arguments.len() > 1024) {
                    call.arguments = "{}".to_owned();
                }
            }
            Message::Tool { .. } | Message::User { .. } => {}
        }
    }
    for message in messages.iter_mut() {
        let content = match message {
            Message::User { content } | Message::Assistant { content, .. } | Message::Tool { content, .. } => content,
        };
        let most = max / 3;
        if content.len() > most {
            let end = content.floor_char_boundary(most);
            content.truncate(end);
            content.push_str("\n[cut to fit]");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ToolCall;
    use rstest::rstest;

    /// `u100` a user message of 100 bytes, `a` assistant, `c` assistant with call, `t` tool.
    fn conversation(short: &str) -> Vec<Message> {
        let message = |(index, word): (usize, &str)| {
            let content = "x".repeat(word[1..].parse().unwrap());
            match &word[..1] {
                "u" => Message::User { content },
                "a" => Message::Assistant { content, tool_calls: vec![] },
                "c" => Message::Assistant {
                    content,
                    tool_calls: vec![ToolCall { id: index.to_string(), name: "n".into(), arguments: "{}".into() }],
                },
                _ => Message::Tool { tool_call_id: (index - 1).to_string(), content },
            }
        };
        short.split_whitespace().enumerate().map(message).collect()
    }

    fn kinds(messages: &[Message]) -> String {
        let kind = |message: &Message| match message {
            Message::User { .. } => 'u',
            Message::Assistant { tool_calls, .. } => {
                if tool_calls.is_empty() {
                    'a'
                } else {
                    'c'
                }
            }
            Message::Tool { content, .. } => match content.as_str() {
                INTERRUPTED => 'i',
                DROPPED => 'd',
                _ => 't',
            },
        };
        messages.iter().map(kind).collect()
    }

    #[rstest]
    #[case::all("u10 a10 u10 a10", 1000, "uaua", 0)]
    #[case::oldest_turn_goes("u400 a400 u10 a10 u10", 1000, "uau", 2)]
    #[case::turns_go_whole("u10 c10 t900 a10 u10 a10 u10", 1000, "uau", 4)]
    #[case::the_newest_stays("u10 a10 u5000", 1000, "u", 2)]
    #[case::old_results_go_first("u10 c10 t900 c10 t300", 1000, "ucdct", 0)]
    #[case::interrupted_at_the_end("u10 c10", 1000, "uci", 0)]
    #[case::interrupted_in_the_middle("u10 c10 u10 a10", 1000, "uciua", 0)]
    #[case::nothing("", 1000, "", 0)]
    fn fits(#[case] short: &str, #[case] max: usize, #[case] expected: &str, #[case] dropped: usize) {
        let (kept, left_out) = fit(&conversation(short), max);
        assert_eq!((kinds(&kept).as_str(), left_out), (expected, dropped));
    }

    #[rstest]
    #[case("u100000")]
    #[case("u20000 c10 t20000")]
    #[case("u20000 c10 t20000 c10 t20000 c10 t30000")]
    fn one_turn_that_is_too_large_is_cut(#[case] short: &str) {
        let (kept, _) = fit(&conversation(short), CONTEXT_BYTES_MAX);
        let size: usize = kept.iter().map(Message::size).sum();
        assert!(size <= CONTEXT_BYTES_MAX + 1024, "{size}");
        assert!(matches!(&kept[0], Message::User { content } if content.contains("cut to fit")));
    }
}
