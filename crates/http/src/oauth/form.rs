//! The request of a token exchange, out of a form; and its errors. Pure. Source: RFC 8693, sections 2.1 and 2.2.2; RFC 6749,
//! sections 3.2 and 5.2.

use custody_engine::authority::issuing::ExchangeAsk;
use std::collections::BTreeMap;

/// `grant_type`.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The type of both tokens that are shown.
pub const TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";
/// The type of what is given.
pub(super) const ISSUED_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
/// The most parameters of one request.
const PARAMETERS_MAX: usize = 32;
/// The longest description of an error, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 400;

/// One error, in the words of OAuth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthError {
    /// HTTP status.
    pub status: u16,
    /// `error`.
    pub error: &'static str,
    /// `error_description`: characters that RFC 6749, 5.2 allows, our own code first.
    pub description: String,
}

impl OauthError {
    /// With another text cut to what may stand there.
    pub fn new(status: u16, error: &'static str, description: &str) -> OauthError {
        let plain = |c: char| if matches!(c, ' '..='~') && c != '"' && c != '\\' { c } else { '\'' };
        OauthError { status, error, description: description.chars().map(plain).take(DESCRIPTION_BYTES_MAX).collect() }
    }

    fn invalid(description: &str) -> OauthError {
        OauthError::new(400, "invalid_request", description)
    }

    /// What authority refused, by its code.
    pub fn of_refusal(status: u16, code: &str, detail: &str) -> OauthError {
        let description = format!("{code}: {detail}");
        match code {
            "TOKEN_SCOPE" => OauthError::new(400, "invalid_scope", &description),
            "TOKEN_TARGET" => OauthError::new(400, "invalid_target", &description),
            _ if status >= 500 => OauthError::new(503, "temporarily_unavailable", &description),
            // RFC 8693, 2.2.2: a token that is not good for any reason is an invalid request.
            _ => OauthError::new(400, "invalid_request", &description),
        }
    }
}

/// The exchange that a form asks for. What is not known is ignored, what is there twice is refused.
///
/// # Errors
/// [`OauthError`] in the words of RFC 6749 and RFC 8693.
pub fn read(body: &[u8]) -> Result<ExchangeAsk, OauthError> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = std::str::from_utf8(body).map_err(|_| OauthError::invalid("the body is not text"))?;
    let pairs: Vec<&str> = text.split('&').filter(|pair| !pair.is_empty()).collect();
    if pairs.len() > PARAMETERS_MAX {
        return Err(OauthError::invalid("more parameters than a request may have"));
    }
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let broken = || OauthError::invalid("the body is not application/x-www-form-urlencoded");
        let (name, value) = (decoded(name).ok_or_else(broken)?, decoded(value).ok_or_else(broken)?);
        // A parameter without a value counts as left out (RFC 6749, 3.2).
        if !value.is_empty() {
            found.entry(name).or_default().push(value);
        }
    }
    let mut one = |name: &str| match found.remove(name).as_deref() {
        None | Some([]) => Ok(None),
        Some([value]) => Ok(Some(value.clone())),
        Some(_) if matches!(name, "audience" | "resource") => {
            Err(OauthError::new(400, "invalid_target", "a token is for one place; ask once for each"))
        }
        Some(_) => Err(OauthError::invalid(&format!("{name} is there twice"))),
    };
    match one("grant_type")? {
        Some(kind) if kind == GRANT_TYPE => {}
        Some(_) => return Err(OauthError::new(400, "unsupported_grant_type", &format!("only {GRANT_TYPE}"))),
        None => return Err(OauthError::invalid("grant_type is missing")),
    }
    let needed =
        |name: &str, value: Option<String>| value.ok_or_else(|| OauthError::invalid(&format!("{name} is missing")));
    let subject_token = needed("subject_token", one("subject_token")?)?;
    let actor_token = needed("actor_token, which proves who asks,", one("actor_token")?)?;
    for name in ["subject_token_type", "actor_token_type"] {
        if needed(name, one(name)?)? != TOKEN_TYPE {
            return Err(OauthError::invalid(&format!("{name} is not {TOKEN_TYPE}")));
        }
    }
    if one("requested_token_type")?.is_some_and(|kind| kind != ISSUED_TYPE) {
        return Err(OauthError::invalid(&format!("requested_token_type is not {ISSUED_TYPE}")));
    }
    let (audience, resource) = (one("audience")?, one("resource")?);
    let target = match (audience, resource) {
        (Some(audience), Some(resource)) if audience != resource => {
            return Err(OauthError::new(400, "invalid_target", "audience and resource name two places"));
        }
        (Some(one), _) | (None, Some(one)) => one,
        (None, None) => return Err(OauthError::new(400, "invalid_target", "neither audience nor resource")),
    };
    Ok(ExchangeAsk { subject_token, actor_token, audience: target, scope: one("scope")?, txn: one("txn")? })
}

