//! The way to a server that is known by its SPIFFE id: both sides show an X.509-SVID, and neither asks the web's
//! authorities. Must never open a connection with a certificate that has ended, without one, or to another workload.
//!
//! Source: SPIFFE X509-SVID, section 5 (validation): the chain ends at an authority of the id's trust domain, and the one
//! URI of the certificate is the id. Names and addresses say nothing here.

#[cfg(test)]
mod tests;

use custody_contracts::spiffe::SpiffeId;
use custody_ports::identity::{Identity, IdentityError, WorkloadIdentity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore,
    SignatureScheme,
};
use std::sync::{Arc, Mutex, PoisonError};

/// Why no connection can be tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoWay {
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("no authority of the trust domain of {0} is known")]
    NoAuthority(SpiffeId),
    #[error("the gateway's certificate cannot be used: {0}")]
    Unusable(String),
}

/// HTTP clients for one server, a new one for each version of the identity: connections of an earlier one are not used
/// again, so a new certificate and a new set of authorities count from the next request on.
pub(super) struct Identified {
    server: SpiffeId,
    identity: Arc<dyn WorkloadIdentity>,
    made: Mutex<Option<(u64, reqwest::Client)>>,
}

impl Identified {
    pub(super) fn new(server: SpiffeId, identity: Arc<dyn WorkloadIdentity>) -> Identified {
        Identified { server, identity, made: Mutex::new(None) }
    }

    /// The client of now; `builder` begins a new one.
    pub(super) fn client(&self, builder: impl FnOnce() -> reqwest::ClientBuilder) -> Result<reqwest::Client, NoWay> {
        let identity = self.identity.current()?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = made.as_ref().filter(|(version, _)| *version == identity.version) {
            return Ok(client.clone());
        }
        let tls = client_config(&identity, &self.server)?;
        let client = builder().tls_backend_preconfigured(tls).build().map_err(|e| NoWay::Unusable(e.to_string()))?;
        *made = Some((identity.version, client.clone()));
        Ok(client)
    }
}

/// TLS 1.3 alone: in 1.2 the gateway's certificate would cross the network in the clear.
fn client_config(identity: &Identity, server: &SpiffeId) -> Result<ClientConfig, NoWay> {
    let unusable = |e: Error| NoWay::Unusable(e.to_string());
    let authorities = identity.bundles.get(server.trust_domain()).filter(|all| !all.is_empty());
    let authorities = authorities.ok_or_else(|| NoWay::NoAuthority(server.clone()))?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(CertificateDer::from(authority.as_slice())).map_err(unusable)?;
    }
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let expected = Expected { server: server.clone(), roots, algorithms };
    let chain = identity.svid.chain.iter().cloned().map(CertificateDer::from).collect();
    let key = PrivatePkcs8KeyDer::from(identity.svid.key.expose().to_vec());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(expected))
        .with_client_auth_cert(chain, key.into())
        .map_err(unusable)
}

/// Takes the certificate of one workload.
#[derive(Debug)]
struct Expected {
    server: SpiffeId,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let leaf = webpki::EndEntityCert::try_from(end_entity).map_err(bad)?;
        let mut ids = leaf.valid_uri_names();
        match (ids.next(), ids.next()) {
            (Some(id), None) if id == self.server.as_str() => Ok(ServerCertVerified::assertion()),
            _ => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Not offered, so a server cannot have chosen it.
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What a handshake failed at, where it was about who is who: then nothing of the request was looked at.
pub(super) fn refused(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let chain = std::iter::successors(Some(error), |error| error.source());
    match chain.filter_map(tls_error).next()? {
        Error::InvalidCertificate(CertificateError::NotValidForName) => Some("is not the workload that is expected"),
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Some("shows a certificate that is not good now"),
        Error::InvalidCertificate(_) => Some("shows a certificate of no authority of its trust domain"),
        // Of TLS 1.3: a server looks at the client's certificate before it reads a request (RFC 8446, 4.4.2.4).
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
        ) => Some("does not take the gateway's certificate"),
        _ => None,
    }
}

/// An I/O error leaves out of its sources what it holds itself, and may hold another one.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let held = |io: &'a std::io::Error| io.get_ref().and_then(|inner| tls_error(inner));
    error.downcast_ref::<Error>().or_else(|| error.downcast_ref::<std::io::Error>().and_then(held))
}
