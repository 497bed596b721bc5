//! Whether a token that is about to be recorded, or was, may be: asked by authority before it writes, and again of any log
//! by whoever checks one. Must never need more than what stands in the log.

use super::claims::{TokenNo, scope_of};
use crate::approval::{ApprovalState, Ended};
use crate::effect::EffectState;
use custody_contracts::approval::ToolAwaiting;
use custody_contracts::events::DispatchAdmitted;
use custody_contracts::ids::UnixMillis;
use custody_contracts::token::{TokenIssued, TokenKeyState, TokenType};
use custody_trust::issued::{DISPATCH_LIFE_SECS_MAX, TOOL_LIFE_SECS_MAX};
use std::collections::BTreeSet;

/// What stands behind a token at the moment it is signed.
#[derive(Debug, Clone, Copy)]
pub struct Behind<'a> {
    /// The admission of its dispatch.
    pub admitted: Option<&'a DispatchAdmitted>,
    /// Whether the dispatch was claimed and has not ended.
    pub running: bool,
    /// When its grant ends; `None` when it does not stand.
    pub grant_ends: Option<UnixMillis>,
    /// What the key is that signs it.
    pub key: Option<TokenKeyState>,
    /// The dispatch token that it is exchanged for.
    pub from: Option<&'a TokenIssued>,
    /// The call that it is for alone, as [`approved_call`] has it.
    pub approved: Option<&'a ToolAwaiting>,
    /// Now.
    pub now: UnixMillis,
}

/// The call that a token is for alone, if it is: its own, or that of the dispatch token that it is exchanged for.
pub fn alone<'a>(token: &'a TokenIssued, from: Option<&'a TokenIssued>) -> Option<&'a str> {
    match token.typ {
        TokenType::Dispatch => token.txn.as_deref(),
        TokenType::Tool | TokenType::Assertion => from.and_then(|from| from.txn.as_deref()),
    }
}

/// A call that waited, that a person approved, and that has not ended: it may be made although its dispatch has ended.
pub fn approved_call<'a>(
    awaiting: Option<&'a ToolAwaiting>,
    effect: &EffectState,
    approval: &ApprovalState,
) -> Option<&'a ToolAwaiting> {
    let approved = matches!(approval.ended(), Some(Ended::Approved { .. }));
    awaiting.filter(|_| approved && (effect.waits() || effect.is_open()))
}

/// Whether it may be signed.
///
/// # Errors
/// [`TokenNo`] with the first thing that is not so.
pub fn may_be_issued(token: &TokenIssued, behind: Behind<'_>) -> Result<(), TokenNo> {
    let no = |code, detail: &str| Err(TokenNo { code, detail: detail.to_owned() });
    let call = alone(token, behind.from);
    let Some(admitted) = behind.admitted.filter(|_| behind.running || call.is_some()) else {
        return no("TOKEN_DISPATCH_NOT_RUNNING", "its dispatch does not run");
    };
    let of_call = |card: &str| behind.approved.filter(|waits| waits.dispatch == token.dispatch && waits.card() == card);
    let approved = call.and_then(of_call);
    if call.is_some() && approved.is_none() {
        return no("TOKEN_CALL", "it is for a call that nobody approved, or that has ended");
    }
    if admitted.dispatch != token.dispatch || admitted.grant.id() != Some(&token.grant) {
        return no("TOKEN_DISPATCH", "it names another dispatch or another grant than the admission");
    }
    let Some(grant_ends) = behind.grant_ends else {
        return no("TOKEN_GRANT", "the grant of its dispatch does not stand");
    };
    if behind.key != Some(TokenKeyState::Active) {
        return no("TOKEN_KEY", "the key that signs it is not active");
    }
    let within = |secs: u64| token.expires_at > behind.now && token.expires_at.0 <= behind.now.0 + secs * 1_000;
    // The end is in whole seconds, and so is the moment that it is counted from.
    let (life, ends, scope) = match (token.typ, behind.from) {
        (TokenType::Dispatch, None) => {
            let tool = approved.map(|waits| waits.tool.as_str());
            (DISPATCH_LIFE_SECS_MAX, grant_ends, scope_of(&admitted.unit, tool))
        }
        (TokenType::Tool | TokenType::Assertion, Some(from))
            if from.typ == TokenType::Dispatch && token.from.as_ref() == Some(&from.jti) =>
        {
            if from.dispatch != token.dispatch || from.actor != token.actor {
                return no("TOKEN_BINDING", "it is exchanged for another dispatch's token, or by another key");
            }
            if token.txn.is_some() && call.is_some() && token.txn.as_deref() != call {
                return no("TOKEN_TXN", "it is exchanged for the token of another call");
            }
            (TOOL_LIFE_SECS_MAX, from.expires_at.min(grant_ends), from.scope.clone())
        }
        (TokenType::Dispatch, Some(_)) | (TokenType::Tool | TokenType::Assertion, _) => {
            return no("TOKEN_FROM", "it is not exchanged for a dispatch token that was issued");
        }
    };
    if !within(life) || token.expires_at > ends {
        return no("TOKEN_LIFE", "it lives longer than it may, or than what it comes from");
    }
    let allowed: BTreeSet<&str> = scope.split(' ').collect();
    let wanted: BTreeSet<&str> = token.scope.split(' ').collect();
    let tools = wanted.is_subset(&allowed) && wanted.iter().all(|word| word.starts_with("tool:"));
    let shrinks = match token.typ {
        TokenType::Dispatch => wanted == allowed,
        TokenType::Tool => tools,
        // It does not say what it is for, so its record says one thing.
        TokenType::Assertion => tools && wanted.len() == 1,
    };
    if shrinks { Ok(()) } else { no("TOKEN_SCOPE", "it allows more than what it comes from") }
}
