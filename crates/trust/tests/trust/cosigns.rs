//! Cosignatures of witnesses: read, verified, and nothing else taken for one.

use crate::fixtures::{ORIGIN, authority, runtime};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use custody_contracts::canonical::hex;
use custody_trust::RoleKey;
use custody_trust::cosign::{WitnessKey, cosigned, request};
use custody_trust::note::{NoteError, sign};
use rstest::rstest;
use sha2::{Digest, Sha256};

const NAME: &str = "witness.test/w1";
const TIME: u64 = 1_795_000_000;

fn note() -> String {
    sign(&authority(), ORIGIN, 7, &[7; 32])
}

fn hash(name: &str, kind: u8, key: &RoleKey) -> Vec<u8> {
    Sha256::digest([name.as_bytes(), &[b'\n', kind], key.verifying().as_bytes()].concat())[..4].to_vec()
}

fn vkey_of(name: &str, kind: u8, key: &RoleKey) -> String {
    let raw = [&[kind], key.verifying().as_bytes().as_slice()].concat();
    format!("{name}+{}+{}", hex(&hash(name, kind, key)), STANDARD.encode(raw))
}

pub(crate) fn key() -> WitnessKey {
    WitnessKey::parse(&vkey_of(NAME, 4, &runtime())).unwrap()
}

/// What a witness with the runtime's key answers.
fn answer_of(name: &str, time: u64, note: &str) -> String {
    let body = format!("{}\n", note.split_once("\n\n").unwrap().0);
    let signature = runtime().sign(format!("cosignature/v1\ntime {time}\n{body}").as_bytes());
    let raw = [hash(name, 4, &runtime()), time.to_be_bytes().to_vec(), signature.to_vec()].concat();
    format!("\u{2014} {name} {}\n", STANDARD.encode(raw))
}

/// Its cosignature of a note.
pub(crate) fn answer(note: &str) -> String {
    answer_of(NAME, TIME, note)
}

#[test]
fn a_cosignature_is_verified_and_kept_on_the_note() {
    let text = cosigned(&note(), &answer_of(NAME, TIME, &note()), &key()).unwrap();
    let found = key().on(&text).unwrap();
    assert_eq!((found.time, text), (TIME, note() + &found.line));
    assert_eq!(key().to_string(), vkey_of(NAME, 4, &runtime()));
    assert_eq!((key().name(), key().id()), (NAME, hex(&hash(NAME, 4, &runtime()))));
}

#[test]
fn other_lines_beside_it_do_not_matter() {
    let good = answer_of(NAME, TIME, &note());
    let text = format!("\u{2014} other.test/w AAAAAAAA\nnoise\n{good}{good}");
    assert_eq!(key().cosignature(&format!("{}\n", note().split_once("\n\n").unwrap().0), &text).unwrap().line, good);
}

#[rstest]
#[case::of_another_checkpoint(answer_of(NAME, TIME, &sign(&authority(), ORIGIN, 8, &[7; 32])))]
#[case::of_another_root(answer_of(NAME, TIME, &sign(&authority(), ORIGIN, 7, &[8; 32])))]
#[case::under_another_name(answer_of("witness.test/w2", TIME, &note()))]
#[case::the_logs_own_signature(note().split_once("\n\n").unwrap().1.to_owned())]
#[case::nothing(String::new())]
#[case::no_line("hello\n".to_owned())]
#[case::a_hyphen(answer_of(NAME, TIME, &note()).replace('\u{2014}', "-"))]
#[case::another_time({
    let line = answer_of(NAME, TIME, &note());
    let mut raw = STANDARD.decode(line.trim().rsplit_once(' ').unwrap().1).unwrap();
    raw[11] ^= 1;
    format!("\u{2014} {NAME} {}\n", STANDARD.encode(raw))
})]
fn nothing_else_is_taken_for_a_cosignature(#[case] lines: String) {
    assert!(cosigned(&note(), &answer_of(NAME, TIME, &note()), &key()).is_ok());
    assert_eq!(cosigned(&note(), &lines, &key()), Err(NoteError::NotSigned(NAME.into())));
}

#[rstest]
#[case::a_log_key(vkey_of(NAME, 1, &runtime()))]
#[case::another_hash(vkey_of(NAME, 4, &runtime()).replacen(&hex(&hash(NAME, 4, &runtime())), "00000000", 1))]
#[case::another_name(vkey_of(NAME, 4, &runtime()).replacen(NAME, "witness.test/w2", 1))]
#[case::a_name_with_a_space(vkey_of("a b", 4, &runtime()))]
#[case::no_name(vkey_of("", 4, &runtime()))]
#[case::short(format!("{NAME}+00000000+BAAA"))]
#[case::empty(String::new())]
fn what_is_no_key_of_a_cosigner_is_refused(#[case] text: String) {
    assert!(WitnessKey::parse(&vkey_of(NAME, 4, &runtime())).is_some());
    assert!(WitnessKey::parse(&text).is_none());
}

#[test]
fn a_request_has_the_form_of_c2sp() {
    let text = request(5, &[[1; 32], [2; 32]], &note());
    let (head, body) = text.split_once("\n\n").unwrap();
    assert_eq!(head, format!("old 5\n{}\n{}", STANDARD.encode([1; 32]), STANDARD.encode([2; 32])));
    assert_eq!(body, note());
    assert_eq!(request(0, &[], &note()), format!("old 0\n\n{}", note()));
}
