//! What the claims of a token are. Functions of documents: what stands now, and who asks, was looked at before.

use custody_contracts::canonical::{canonical, digest};
use custody_contracts::events::DispatchAdmitted;
use custody_contracts::grant::Grant;
use custody_contracts::ids::UnixMillis;
use custody_contracts::token::{
    AssertionClaims, Detail, DispatchActor, DispatchClaims, GatewayActor, KeyConfirmation, LauncherActor, ToolClaims,
};
use custody_contracts::unit::Invocation;
use custody_trust::grant::server_of;
use custody_trust::issued::{DISPATCH_LIFE_SECS_MAX, Names, TOOL_LIFE_SECS_MAX};
use std::collections::{BTreeMap, BTreeSet};

/// The most words of a scope that may be asked for.
pub const SCOPES_MAX: usize = 64;

/// For whom the tokens of a server of tools are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// The server itself, by its resource URI: it takes tool tokens.
    Server(String),
    /// An authorization server of others, which takes assertions and whose access tokens the server takes.
    Issuer(Issuer),
}

/// An authorization server of others, and whom it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its issuer identifier (RFC 8414).
    pub id: String,
    /// Person, and their id there. `None`: everybody has the same id there. Who is not in it has none.
    pub users: Option<BTreeMap<String, String>>,
}

/// Server and the audience that its tokens have, for the servers that take tokens.
pub type Audiences = BTreeMap<String, Audience>;

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct TokenNo {
    /// Stable code: `TOKEN_SCOPE`, `TOKEN_TARGET`, `TOKEN_SUBJECT`, `TOKEN_TXN`, `TOKEN_ENDED`.
    pub code: &'static str,
    /// What was wrong, in a sentence.
    pub detail: String,
}

fn no<T>(code: &'static str, detail: impl Into<String>) -> Result<T, TokenNo> {
    Err(TokenNo { code, detail: detail.into() })
}

/// What a token gets that no document says.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// The installation's names.
    pub names: &'a Names,
    /// The token's id.
    pub jti: &'a str,
    /// Now.
    pub now: UnixMillis,
}

/// What one dispatch may do: no tool and no workspace beyond its unit, no later than its grant. `only` is the tool of the
/// one call that it is for, when it is for one.
///
/// # Errors
/// `TOKEN_ENDED` when the grant has ended, `TOKEN_SCOPE` when that tool is not in the unit.
pub fn dispatch_claims(
    admitted: &DispatchAdmitted,
    grant: &Grant,
    jkt: &str,
    only: Option<&str>,
    given: Given<'_>,
) -> Result<DispatchClaims, TokenNo> {
    let Given { names, jti, now } = given;
    let (unit, iat) = (&admitted.unit, now.0 / 1_000);
    let exp = (iat + DISPATCH_LIFE_SECS_MAX).min(grant.ends().0 / 1_000);
    if exp <= iat {
        return no("TOKEN_ENDED", format!("grant {} has ended", grant.id));
    }
    if let Some(tool) = only.filter(|tool| !unit.tools.iter().any(|own| own == tool)) {
        return no("TOKEN_SCOPE", format!("{tool:?} is not in the unit of the dispatch"));
    }
    let mut details = Vec::new();
    for mount in unit.workspaces.iter().filter(|_| only.is_none()) {
        details.push(Detail::Workspace { id: mount.id.clone(), mode: mount.mode });
    }
    let mut servers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for tool in unit.tools.iter().filter(|tool| only.is_none_or(|only| only == tool.as_str())) {
        servers.entry(server_of(tool)).or_default().push(tool.clone());
    }
    details.extend(servers.into_iter().map(|(server, tools)| Detail::Mcp {
        server,
        tools,
        args: grant.constraints.clone(),
    }));
    let unit_text = serde_json::to_value(unit).map(|value| canonical(&value)).unwrap_or_default();
    Ok(DispatchClaims {
        iss: names.identity(),
        sub: unit.identity.subject.clone(),
        act: DispatchActor {
            sub: names.dispatch_actor(admitted.dispatch.as_str()),
            act: LauncherActor { sub: unit.identity.launcher.clone() },
        },
        launcher: unit.identity.launcher.clone(),
        aud: names.gateway(),
        scope: scope_of(unit, only),
        authorization_details: details,
        cnf: KeyConfirmation { jkt: jkt.to_owned() },
        jti: jti.to_owned(),
        dispatch_id: admitted.dispatch.clone(),
        grant: grant.id.clone(),
        input_trust: unit.trigger.input_trust(),
        dsh: digest(unit_text.as_bytes()),
        iat,
        nbf: iat,
        exp,
    })
}

/// The scope of a dispatch: what its unit names, and nothing else; that of one call is its tool.
pub(super) fn scope_of(unit: &Invocation, only: Option<&str>) -> String {
    if let Some(tool) = only {
        return ["tool:", tool].concat();
    }
    let mut words = vec!["agent:run".to_owned()];
    words.extend(unit.workspaces.iter().map(|mount| ["ws:", mount.id.as_str(), ":", mount.mode.as_str()].concat()));
    words.extend(unit.tools.iter().map(|tool| ["tool:", tool].concat()));
    words.join(" ")
}

/// What is asked for in an exchange. Source: RFC 8693, section 2.1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// `audience` or `resource`: where the token is to be used.
    pub audience: String,
    /// `scope`; absent: every tool of that server that the dispatch may call.
    pub scope: Option<String>,
    /// The effect that it is for.
    pub txn: Option<String>,
}