/// One name or value of a form; `None` for what is no such text.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// The parameters of an honest request, with others in their place.
    fn body(changes: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut all = vec![
            ("grant_type", GRANT_TYPE),
            ("subject_token", "aaa.bbb.ccc"),
            ("subject_token_type", TOKEN_TYPE),
            ("actor_token", "ddd.eee.fff"),
            ("actor_token_type", TOKEN_TYPE),
            ("audience", "https://mail.test/mcp"),
            ("scope", "tool:mail__send tool:mail__read"),
        ];
        for (name, value) in changes {
            match (all.iter().position(|(known, _)| known == name), value) {
                (Some(at), Some(value)) => all[at].1 = *value,
                (Some(at), None) => drop(all.remove(at)),
                (None, value) => all.push((*name, value.unwrap_or_default())),
            }
        }
        let escaped = |text: &str| {
            let each = |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
            text.bytes().map(each).collect::<String>()
        };
        let pairs = all.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
        pairs.collect::<Vec<_>>().join("&").into_bytes()
    }

    #[rstest]
    #[case::honest(&[], Ok("https://mail.test/mcp"))]
    #[case::a_resource(&[("audience", None), ("resource", Some("https://mail.test/mcp"))], Ok("https://mail.test/mcp"))]
    #[case::both_alike(&[("resource", Some("https://mail.test/mcp"))], Ok("https://mail.test/mcp"))]
    #[case::two_places(&[("resource", Some("https://files.test/mcp"))], Err("invalid_target"))]
    #[case::no_place(&[("audience", None)], Err("invalid_target"))]
    #[case::an_empty_place(&[("audience", Some(""))], Err("invalid_target"))]
    #[case::no_scope(&[("scope", None)], Ok("https://mail.test/mcp"))]
    #[case::what_nobody_knows(&[("client_id", Some("x")), ("foo", Some("y"))], Ok("https://mail.test/mcp"))]
    #[case::no_grant_type(&[("grant_type", None)], Err("invalid_request"))]
    #[case::a_password(&[("grant_type", Some("password"))], Err("unsupported_grant_type"))]
    #[case::client_credentials(&[("grant_type", Some("client_credentials"))], Err("unsupported_grant_type"))]
    #[case::no_subject(&[("subject_token", None)], Err("invalid_request"))]
    #[case::no_subject_type(&[("subject_token_type", None)], Err("invalid_request"))]
    #[case::another_subject_type(&[("subject_token_type", Some("urn:ietf:params:oauth:token-type:saml2"))], Err("invalid_request"))]
    #[case::no_proof(&[("actor_token", None)], Err("invalid_request"))]
    #[case::another_proof(&[("actor_token_type", Some("urn:ietf:params:oauth:token-type:id_token"))], Err("invalid_request"))]
    #[case::an_access_token(&[("requested_token_type", Some(ISSUED_TYPE))], Ok("https://mail.test/mcp"))]
    #[case::a_refresh_token(&[("requested_token_type", Some("urn:ietf:params:oauth:token-type:refresh_token"))], Err("invalid_request"))]
    fn a_request_is_read_as_the_rfc_says(
        #[case] changes: &[(&str, Option<&str>)],
        #[case] expected: Result<&str, &str>,
    ) {
        let told = read(&body(changes));
        assert_eq!(told.map(|ask| ask.audience).map_err(|e| e.error), expected.map(str::to_owned));
    }

    #[rstest]
    #[case::twice(b"&scope=tool%3Amail__send", "invalid_request")]
    #[case::t26_twice_by_an_escape(b"&sc%6fpe=tool%3Amail__send", "invalid_request")]
    #[case::two_tokens(b"&subject_token=x", "invalid_request")]
    #[case::two_audiences(b"&audience=https%3A%2F%2Ffiles.test", "invalid_target")]
    #[case::half_an_escape(b"&x=%4", "invalid_request")]
    #[case::no_escape(b"&x=%zz", "invalid_request")]
    #[case::no_text(b"&x=%ff", "invalid_request")]
    #[case::no_text_at_all(b"&x=\xff", "invalid_request")]
    fn what_is_there_twice_or_broken_is_refused(#[case] more: &[u8], #[case] expected: &str) {
        assert_eq!(read(&[body(&[]).as_slice(), more].concat()).unwrap_err().error, expected);
    }

    #[test]
    fn a_value_is_what_was_sent_and_there_is_a_most() {
        let ask = read(&body(&[])).unwrap();
        assert_eq!(ask.scope.as_deref(), Some("tool:mail__send tool:mail__read"));
        assert_eq!((ask.subject_token.as_str(), ask.txn), ("aaa.bbb.ccc", None));
        let spaced = [body(&[("scope", None)]).as_slice(), b"&scope=tool%3Aa+tool%3Ab".as_slice()].concat();
        assert_eq!(read(&spaced).unwrap().scope.as_deref(), Some("tool:a tool:b"));
        let many = ["a=b"; PARAMETERS_MAX + 1].join("&");
        assert!(read(many.as_bytes()).unwrap_err().description.contains("more parameters"));
    }

    #[rstest]
    #[case::scope(409, "TOKEN_SCOPE", 400, "invalid_scope")]
    #[case::target(409, "TOKEN_TARGET", 400, "invalid_target")]
    #[case::expired(409, "TOKEN_EXPIRED", 400, "invalid_request")]
    #[case::ledger(503, "LEDGER_UNAVAILABLE", 503, "temporarily_unavailable")]
    #[case::silent(504, "TIMED_OUT", 503, "temporarily_unavailable")]
    fn a_refusal_has_its_word(#[case] from: u16, #[case] code: &str, #[case] status: u16, #[case] error: &str) {
        let told = OauthError::of_refusal(from, code, "say \"no\"\n\u{e9}");
        assert_eq!((told.status, told.error), (status, error));
        assert_eq!(told.description, format!("{code}: say 'no'''"));
    }
}
