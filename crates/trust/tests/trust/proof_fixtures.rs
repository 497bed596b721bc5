//! A log with one whole chain in it, and bundles made of it as an honest prover makes them.

use crate::fixtures::{Writer, authority, gateway, golden, introduce, meta, runtime};
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchEvent, LauncherEvent, LedgerEvent};
use custody_contracts::ids::LauncherId;
use custody_contracts::launch::unsigned;
use custody_ledger::merkle::{Prover, leaf};
use custody_ledger::{Sign, Stored};
use custody_trust::launch::sign;
use custody_trust::note::{self, Hashes};
use custody_trust::proof::{Bundle, Demands, Entry, Proved, SCHEMA, Since, verify};
use custody_trust::verify::{Finding, KeptHead};
use nkeys::{KeyPair, KeyPairType};
use serde_json::Value;

/// The launcher's key; worthless, its seed is one byte.
pub(crate) fn launcher_key() -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::User, [5; 32]).unwrap()
}

/// What the launcher published: the unit of the admission's golden, signed.
pub(crate) fn launch_text(id: &str) -> String {
    let LedgerEvent::Dispatch(DispatchEvent::Admitted(admitted)) = golden("DispatchAdmitted") else { panic!("golden") };
    let mut event = unsigned(id, "web-chat", "2026-11-22T20:59:59.000Z", &admitted.unit).unwrap();
    sign(&mut event, &launcher_key()).unwrap();
    canonical(&Value::Object(event))
}

pub(crate) fn registered(launcher: &str) -> LedgerEvent {
    let mut event = golden("LauncherRegistered");
    if let LedgerEvent::Launcher(LauncherEvent::Registered(e)) = &mut event {
        e.launcher = LauncherId::parse(launcher).unwrap();
        e.public_key = launcher_key().public_key();
    }
    event
}

fn admitted() -> LedgerEvent {
    let mut event = golden("DispatchAdmitted");
    if let LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) = &mut event {
        e.launch.digest = digest(launch_text("m-01").as_bytes());
    }
    event
}

/// The envelope of an event of the chain.
pub(crate) fn of_chain() -> Meta {
    Meta {
        subject: Some("u_jane".into()),
        launcher: Some("web-chat".into()),
        correlation: Some("d-7f3a".into()),
        ..meta()
    }
}

/// Seventeen messages: keys 1 to 3, launchers 4 and 5, the chain from 6 on, checkpoints 8 (over 7) and 16 (over 15).
pub(crate) fn log() -> Writer {
    let (a, r, g) = (authority(), runtime(), gateway());
    let chain = of_chain();
    let other = Meta { correlation: Some("d-other".into()), ..meta() };
    let mut log = Writer::default();
    for key in [&a, &r, &g] {
        log.say(&a, key.kid(), &[introduce(key)]);
    }
    log.say(&a, "web-chat", &[registered("web-chat")])
        .say(&a, "other", &[registered("other")])
        .say_in(&a, "d-7f3a", &[admitted()], &chain)
        .say_in(&r, "d-7f3a", &[golden("RunClaimed")], &chain)
        .checkpoint(&a)
        .say_in(&r, "d-7f3a", &[golden("RunStarted")], &chain)
        .say_in(&g, "d-7f3a-t1", &[golden("ToolIntended")], &chain)
        .say_in(&g, "d-7f3a-t1", &[golden("ToolFinished")], &chain)
        .say_in(&g, "d-7f3a-m1", &[golden("ModelCalled")], &chain)
        .say_in(&r, "d-7f3a", &[golden("RunFinished")], &chain)
        .say_in(&a, "d-7f3a", &[golden("DispatchRefused")], &other)
        .say(&a, "web-chat", &[registered("web-chat")])
        .checkpoint(&a)
        .say(&a, "other", &[registered("other")]);
    log
}

/// What stands behind the tool call of the chain.
pub(crate) const CHAIN: &[u64] = &[1, 2, 3, 4, 6, 7, 9, 10, 11];
/// The sequence of its outcome.
pub(crate) const FOCUS: u64 = 11;

/// A bundle over the first `size` messages with an honest head.
pub(crate) fn bundle_of(log: &Writer, seqs: &[u64], focus: u64, size: u64) -> Bundle {
    let mut prover = Prover::new(size);
    assert!(seqs.iter().all(|seq| prover.want_inclusion(seq - 1)));
    log.messages.iter().for_each(|m| prover.push(leaf(&m.bytes)));
    let at = |seq: u64| -> &Stored { &log.messages[seq as usize - 1] };
    let entry = |seq: &u64| Entry::of(at(*seq), prover.inclusion(seq - 1).unwrap()).unwrap();
    Bundle {
        schema: SCHEMA.into(),
        focus,
        checkpoint: head_note(log, size),
        entries: seqs.iter().map(entry).collect(),
        since: None,
        launch: None,
    }
}

pub(crate) fn head_note(log: &Writer, size: u64) -> String {
    let head = log.head_over(size as usize);
    note::sign(&authority(), crate::fixtures::ORIGIN, head.size, &head.root)
}

/// The proof that the tree of 15 goes on from that of 7.
pub(crate) fn since(log: &Writer) -> Since {
    let mut prover = Prover::new(15);
    assert!(prover.want_consistency(7));
    log.messages.iter().for_each(|m| prover.push(leaf(&m.bytes)));
    Since { checkpoint: head_note(log, 7), proof: Hashes(prover.consistency(7).unwrap()) }
}

/// The bundle of the tool call, with everything that a bundle may have.
pub(crate) fn honest() -> Bundle {
    let log = log();
    let mut bundle = bundle_of(&log, CHAIN, FOCUS, 15);
    bundle.since = Some(since(&log));
    bundle.launch = Some(launch_text("m-01"));
    bundle
}

/// What a careful reader brings along.
pub(crate) fn demands() -> Demands {
    let kept: KeptHead = log().head_over(7);
    Demands { root_key: Some(authority().kid().to_owned()), kept: vec![kept], witnesses: Vec::new() }
}

pub(crate) fn checked(bundle: &Bundle) -> Result<Proved, Finding> {
    verify(bundle, &demands())
}
