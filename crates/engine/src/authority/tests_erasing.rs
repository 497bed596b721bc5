//! A person is erased in two recorded steps, once, also when it was broken off between them, and another person never.

use super::erasing::SubjectDesk;
use super::tests::{Given, NOW, given};
use crate::keys::KeyBook;
use crate::sealed::tests::MemoryKeys;
use custody_contracts::events::{KeyEvent, LedgerEvent, Role};
use custody_contracts::ids::Subject;
use custody_contracts::sealed::SubjectKeyState;
use custody_ledger::{Recorded, Sign};
use custody_ports::requests::Request;
use custody_ports::subjects::SubjectKeys;
use custody_testkit::fakes::ManualClock;
use custody_trust::RoleKey;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

struct Stand {
    given: Given,
    keys: Arc<MemoryKeys>,
    desk: SubjectDesk,
}

async fn stand() -> Stand {
    let mut given = given().await;
    let keys = Arc::new(MemoryKeys::default());
    let signer: Arc<dyn Sign> = Arc::new(RoleKey::from_seed(Role::Authority, &[1; 32]));
    let desk = SubjectDesk {
        log: Arc::new(given.log.clone()),
        signer,
        clock: Arc::new(ManualClock::at(NOW)),
        keys: keys.clone(),
        book: KeyBook::default(),
        grants: given.commands.grants.clone(),
    };
    given.commands.subjects = Some(desk.clone());
    Stand { given, keys, desk }
}

fn jane() -> Subject {
    Subject::parse("u_jane").unwrap()
}

impl Stand {
    async fn ask(&self, verb: &str, subject: &str) -> Result<Value, String> {
        let body = json!({ "subject": subject, "by": "u_root", "why": "asked for" });
        let request = Request {
            subject: ["command.subject.", verb].concat(),
            bytes: body.to_string().into_bytes(),
            reply_to: String::new(),
        };
        self.given.commands.carry_out(&request).await.map_err(|error| error.code)
    }

    fn states(&self) -> Vec<(String, SubjectKeyState, Option<String>)> {
        let messages = self.given.log.messages();
        let read = messages.iter().flat_map(|stored| Recorded::read(stored).unwrap());
        let person = |recorded: Recorded| match recorded.event {
            Some(LedgerEvent::Key(KeyEvent::Subject(e))) => Some((e.subject.to_string(), e.state, e.key)),
            _ => None,
        };
        read.filter_map(person).collect()
    }

    fn fold(&self) {
        self.given.log.messages().iter().for_each(|stored| self.desk.book.take_in(stored));
    }

    /// The reactor, until it has nothing more to do.
    async fn react(&self, until: impl Fn(&Stand) -> bool) {
        let cancel = CancellationToken::new();
        let running = tokio::spawn(self.desk.clone().run(cancel.clone()));
        while !until(self) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
        running.await.unwrap();
    }
}

#[tokio::test]
async fn a_person_is_erased_once_and_taken_in_again_under_another_key() {
    use SubjectKeyState::{Active, Erased, Erasing};
    let stand = stand().await;
    let kid = stand.keys.ensure(&jane()).unwrap().kid().to_owned();
    let omar = stand.keys.ensure(&Subject::parse("u_omar").unwrap()).unwrap().kid().to_owned();
    let done = stand.ask("erase", "u_jane").await.unwrap();
    assert_eq!((&done["state"], &done["key"], &done["changed"]), (&json!("erased"), &json!(kid), &json!(true)));
    assert!(stand.keys.find(&jane()).unwrap().is_none());
    let both =
        || vec![("u_jane".to_owned(), Erasing, Some(kid.clone())), ("u_jane".to_owned(), Erased, Some(kid.clone()))];
    assert_eq!(stand.states(), both());
    assert_eq!(stand.ask("erase", "u_jane").await.unwrap()["changed"], false, "again it is done already");
    assert_eq!(stand.states(), both());
    assert_eq!(stand.ask("enrol", "u_omar").await.unwrap()["changed"], false, "who was not erased is in");
    let fresh = stand.ask("enrol", "u_jane").await.unwrap();
    assert_ne!(fresh["key"], json!(kid));
    assert_eq!(stand.states()[2..], [("u_jane".to_owned(), Active, None)]);
    stand.fold();
    let listed = Request { subject: "command.subject.ls".into(), bytes: b"{}".to_vec(), reply_to: String::new() };
    let rows = stand.given.commands.carry_out(&listed).await.unwrap();
    let of = |n: usize| (rows[n]["subject"].clone(), rows[n]["state"].clone(), rows[n]["key"].clone());
    assert_eq!(of(0), (json!("u_jane"), json!("active"), fresh["key"].clone()));
    assert_eq!(of(1), (json!("u_omar"), json!("active"), json!(omar)), "nobody else was touched");
}

#[tokio::test]
async fn somebody_who_was_never_here_is_erased_too_and_kept_out() {
    let stand = stand().await;
    stand.ask("erase", "u_eve").await.unwrap();
    assert!(stand.keys.ensure(&Subject::parse("u_eve").unwrap()).is_err());
    assert!(stand.states().iter().all(|(_, _, key)| key.is_none()));
    assert_eq!(stand.ask("erase", "not a person").await, Err("COMMAND_INVALID".into()));
}

#[tokio::test]
async fn what_was_broken_off_is_finished_after_a_restart_and_an_old_copy_of_a_key_is_destroyed_again() {
    let stand = stand().await;
    let kid = stand.keys.ensure(&jane()).unwrap().kid().to_owned();
    stand.ask("erase", "u_jane").await.unwrap();
    let erased = stand.given.log.messages();
    // As if the process had died after its first step: the log holds the intent, and the key is there.
    let begun = erased.iter().find(|stored| stored.log_subject.starts_with("ledger.key.person-")).unwrap().clone();
    let stand = self::stand().await;
    assert_eq!(stand.keys.ensure(&jane()).unwrap().kid(), kid);
    let entity = custody_ledger::Entity::parse(&begun.log_subject).unwrap();
    let append = custody_ledger::Append {
        entity,
        expected: custody_ledger::Expected::NEW,
        message_id: "begun".into(),
        bytes: begun.bytes,
    };
    custody_ledger::Log::append(&stand.given.log, append).await.unwrap();
    assert_eq!(stand.ask("enrol", "u_jane").await, Err("SUBJECT_REFUSED".into()), "it is not called off");
    stand.fold();
    stand.react(|stand| stand.states().len() == 2).await;
    assert_eq!(stand.states()[1].1, SubjectKeyState::Erased);
    assert!(stand.keys.find(&jane()).unwrap().is_none());
    // Somebody puts the folder of yesterday back.
    stand.keys.enrol(&jane()).unwrap();
    stand.fold();
    stand.react(|stand| stand.keys.find(&jane()).unwrap().is_none()).await;
    assert_eq!(stand.states().len(), 2, "which is no new event");
}
