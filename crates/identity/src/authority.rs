//! Custody's own authority: its keys in a folder, and the certificates that they sign. Must never write a key that others
//! may read, use one that others may read, or sign for longer than [`custody_trust::svid`] says.
//!
//! An authority is one file, its key and its certificate. After half of its life the next one is made and published, and
//! signs a day later; its file goes when it has ended. Name constraints are not set: the library that makes the
//! certificates has none for URIs, and neither has the one that verifies them here.

use bytes::Bytes;
use custody_contracts::spiffe::{SpiffeId, TrustDomain};
use custody_ports::clock::Clock;
use custody_trust::svid::{Window, renew_at, signer, wants_next};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The largest file of an authority, in bytes.
const FILE_BYTES_MAX: u64 = 16_384;
/// The most files that are looked at: more than two authorities are good only after a clock went astray.
const FILES_MAX: usize = 16;
const PREFIX: &str = "authority-";
const ENDING: &str = ".pem";

/// Why the authority cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file or the folder.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate cannot be made.
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The clock says a time that no certificate can have.
    #[error("no certificate can be made for the time that the clock says")]
    Time,
}

/// A certificate for one workload, as the Workload API tells it.
#[derive(Clone)]
pub(crate) struct Minted {
    pub(crate) id: SpiffeId,
    /// DER.
    pub(crate) certificate: Bytes,
    /// PKCS #8 in DER.
    pub(crate) key: Bytes,
    /// When another one is made. Unix seconds.
    pub(crate) renew_at: u64,
}

struct One {
    window: Window,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    path: PathBuf,
}

#[derive(Default)]
struct Held {
    authorities: Vec<One>,
    /// The last certificate of each workload.
    minted: BTreeMap<SpiffeId, Minted>,
}

/// The authority of one trust domain.
pub struct Authority {
    folder: PathBuf,
    trust_domain: TrustDomain,
    clock: Arc<dyn Clock>,
    svid_secs: u64,
    held: Mutex<Held>,
}

impl Authority {
    /// Opens the folder, or begins one. Certificates of workloads live for `svid_secs`.
    ///
    /// # Errors
    /// [`AuthorityError`]; also where the folder holds what belongs to another trust domain.
    pub fn open(
        folder: &Path,
        trust_domain: TrustDomain,
        clock: Arc<dyn Clock>,
        svid_secs: u64,
    ) -> Result<Authority, AuthorityError> {
        let bad = |e: std::io::Error| file(folder, &e);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(bad)?;
        let mut authorities: Vec<One> = Vec::new();
        for entry in fs::read_dir(folder).map_err(bad)? {
            let path = entry.map_err(bad)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !(name.starts_with(PREFIX) && name.ends_with(ENDING)) {
                continue;
            }
            if authorities.len() >= FILES_MAX {
                return Err(file(folder, &format!("more than {FILES_MAX} authorities")));
            }
            authorities.push(read(&path, &trust_domain)?);
        }
        authorities.sort_by_key(|one| one.window);
        let held = Mutex::new(Held { authorities, minted: BTreeMap::new() });
        let authority = Authority { folder: folder.to_owned(), trust_domain, clock, svid_secs, held };
        authority.bundle()?;
        Ok(authority)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The certificates of all authorities that are good now, DER one after the other.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub(crate) fn bundle(&self) -> Result<Bytes, AuthorityError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.turn(&mut held, self.now())?;
        Ok(held.authorities.iter().flat_map(|one| one.certificate.iter().copied()).collect())
    }

