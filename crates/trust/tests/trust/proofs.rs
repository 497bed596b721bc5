//! Proof bundles: the honest one passes, and each way to change one is found, with the honest one beside it.

use crate::cosigns::{answer as witness_answer, key as witness_key};
use crate::fixtures::{ORIGIN, Writer, authority, gateway, golden, introduce, meta, retire, runtime, stranger};
use crate::proof_fixtures::{
    CHAIN, FOCUS, bundle_of, checked, demands, head_note, honest, launch_text, log, of_chain, registered, since,
};
use custody_contracts::canonical::hex;
use custody_contracts::envelope::MESSAGE_BYTES_MAX;
use custody_contracts::events::Role;
use custody_ledger::Sign;
use custody_ledger::merkle::{leaf, verify_inclusion};
use custody_ledger::recorded::encode;
use custody_trust::RoleKey;
use custody_trust::cosign::cosigned;
use custody_trust::note::{self, Hashes};
use custody_trust::proof::{
    BUNDLE_BYTES_MAX, Bundle, BundleError, Demands, ENTRIES_MAX, NOTE_BYTES_MAX, tlog_proof, verify,
};
use custody_trust::verify::KeptHead;
use rstest::rstest;
use serde_json::{Value, json};

#[test]
fn an_honest_bundle_says_who_stands_behind_the_effect() {
    let proved = checked(&honest()).unwrap();
    assert_eq!(proved.event_type, "custody.effect.tool_finished.v1");
    let told = [&proved.dispatch, &proved.subject, &proved.launcher].map(|t| t.as_deref());
    assert_eq!(told, [Some("d-7f3a"), Some("u_jane"), Some("web-chat")]);
    assert!(proved.launch_signed && proved.kept_outside);
    assert_eq!((proved.focus, proved.size, proved.entries, proved.signatures, proved.since), (11, 15, 9, 9, Some(7)));
    assert_eq!((proved.origin.as_str(), proved.head), (ORIGIN, hex(&log().head_over(15).root)));
    assert_eq!(proved.root_key, authority().kid());
    assert_eq!(proved.keys.get(gateway().kid()), Some(&2));
}

#[test]
fn a_bundle_alone_agrees_with_itself_and_says_that_nothing_was_kept_outside() {
    let bundle = Bundle { since: None, launch: None, ..honest() };
    let proved = verify(&bundle, &Demands::default()).unwrap();
    assert!(!proved.launch_signed && !proved.kept_outside && proved.since.is_none());
}

/// The head itself, kept outside, needs no consistency proof.
#[test]
fn a_head_kept_outside_may_be_the_bundles_own() {
    let bundle = Bundle { since: None, ..honest() };
    let demands = Demands { kept: vec![log().head_over(15)], ..demands() };
    assert!(verify(&bundle, &demands).unwrap().kept_outside);
}

#[rstest]
#[case::the_admission(&[1, 2, 3, 4, 6], 6, "custody.dispatch.admitted.v1")]
#[case::the_run(&[1, 2, 4, 6, 7], 7, "custody.run.claimed.v1")]
#[case::an_intent_without_its_outcome(&[1, 2, 3, 4, 6, 7, 10], 10, "custody.effect.tool_intended.v1")]
#[case::a_model_call(&[1, 2, 3, 4, 6, 7, 9, 12], 12, "custody.effect.model_called.v1")]
#[case::the_whole_dispatch(&[1, 2, 3, 4, 6, 7, 9, 10, 11, 12, 13], 13, "custody.run.finished.v1")]
#[case::a_refusal(&[1, 14], 14, "custody.dispatch.refused.v1")]
#[case::a_launcher(&[1, 4], 4, "custody.launcher.registered.v1")]
#[case::a_key(&[1, 2], 2, "custody.key.introduced.v1")]
#[case::the_first_message(&[1], 1, "custody.key.introduced.v1")]
#[case::a_checkpoint(&[1, 8], 8, "custody.checkpoint.signed.v1")]
fn what_can_be_proved(#[case] seqs: &[u64], #[case] focus: u64, #[case] event_type: &str) {
    let proved = verify(&bundle_of(&log(), seqs, focus, 15), &Demands::default()).unwrap();
    assert_eq!(proved.event_type, event_type);
}

type Change = fn(&mut Bundle);

