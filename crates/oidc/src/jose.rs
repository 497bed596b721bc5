//! Keys as a provider publishes them, and the signature of a token under one of them. Pure. Must never let the token choose
//! more than which published key it is: an algorithm belongs to a kind of key, and only three are there.
//!
//! Source: RFC 7515, section 5.2; RFC 7517; RFC 7518, sections 3.3 and 3.4; RFC 8037; RFC 8725, sections 3.1 and 3.2.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;

/// The most keys of a set that are looked at.
pub(crate) const KEYS_MAX: usize = 64;
/// The longest token, in bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A key that may sign.
pub(crate) struct Key {
    kid: Option<String>,
    kind: Kind,
}

enum Kind {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point, not compressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A key as it is published. Members that nothing here needs are passed over.
#[derive(Deserialize)]
struct Published {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// What a header may say. A type decides nothing here: the token came straight from the token endpoint, as an ID token.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forged {
    /// It is no compact JWS.
    Form,
    /// Its algorithm is none of the list.
    Algorithm,
    /// No published key is the one that it names.
    Key,
    /// The signature is not of that key.
    Signature,
}

fn raw(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

impl Kind {
    fn algorithm(&self) -> &'static str {
        match self {
            Kind::Rsa { .. } => "RS256",
            Kind::P256(_) => "ES256",
            Kind::Ed25519(_) => "EdDSA",
        }
    }

    fn of(published: &Published) -> Option<Kind> {
        let part = |text: &Option<String>| raw(text.as_deref()?).filter(|bytes| !bytes.is_empty());
        match (published.kty.as_str(), published.crv.as_deref()) {
            ("RSA", _) => Some(Kind::Rsa { n: part(&published.n)?, e: part(&published.e)? }),
            ("EC", Some("P-256")) => {
                let (x, y) = (part(&published.x)?, part(&published.y)?);
                (x.len() == 32 && y.len() == 32).then(|| Kind::P256([&[4], x.as_slice(), &y].concat()))
            }
            ("OKP", Some("Ed25519")) => Some(Kind::Ed25519(part(&published.x)?)),
            _ => None,
        }
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Kind::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            Kind::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Kind::Ed25519(x) => UnparsedPublicKey::new(&ED25519, x).verify(message, signature).is_ok(),
        }
    }
}

/// The keys of a set that may sign what is looked at here. Others, such as those for encryption, are passed over.
/// `None` for what is no set.
pub(crate) fn keys(set: &[u8]) -> Option<Vec<Key>> {
    let set: Set = serde_json::from_slice(set).ok()?;
    let each = set.keys.into_iter().take(KEYS_MAX).filter_map(|one| {
        let published: Published = serde_json::from_value(one).ok()?;
        let kind = Kind::of(&published)?;
        let signs = published.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
        let as_said = published.alg.as_deref().is_none_or(|alg| alg == kind.algorithm());
        (signs && as_said).then_some(Key { kid: published.kid, kind })
    });
    Some(each.collect())
}

