//! A whole log with fixed keys and times, and the ways to change it. The keys are worthless: their seeds are one byte.

use custody_contracts::envelope::Meta;
use custody_contracts::events::{
    CheckpointEvent, CheckpointSigned, KeyEvent, KeyIntroduced, KeyRetired, LedgerEvent, Role, TYPES,
};
use custody_ledger::merkle::{Frontier, leaf};
use custody_ledger::recorded::encode;
use custody_ledger::{Entity, Seq, Sign, Stored};
use custody_trust::RoleKey;
use custody_trust::note;
use custody_trust::verify::{Finding, KeptHead, Report, Verifier};
use std::path::Path;

pub(crate) const ORIGIN: &str = "custody.test/ledger";

pub(crate) fn authority() -> RoleKey {
    RoleKey::from_seed(Role::Authority, &[1; 32])
}
pub(crate) fn runtime() -> RoleKey {
    RoleKey::from_seed(Role::Runtime, &[2; 32])
}
pub(crate) fn gateway() -> RoleKey {
    RoleKey::from_seed(Role::Gateway, &[3; 32])
}
/// A key that nobody introduced.
pub(crate) fn stranger() -> RoleKey {
    RoleKey::from_seed(Role::Runtime, &[9; 32])
}

pub(crate) fn introduce(key: &RoleKey) -> LedgerEvent {
    LedgerEvent::Key(KeyEvent::Introduced(KeyIntroduced {
        kid: key.kid().into(),
        role: key.role(),
        public_key: key.public_hex(),
        instance: "test".into(),
    }))
}

pub(crate) fn retire(key: &RoleKey) -> LedgerEvent {
    LedgerEvent::Key(KeyEvent::Retired(KeyRetired { kid: key.kid().into(), why: "test".into() }))
}

/// The minimal golden of a shape of ledger.v2.
pub(crate) fn golden(shape: &str) -> LedgerEvent {
    let path = format!("../../contracts/ledger.v2/golden/{shape}.minimal.json");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    LedgerEvent::decode(TYPES.iter().find(|(_, s)| *s == shape).unwrap().0, &text).unwrap()
}

pub(crate) fn meta() -> Meta {
    Meta { time: "2026-11-22T21:00:00.000Z".into(), ..Meta::default() }
}

/// Messages in order, their tree, and a name for each next command.
#[derive(Clone, Default)]
pub(crate) struct Writer {
    pub(crate) messages: Vec<Stored>,
    tree: Frontier,
}

impl Writer {
    /// Appends what a key says about the entity of its first event's kind.
    pub(crate) fn say(&mut self, key: &RoleKey, id: &str, events: &[LedgerEvent]) -> &mut Self {
        self.say_in(key, id, events, &meta())
    }

    /// The same in an envelope that says more.
    pub(crate) fn say_in(&mut self, key: &RoleKey, id: &str, events: &[LedgerEvent], meta: &Meta) -> &mut Self {
        let entity = Entity::new(events[0].kind(), id).unwrap();
        let command = format!("c{}", self.messages.len() + 1);
        let bytes = encode(key, &command, events, meta).unwrap();
        self.put(&entity.log_subject(), bytes)
    }

    /// Appends bytes.
    pub(crate) fn put(&mut self, log_subject: &str, bytes: Vec<u8>) -> &mut Self {
        let seq = Seq(self.messages.len() as u64 + 1);
        self.tree.push(leaf(&bytes));
        self.messages.push(Stored { seq, log_subject: log_subject.into(), message_id: None, bytes });
        self
    }

    /// The head over everything so far.
    pub(crate) fn head(&self) -> KeptHead {
        KeptHead { size: self.tree.size(), root: self.tree.root() }
    }

    /// The head over the first messages.
    pub(crate) fn head_over(&self, size: usize) -> KeptHead {
        let mut first = Writer::default();
        for message in &self.messages[..size] {
            first.put(&message.log_subject, message.bytes.clone());
        }
        first.head()
    }

    pub(crate) fn checkpoint(&mut self, key: &RoleKey) -> &mut Self {
        let event = checkpoint(key, &self.head());
        self.say(key, "log", &[event])
    }
}

pub(crate) fn checkpoint(key: &RoleKey, head: &KeptHead) -> LedgerEvent {
    use base64::Engine;
    LedgerEvent::Checkpoint(CheckpointEvent::Signed(CheckpointSigned {
        origin: ORIGIN.into(),
        size: head.size,
        root: base64::engine::general_purpose::STANDARD.encode(head.root),
        note: note::sign(key, ORIGIN, head.size, &head.root),
    }))
}

/// The first four messages: three keys and a launcher.
pub(crate) fn beginning() -> Writer {
    let mut writer = Writer::default();
    writer
        .say(&authority(), authority().kid(), &[introduce(&authority())])
        .say(&authority(), runtime().kid(), &[introduce(&runtime())])
        .say(&authority(), gateway().kid(), &[introduce(&gateway())])
        .say(&authority(), "web-chat", &[golden("LauncherRegistered")]);
    writer
}

/// Twelve messages of every role, one of them of two events, with checkpoints at 7 and 12.
pub(crate) fn good() -> Writer {
    let mut writer = beginning();
    writer
        .say(&authority(), "d-7f3a", &[golden("DispatchAdmitted")])
        .say(&runtime(), "d-7f3a", &[golden("RunClaimed")])
        .checkpoint(&authority())
        .say(&runtime(), "d-7f3a", &[golden("RunStarted")])
        .say(&gateway(), "d-7f3a-m1", &[golden("ModelCalled")])
        .say(&runtime(), "d-7f3a", &[golden("RunFinished")])
        .say(&authority(), stranger().kid(), &[introduce(&stranger()), retire(&stranger())])
        .checkpoint(&authority());
    writer
}

pub(crate) fn verify(messages: &[Stored], kept: &[KeptHead]) -> Result<Report, Finding> {
    verify_pinned(messages, kept, None)
}

pub(crate) fn verify_pinned(messages: &[Stored], kept: &[KeptHead], root: Option<&str>) -> Result<Report, Finding> {
    let mut verifier = Verifier::new(kept, root.map(str::to_owned));
    for message in messages {
        verifier.push(message)?;
    }
    verifier.finish()
}

/// The messages numbered anew, as somebody does who does not want a gap to be seen.
pub(crate) fn renumbered(messages: Vec<Stored>) -> Vec<Stored> {
    messages.into_iter().zip(1..).map(|(m, seq)| Stored { seq: Seq(seq), ..m }).collect()
}
