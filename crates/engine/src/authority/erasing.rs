//! Erasing a person: the intent is recorded, their grants end, their key is destroyed, and that is recorded. What was broken
//! off in between is gone on with, by the command or after a restart. A key that came back with an old copy of the store is
//! destroyed again. Must never record that a key is destroyed before it is.

use super::grants::GrantDesk;
use super::meta;
use crate::crash;
use crate::keys::KeyBook;
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::Kind;
use custody_contracts::grant::GrantRevoked;
use custody_contracts::ids::Subject;
use custody_contracts::messages::ErrorDoc;
use custody_contracts::sealed::{SubjectKeyChanged, SubjectKeyState};
use custody_domain::key::{Key, KeyCommand, KeyState};
use custody_ledger::handle::fold;
use custody_ledger::{Command, Entity, Log, Outcome, Seq, Sign, Stored, handle};
use custody_ports::clock::Clock;
use custody_ports::subjects::SubjectKeys;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two tries to go on with what was begun.
const RETRY: Duration = Duration::from_secs(1);
/// The longest reason. Source: contract ledger.v2, `SubjectKeyChanged`.
const WHY_CHARS_MAX: usize = 2_048;

/// Everything that erasing needs.
#[derive(Clone)]
pub struct SubjectDesk {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Authority's key.
    pub signer: Arc<dyn Sign>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The keys of persons.
    pub keys: Arc<dyn SubjectKeys>,
    /// What became of them.
    pub book: KeyBook,
    /// Grants, which end with the person.
    pub grants: GrantDesk,
}

/// `command.subject.erase` and `command.subject.enrol`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    subject: Subject,
    by: String,
    #[serde(default)]
    why: String,
}

fn unavailable(error: &dyn std::fmt::Display) -> ErrorDoc {
    ErrorDoc::new("LEDGER_UNAVAILABLE", error.to_string(), Some("custody doctor".into()))
}

fn unusable(error: &dyn std::fmt::Display) -> ErrorDoc {
    ErrorDoc::new("SUBJECT_KEYS_UNAVAILABLE", error.to_string(), Some("the same command goes on with it".into()))
}

impl SubjectDesk {
    /// Erases a person. Asked again it goes on where it was, or says that it is done.
    pub(super) async fn erase(&self, asked: Asked) -> Result<Value, ErrorDoc> {
        let kid = self.keys.find(&asked.subject).map_err(|e| unusable(&e))?.map(|key| key.kid().to_owned());
        let began = self.turn(&asked, SubjectKeyState::Erasing, kid).await?;
        crash::point("au.after_erasing");
        let state = self.state(&asked.subject).await?;
        let Some(person) = state.person().filter(|person| person.state == SubjectKeyState::Erasing) else {
            return Ok(json!({ "subject": asked.subject, "state": "erased", "changed": false, "grants_revoked": 0 }));
        };
        let (ended, grants) = self.finish(person).await?;
        Ok(json!({
            "subject": asked.subject, "state": "erased", "key": person.key, "seq": ended.or(began).map(|seq| seq.0),
            "changed": true, "grants_revoked": grants,
        }))
    }

    /// Takes an erased person in again, under a new key.
    pub(super) async fn enrol(&self, asked: Asked) -> Result<Value, ErrorDoc> {
        let seq = self.turn(&asked, SubjectKeyState::Active, None).await?;
        let key = self.keys.enrol(&asked.subject).map_err(|e| unusable(&e))?;
        Ok(json!({
            "subject": asked.subject, "state": "active", "key": key.kid(), "seq": seq.map(|seq| seq.0),
            "changed": seq.is_some(),
        }))
    }

    /// Every person that has a key or had one.
    pub(super) fn list(&self) -> Result<Value, ErrorDoc> {
        let recorded: BTreeMap<Subject, SubjectKeyChanged> =
            self.book.persons().into_iter().map(|person| (person.subject.clone(), person)).collect();
        let mut rows = BTreeMap::new();
        for kept in self.keys.list().map_err(|e| unusable(&e))? {
            let state = if kept.kid.is_some() { "active" } else { "erased" };
            rows.insert(kept.subject.clone(), json!({ "subject": kept.subject, "state": state, "key": kept.kid }));
        }
        for (subject, person) in recorded {
            let row = rows.entry(subject.clone()).or_insert_with(|| json!({ "subject": subject, "key": null }));
            row["state"] = json!(person.state.as_str());
            row["by"] = json!(person.by);
            row["why"] = json!(person.why);
        }
        Ok(Value::Array(rows.into_values().collect()))
    }