/// What a token says, when one of these keys signed it.
pub(crate) fn opened(token: &str, keys: &[Key]) -> Result<Vec<u8>, Forged> {
    let parts: Vec<&str> = token.splitn(4, '.').collect();
    let [head, said, signature] = parts.as_slice() else { return Err(Forged::Form) };
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Forged::Form);
    }
    let header: Header = serde_json::from_slice(&raw(head).ok_or(Forged::Form)?).map_err(|_| Forged::Form)?;
    // Whoever does not know an extension that must be known refuses the token, and none is known here.
    if header.crit.is_some() {
        return Err(Forged::Form);
    }
    if !["RS256", "ES256", "EdDSA"].contains(&header.alg.as_str()) {
        return Err(Forged::Algorithm);
    }
    let mut fit = keys.iter().filter(|key| key.kind.algorithm() == header.alg);
    let key = match &header.kid {
        Some(kid) => fit.find(|key| key.kid.as_ref() == Some(kid)),
        // A token that names no key is of the one that there is, if there is one.
        None => fit.next().filter(|_| fit.next().is_none()),
    };
    let key = key.ok_or(Forged::Key)?;
    let message = [head.as_bytes(), b".", said.as_bytes()].concat();
    if !key.kind.signed(&message, &raw(signature).ok_or(Forged::Form)?) {
        return Err(Forged::Signature);
    }
    raw(said).ok_or(Forged::Form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    // Vectors of others: RFC 7515, A.2 and A.3, and RFC 8037, A.4 and A.2.
    const RSA_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
    const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    const EC_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    const EC_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    const OKP_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const OKP_TOKEN: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

    fn set(keys: &[&str]) -> Vec<Key> {
        super::keys(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes()).unwrap()
    }

    /// A token of the same signature with another header.
    fn headed(token: &str, header: &str) -> String {
        let (_, rest) = token.split_once('.').unwrap();
        [&URL_SAFE_NO_PAD.encode(header), ".", rest].concat()
    }

    #[rstest]
    #[case::rsa(RSA_KEY, RSA_TOKEN)]
    #[case::p256(EC_KEY, EC_TOKEN)]
    #[case::ed25519(OKP_KEY, OKP_TOKEN)]
    fn a_token_of_the_standards_opens_and_no_changed_one(#[case] key: &str, #[case] token: &str) {
        let keys = set(&[key]);
        assert!(opened(token, &keys).is_ok());
        // Beside the others it is still found by its kind.
        assert!(opened(token, &set(&[RSA_KEY, EC_KEY, OKP_KEY])).is_ok());
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut other = raw(signature).unwrap();
        other[7] ^= 1;
        let forged = [signed, ".", &URL_SAFE_NO_PAD.encode(other)].concat();
        assert_eq!(opened(&forged, &keys), Err(Forged::Signature));
        for none in ["none", "None", "NONE", "", "HS256", "RS512", "PS256", "rs256"] {
            let token = headed(token, &format!(r#"{{"alg":"{none}"}}"#));
            assert_eq!(opened(&token, &keys), Err(Forged::Algorithm), "{none}");
        }
        assert_eq!(opened(token, &[]), Err(Forged::Key));
    }

    #[rstest]
    #[case::no_signature("e30.e30.", Forged::Form)]
    #[case::two_parts("e30.e30", Forged::Form)]
    #[case::four_parts("e30.e30.e30.e30", Forged::Form)]
    #[case::nothing("", Forged::Form)]
    #[case::no_base64("a b.e30.e30", Forged::Form)]
    #[case::no_json("AAAA.e30.e30", Forged::Form)]
    fn what_is_no_token_is_none(#[case] token: &str, #[case] why: Forged) {
        assert_eq!(opened(token, &set(&[EC_KEY])), Err(why));
    }

    #[test]
    fn a_header_is_read_in_one_way_or_not_at_all() {
        let keys = set(&[EC_KEY]);
        for header in [
            r#"{"alg":"ES256","alg":"ES256"}"#,
            r#"{"alg":"none","alg":"ES256"}"#,
            r#"{"alg":"ES256","crit":["b64"],"b64":false}"#,
            r#"{"alg":["ES256"]}"#,
            r#"{"kid":"a"}"#,
        ] {
            assert_eq!(opened(&headed(EC_TOKEN, header), &keys), Err(Forged::Form), "{header}");
        }
        // A key of its own in the header is not looked at: it stays a matter of the published ones.
        let own = format!(r#"{{"alg":"ES256","jwk":{EC_KEY}}}"#);
        assert_eq!(opened(&headed(EC_TOKEN, &own), &set(&[RSA_KEY])), Err(Forged::Key));
        let padded = format!("{EC_TOKEN}{}", "A".repeat(TOKEN_BYTES_MAX));
        assert_eq!(opened(&padded, &keys), Err(Forged::Form));
    }

    #[test]
    fn a_key_is_taken_for_what_it_is_published_for() {
        let with = |more: &str| EC_KEY.replacen('{', &format!("{{{more},"), 1);
        for good in [r#""use":"sig""#, r#""alg":"ES256""#, r#""x5c":["AA=="],"key_ops":["verify"]"#] {
            assert_eq!(set(&[&with(good)]).len(), 1, "{good}");
        }
        for other in [r#""use":"enc""#, r#""alg":"ES512""#, r#""alg":"HS256""#] {
            assert_eq!(set(&[&with(other)]).len(), 0, "{other}");
        }
        // A secret is never a published key, and what is no key is passed over.
        let passed = [
            r#"{"kty":"oct","k":"AAAA"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#,
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"}"#,
            r#"{"kty":"RSA","n":"AQAB"}"#,
            "{}",
            "7",
        ];
        assert_eq!(set(&passed).len(), 0);
        assert!(super::keys(b"[]").is_none() && super::keys(br#"{"keys":{}}"#).is_none());
        let many: Vec<&str> = std::iter::repeat_n(OKP_KEY, KEYS_MAX + 1).collect();
        assert_eq!(set(&many).len(), KEYS_MAX);
    }

    #[test]
    fn a_token_that_names_no_key_is_of_the_only_one_or_of_none() {
        let named = |kid: &str| EC_KEY.replacen('{', &format!(r#"{{"kid":"{kid}","#), 1);
        assert!(opened(EC_TOKEN, &set(&[&named("a")])).is_ok());
        assert_eq!(opened(EC_TOKEN, &set(&[&named("a"), &named("b")])), Err(Forged::Key));
        let other = headed(EC_TOKEN, r#"{"alg":"ES256","kid":"c"}"#);
        assert_eq!(opened(&other, &set(&[&named("a")])), Err(Forged::Key));
        // Its own kid beside another algorithm: the key is not one of that kind.
        let confused = headed(EC_TOKEN, r#"{"alg":"RS256","kid":"a"}"#);
        assert_eq!(opened(&confused, &set(&[&named("a"), RSA_KEY])), Err(Forged::Key));
    }
}