/// The entry of a sequence.
fn at(bundle: &mut Bundle, seq: u64) -> &mut custody_trust::proof::Entry {
    bundle.entries.iter_mut().find(|e| e.seq == seq).unwrap()
}

fn without(bundle: &mut Bundle, seq: u64) {
    bundle.entries.retain(|e| e.seq != seq);
}

/// The honest entries with others of the same log.
fn with(bundle: &mut Bundle, seq: u64) {
    let more = bundle_of(&log(), &[1, seq], 1, 15).entries.remove(1);
    bundle.entries.push(more);
    bundle.entries.sort_by_key(|e| e.seq);
}

/// A log in which one message is another.
fn log_with(seq: usize, bytes: Vec<u8>) -> Writer {
    let mut other = Writer::default();
    for (at, message) in log().messages.into_iter().enumerate() {
        other.put(&message.log_subject, if at + 1 == seq { bytes.clone() } else { message.bytes });
    }
    other
}

/// The outcome as a thief of the gateway's key writes it.
fn forged_outcome() -> Vec<u8> {
    encode(&gateway(), "forged", &[golden("ToolFinished")], &of_chain()).unwrap()
}

#[rstest]
#[case::focus_of_no_entry(|b: &mut Bundle| b.focus = 12, 12, "LINK_MISSING")]
#[case::focus_nowhere(|b: &mut Bundle| b.focus = 0, 0, "LINK_MISSING")]
#[case::head_of_another_size(|b: &mut Bundle| b.checkpoint = b.checkpoint.replacen("\n15\n", "\n14\n", 1), 0, "CHECKPOINT_MISMATCH")]
#[case::head_of_another_log(|b: &mut Bundle| b.checkpoint = b.checkpoint.replacen(ORIGIN, "custody.test/other", 1), 0, "CHECKPOINT_MISMATCH")]
#[case::head_signed_by_another_role(|b: &mut Bundle| b.checkpoint = note::sign(&runtime(), ORIGIN, 15, &log().head_over(15).root), 0, "CHECKPOINT_MISMATCH")]
#[case::head_signed_by_a_stranger(|b: &mut Bundle| b.checkpoint = note::sign(&stranger(), ORIGIN, 15, &log().head_over(15).root), 0, "CHECKPOINT_MISMATCH")]
#[case::head_without_a_signature(|b: &mut Bundle| b.checkpoint = note::body(ORIGIN, 15, &log().head_over(15).root) + "\n", 0, "CHECKPOINT_MISMATCH")]
#[case::head_that_is_older(|b: &mut Bundle| b.checkpoint = head_note(&log(), 7), 1, "NOT_INCLUDED")]
#[case::head_over_another_log(|b: &mut Bundle| b.checkpoint = head_note(&log_with(11, forged_outcome()), 15), 1, "NOT_INCLUDED")]
#[case::another_sequence(|b: &mut Bundle| at(b, 11).seq = 12, 12, "NOT_INCLUDED")]
#[case::a_sequence_beyond_the_tree(|b: &mut Bundle| at(b, 11).seq = 16, 16, "NOT_INCLUDED")]
#[case::a_sequence_of_zero(|b: &mut Bundle| at(b, 1).seq = 0, 0, "ORDER")]
#[case::another_entity_of_the_same_kind(|b: &mut Bundle| at(b, 11).subject = "ledger.effect.d-7f3a-t2".into(), 11, "LINK_BROKEN")]
#[case::another_kind(|b: &mut Bundle| at(b, 11).subject = "ledger.run.d-7f3a".into(), 11, "NOT_AUTHENTIC")]
#[case::no_entity(|b: &mut Bundle| at(b, 11).subject = "ledger.effect".into(), 11, "NOT_AUTHENTIC")]
#[case::another_person(|b: &mut Bundle| at(b, 6).bytes = b.entries[4].bytes.replace("u_jane", "u_omar"), 6, "NOT_AUTHENTIC")]
#[case::another_outcome(|b: &mut Bundle| at(b, 11).bytes = b.entries[8].bytes.replace("succeeded", "failed"), 11, "NOT_AUTHENTIC")]
#[case::a_space(|b: &mut Bundle| at(b, 11).bytes.insert(1, ' '), 11, "NOT_AUTHENTIC")]
#[case::signed_anew_by_the_role_itself(|b: &mut Bundle| at(b, 11).bytes = String::from_utf8(forged_outcome()).unwrap(), 11, "NOT_INCLUDED")]
#[case::a_changed_hash(|b: &mut Bundle| at(b, 11).proof.0[0][0] ^= 1, 11, "NOT_INCLUDED")]
#[case::a_hash_less(|b: &mut Bundle| { at(b, 11).proof.0.pop(); }, 11, "NOT_INCLUDED")]
#[case::a_hash_more(|b: &mut Bundle| at(b, 11).proof.0.push([0; 32]), 11, "NOT_INCLUDED")]
#[case::hashes_in_another_order(|b: &mut Bundle| at(b, 11).proof.0.reverse(), 11, "NOT_INCLUDED")]
#[case::the_path_of_another(|b: &mut Bundle| at(b, 11).proof = b.entries[7].proof.clone(), 11, "NOT_INCLUDED")]
#[case::without_the_first_key(|b: &mut Bundle| without(b, 1), 1, "LINK_MISSING")]
#[case::without_the_runtimes_key(|b: &mut Bundle| without(b, 2), 7, "NOT_AUTHENTIC")]
#[case::without_the_gateways_key(|b: &mut Bundle| without(b, 3), 10, "NOT_AUTHENTIC")]
#[case::without_the_launcher(|b: &mut Bundle| without(b, 4), 6, "LINK_MISSING")]
#[case::without_the_admission(|b: &mut Bundle| without(b, 6), 11, "LINK_MISSING")]
#[case::without_the_claim(|b: &mut Bundle| without(b, 7), 9, "LINK_MISSING")]
#[case::without_the_intent(|b: &mut Bundle| without(b, 10), 11, "LINK_MISSING")]
#[case::without_the_outcome(|b: &mut Bundle| without(b, 11), 11, "LINK_MISSING")]
#[case::without_anything(|b: &mut Bundle| b.entries.clear(), 1, "LINK_MISSING")]
#[case::another_launcher_beside_it(|b: &mut Bundle| with(b, 5), 5, "UNRELATED")]
#[case::a_checkpoint_beside_it(|b: &mut Bundle| with(b, 8), 8, "UNRELATED")]
#[case::an_entry_twice(|b: &mut Bundle| b.entries.insert(3, b.entries[3].clone()), 4, "ORDER")]
#[case::entries_in_another_order(|b: &mut Bundle| b.entries.swap(3, 4), 4, "ORDER")]
#[case::an_older_head_by_a_stranger(|b: &mut Bundle| b.since.as_mut().unwrap().checkpoint = note::sign(&stranger(), ORIGIN, 7, &log().head_over(7).root), 0, "CHECKPOINT_MISMATCH")]
#[case::an_older_head_of_another_log(|b: &mut Bundle| b.since.as_mut().unwrap().checkpoint = note::sign(&authority(), "custody.test/other", 7, &log().head_over(7).root), 0, "INCONSISTENT")]
#[case::an_older_head_with_another_root(|b: &mut Bundle| b.since.as_mut().unwrap().checkpoint = note::sign(&authority(), ORIGIN, 7, &[7; 32]), 0, "INCONSISTENT")]
#[case::a_younger_head_as_the_older(|b: &mut Bundle| b.since.as_mut().unwrap().checkpoint = head_note(&log(), 17), 0, "INCONSISTENT")]
#[case::a_changed_consistency_proof(|b: &mut Bundle| b.since.as_mut().unwrap().proof.0[1][31] ^= 1, 0, "INCONSISTENT")]
#[case::no_consistency_proof(|b: &mut Bundle| b.since = None, 0, "HEAD_MISMATCH")]
#[case::another_launch(|b: &mut Bundle| b.launch = Some(launch_text("m-02")), 6, "LINK_BROKEN")]
#[case::a_changed_launch(|b: &mut Bundle| b.launch = b.launch.take().map(|l| l.replace("open tasks", "open doors")), 6, "LINK_BROKEN")]
fn each_way_to_change_a_bundle_is_found(#[case] change: Change, #[case] seq: u64, #[case] code: &str) {
    let control = honest();
    assert!(checked(&control).is_ok());
    let mut bundle = control.clone();
    change(&mut bundle);
    assert_ne!(bundle, control, "the change changed nothing");
    let finding = checked(&bundle).expect_err("a changed bundle passed");
    assert_eq!((finding.seq, finding.code), (seq, code), "{}", finding.message);
}

