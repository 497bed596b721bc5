//! proactive-card.v1: a call that waits, as a person sees it. Pure: made from the event and from the arguments of its
//! digest, so that what is shown is what is approved.

use crate::ids::UnixMillis;
use serde_json::{Value, json};

/// The longest preview, in characters. Source: contract proactive-card.v1.
const PREVIEW_CHARS_MAX: usize = 65_536;

/// What a card is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Its id.
    pub card: &'a str,
    /// The dispatch whose call it is.
    pub dispatch: &'a str,
    /// The person.
    pub owner: &'a str,
    /// The tool.
    pub tool: &'a str,
    /// Digest of the arguments.
    pub args_digest: &'a str,
    /// When the call was made, RFC 3339.
    pub opened_at: &'a str,
    /// When its time is up.
    pub expires_at: UnixMillis,
}

/// The card of a call, from the bytes of its canonical arguments, which the store has checked against their digest. `None`
/// when they are no JSON.
pub fn card(shown: Shown<'_>, args: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(args).ok()?;
    let preview: String = serde_json::to_string_pretty(&value).ok()?.chars().take(PREVIEW_CHARS_MAX).collect();
    // A card that an agent wrote shows its own words; both are text and stay text.
    let own = |name: &str| value.get(name).and_then(Value::as_str).filter(|_| shown.tool == "card_propose");
    let title = own("title").map_or_else(|| format!("{} waits for a decision", shown.tool), str::to_owned);
    let mut card = json!({
        "id": shown.card,
        "unit_id": shown.dispatch,
        "owner": shown.owner,
        "kind": "suggestion",
        "title": title,
        "actions": [
            { "label": "Approve", "invoke": "card.approve" },
            { "label": "Edit", "invoke": "card.edit" },
            { "label": "Reject", "invoke": "card.reject" },
            { "label": "Defer", "invoke": "card.defer" },
        ],
        "ts": shown.opened_at,
        "effect": { "tool": shown.tool, "args_digest": shown.args_digest, "preview": preview },
        "expires": shown.expires_at.rfc3339(),
    });
    if let Some(body) = own("body") {
        card["body_md"] = body.into();
    }
    Some(card)
}

/// Text as somebody can see all of it: control, format and other invisible characters are spelled out, like `\u{202e}`.
/// Line ends stay. Source: what `char::escape_debug` takes for not printable, and the fillers of Hangul, which are letters.
pub fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '"' | '\'' | '\\' => seen.push(c),
            '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' => seen.extend(c.escape_unicode()),
            '\t' | '\r' | '\0' => seen.extend(c.escape_unicode()),
            _ => seen.extend(c.escape_debug()),
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{canonical, digest};
    use crate::catalogue::check;

    fn of(tool: &str, args: &Value) -> Option<Value> {
        let bytes = canonical(args).into_bytes();
        let own = digest(&bytes);
        let shown = Shown {
            card: "d-1-t1",
            dispatch: "d-1",
            owner: "u_jane",
            tool,
            args_digest: &own,
            opened_at: "2026-11-27T10:00:00.000Z",
            expires_at: UnixMillis(1_800_000_000_000),
        };
        card(shown, &bytes)
    }

    #[test]
    fn a_card_shows_exactly_the_arguments_of_its_digest() {
        let args = json!({ "to": "bob@acme.test", "text": "x".repeat(32_000) });
        let card = of("mail__send", &args).unwrap();
        check("proactive-card.v1", "Card", &card).unwrap();
        let preview: Value = serde_json::from_str(card["effect"]["preview"].as_str().unwrap()).unwrap();
        assert_eq!(preview, args);
    }

    #[test]
    fn an_agents_own_card_shows_its_words() {
        let args = json!({ "title": "Reply to Bob", "body": "The figure is **4.2 M**." });
        let card = of("card_propose", &args).unwrap();
        check("proactive-card.v1", "Card", &card).unwrap();
        assert_eq!((card["title"].as_str(), card["body_md"].as_str()), (Some("Reply to Bob"), args["body"].as_str()));
        assert_eq!(of("mail__send", &args).unwrap()["title"], "mail__send waits for a decision");
    }

    #[test]
    fn what_is_not_seen_is_spelled_out() {
        assert_eq!(visible("a \"b\" c:\\d\n Grüße 你好"), "a \"b\" c:\\d\n Grüße 你好");
        for hidden in
            ["\u{202e}", "\u{200b}", "\u{a0}", "\u{fe0f}", "\u{e0041}", "\u{3164}", "\u{1b}", "\t", "\u{2028}"]
        {
            let code = u32::from(hidden.chars().next().unwrap());
            assert_eq!(visible(&format!("a{hidden}b")), format!("a\\u{{{code:x}}}b"));
        }
    }
}
