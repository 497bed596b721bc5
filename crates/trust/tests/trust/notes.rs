//! Checkpoints as C2SP signed notes: round trip, known answers of others, and everything that is none.

use crate::fixtures::{ORIGIN, authority, runtime};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody_contracts::canonical::hex;
use custody_ledger::merkle::{Hash, leaf};
use custody_trust::key::{parse_public, verify_hex};
use custody_trust::note::{NoteError, SignedHead, body, open, sign, verifier_key};
use rstest::rstest;

fn note() -> String {
    sign(&authority(), ORIGIN, 7, &leaf(b"x"))
}

#[test]
fn a_note_is_opened_by_its_key_as_what_was_signed() {
    let head = open(&note(), &authority().verifying()).unwrap();
    assert_eq!(head, SignedHead { origin: ORIGIN.into(), size: 7, root: leaf(b"x") });
    assert_eq!(note(), self::note(), "Ed25519 is deterministic");
}

#[test]
fn a_note_has_the_form_of_c2sp() {
    let text = note();
    let lines: Vec<&str> = text.split('\n').collect();
    assert_eq!(lines[..2], [ORIGIN, "7"]);
    assert_eq!(STANDARD.decode(lines[2]).unwrap(), leaf(b"x"));
    assert_eq!((lines[3], lines[5], lines.len()), ("", "", 6));
    let signature = lines[4].strip_prefix("\u{2014} custody.test/ledger ").unwrap();
    assert_eq!(STANDARD.decode(signature).unwrap().len(), 4 + 64);
}

/// A checkpoint of the Go checksum database, as its server gave it, and the key that the go command pins.
#[test]
fn a_checkpoint_of_another_log_has_the_same_form_key_hash_and_signature() {
    const KEY: &str = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    const ROOT: &str = "8lHrQPRYe4KT4WQ9/Qk8/taKnD6IRHbFgfN7vQE2Y54=";
    const SIGNATURE: &str =
        "Az3gri/oVBN1jAhNZ/iS+W31psFAWRT20/GyrhpU6taFwulQGetBkH5S7wpGXdS935jiIGiUUAXBVHzT/P6fYhqAmAk=";
    let raw = STANDARD.decode(KEY.rsplit_once("033de0ae+").unwrap().1).unwrap();
    let key = parse_public(&hex(&raw[1..])).unwrap();
    assert_eq!(verifier_key("sum.golang.org", &key), KEY);
    let root: Hash = STANDARD.decode(ROOT).unwrap().try_into().unwrap();
    let text = body("go.sum database tree", 63_096_908, &root);
    assert_eq!(text, format!("go.sum database tree\n63096908\n{ROOT}\n"));
    let signature = STANDARD.decode(SIGNATURE).unwrap();
    assert_eq!(hex(&signature[..4]), "033de0ae");
    assert!(verify_hex(&key, text.as_bytes(), &hex(&signature[4..])));
    // Ours names its key after the log, so a checkpoint under another key name is not opened.
    let note = format!("{text}\n\u{2014} sum.golang.org {SIGNATURE}\n");
    assert_eq!(open(&note, &key), Err(NoteError::NotSigned("go.sum database tree".into())));
}

/// A note made by an independent implementation with the same seed.
#[test]
fn our_notes_are_those_of_an_independent_implementation() {
    assert_eq!(note(), INDEPENDENT);
    assert_eq!(verifier_key(ORIGIN, &authority().verifying()), INDEPENDENT_KEY);
}
const INDEPENDENT: &str = "custody.test/ledger\n7\nPH6byTDck/AfppmF7yQtn56GHzxTVaokzl70tLinDMs=\n\n\u{2014} custody.test/ledger ofguHWpeMzLUS+uYyIIfCtEFpDV3b3x5MgKl5fTImUvaR3tn2YLcLtgOnQO/ro4bTmm+caGswBPyNwYFiSmEPcTySA4=\n";
const INDEPENDENT_KEY: &str = "custody.test/ledger+a1f82e1d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";

#[test]
fn other_signatures_beside_the_right_one_do_not_matter() {
    let (text, line) = note().split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let witness = "\u{2014} witness.example/w AAAAAAAA\nnot a signature line\n";
    for signatures in [format!("{line}{witness}"), format!("{witness}{line}")] {
        assert!(open(&format!("{text}\n\n{signatures}"), &authority().verifying()).is_ok());
    }
}

#[rstest]
#[case::another_size(|n: String| n.replace("\n7\n", "\n8\n"), "NotSigned")]
#[case::another_origin(|n: String| n.replace(ORIGIN, "custody.test/other"), "NotSigned")]
#[case::another_origin_in_the_text(|n: String| n.replacen(ORIGIN, "custody.test/other", 1), "NotSigned")]
#[case::another_root(|n: String| n.replace(&STANDARD.encode(leaf(b"x")), &STANDARD.encode(leaf(b"y"))), "NotSigned")]
#[case::a_line_more(|n: String| n.replace("\n\n", "\nmore\n\n"), "NotSigned")]
#[case::no_signature(|n: String| n.split_once("\u{2014}").unwrap().0.to_owned(), "NotSigned")]
#[case::a_hyphen_for_the_dash(|n: String| n.replace('\u{2014}', "-"), "NotSigned")]
#[case::no_empty_line(|n: String| n.replace("\n\n", "\n"), "Malformed")]
#[case::no_origin(|n: String| n.replacen(ORIGIN, "", 1), "Malformed")]
#[case::no_number(|n: String| n.replace("\n7\n", "\nseven\n"), "Malformed")]
#[case::a_negative_size(|n: String| n.replace("\n7\n", "\n-7\n"), "Malformed")]
#[case::a_short_root(|n: String| n.replace(&STANDARD.encode(leaf(b"x")), "AAAA"), "Malformed")]
#[case::empty(|_: String| String::new(), "Malformed")]
fn what_is_changed_is_not_opened(#[case] change: fn(String) -> String, #[case] expected: &str) {
    let error = open(&change(note()), &authority().verifying()).unwrap_err();
    assert!(format!("{error:?}").starts_with(expected), "{error:?}");
}

#[test]
fn another_key_opens_nothing() {
    assert!(matches!(open(&note(), &runtime().verifying()), Err(NoteError::NotSigned(_))));
}
