//! token.v1: what tokens say that an installation issues; and what the ledger says of tokens. Must never hold a token.

use crate::ids::{DispatchId, GrantId, LauncherRef, Subject, UnixMillis, WorkspaceId};
use crate::tool::Constraint;
use crate::unit::{InputTrust, Mode};
use serde::{Deserialize, Serialize};

/// What one dispatch may do, for the gateway that serves it. Source: contract token.v1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchClaims {
    /// `https://HOST/identity`.
    pub iss: String,
    /// The person.
    pub sub: Subject,
    /// The dispatch, acting for the launcher.
    pub act: DispatchActor,
    /// The launcher again, at the top: policy may read only this (RFC 8693, 4.1).
    pub launcher: LauncherRef,
    /// `https://HOST/gateway`.
    pub aud: String,
    /// The ceiling of the dispatch: words with one space between them.
    pub scope: String,
    /// The same, finer (RFC 9396).
    pub authorization_details: Vec<Detail>,
    /// The key of whoever may present it.
    pub cnf: KeyConfirmation,
    /// The token's id.
    pub jti: String,
    /// The dispatch.
    pub dispatch_id: DispatchId,
    /// The grant that it rests on.
    pub grant: GrantId,
    /// How far the input of the dispatch is trusted.
    pub input_trust: InputTrust,
    /// Digest of the canonical unit.
    pub dsh: String,
    /// Unix seconds: signed.
    pub iat: u64,
    /// Unix seconds: not before.
    pub nbf: u64,
    /// Unix seconds: not after.
    pub exp: u64,
}

/// What one call may do at one tool's server. Source: contract token.v1, RFC 9068.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolClaims {
    /// `https://HOST/sts`.
    pub iss: String,
    /// The person.
    pub sub: Subject,
    /// The gateway, for the dispatch, for the launcher.
    pub act: GatewayActor,
    /// Who asked for the token: the gateway.
    pub client_id: String,
    /// The launcher, copied.
    pub launcher: LauncherRef,
    /// The server's resource URI: one string.
    pub aud: String,
    /// What is called: words of the dispatch's scope.
    pub scope: String,
    /// The one entry that is used.
    pub authorization_details: Vec<Detail>,
    /// The token's id.
    pub jti: String,
    /// The dispatch.
    pub dispatch_id: DispatchId,
    /// The grant that it rests on.
    pub grant: GrantId,
    /// The effect that it is for; `None` when it is not for one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<String>,
    /// How far the input of the dispatch is trusted.
    pub input_trust: InputTrust,
    /// Unix seconds: signed.
    pub iat: u64,
    /// Unix seconds: not before.
    pub nbf: u64,
    /// Unix seconds: not after.
    pub exp: u64,
}

/// Who a call is made for, told to an authorization server of others for an access token of its own (RFC 7523). Source:
/// contract token.v1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssertionClaims {
    /// `https://HOST/sts`.
    pub iss: String,
    /// The person, by the id that they have there.
    pub sub: String,
    /// The gateway, for the dispatch, for the launcher.
    pub act: GatewayActor,
    /// The authorization server's issuer identifier: one string.
    pub aud: String,
    /// The token's id.
    pub jti: String,
    /// The dispatch.
    pub dispatch_id: DispatchId,
    /// The effect that it is for; `None` when it is not for one call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<String>,
    /// Unix seconds: signed.
    pub iat: u64,
    /// Unix seconds: not before.
    pub nbf: u64,
    /// Unix seconds: not after.
    pub exp: u64,
}

/// A key (RFC 7800).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfirmation {
    /// Its JWK thumbprint (RFC 7638).
    pub jkt: String,
}

/// The launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LauncherActor {
    /// Its id.
    pub sub: LauncherRef,
}

/// The dispatch, acting for the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DispatchActor {
    /// `spiffe://HOST/dispatch/ID`.
    pub sub: String,
    /// For whom.
    pub act: LauncherActor,
}