    /// The certificate of a workload: the one that it has until half of its life, then another with another key.
    ///
    /// # Errors
    /// [`AuthorityError`].
    pub(crate) fn issue(&self, id: &SpiffeId) -> Result<Minted, AuthorityError> {
        let now = self.now();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.turn(&mut held, now)?;
        if let Some(minted) = held.minted.get(id).filter(|minted| now < minted.renew_at) {
            return Ok(minted.clone());
        }
        let windows: Vec<Window> = held.authorities.iter().map(|one| one.window).collect();
        let found = signer(&windows, now).and_then(|place| held.authorities.get(place));
        let window = found.and_then(|one| Window::of_svid(one.window, now, self.svid_secs));
        let (Some(one), Some(window)) = (found, window) else { return Err(AuthorityError::Time) };
        let key = KeyPair::generate()?;
        let mut params = params(id.as_str(), window)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &one.issuer)?;
        let minted = Minted {
            id: id.clone(),
            certificate: Bytes::copy_from_slice(certificate.der()),
            key: key.serialize_der().into(),
            renew_at: renew_at(now, window),
        };
        held.minted.insert(id.clone(), minted.clone());
        Ok(minted)
    }

    /// Seconds from now to a moment.
    pub(crate) fn until(&self, at: u64) -> u64 {
        at.saturating_sub(self.now())
    }

    fn now(&self) -> u64 {
        self.clock.now().0 / 1_000
    }

    /// Lets go of what has ended, and makes the next where it is time.
    fn turn(&self, held: &mut Held, now: u64) -> Result<(), AuthorityError> {
        held.authorities.retain(|one| {
            let ended = one.window.not_after < now;
            if ended && let Err(error) = fs::remove_file(&one.path) {
                tracing::warn!(path = %one.path.display(), %error, "the file of an authority that has ended stays");
            }
            !ended
        });
        let windows: Vec<Window> = held.authorities.iter().map(|one| one.window).collect();
        if wants_next(&windows, now) {
            let one = self.make(now)?;
            tracing::info!(trust_domain = %self.trust_domain, not_after = one.window.not_after, "an authority was made");
            held.authorities.push(one);
        }
        Ok(())
    }

    fn make(&self, now: u64) -> Result<One, AuthorityError> {
        let window = Window::of_authority(now);
        let params = authority_params(&self.trust_domain, window)?;
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let path = self.folder.join(format!("{PREFIX}{now}{ENDING}"));
        write(&path, &[key.serialize_pem(), certificate.pem()].concat())?;
        Ok(One { window, certificate: certificate.der().clone(), issuer: Issuer::new(params, key), path })
    }
}

fn file(path: &Path, why: &dyn std::fmt::Display) -> AuthorityError {
    AuthorityError::File { path: path.to_owned(), why: why.to_string() }
}

/// What every certificate has: its id as the one alternative name, its times, a subject that says nothing.
fn params(id: &str, window: Window) -> Result<CertificateParams, AuthorityError> {
    let at = |secs: u64| {
        let secs = i64::try_from(secs).map_err(|_| AuthorityError::Time)?;
        OffsetDateTime::from_unix_timestamp(secs).map_err(|_| AuthorityError::Time)
    };
    let mut params = CertificateParams::default();
    params.not_before = at(window.not_before)?;
    params.not_after = at(window.not_after)?;
    params.subject_alt_names = vec![SanType::URI(id.try_into()?)];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Custody");
    Ok(params)
}

fn authority_params(trust_domain: &TrustDomain, window: Window) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(&trust_domain.id(), window)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Whole or not at all, and for its owner alone.
fn write(path: &Path, text: &str) -> Result<(), AuthorityError> {
    let bad = |e: std::io::Error| file(path, &e);
    let draft = path.with_extension("new");
    // One of an earlier life that was not finished.
    let _gone = fs::remove_file(&draft);
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(bad)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(bad)?;
    fs::rename(&draft, path).map_err(bad)
}

fn read(path: &Path, trust_domain: &TrustDomain) -> Result<One, AuthorityError> {
    let bad = |why: &dyn std::fmt::Display| file(path, why);
    let meta = fs::symlink_metadata(path).map_err(|e| bad(&e))?;
    if !meta.is_file() || meta.len() > FILE_BYTES_MAX {
        return Err(bad(&"not the file of an authority"));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(bad(&"others may read it; its mode must be 0600"));
    }
    let bytes = fs::read(path).map_err(|e| bad(&e))?;
    let certificate = CertificateDer::from_pem_slice(&bytes).map_err(|e| bad(&e))?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| bad(&e))?;
    let key = KeyPair::try_from(&key)?;
    let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|e| bad(&e))?;
    if parsed.public_key().subject_public_key.data != key.public_key_raw() {
        return Err(bad(&"its key and its certificate do not belong together"));
    }
    let names = parsed.subject_alternative_name().map_err(|e| bad(&e))?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let own = trust_domain.id();
    if !matches!(names, [GeneralName::URI(uri)] if *uri == own) {
        let why = format!(
            "an authority of another trust domain than {trust_domain}; take the folder away to begin a new one"
        );
        return Err(bad(&why));
    }
    let secs = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let window =
        Window { not_before: secs(parsed.validity().not_before), not_after: secs(parsed.validity().not_after) };
    let issuer = Issuer::new(authority_params(trust_domain, window)?, key);
    Ok(One { window, certificate: certificate.into_owned(), issuer, path: path.to_owned() })
}