/// Every seventh byte of every event, changed in two ways.
#[test]
fn each_changed_byte_of_an_event_is_found() {
    let control = honest();
    let mut tried = 0;
    for entry in 0..control.entries.len() {
        for place in (0..control.entries[entry].bytes.len()).step_by(7) {
            for mask in [0x01, 0x20] {
                let mut bundle = control.clone();
                let mut bytes = bundle.entries[entry].bytes.clone().into_bytes();
                bytes[place] ^= mask;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                bundle.entries[entry].bytes = text;
                assert!(checked(&bundle).is_err(), "entry {entry}, byte {place} ^ {mask}");
                tried += 1;
            }
        }
    }
    assert!(tried > 1_500, "{tried}");
}

#[rstest]
#[case::another_first_key(|d: &mut Demands| d.root_key = Some(runtime().kid().to_owned()), "WRONG_LOG")]
#[case::another_root_at_the_same_size(|d: &mut Demands| d.kept.push(KeptHead { size: 7, root: [7; 32] }), "HEAD_MISMATCH")]
#[case::a_head_that_is_not_shown(|d: &mut Demands| d.kept = vec![log().head_over(9)], "HEAD_MISMATCH")]
#[case::a_head_beyond_the_bundles(|d: &mut Demands| d.kept = vec![log().head_over(17)], "HEAD_MISMATCH")]
fn what_the_reader_kept_decides(#[case] change: fn(&mut Demands), #[case] code: &str) {
    let mut demands = demands();
    assert!(verify(&honest(), &demands).is_ok());
    change(&mut demands);
    assert_eq!(verify(&honest(), &demands).unwrap_err().code, code);
}

