//! The key of one person: XChaCha20-Poly1305 under a nonce that is an HMAC of what is sealed (the construction of a
//! synthetic IV, RFC 5297 section 1.3.2, over another cipher). So equal words are equal bytes, a digest of the sealed bytes
//! can name and compare them, and it tells nothing once the key is gone. Must never print the key or give it out.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use custody_contracts::canonical::hex;
use custody_ledger::{Seal, Unopened};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

/// Bytes of a nonce.
const NONCE: usize = 24;
/// Bytes by which sealed words are longer: the nonce, and the tag of Poly1305.
pub const OVERHEAD: usize = NONCE + 16;

/// One person's key. Without `Clone` and `Serialize`, and `Debug` shows its id alone.
pub struct SubjectKey {
    kid: String,
    cipher: XChaCha20Poly1305,
    nonces: Hmac<Sha256>,
}

impl SubjectKey {
    /// The key of 8 bytes for its id and 32 that are secret, all of them random.
    pub fn new(id: [u8; 8], secret: &[u8; 32]) -> SubjectKey {
        let hkdf = Hkdf::<Sha256>::new(None, secret);
        let half = |info: &[u8]| {
            let mut out = [0; 32];
            // 32 bytes are far below the 8,160 that HKDF-SHA256 gives.
            hkdf.expand(info, &mut out).unwrap_or_else(|_| unreachable!("32 bytes are within HKDF's length"));
            out
        };
        let nonces = <Hmac<Sha256> as Mac>::new_from_slice(&half(b"custody subject key v1: nonces"));
        SubjectKey {
            kid: ["sk-", &hex(&id)].concat(),
            cipher: XChaCha20Poly1305::new(&half(b"custody subject key v1: content").into()),
            nonces: nonces.unwrap_or_else(|_| unreachable!("HMAC takes keys of any length")),
        }
    }

    fn nonce(&self, about: &[u8], words: &[u8]) -> XNonce {
        let mut mac = self.nonces.clone();
        // The length keeps (ab, c) and (a, bc) apart.
        mac.update(&(about.len() as u64).to_be_bytes());
        mac.update(about);
        mac.update(words);
        *XNonce::from_slice(&mac.finalize().into_bytes()[..NONCE])
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SubjectKey").field(&self.kid).finish()
    }
}

impl Seal for SubjectKey {
    fn kid(&self) -> &str {
        &self.kid
    }

    fn seal(&self, about: &[u8], words: &[u8]) -> Vec<u8> {
        let nonce = self.nonce(about, words);
        let sealed = self.cipher.encrypt(&nonce, Payload { msg: words, aad: about });
        // It refuses only what is longer than 256 GiB; no caller holds as much.
        let sealed = sealed.unwrap_or_else(|_| unreachable!("what is sealed is shorter than the cipher's limit"));
        [nonce.as_slice(), &sealed].concat()
    }

    fn open(&self, about: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unopened> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE).ok_or(Unopened)?;
        self.cipher.decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: about }).map_err(|_| Unopened)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn key(n: u8) -> SubjectKey {
        SubjectKey::new([n; 8], &[n; 32])
    }

    #[rstest]
    #[case::words(b"Summarise my open tasks.")]
    #[case::nothing(b"")]
    fn what_is_sealed_opens_in_its_place_with_its_key_alone(#[case] words: &[u8]) {
        let sealed = key(1).seal(b"dispatch/d-1/start", words);
        assert_eq!(sealed.len(), words.len() + OVERHEAD);
        assert_eq!(key(1).open(b"dispatch/d-1/start", &sealed).unwrap(), words);
        assert_eq!(key(2).open(b"dispatch/d-1/start", &sealed), Err(Unopened), "another key");
        assert_eq!(key(1).open(b"dispatch/d-2/start", &sealed), Err(Unopened), "another place");
        for at in 0..sealed.len() {
            let mut other = sealed.clone();
            other[at] ^= 1;
            assert_eq!(key(1).open(b"dispatch/d-1/start", &other), Err(Unopened), "byte {at}");
        }
        for cut in [0, 1, NONCE, sealed.len() - 1] {
            assert_eq!(key(1).open(b"dispatch/d-1/start", &sealed[..cut]), Err(Unopened), "cut at {cut}");
        }
    }

    #[test]
    fn equal_words_are_equal_bytes_under_one_key_and_place_only() {
        let sealed = key(1).seal(b"ab", b"c");
        assert_eq!(key(1).seal(b"ab", b"c"), sealed);
        assert_ne!(key(1).seal(b"a", b"bc")[..NONCE], sealed[..NONCE], "where one ends counts");
        assert_ne!(key(2).seal(b"ab", b"c")[..NONCE], sealed[..NONCE], "another key");
        assert_ne!(key(1).seal(b"ab", b"d")[..NONCE], sealed[..NONCE], "other words");
    }

    #[test]
    fn a_key_shows_its_id_and_no_more() {
        assert_eq!(format!("{:?}", key(1)), "SubjectKey(\"sk-0101010101010101\")");
    }

    /// Draft-irtf-cfrg-xchacha-03, appendix A.3.1: the cipher is the one of the draft.
    #[test]
    fn the_cipher_is_the_drafts() {
        let unhex = |text: &str| custody_contracts::canonical::unhex(text).unwrap();
        let key = unhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
        let cipher = XChaCha20Poly1305::new_from_slice(&key).unwrap();
        let words: &[u8] = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let aad = unhex("50515253c0c1c2c3c4c5c6c7");
        let nonce = unhex("404142434445464748494a4b4c4d4e4f5051525354555657");
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), Payload { msg: words, aad: &aad }).unwrap();
        assert!(hex(&sealed).starts_with("bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb"));
        assert!(hex(&sealed).ends_with("c0875924c1c7987947deafd8780acf49"));
    }
}
