//! Secrets of upstreams, by reference. Must never offer a way to list values or to print one: the type has no `Debug`,
//! no `Display` and no `Serialize`.

/// The longest reference, in bytes. Source: contract tool.v1, `cred_ref`.
pub const REFERENCE_BYTES_MAX: usize = 256;
/// The largest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 8_192;

/// The text of a secret: visible ASCII, 1 to [`SECRET_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a text that can be a secret; `None` for any other.
    pub fn parse(text: &str) -> Option<SecretText> {
        let good = !text.is_empty() && text.len() <= SECRET_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
        good.then(|| SecretText(text.to_owned()))
    }

    /// The text, for the header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether a text holds it.
    pub fn is_in(&self, text: &str) -> bool {
        text.contains(&self.0)
    }
}

/// Whether a text is a reference: `secret://` and a path of plain names. Source: contract tool.v1, `cred_ref`.
pub fn is_reference(text: &str) -> bool {
    let part = |part: &str| {
        part.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    text.len() <= REFERENCE_BYTES_MAX && text.strip_prefix("secret://").is_some_and(|path| path.split('/').all(part))
}

/// Why a secret cannot be had. No value is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing is kept under this reference.
    #[error("there is no {0}; an operator sets it: custody secret set {0}")]
    Unknown(String),
    /// The store cannot be read.
    #[error("the secret store cannot be read: {0}")]
    Unreadable(String),
    /// The store does not take it.
    #[error("the secret store cannot be written: {0}")]
    Unwritable(String),
}

/// Where secrets are kept.
pub trait Secrets: Send + Sync {
    /// The secret of a reference.
    ///
    /// # Errors
    /// [`SecretError`].
    fn get(&self, reference: &str) -> Result<SecretText, SecretError>;

    /// Keeps `next` under a reference in the place of `used`, durably before it returns; false when something else is kept
    /// there by now, which stays.
    ///
    /// # Errors
    /// [`SecretError`]: then what was kept is still kept.
    fn replace(&self, reference: &str, used: &SecretText, next: &SecretText) -> Result<bool, SecretError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_a_size_and_a_reference_a_form() {
        assert!(SecretText::parse(&"x".repeat(SECRET_BYTES_MAX)).is_some());
        for bad in ["", "a b", "a\n", &"x".repeat(SECRET_BYTES_MAX + 1)] {
            assert!(SecretText::parse(bad).is_none());
        }
        for good in ["secret://mail", "secret://mail/oauth-1.a"] {
            assert!(is_reference(good), "{good}");
        }
        for bad in ["mail", "secret://", "secret:///a", "secret://a/../b", "secret://a b", "secret://.a"] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