#[test]
fn a_witness_that_is_demanded_must_have_cosigned() {
    let mut bundle = honest();
    let mut demands = Demands { witnesses: vec![witness_key()], ..demands() };
    assert_eq!(verify(&bundle, &demands).unwrap_err().code, "NOT_WITNESSED");
    bundle.checkpoint = cosigned(&bundle.checkpoint, &witness_answer(&bundle.checkpoint), &witness_key()).unwrap();
    assert_eq!(verify(&bundle, &demands).unwrap().witnesses, [witness_key().name()]);
    let older = head_note(&log(), 7);
    bundle.checkpoint = honest().checkpoint + &witness_answer(&older);
    assert_eq!(verify(&bundle, &demands).unwrap_err().code, "NOT_WITNESSED", "a cosignature of another checkpoint");
    demands.witnesses.clear();
    assert!(verify(&bundle, &demands).is_ok());
}

/// Whoever has every key can write another log that agrees with itself; a head kept outside tells them apart.
#[test]
fn a_bundle_of_another_history_under_the_same_keys_is_found_by_a_head_kept_outside() {
    let other = log_with(5, log().messages[3].bytes.clone());
    let mut bundle = bundle_of(&other, CHAIN, FOCUS, 15);
    bundle.since = Some(since(&other));
    assert!(verify(&bundle, &Demands::default()).is_ok(), "inside itself it is good");
    assert_eq!(checked(&bundle).unwrap_err().code, "HEAD_MISMATCH");
}

/// A log in which a key of a role is retired before its last event.
fn with_retired(key: &RoleKey, rest: impl FnOnce(&mut Writer)) -> Writer {
    let mut log = log();
    log.say(&authority(), key.kid(), &[retire(key)]);
    rest(&mut log);
    log
}

#[test]
fn an_effect_by_a_retired_key_is_found_when_its_retirement_is_in_the_bundle() {
    let log = with_retired(&gateway(), |log| {
        log.say_in(&gateway(), "d-7f3a-m1", &[golden("ModelCalled")], &of_chain());
    });
    let honest = bundle_of(&log, &[1, 2, 3, 4, 6, 7, 12, 18], 12, 19);
    assert!(verify(&honest, &Demands::default()).is_ok(), "what it signed before stands");
    let after = bundle_of(&log, &[1, 2, 3, 4, 6, 7, 18, 19], 19, 19);
    let finding = verify(&after, &Demands::default()).unwrap_err();
    assert_eq!((finding.seq, finding.code), (19, "NOT_AUTHENTIC"));
}

