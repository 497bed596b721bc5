//! Workload identity: the certificate of this process, and the authorities of the trust domains that it knows. Who is behind
//! it (Custody's own authority, or SPIRE) is not to be seen. Must never print a private key: its type has no text.

use custody_contracts::spiffe::{SpiffeId, TrustDomain};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A private key, PKCS #8 in DER.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Vec<u8>);

impl PrivateKey {
    /// Takes one as it is.
    pub fn new(der: Vec<u8>) -> PrivateKey {
        PrivateKey(der)
    }

    /// The bytes, for the handshake that proves it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// An X.509-SVID.
#[derive(Clone, PartialEq, Eq)]
pub struct Svid {
    /// Whose.
    pub id: SpiffeId,
    /// Certificates in DER, the workload's own first.
    pub chain: Vec<Vec<u8>>,
    /// Its key.
    pub key: PrivateKey,
    /// Its last second. Unix seconds.
    pub not_after: u64,
}

/// The authorities of each trust domain, as DER.
pub type Bundles = BTreeMap<TrustDomain, Vec<Vec<u8>>>;

/// What one answer of the Workload API says.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Another number is another certificate or another set of authorities.
    pub version: u64,
    /// Who this process is.
    pub svid: Svid,
    /// The authorities of each trust domain, certificates in DER.
    pub bundles: Bundles,
}

/// Why there is no identity now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// None is configured.
    #[error("this process has no workload identity configured")]
    Absent,
    /// None has come yet.
    #[error("no workload identity yet: {0}")]
    NotYet(String),
    /// The last one has ended, and no new one has come.
    #[error("the certificate of {0} has ended and was not renewed")]
    Ended(SpiffeId),
}

/// Where this process has its identity from.
pub trait WorkloadIdentity: Send + Sync {
    /// The identity that is good now. Never one that has ended.
    ///
    /// # Errors
    /// [`IdentityError`].
    fn current(&self) -> Result<Arc<Identity>, IdentityError>;
}

/// No identity.
#[derive(Debug, Clone, Copy)]
pub struct NoIdentity;

impl WorkloadIdentity for NoIdentity {
    fn current(&self) -> Result<Arc<Identity>, IdentityError> {
        Err(IdentityError::Absent)
    }
}
