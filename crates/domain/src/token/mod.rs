//! A token: signed once or refused, and never the same one twice. And what may be put into one: a dispatch token says
//! what its admission and its grant allow; a tool token or an assertion never more than the dispatch token that it is
//! exchanged for.

mod claims;
mod stands;
#[cfg(test)]
mod tests;

pub use claims::{
    Asked, Audience, Audiences, Given, Issuer, SCOPES_MAX, TokenNo, assertion_claims, dispatch_claims, tool_claims,
};
pub use stands::{Behind, alone, approved_call, may_be_issued};

use crate::events::OfToken;
use custody_contracts::token::{TokenEvent, TokenIssued, TokenRefused};
use custody_ledger::Decider;

/// What is known of one token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenState {
    decided: bool,
    issued: Option<Box<TokenIssued>>,
}

impl TokenState {
    /// What was signed, if it was.
    pub fn issued(&self) -> Option<&TokenIssued> {
        self.issued.as_deref()
    }
}

/// What can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenCommand {
    /// Sign it. What it says was judged before.
    Issue(Box<TokenIssued>),
    /// Do not, and record why.
    Refuse(TokenRefused),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenAgain {
    /// The proof that it was asked with was used before.
    #[error("this proof was used before; a proof is taken once")]
    Replayed,
}

/// The rule.
#[derive(Debug)]
pub struct Token;

impl Decider for Token {
    type Command = TokenCommand;
    type Event = OfToken;
    type State = TokenState;
    type Refusal = TokenAgain;

    fn decide(state: &TokenState, command: TokenCommand) -> Result<Vec<OfToken>, TokenAgain> {
        match command {
            _ if state.decided => Err(TokenAgain::Replayed),
            TokenCommand::Issue(token) => Ok(vec![OfToken(TokenEvent::Issued(token))]),
            TokenCommand::Refuse(refused) => Ok(vec![OfToken(TokenEvent::Refused(refused))]),
        }
    }

    fn evolve(_: TokenState, event: &OfToken) -> TokenState {
        match &event.0 {
            TokenEvent::Issued(e) => TokenState { decided: true, issued: Some(e.clone()) },
            TokenEvent::Refused(_) => TokenState { decided: true, issued: None },
        }
    }
}