/// The gateway, acting for the dispatch. The newest actor is the outermost (RFC 8693, 4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayActor {
    /// `spiffe://HOST/gateway`.
    pub sub: String,
    /// For whom.
    pub act: DispatchActor,
}

/// One authorization detail (RFC 9396). Source: contract identity.v1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Detail {
    /// Access to one workspace.
    Workspace {
        /// Which.
        id: WorkspaceId,
        /// The most that may be done.
        mode: Mode,
    },
    /// Calls to tools of one server.
    Mcp {
        /// Which server, or `builtin`.
        server: String,
        /// Which of its tools.
        tools: Vec<String>,
        /// What the arguments must satisfy.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        args: Vec<Constraint>,
    },
}

/// How far a key that signs tokens has come. Each step is an event; no step goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKeyState {
    /// Published, and signs nothing yet.
    Next,
    /// Signs.
    Active,
    /// Signs nothing more; what it signed stays good until its end.
    Retiring,
    /// Nothing that it signed is good.
    Retired,
}

impl TokenKeyState {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenKeyState::Next => "next",
            TokenKeyState::Active => "active",
            TokenKeyState::Retiring => "retiring",
            TokenKeyState::Retired => "retired",
        }
    }
}

/// A key that signs tokens, and nothing else, came into another state. The first one of a key introduces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyChanged {
    /// The key's id, `token-` and 16 digits of the digest of its public half.
    pub kid: String,
    /// What it is now.
    pub state: TokenKeyState,
    /// Ed25519, 64 hexadecimal digits. It never changes.
    pub public_key: String,
    /// Who did it.
    pub by: String,
    /// Why.
    pub why: String,
}

/// A kind of issued token, by its `typ`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenType {
    /// Of a dispatch, to its gateway.
    #[serde(rename = "dispatch+jwt")]
    Dispatch,
    /// Of a call, to a tool's server.
    #[serde(rename = "at+jwt")]
    Tool,
    /// Of a call, to an authorization server of others.
    #[serde(rename = "authorization-grant+jwt")]
    Assertion,
}

impl TokenType {
    /// Its `typ`.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenType::Dispatch => "dispatch+jwt",
            TokenType::Tool => "at+jwt",
            TokenType::Assertion => "authorization-grant+jwt",
        }
    }
}

/// A token was signed. The token itself stands nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenIssued {
    /// The token's id, and the entity's.
    pub jti: String,
    /// Which kind.
    pub typ: TokenType,
    /// The key that signed.
    pub kid: String,
    /// The dispatch.
    pub dispatch: DispatchId,
    /// The grant that it rests on.
    pub grant: GrantId,
    /// For whom.
    pub aud: String,
    /// What it allows.
    pub scope: String,
    /// Digest of its canonical claims.
    pub claims_digest: String,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// The key of whoever asked.
    pub actor: String,
    /// The dispatch token that was exchanged for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The effect that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<String>,
}

/// A token was asked for and not signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRefused {
    /// The entity's id.
    pub id: String,
    /// The dispatch, when a proof that is good named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<DispatchId>,
    /// For whom it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aud: Option<String>,
    /// Stable code, for example `TOKEN_EXPIRED`.
    pub reason: String,
    /// What was wrong, in a sentence.
    pub detail: String,
    /// The key of whoever asked, when their proof is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// How many refusals this stands for.
    pub count: u64,
}

/// Events of kind token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenEvent {
    /// Signed.
    Issued(Box<TokenIssued>),
    /// Not signed.
    Refused(TokenRefused),
}

impl TokenEvent {
    /// The id of the entity that it is of.
    pub fn id(&self) -> &str {
        match self {
            TokenEvent::Issued(e) => &e.jti,
            TokenEvent::Refused(e) => &e.id,
        }
    }

    /// The dispatch, when it names one.
    pub fn dispatch(&self) -> Option<&DispatchId> {
        match self {
            TokenEvent::Issued(e) => Some(&e.dispatch),
            TokenEvent::Refused(e) => e.dispatch.as_ref(),
        }
    }
}