#[test]
fn a_head_signed_by_a_retired_key_of_authority_is_refused_and_one_by_its_successor_is_good() {
    let next = RoleKey::from_seed(Role::Authority, &[4; 32]);
    let mut log = log();
    log.say(&authority(), next.kid(), &[introduce(&next)]).say(&next, authority().kid(), &[retire(&authority())]);
    let seqs = [&[1, 2, 3, 4, 6, 7, 9, 10, 11], &[18u64, 19][..]].concat();
    let mut bundle = bundle_of(&log, &seqs, FOCUS, 19);
    let finding = verify(&bundle, &Demands::default()).unwrap_err();
    assert_eq!(finding.code, "CHECKPOINT_MISMATCH", "{}", finding.message);
    let head = log.head_over(19);
    bundle.checkpoint = note::sign(&next, ORIGIN, head.size, &head.root);
    assert!(verify(&bundle, &Demands::default()).is_ok());
}

#[rstest]
#[case::for_another_person("u_omar", "web-chat", "another person")]
#[case::by_another_launcher("u_jane", "other", "another launcher")]
fn an_event_of_the_chain_that_names_somebody_else_breaks_it(
    #[case] subject: &str,
    #[case] launcher: &str,
    #[case] why: &str,
) {
    let mut meta = of_chain();
    (meta.subject, meta.launcher) = (Some(subject.into()), Some(launcher.into()));
    let bytes = encode(&gateway(), "c11", &[golden("ToolFinished")], &meta).unwrap();
    let bundle = bundle_of(&log_with(11, bytes), CHAIN, FOCUS, 15);
    let finding = verify(&bundle, &Demands::default()).unwrap_err();
    assert_eq!((finding.seq, finding.code), (11, "LINK_BROKEN"));
    assert!(finding.message.contains(why), "{}", finding.message);
}

#[test]
fn a_launcher_that_was_disabled_before_admits_nothing() {
    let bytes = encode(&authority(), "c5", &[golden("LauncherDisabled")], &meta()).unwrap();
    let mut log = Writer::default();
    for (at, message) in self::log().messages.into_iter().enumerate() {
        match at + 1 {
            5 => log.put("ledger.launcher.web-chat", bytes.clone()),
            _ => log.put(&message.log_subject, message.bytes),
        };
    }
    let with_it = [&[1, 2, 3, 4, 5], &CHAIN[4..]].concat();
    let finding = verify(&bundle_of(&log, &with_it, FOCUS, 15), &Demands::default()).unwrap_err();
    assert_eq!((finding.seq, finding.code), (6, "LINK_BROKEN"));
}

#[test]
fn a_grant_that_the_admission_names_must_be_in_the_bundle() {
    let mut meta = of_chain();
    meta.grant = Some("g-1".into());
    let control = log();
    let LedgerEvents { admitted } = LedgerEvents::of(&control);
    let bytes = encode(&authority(), "c6", &[admitted], &meta).unwrap();
    let bundle = bundle_of(&log_with(6, bytes), &[1, 2, 3, 4, 6], 6, 15);
    let finding = verify(&bundle, &Demands::default()).unwrap_err();
    assert_eq!((finding.seq, finding.code), (6, "LINK_MISSING"));
    assert!(finding.message.contains("g-1"), "{}", finding.message);
    assert!(verify(&bundle_of(&control, &[1, 2, 3, 4, 6], 6, 15), &Demands::default()).is_ok());
}

struct LedgerEvents {
    admitted: custody_contracts::events::LedgerEvent,
}

impl LedgerEvents {
    fn of(log: &Writer) -> LedgerEvents {
        let read = custody_ledger::Recorded::read(&log.messages[5]).unwrap().remove(0);
        LedgerEvents { admitted: read.event.unwrap() }
    }
}

fn text(bundle: &Bundle) -> Vec<u8> {
    serde_json::to_vec(bundle).unwrap()
}

#[test]
fn a_bundle_is_read_as_it_was_written() {
    assert_eq!(Bundle::read(&text(&honest())).unwrap(), honest());
    let least = Bundle { since: None, launch: None, ..honest() };
    assert_eq!(Bundle::read(&text(&least)).unwrap(), least);
}

