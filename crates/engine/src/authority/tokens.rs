//! `command.runtime.token`: authority signs a short token for the runtime's HTTP face. Must never sign for another
//! audience, nor for longer than a token may live, and never writes a token down.

use custody_contracts::ids::{Subject, UnixMillis};
use custody_contracts::messages::ErrorDoc;
use custody_ledger::Sign;
use custody_trust::token::{Claims, RUNTIME, Scope, mint};
use serde::Deserialize;
use serde_json::{Value, json};

/// The longest unique id of a token.
const JTI_BYTES_MAX: usize = 64;

/// What is asked for. The random part comes in with the command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenAsked {
    /// The person that workloads act for.
    pub subject: Subject,
    /// `workloads:read`, `workloads:write`.
    pub scopes: Vec<String>,
    /// Seconds.
    pub life_secs: u64,
    /// Unique, from the asker's random source.
    pub jti: String,
    /// Who asks.
    pub by: String,
}

/// Signs one.
///
/// # Errors
/// `TOKEN_REFUSED` when it would live too long, has no scope or an unknown one, or has no id.
pub fn runtime_token(signer: &dyn Sign, now: UnixMillis, asked: &TokenAsked) -> Result<Value, ErrorDoc> {
    let refused = |why: String, hint: &str| Err(ErrorDoc::new("TOKEN_REFUSED", why, Some(hint.to_owned())));
    if !(1..=RUNTIME.life_secs_max).contains(&asked.life_secs) {
        return refused(
            format!("a token lives 1 to {} s", RUNTIME.life_secs_max),
            "ask for a shorter one, and again when it ends",
        );
    }
    let known = [Scope::Read, Scope::Write].map(Scope::as_str);
    if asked.scopes.is_empty() || !asked.scopes.iter().all(|s| known.contains(&s.as_str())) {
        return refused(format!("scopes {:?} are not of {known:?}", asked.scopes), "workloads:read, workloads:write");
    }
    if asked.jti.len() < 16 || asked.jti.len() > JTI_BYTES_MAX {
        return refused("a token's id has 16 to 64 characters".into(), "16 random bytes in hexadecimal");
    }
    let iat = now.0 / 1_000;
    let claims = Claims {
        iss: RUNTIME.issuer.into(),
        sub: asked.subject.to_string(),
        aud: RUNTIME.audience.into(),
        scope: asked.scopes.join(" "),
        jti: asked.jti.clone(),
        iat,
        nbf: iat,
        exp: iat + asked.life_secs,
    };
    let token = mint(signer, &RUNTIME, &claims)
        .map_err(|e| ErrorDoc::new("TOKEN_REFUSED", format!("it could not be written: {e}"), None))?;
    tracing::info!(subject = claims.sub, scope = claims.scope, jti = claims.jti, by = asked.by, "runtime token signed");
    Ok(json!({ "token": token, "claims": claims }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody_contracts::events::Role;
    use custody_trust::RoleKey;
    use rstest::rstest;

    fn asked() -> TokenAsked {
        TokenAsked {
            subject: Subject::parse("u_jane").unwrap(),
            scopes: vec!["workloads:read".into()],
            life_secs: 300,
            jti: "0123456789abcdef".into(),
            by: "test".into(),
        }
    }

    #[rstest]
    #[case::honest(|_: &mut TokenAsked| {}, true)]
    #[case::longest(|a: &mut TokenAsked| a.life_secs = RUNTIME.life_secs_max, true)]
    #[case::too_long(|a: &mut TokenAsked| a.life_secs = RUNTIME.life_secs_max + 1, false)]
    #[case::no_life(|a: &mut TokenAsked| a.life_secs = 0, false)]
    #[case::no_scope(|a: &mut TokenAsked| a.scopes.clear(), false)]
    #[case::other_scope(|a: &mut TokenAsked| a.scopes.push("admin".into()), false)]
    #[case::short_id(|a: &mut TokenAsked| a.jti = "1".into(), false)]
    #[case::long_id(|a: &mut TokenAsked| a.jti = "1".repeat(65), false)]
    fn only_short_tokens_for_the_runtime_are_signed(#[case] change: fn(&mut TokenAsked), #[case] signed: bool) {
        let key = RoleKey::from_seed(Role::Authority, &[1; 32]);
        let mut asked = asked();
        change(&mut asked);
        let made = runtime_token(&key, UnixMillis(1_795_381_200_500), &asked);
        match made {
            Ok(value) => {
                assert!(signed);
                assert_eq!(value["claims"]["aud"], RUNTIME.audience);
                assert_eq!(value["claims"]["exp"], 1_795_381_200 + asked.life_secs);
            }
            Err(error) => assert!(!signed && error.code == "TOKEN_REFUSED" && error.hint.is_some(), "{error:?}"),
        }
    }
}
