//! Somebody else who says who a person is, asked in two steps with the person's browser between them. Must never say who
//! somebody is in Custody: it gives an id of the provider's, and whose that is here is decided elsewhere.
//!
//! Source: OpenID Connect Core 1.0, section 3.1; RFC 7636; RFC 9207.

use futures::future::BoxFuture;

/// The longest id of a person at a provider, in bytes. Source: OpenID Connect Core 1.0, section 2, `sub`.
pub const PERSON_BYTES_MAX: usize = 255;

/// Whether a text can be a person's id at a provider: 1 to [`PERSON_BYTES_MAX`] bytes, no control character.
pub fn is_person(id: &str) -> bool {
    (1..=PERSON_BYTES_MAX).contains(&id.len()) && !id.chars().any(char::is_control)
}

/// What a sign-in begins with. All of it is fresh, and made by who asks. It has no text, so that nobody logs it.
#[derive(Clone)]
pub struct Beginning {
    /// Where the browser is sent back to, as it is registered at the provider.
    pub redirect_uri: String,
    /// Names the sign-in when the browser comes back.
    pub state: String,
    /// What the ID token must repeat.
    pub nonce: String,
    /// SHA-256 of the verifier, base64url (PKCE, S256).
    pub challenge: String,
}

/// What a browser came back with, and what the sign-in began with. It has no text either.
#[derive(Clone)]
pub struct Ending {
    /// The authorization code.
    pub code: String,
    /// Who the answer says it is of (RFC 9207, `iss`).
    pub issuer: Option<String>,
    /// As it was at the beginning.
    pub redirect_uri: String,
    /// As it was at the beginning.
    pub nonce: String,
    /// What the challenge was made of.
    pub verifier: String,
}

/// A person whom a provider vouches for, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The provider, by its issuer identifier. An id means something together with it alone.
    pub issuer: String,
    /// Who the person is there; see [`is_person`].
    pub id: String,
}

/// Why nobody was vouched for. No code, token or secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInFailed {
    /// The provider does not answer, or not as one. It may be tried again.
    #[error("the identity provider {0}")]
    Unavailable(String),
    /// It answered, and the answer is not to be believed, or is a no.
    #[error("{0}")]
    Refused(String),
}

/// One identity provider.
pub trait IdentityProvider: Send + Sync {
    /// What people call it, for a button.
    fn label(&self) -> &str;

    /// Where the browser is sent.
    ///
    /// # Errors
    /// [`SignInFailed::Unavailable`].
    fn begin<'a>(&'a self, beginning: &'a Beginning) -> BoxFuture<'a, Result<String, SignInFailed>>;

    /// Who came back. A code is good once, whatever came of it.
    ///
    /// # Errors
    /// [`SignInFailed`].
    fn end<'a>(&'a self, ending: &'a Ending) -> BoxFuture<'a, Result<Vouched, SignInFailed>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_a_largest_size_and_is_one_line() {
        for good in ["5f2c7a9e-3d41", "jane@acme.test", "Jane Doe", &"x".repeat(PERSON_BYTES_MAX)] {
            assert!(is_person(good), "{good}");
        }
        for bad in ["", "a\nb", "a\0", &"x".repeat(PERSON_BYTES_MAX + 1)] {
            assert!(!is_person(bad), "{bad:?}");
        }
    }
}
