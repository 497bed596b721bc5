//! Which provider. Must never hold a secret: a reference names it.

use custody_outbound::{Networks, written};
use custody_ports::secrets::is_reference;
use reqwest::Url;
use serde::{Deserialize, Serialize};

/// The longest issuer identifier, in bytes.
const ISSUER_BYTES_MAX: usize = 512;
/// The longest id of the client and name of a claim, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// The most scopes.
const SCOPES_MAX: usize = 32;
/// The longest label, in characters: it stands on a button.
const LABEL_CHARS_MAX: usize = 40;

/// One OpenID provider, and what Custody is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// Its issuer identifier, for example `https://id.example/realms/acme`. Never without TLS, but on this machine.
    pub issuer: String,
    /// The private networks that the provider's names may lead into, for example `["10.0.0.0/8"]`; public addresses they may
    /// always lead to, link-local ones and a cloud's metadata never.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub private_networks: Networks,
    /// Who Custody's web is there.
    pub client_id: String,
    /// Which secret proves it. Absent: a public client, which PKCE alone protects.
    #[serde(default)]
    pub client_secret_ref: Option<String>,
    /// What is asked for.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// The claim of the ID token that says who somebody is.
    #[serde(default = "claim")]
    pub claim: String,
    /// What people call it; the issuer's host unless said.
    #[serde(default)]
    pub label: Option<String>,
}

fn scopes() -> Vec<String> {
    vec!["openid".to_owned()]
}

fn claim() -> String {
    "sub".to_owned()
}

/// An address that codes and secrets may go to: with TLS, or on this machine where that is allowed.
pub(crate) fn address(text: &str, local: bool) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let good = url.scheme() == "https" || (local && here && url.scheme() == "http");
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (good && bare && url.host_str().is_some()).then_some(url)
}

impl OidcConfig {
    /// What is wrong with it.
    ///
    /// # Errors
    /// The option and what it should be.
    pub fn check(&self) -> Result<(), String> {
        let fails = |why: &str| Err(format!("http.oidc.{why}"));
        let visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        let named = |text: &str| (1..=NAME_BYTES_MAX).contains(&text.len()) && visible(text);
        if address(&self.issuer, true).is_none_or(|url| url.query().is_some()) || self.issuer.len() > ISSUER_BYTES_MAX {
            return fails("issuer is not of the form https://host/path; without TLS only this machine's own");
        }
        if let Err(why) = written(&self.issuer) {
            return fails(&format!("issuer: {why}"));
        }
        if let Err(why) = self.private_networks.check() {
            return fails(&why);
        }
        if !named(&self.client_id) {
            return fails("client_id is 1 to 255 visible characters");
        }
        if self.client_secret_ref.as_deref().is_some_and(|reference| !is_reference(reference)) {
            return fails("client_secret_ref is not of the form secret://name; a value is never written here");
        }
        let word = |scope: &String| named(scope) && !scope.contains(['"', '\\']);
        if self.scopes.len() > SCOPES_MAX || !self.scopes.iter().all(word) || !self.scopes.iter().any(|s| s == "openid")
        {
            return fails("scopes are at most 32 words, one of them openid");
        }
        if !named(&self.claim) {
            return fails("claim is 1 to 255 visible characters");
        }
        let odd = |label: &str| {
            label.trim().is_empty() || label.chars().count() > LABEL_CHARS_MAX || label.chars().any(char::is_control)
        };
        if self.label.as_deref().is_some_and(odd) {
            return fails("label is 1 to 40 characters on one line");
        }
        Ok(())
    }

    /// Whether it is on this machine, where TLS may be left out.
    pub(crate) fn is_local(&self) -> bool {
        !self.issuer.starts_with("https://")
    }

    /// What people call it.
    pub(crate) fn called(&self) -> String {
        let host = || Url::parse(&self.issuer).ok()?.host_str().map(str::to_owned);
        self.label.clone().or_else(host).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn with(option: &str, value: Value) -> OidcConfig {
        let mut all = json!({
            "issuer": "https://id.test/realms/acme", "client_id": "custody-web",
            "client_secret_ref": "secret://keycloak/web",
        });
        all[option] = value;
        serde_json::from_value(all).unwrap()
    }

    #[rstest]
    #[case::honest("claim", json!("sub"), true)]
    #[case::public("client_secret_ref", json!(null), true)]
    #[case::here("issuer", json!("http://127.0.0.1:8080/realms/acme"), true)]
    #[case::without_tls("issuer", json!("http://id.test/realms/acme"), false)]
    #[case::looks_like_here("issuer", json!("http://127.0.0.1.evil.test/"), false)]
    #[case::a_user("issuer", json!("http://localhost@evil.test/"), false)]
    #[case::a_query("issuer", json!("https://id.test/?realm=acme"), false)]
    #[case::no_address("issuer", json!("id.test"), false)]
    #[case::a_house_of_its_own("issuer", json!("https://10.0.0.7/realms/acme"), true)]
    #[case::t37_a_clouds_metadata("issuer", json!("https://169.254.169.254/realms/acme"), false)]
    #[case::t37_the_same_as_a_number("issuer", json!("https://2852039166/realms/acme"), false)]
    #[case::networks("private_networks", json!(["10.0.0.0/8"]), true)]
    #[case::no_client("client_id", json!(""), false)]
    #[case::a_value("client_secret_ref", json!("hunter2"), false)]
    #[case::more("scopes", json!(["openid", "email"]), true)]
    #[case::no_openid("scopes", json!(["email"]), false)]
    #[case::two_in_one("scopes", json!(["openid", "email profile"]), false)]
    #[case::most_scopes("scopes", json!(vec!["openid"; SCOPES_MAX]), true)]
    #[case::too_many_scopes("scopes", json!(vec!["openid"; SCOPES_MAX + 1]), false)]
    #[case::no_claim("claim", json!(""), false)]
    #[case::longest_label("label", json!("x".repeat(LABEL_CHARS_MAX)), true)]
    #[case::long_label("label", json!("x".repeat(LABEL_CHARS_MAX + 1)), false)]
    #[case::empty_label("label", json!(" "), false)]
    fn a_provider_is_checked(#[case] option: &str, #[case] value: Value, #[case] good: bool) {
        match (with(option, value).check(), good) {
            (Ok(()), true) => {}
            (Err(why), false) => assert!(why.starts_with(&format!("http.oidc.{option}")), "{why}"),
            (told, _) => panic!("{told:?}"),
        }
    }

    #[test]
    fn it_is_called_as_its_operator_says_or_by_its_host() {
        assert_eq!(with("label", json!(null)).called(), "id.test");
        assert_eq!(with("label", json!("Acme")).called(), "Acme");
    }
}