    /// Goes on with what was begun and not finished, now and whenever a key changes, until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let mut changed = self.book.changes();
        // What was erased is looked at once: a copy of the store from before may have been put back.
        let mut first = true;
        loop {
            changed.mark_unchanged();
            let mut failed = false;
            for person in self.book.persons() {
                let done = match person.state {
                    SubjectKeyState::Erasing => self.finish(&person).await.map(|_| ()),
                    SubjectKeyState::Erased if first => self.keys.destroy(&person.subject).map_err(|e| unusable(&e)),
                    SubjectKeyState::Erased | SubjectKeyState::Active => Ok(()),
                };
                if let Err(error) = done {
                    tracing::warn!(error = error.message, subject = %person.subject, "not erased yet; trying again");
                    failed = true;
                }
            }
            first &= failed;
            tokio::select! {
                () = cancel.cancelled() => return,
                result = changed.changed() => if result.is_err() { return },
                () = tokio::time::sleep(RETRY), if failed => {}
            }
        }
    }

    /// Ends their grants, destroys the key and records it.
    async fn finish(&self, person: &SubjectKeyChanged) -> Result<(Option<Seq>, usize), ErrorDoc> {
        let now = self.clock.now();
        let theirs = self.grants.grants.with(|book| {
            let standing = book
                .all()
                .filter(|(id, held)| held.issued.grant.subject == person.subject && book.standing(id, now).is_ok());
            standing.map(|(_, held)| held.issued.grant.id.clone()).collect::<Vec<_>>()
        });
        let revoked = theirs.len();
        for grant in theirs {
            // What runs under it is ended by whoever ends what runs under any revoked grant.
            let why = "the person was erased".to_owned();
            self.grants.revoke(GrantRevoked { grant, by: person.by.clone(), why }).await?;
        }
        self.keys.destroy(&person.subject).map_err(|e| unusable(&e))?;
        crash::point("au.after_destroyed");
        let asked = Asked { subject: person.subject.clone(), by: person.by.clone(), why: person.why.clone() };
        Ok((self.turn(&asked, SubjectKeyState::Erased, person.key.clone()).await?, revoked))
    }

    /// Records a state; `None` when it is that already.
    async fn turn(&self, asked: &Asked, to: SubjectKeyState, key: Option<String>) -> Result<Option<Seq>, ErrorDoc> {
        let entity = entity(&asked.subject)?;
        let last = self.history(&entity).await?.last().map_or(0, |stored| stored.seq.0);
        let parts = [entity.id.as_bytes(), to.as_str().as_bytes(), &last.to_be_bytes()];
        let command = Command {
            id: derived_id("sub-", &parts),
            entity: entity.clone(),
            meta: Meta { subject: Some(asked.subject.to_string()), ..meta(self.clock.now(), &entity.id) },
            body: KeyCommand::Person(SubjectKeyChanged {
                subject: asked.subject.clone(),
                state: to,
                key,
                by: asked.by.clone(),
                why: asked.why.chars().take(WHY_CHARS_MAX).collect(),
            }),
        };
        match handle::<Key>(self.log.as_ref(), self.signer.as_ref(), command).await {
            Ok(Outcome::Appended(seq) | Outcome::AlreadyThere(seq)) => Ok(Some(seq)),
            Ok(Outcome::Nothing) => Ok(None),
            Ok(Outcome::Refused(refusal)) => {
                let hint = "what is under way is finished first: custody subject ls";
                Err(ErrorDoc::new("SUBJECT_REFUSED", refusal.to_string(), Some(hint.into())))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn state(&self, subject: &Subject) -> Result<KeyState, ErrorDoc> {
        let entity = entity(subject)?;
        fold::<Key>(&entity, &self.history(&entity).await?).map_err(|e| unavailable(&e))
    }

    async fn history(&self, entity: &Entity) -> Result<Vec<Stored>, ErrorDoc> {
        self.log.load(entity).await.map_err(|e| unavailable(&e))
    }
}

fn entity(subject: &Subject) -> Result<Entity, ErrorDoc> {
    let id = SubjectKeyChanged::entity_id(subject);
    Entity::new(Kind::Key, &id).ok_or_else(|| ErrorDoc::new("COMMAND_INVALID", format!("{id:?} is not an id"), None))
}