#[rstest]
#[case::another_schema("/schema", json!("proof.v2"))]
#[case::a_field_more("/entries/0/note", json!("hello"))]
#[case::a_field_more_at_the_top("/hello", json!(1))]
#[case::a_hash_that_is_short("/entries/0/proof/0", json!("AAAA"))]
#[case::a_hash_of_no_text("/entries/0/proof/0", json!(7))]
#[case::a_hash_that_is_hexadecimal("/entries/0/proof/0", json!("00".repeat(32)))]
#[case::a_negative_sequence("/entries/0/seq", json!(-1))]
#[case::no_entries("/entries", Value::Null)]
fn a_file_of_another_form_is_no_bundle(#[case] pointer: &str, #[case] value: Value) {
    let mut document = serde_json::to_value(honest()).unwrap();
    assert!(Bundle::read(document.to_string().as_bytes()).is_ok());
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        object => object[name] = value,
    }
    let error = Bundle::read(document.to_string().as_bytes()).unwrap_err();
    assert!(matches!(error, BundleError::Unreadable(_)), "{error:?}");
}

#[rstest]
#[case::not_json(b"{".as_slice())]
#[case::another_document(b"[]".as_slice())]
#[case::nothing(b"".as_slice())]
#[case::two(br#"{"schema":"proof.v1"}{"schema":"proof.v1"}"#.as_slice())]
fn what_is_no_json_object_is_no_bundle(#[case] bytes: &[u8]) {
    assert!(matches!(Bundle::read(bytes), Err(BundleError::Unreadable(_))));
}

#[rstest]
#[case::entries(|b: &mut Bundle, n| b.entries = vec![custody_trust::proof::Entry { bytes: String::new(), proof: Hashes::default(), ..b.entries[0].clone() }; n], ENTRIES_MAX, "entries")]
#[case::an_event(|b: &mut Bundle, n| b.entries[0].bytes = "x".repeat(n), MESSAGE_BYTES_MAX, "bytes of an event")]
#[case::the_head(|b: &mut Bundle, n| b.checkpoint = "x".repeat(n), NOTE_BYTES_MAX, "bytes of a checkpoint")]
#[case::the_older_head(|b: &mut Bundle, n| b.since.as_mut().unwrap().checkpoint = "x".repeat(n), NOTE_BYTES_MAX, "bytes of a checkpoint")]
#[case::the_launch(|b: &mut Bundle, n| b.launch = Some("x".repeat(n)), 65_536, "bytes of the launch")]
fn a_bundle_has_a_largest_size(#[case] grow: fn(&mut Bundle, usize), #[case] max: usize, #[case] part: &str) {
    let mut bundle = honest();
    grow(&mut bundle, max);
    assert!(Bundle::read(&text(&bundle)).is_ok(), "at the maximum");
    grow(&mut bundle, max + 1);
    match Bundle::read(&text(&bundle)).unwrap_err() {
        BundleError::TooLarge { what, found, max: said } => assert_eq!((what, found, said), (part, max + 1, max)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bundle_beyond_the_largest_file_and_a_proof_beyond_the_longest_are_refused_unread() {
    let large = vec![b' '; BUNDLE_BYTES_MAX + 1];
    assert!(matches!(Bundle::read(&large), Err(BundleError::TooLarge { what: "bytes", .. })));
    let mut bundle = honest();
    bundle.entries[0].proof = Hashes(vec![[0; 32]; 64]);
    assert!(Bundle::read(&text(&bundle)).is_ok());
    bundle.entries[0].proof = Hashes(vec![[0; 32]; 65]);
    assert!(matches!(Bundle::read(&text(&bundle)), Err(BundleError::Unreadable(_))));
}

#[test]
fn the_form_for_strangers_holds_index_path_and_head() {
    let bundle = honest();
    let entry = &bundle.entries[8];
    let text = tlog_proof(&bundle, entry);
    let (head, note) = text.split_once("\n\n").unwrap();
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[..2], ["c2sp.org/tlog-proof@v1", "index 10"]);
    assert_eq!(note, bundle.checkpoint);
    let path: Vec<[u8; 32]> = serde_json::from_value::<Vec<String>>(json!(lines[2..]))
        .map(|texts| serde_json::from_value::<Hashes>(json!(texts)).unwrap().0)
        .unwrap();
    let head = log().head_over(15);
    assert!(verify_inclusion(&leaf(entry.bytes.as_bytes()), 10, head.size, &path, &head.root));
    assert_eq!(registered("web-chat").kind().as_str(), "launcher");
}
