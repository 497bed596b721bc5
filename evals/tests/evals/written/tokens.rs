//! A token allows no more than the dispatch that it is of, lives no longer than what it comes from, and is signed by a key
//! that may sign.

use super::grants::{asked, begun};
use super::{Script, lie};
use crate::book::{Book, Ending, container};
use custody_contracts::token::{TokenIssued, TokenKeyState, TokenType};
use serde_json::json;

pub(super) const BOUNDS: Script = Script {
    id: "2-token-bounds",
    write: bounds,
    lies: &[
        lie("more-than-the-unit", "decision", "A dispatch was given a token for a tool that its unit does not name."),
        lie("wider-exchange", "decision", "A dispatch token was exchanged for a tool that it does not have."),
        lie("outlives-it", "decision", "A tool token lives longer than the dispatch token that it was exchanged for."),
        lie("out-of-nothing", "decision", "A tool token was signed without a dispatch token."),
        lie("after-revocation", "decision", "A token was signed under a grant that had been taken back."),
        lie("after-the-end", "decision", "A token was signed for a dispatch that had ended."),
        lie("by-a-retiring-key", "decision", "A token was signed by a key that was signing no more."),
        lie("one-proof-twice", "decision", "One proof was made into two tokens."),
    ],
};

fn bounds(lie: &str) -> Book {
    let mut book = begun();
    let first = book.token_key(1, TokenKeyState::Next);
    book.token_key(1, TokenKeyState::Active);
    let mut terms = book.terms("g-web", "web-chat", 1, "u_jane");
    terms.tools.push("mail__send".into());
    book.grant(terms, None);
    let launch = asked(&mut book, "web-chat", 1, 1, |unit| unit["tools"] = json!(["mail__send", "workspace_read"]));
    let running = book.decide(&launch);
    book.claim(&running, None);
    book.start(&running, &container("a box"));
    book.token(&running, [&first, "tk-of-the-dispatch-1"], 900, |token| {
        if lie == "more-than-the-unit" {
            token.scope += " tool:mail__drop";
        }
    });
    let tool = |token: &mut TokenIssued| {
        token.typ = TokenType::Tool;
        token.aud = "https://mail.example/mcp".into();
        token.scope = if lie == "wider-exchange" { "tool:mail__drop" } else { "tool:mail__send" }.into();
        token.from = Some("tk-of-the-dispatch-1".into()).filter(|_| lie != "out-of-nothing");
        token.txn = Some(format!("{}-t1", token.dispatch));
    };
    book.refuse_token(&running, "tr-a-tool-it-has-not", "TOKEN_SCOPE");
    book.token(&running, [&first, "tk-of-the-first-call"], if lie == "outlives-it" { 1_000 } else { 120 }, tool);
    // The key is changed while the dispatch runs; what it signed is still exchanged.
    let second = book.token_key(2, TokenKeyState::Next);
    book.token_key(2, TokenKeyState::Active);
    book.token_key(1, TokenKeyState::Retiring);
    let by = if lie == "by-a-retiring-key" { &first } else { &second };
    let id = if lie == "one-proof-twice" { "tk-of-the-first-call" } else { "tk-of-the-second-call" };
    if lie == "after-revocation" {
        book.revoke("g-web");
    }
    book.token(&running, [by, id], 120, tool);
    book.finish(&running, Ending::completed(&container("a box"), "sent", 0));
    if lie == "after-the-end" {
        book.token(&running, [&second, "tk-of-the-third-call"], 120, tool);
    }
    book.checkpoint();
    book
}
