//! SPIFFE ids: who a workload is, for example `spiffe://custody.local/gateway`. Must never accept what another reader
//! could read otherwise: one id has one text.
//!
//! Source: the SPIFFE-ID standard, sections 2 and 2.1 to 2.3. Stricter in one respect: a trust domain in capitals is
//! refused, where the standard lets a reader fold them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest id in bytes. Source: SPIFFE-ID, 2.3.
pub const SPIFFE_ID_BYTES_MAX: usize = 2_048;
/// The longest trust domain in bytes. Source: SPIFFE-ID, 2.1.
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;

const SCHEME: &str = "spiffe://";

/// Why a text is no SPIFFE id or no trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// It does not begin with `spiffe://`.
    #[error("it does not begin with spiffe://")]
    Scheme,
    /// The trust domain is empty, too long, or holds something else than `[a-z0-9._-]`.
    #[error("a trust domain is 1 to {TRUST_DOMAIN_BYTES_MAX} of [a-z0-9._-]")]
    TrustDomain,
    /// The path is not one or more segments.
    #[error("a path is one or more of /segment, of [A-Za-z0-9._-], none of them empty, . or ..")]
    Path,
    /// It is longer than [`SPIFFE_ID_BYTES_MAX`].
    #[error("it has more than {SPIFFE_ID_BYTES_MAX} bytes")]
    TooLong,
}

/// The part of the world in which one authority says who is who, for example `custody.local`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Reads a trust domain.
    ///
    /// # Errors
    /// [`SpiffeIdError::TrustDomain`].
    pub fn parse(text: &str) -> Result<TrustDomain, SpiffeIdError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        let good = !text.is_empty() && text.len() <= TRUST_DOMAIN_BYTES_MAX && text.bytes().all(plain);
        good.then(|| TrustDomain(text.to_owned())).ok_or(SpiffeIdError::TrustDomain)
    }

    /// Its text, for example `custody.local`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the trust domain itself, for example `spiffe://custody.local`. Its authorities carry it.
    pub fn id(&self) -> String {
        [SCHEME, &self.0].concat()
    }

    /// The id of a workload in it; `path` begins with a slash.
    ///
    /// # Errors
    /// [`SpiffeIdError`].
    pub fn workload(&self, path: &str) -> Result<SpiffeId, SpiffeIdError> {
        // Without the slash it would be a word of the trust domain.
        let rest = path.strip_prefix('/').ok_or(SpiffeIdError::Path)?;
        SpiffeId::parse(&[SCHEME, &self.0, "/", rest].concat())
    }
}

/// The id of one workload. It has a path: the id of a trust domain is no workload's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpiffeId {
    text: String,
    trust_domain: TrustDomain,
}

impl SpiffeId {
    /// Reads an id.
    ///
    /// # Errors
    /// [`SpiffeIdError`] with the first thing that is wrong.
    pub fn parse(text: &str) -> Result<SpiffeId, SpiffeIdError> {
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(SpiffeIdError::TooLong);
        }
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        let trust_domain = TrustDomain::parse(domain)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let segment = |s: &str| !matches!(s, "" | "." | "..") && s.bytes().all(plain);
        if !path.split('/').all(segment) {
            return Err(SpiffeIdError::Path);
        }
        Ok(SpiffeId { text: text.to_owned(), trust_domain })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = SpiffeIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        TrustDomain::parse(&text)
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> String {
        domain.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SpiffeId {
    type Error = SpiffeIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        SpiffeId::parse(&text)
    }
}

impl From<SpiffeId> for String {
    fn from(id: SpiffeId) -> String {
        id.text
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::gateway("spiffe://custody.local/gateway", "custody.local")]
    #[case::segments("spiffe://td/ns/a.b/sa/C_d-1", "td")]
    #[case::a_dot_more("spiffe://td/...", "td")]
    #[case::odd_domain("spiffe://_a.-/x", "_a.-")]
    fn an_id_is_a_domain_and_a_path(#[case] text: &str, #[case] domain: &str) {
        let id = SpiffeId::parse(text).unwrap();
        assert_eq!((id.as_str(), id.trust_domain().as_str()), (text, domain));
    }

    #[rstest]
    #[case::nothing("", SpiffeIdError::Scheme)]
    #[case::another_scheme("https://td/x", SpiffeIdError::Scheme)]
    #[case::scheme_in_capitals("SPIFFE://td/x", SpiffeIdError::Scheme)]
    #[case::one_slash("spiffe:/td/x", SpiffeIdError::Scheme)]
    #[case::no_domain("spiffe:///x", SpiffeIdError::TrustDomain)]
    #[case::domain_in_capitals("spiffe://TD/x", SpiffeIdError::TrustDomain)]
    #[case::a_port("spiffe://td:1/x", SpiffeIdError::TrustDomain)]
    #[case::a_user("spiffe://a@td/x", SpiffeIdError::TrustDomain)]
    #[case::a_percent("spiffe://t%64/x", SpiffeIdError::TrustDomain)]
    #[case::other_letters("spiffe://tä/x", SpiffeIdError::TrustDomain)]
    #[case::the_domain_alone("spiffe://td", SpiffeIdError::Path)]
    #[case::a_slash_alone("spiffe://td/", SpiffeIdError::Path)]
    #[case::a_slash_at_the_end("spiffe://td/x/", SpiffeIdError::Path)]
    #[case::two_slashes("spiffe://td//x", SpiffeIdError::Path)]
    #[case::a_dot("spiffe://td/./x", SpiffeIdError::Path)]
    #[case::two_dots("spiffe://td/x/..", SpiffeIdError::Path)]
    #[case::a_query("spiffe://td/x?y", SpiffeIdError::Path)]
    #[case::a_fragment("spiffe://td/x#y", SpiffeIdError::Path)]
    #[case::percent_in_a_path("spiffe://td/%2e%2e", SpiffeIdError::Path)]
    #[case::a_line("spiffe://td/x\n", SpiffeIdError::Path)]
    fn what_is_no_id_is_refused_by_its_part(#[case] text: &str, #[case] why: SpiffeIdError) {
        assert_eq!(SpiffeId::parse(text), Err(why));
    }

    #[test]
    fn the_longest_ones_are_taken_and_one_byte_more_is_not() {
        let domain = "d".repeat(TRUST_DOMAIN_BYTES_MAX);
        let longest = ["spiffe://", &domain, "/", &"p".repeat(SPIFFE_ID_BYTES_MAX - 10 - domain.len())].concat();
        assert_eq!(longest.len(), SPIFFE_ID_BYTES_MAX);
        assert!(SpiffeId::parse(&longest).is_ok());
        assert_eq!(SpiffeId::parse(&[&longest, "p"].concat()), Err(SpiffeIdError::TooLong));
        assert_eq!(TrustDomain::parse(&[&domain, "d"].concat()), Err(SpiffeIdError::TrustDomain));
    }

    #[test]
    fn a_trust_domain_names_itself_and_its_workloads() {
        let domain = TrustDomain::parse("custody.local").unwrap();
        assert_eq!(domain.id(), "spiffe://custody.local");
        assert_eq!(domain.workload("/workload/files").unwrap().as_str(), "spiffe://custody.local/workload/files");
        assert_eq!(domain.workload(".evil/gateway"), Err(SpiffeIdError::Path));
        assert_eq!(domain.workload(""), Err(SpiffeIdError::Path));
    }
}
