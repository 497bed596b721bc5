//! Our cookies: written and read in one place. Must never be readable by a script or sent from another site.

use axum::http::{HeaderMap, header};

/// The longest token that is looked at.
const TOKEN_MAX: usize = 128;

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie {
    /// Who is signed in.
    Session,
    /// Which browser began a sign-in at an identity provider. It comes back with a link from there, which `Lax` allows.
    SignIn,
}

impl Cookie {
    /// Over TLS a browser holds it to this host, this path and `Secure`. Source: RFC 6265bis, section 4.1.3.
    fn name(self, tls: bool) -> &'static str {
        match (self, tls) {
            (Cookie::Session, true) => "__Host-custody",
            (Cookie::Session, false) => "custody",
            (Cookie::SignIn, true) => "__Host-custody-sign-in",
            (Cookie::SignIn, false) => "custody-sign-in",
        }
    }

    /// The `Set-Cookie` of a new one.
    pub fn set(self, tls: bool, token: &str, lasts_s: u64) -> String {
        let secure = if tls { "; Secure" } else { "" };
        format!("{}={token}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Lax{secure}", self.name(tls))
    }

    /// The `Set-Cookie` that ends it.
    pub fn clear(self, tls: bool) -> String {
        self.set(tls, "", 0)
    }

    /// The token of a request.
    pub fn token(self, tls: bool, headers: &HeaderMap) -> Option<&str> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|c| c.to_str().ok());
        cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(key, value)| *key == self.name(tls) && !value.is_empty() && value.len() <= TOKEN_MAX)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use rstest::rstest;

    #[rstest]
    #[case::alone("custody=abc", false, Some("abc"))]
    #[case::among("a=b; custody=abc; c=d", false, Some("abc"))]
    #[case::other_name("__Host-custody=abc", false, None)]
    #[case::over_tls("custody=no; __Host-custody=abc", true, Some("abc"))]
    #[case::empty("custody=", false, None)]
    #[case::suffix("xcustody=abc", false, None)]
    #[case::of_a_sign_in("custody-sign-in=no; custody=abc", false, Some("abc"))]
    fn the_cookie_of_this_scheme_is_read(#[case] line: &str, #[case] tls: bool, #[case] wanted: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, HeaderValue::from_str(line).unwrap());
        assert_eq!(Cookie::Session.token(tls, &headers), wanted);
    }

    #[test]
    fn no_script_reads_it_and_no_other_site_sends_it() {
        let both = [Cookie::Session, Cookie::SignIn];
        for (cookie, tls) in both.into_iter().flat_map(|cookie| [(cookie, false), (cookie, true)]) {
            let text = cookie.set(tls, "t", 60);
            assert!(text.contains("HttpOnly") && text.contains("SameSite=Lax") && text.contains("Path=/"));
            assert_eq!((text.contains("Secure"), text.starts_with("__Host-")), (tls, tls));
            assert!(cookie.clear(tls).contains("Max-Age=0"));
        }
    }
}