/// What one call may do: never more than the dispatch token allows, at one server, not for long.
///
/// # Errors
/// `TOKEN_TARGET`, `TOKEN_SCOPE`, `TOKEN_TXN` or `TOKEN_ENDED`.
pub fn tool_claims(
    dispatch: &DispatchClaims,
    asked: &Asked,
    audiences: &Audiences,
    given: Given<'_>,
) -> Result<ToolClaims, TokenNo> {
    let Given { names, jti, now } = given;
    let is_it = |audience: &Audience| matches!(audience, Audience::Server(uri) if *uri == asked.audience);
    let Some((server, _)) = audiences.iter().find(|(_, audience)| is_it(audience)) else {
        return no("TOKEN_TARGET", "no server of tools takes tokens for this audience");
    };
    let allowed: BTreeSet<&str> = dispatch.scope.split(' ').collect();
    let of_server = |word: &&str| word.strip_prefix("tool:").is_some_and(|tool| server_of(tool) == *server);
    let wanted: BTreeSet<&str> = match asked.scope.as_deref() {
        Some(text) => text.split(' ').collect(),
        None => allowed.iter().copied().filter(of_server).collect(),
    };
    if wanted.len() > SCOPES_MAX {
        return no("TOKEN_SCOPE", format!("{SCOPES_MAX} words are the most that may be asked for"));
    }
    if let Some(word) = wanted.iter().find(|word| !allowed.contains(**word) || !of_server(word)) {
        let shown: String = word.chars().take(160).collect();
        return no("TOKEN_SCOPE", format!("{shown:?} is not a tool of {server} in the scope of the dispatch"));
    }
    if wanted.is_empty() {
        return no("TOKEN_SCOPE", format!("the dispatch may call no tool of {server}"));
    }
    let (iat, exp) = of_call(dispatch, asked, now)?;
    let tools: Vec<String> = wanted.iter().filter_map(|word| word.strip_prefix("tool:")).map(str::to_owned).collect();
    let args = dispatch.authorization_details.iter().find_map(|detail| match detail {
        Detail::Mcp { server: of, args, .. } if of == server => Some(args.clone()),
        Detail::Mcp { .. } | Detail::Workspace { .. } => None,
    });
    Ok(ToolClaims {
        iss: names.sts(),
        sub: dispatch.sub.clone(),
        act: GatewayActor { sub: names.gateway_actor(), act: dispatch.act.clone() },
        client_id: names.gateway_actor(),
        launcher: dispatch.launcher.clone(),
        aud: asked.audience.clone(),
        scope: wanted.into_iter().collect::<Vec<_>>().join(" "),
        authorization_details: vec![Detail::Mcp { server: server.clone(), tools, args: args.unwrap_or_default() }],
        jti: jti.to_owned(),
        dispatch_id: dispatch.dispatch_id.clone(),
        grant: dispatch.grant.clone(),
        txn: asked.txn.clone(),
        input_trust: dispatch.input_trust,
        iat,
        nbf: iat,
        exp,
    })
}

/// Who one call of one tool is made for, told to the authorization server whose tokens the tool's server takes. Source:
/// RFC 7523, section 3.
///
/// # Errors
/// `TOKEN_SCOPE` for anything but one tool of the dispatch, `TOKEN_TARGET` when the tool's server takes no tokens of that
/// authorization server, `TOKEN_SUBJECT` when the person has no id there, `TOKEN_TXN` or `TOKEN_ENDED`.
pub fn assertion_claims(
    dispatch: &DispatchClaims,
    asked: &Asked,
    audiences: &Audiences,
    given: Given<'_>,
) -> Result<AssertionClaims, TokenNo> {
    let word = asked.scope.as_deref().unwrap_or_default();
    let Some(tool) = word.strip_prefix("tool:").filter(|_| dispatch.scope.split(' ').any(|own| own == word)) else {
        return no("TOKEN_SCOPE", "an assertion is for one tool in the scope of the dispatch");
    };
    let server = server_of(tool);
    let issuer = match audiences.get(&server) {
        Some(Audience::Issuer(issuer)) if issuer.id == asked.audience => issuer,
        Some(Audience::Issuer(_) | Audience::Server(_)) | None => {
            return no("TOKEN_TARGET", "the tool's server takes no tokens of this authorization server");
        }
    };
    let sub = match &issuer.users {
        None => dispatch.sub.to_string(),
        Some(users) => match users.get(dispatch.sub.as_str()) {
            Some(id) => id.clone(),
            None => return no("TOKEN_SUBJECT", format!("{} has no id at {}", dispatch.sub, issuer.id)),
        },
    };
    let (iat, exp) = of_call(dispatch, asked, given.now)?;
    Ok(AssertionClaims {
        iss: given.names.sts(),
        sub,
        act: GatewayActor { sub: given.names.gateway_actor(), act: dispatch.act.clone() },
        aud: issuer.id.clone(),
        jti: given.jti.to_owned(),
        dispatch_id: dispatch.dispatch_id.clone(),
        txn: asked.txn.clone(),
        iat,
        nbf: iat,
        exp,
    })
}

/// From when to when a token of one call is good: not for long, and never beyond the dispatch token. Its call, when it
/// names one, is the dispatch's.
fn of_call(dispatch: &DispatchClaims, asked: &Asked, now: UnixMillis) -> Result<(u64, u64), TokenNo> {
    let own = |txn: &str| {
        let number = txn.strip_prefix(dispatch.dispatch_id.as_str()).and_then(|rest| rest.strip_prefix("-t"));
        number.is_some_and(|n| (1..=7).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
    };
    if asked.txn.as_deref().is_some_and(|txn| !own(txn)) {
        return no("TOKEN_TXN", "txn is not an effect of the dispatch");
    }
    let iat = now.0 / 1_000;
    let exp = (iat + TOOL_LIFE_SECS_MAX).min(dispatch.exp);
    if exp <= iat { no("TOKEN_ENDED", "the dispatch token has ended") } else { Ok((iat, exp)) }
}
