//! Role keys: the id is the digest of the key, the secret has no text, verification is strict.

use crate::fixtures::{authority, runtime};
use custody_contracts::canonical::{hex, unhex};
use custody_contracts::events::Role;
use custody_ledger::Sign;
use custody_trust::RoleKey;
use custody_trust::key::{kid, parse_public, verify_hex};
use rstest::rstest;

/// RFC 8032, section 7.1, test 1: the empty message.
const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const SIGNATURE: &str = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";

fn rfc_8032() -> RoleKey {
    RoleKey::from_seed(Role::Authority, &unhex(SEED).unwrap().try_into().unwrap())
}

#[test]
fn signatures_are_those_of_rfc_8032() {
    let key = rfc_8032();
    assert_eq!((key.public_hex().as_str(), key.sign_hex(b"").as_str()), (PUBLIC, SIGNATURE));
    assert!(verify_hex(&key.verifying(), b"", SIGNATURE));
}

#[rstest]
#[case::other_bytes(b"x", SIGNATURE.to_owned())]
#[case::upper_case(b"", SIGNATURE.to_uppercase())]
#[case::empty(b"", String::new())]
#[case::cut(b"", SIGNATURE[..126].to_owned())]
#[case::longer(b"", format!("{SIGNATURE}00"))]
#[case::no_digits(b"", "zz".repeat(64))]
#[case::of_zeros(b"", "00".repeat(64))]
// S plus the order of the group: the same signature to a lenient verifier. RFC 8032, section 5.1.7.
#[case::malleated(b"", format!("{}{}", &SIGNATURE[..64], "4c8c7872aa064e049dbb3013fbf29380d25bf5f0595bbe24655141438e7a101b"))]
fn nothing_else_is_a_signature(#[case] bytes: &[u8], #[case] signature: String) {
    assert!(!verify_hex(&rfc_8032().verifying(), bytes, &signature));
}

#[test]
fn a_key_of_small_order_signs_nothing() {
    // The neutral element verifies everything for a lenient verifier.
    let neutral = parse_public(&format!("01{}", "00".repeat(31))).unwrap();
    let signature = format!("01{}", "00".repeat(63));
    assert!(!verify_hex(&neutral, b"anything", &signature));
}

#[test]
fn the_id_names_the_role_and_is_the_keys_digest() {
    let (authority, runtime) = (authority(), runtime());
    assert!(authority.kid().starts_with("k-authority-") && runtime.kid().starts_with("k-runtime-"));
    assert_eq!(authority.kid().len(), "k-authority-".len() + 16);
    assert_eq!(kid(Role::Authority, &authority.verifying()), authority.kid());
    assert_ne!(kid(Role::Authority, &runtime.verifying()), authority.kid());
    assert_eq!(RoleKey::from_seed(Role::Authority, &[1; 32]).kid(), authority.kid());
}

#[test]
fn a_key_shows_its_id_and_not_its_secret() {
    let key = RoleKey::from_seed(Role::Gateway, &[0xab; 32]);
    let shown = format!("{key:?}");
    assert!(shown.contains(key.kid()) && !shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
}

#[rstest]
#[case::good(PUBLIC, true)]
#[case::short(&PUBLIC[..62], false)]
#[case::long(&format!("{PUBLIC}00"), false)]
#[case::no_digits("key", false)]
#[case::no_point(&"02".repeat(32), false)]
#[case::empty("", false)]
fn a_public_key_is_64_digits_and_a_point(#[case] text: &str, #[case] good: bool) {
    let parsed = parse_public(text);
    assert_eq!(parsed.is_some(), good);
    assert!(parsed.is_none_or(|key| hex(key.as_bytes()) == text));
}
