//! Encryption at rest: every pack of an encrypted workspace is one age file for its recipients. The identities that open
//! them stay in one file of mode 0600 of the role that mounts; they have no text form here.

use age::secrecy::ExposeSecret;
use custody_contracts::workspace::{Encryption, Scheme};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::str::FromStr;

/// The largest file of identities.
const IDENTITIES_BYTES_MAX: u64 = 65_536;

/// Why bytes could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealError {
    /// Not an age recipient.
    BadRecipient(String),
    /// The identity file cannot be used.
    BadIdentities(String),
    /// No identity opens it.
    Locked,
    /// Not an age file, or a damaged one.
    Damaged(String),
    /// Opened, it is larger than allowed.
    TooLarge(u64),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealError::BadRecipient(text) => write!(f, "{text:?} is not an age recipient"),
            SealError::BadIdentities(why) => write!(f, "identities: {why}"),
            SealError::Locked => f.write_str("no identity opens it"),
            SealError::Damaged(why) => write!(f, "not a sound age file: {why}"),
            SealError::TooLarge(most) => write!(f, "opened, it is larger than {most} bytes"),
        }
    }
}

impl std::error::Error for SealError {}

/// The private keys of this installation. Has no text form.
#[derive(Clone, Default)]
pub struct Identities(Vec<age::x25519::Identity>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({} secret)", self.0.len())
    }
}

impl Identities {
    /// Reads a file of identities, one a line; lines that begin with `#` are words. A file that is not there holds none.
    ///
    /// # Errors
    /// [`SealError::BadIdentities`] when others may read the file, or a line is no identity.
    pub fn read(path: &Path) -> Result<Identities, SealError> {
        let bad = |why: String| SealError::BadIdentities(format!("{}: {why}", path.display()));
        let mut file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Identities::default()),
            Err(e) => return Err(bad(e.to_string())),
        };
        let facts = file.metadata().map_err(|e| bad(e.to_string()))?;
        if facts.permissions().mode() & 0o077 != 0 {
            return Err(bad("others may read it; chmod 600".into()));
        }
        if facts.len() > IDENTITIES_BYTES_MAX {
            return Err(bad(format!("{} bytes are more than {IDENTITIES_BYTES_MAX}", facts.len())));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
        Identities::parse(&text).map_err(bad)
    }

    /// Reads identities out of a text.
    ///
    /// # Errors
    /// A sentence that names the line, never what stands on it.
    pub fn parse(text: &str) -> Result<Identities, String> {
        let mut out = Vec::new();
        for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
            let identity = age::x25519::Identity::from_str(line.trim());
            out.push(identity.map_err(|_| format!("line {} is no age identity", n + 1))?);
        }
        Ok(Identities(out))
    }

    /// Their public halves, in the order of the file.
    pub fn recipients(&self) -> Vec<String> {
        self.0.iter().map(|i| i.to_public().to_string()).collect()
    }
}

/// A new identity: the line for the file of identities, and its public half.
pub fn new_identity() -> (String, String) {
    let identity = age::x25519::Identity::generate();
    (identity.to_string().expose_secret().to_owned(), identity.to_public().to_string())
}

/// The bytes as they are stored.
pub(crate) fn seal(plain: Vec<u8>, encryption: &Encryption) -> Result<Vec<u8>, SealError> {
    if encryption.scheme == Scheme::None {
        return Ok(plain);
    }
    let mut recipients = Vec::new();
    for text in &encryption.recipients {
        let recipient = age::x25519::Recipient::from_str(text);
        recipients.push(recipient.map_err(|_| SealError::BadRecipient(text.chars().take(80).collect()))?);
    }
    let bad = |e: &dyn fmt::Display| SealError::Damaged(e.to_string());
    let all = recipients.iter().map(|r| -> &dyn age::Recipient { r });
    let encryptor = age::Encryptor::with_recipients(all).map_err(|e| bad(&e))?;
    let mut sealed = Vec::with_capacity(plain.len() + plain.len() / 1024 + 1024);
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|e| bad(&e))?;
    writer.write_all(&plain).map_err(|e| bad(&e))?;
    writer.finish().map_err(|e| bad(&e))?;
    Ok(sealed)
}

/// The bytes as they were before they were stored.
pub(crate) fn open(
    stored: Vec<u8>,
    encryption: &Encryption,
    identities: &Identities,
    bytes_max: u64,
) -> Result<Vec<u8>, SealError> {
    if encryption.scheme == Scheme::None {
        return Ok(stored);
    }
    let decryptor = age::Decryptor::new(&stored[..]).map_err(|e| SealError::Damaged(e.to_string()))?;
    let all = identities.0.iter().map(|i| -> &dyn age::Identity { i });
    let reader = decryptor.decrypt(all).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys => SealError::Locked,
        other => SealError::Damaged(other.to_string()),
    })?;
    let mut plain = Vec::new();
    reader.take(bytes_max + 1).read_to_end(&mut plain).map_err(|e| SealError::Damaged(e.to_string()))?;
    if plain.len() as u64 > bytes_max { Err(SealError::TooLarge(bytes_max)) } else { Ok(plain) }
}

#[cfg(test)]
mod tests;
