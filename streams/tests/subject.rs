//! The grammar of log subjects.

#![cfg(test)]

use custody_contracts::events::Kind;
use custody_contracts::ids::{DispatchId, LauncherId};
use custody_ledger::Entity;
use custody_streams::LogSubject;
use custody_streams::subject::{SUBJECT_BYTES_MAX, TOKEN_BYTES_MAX, Token, WORDS_MAX, Words};

#[rstest::rstest]
#[case("ledger.dispatch.d-1")]
#[case("ledger.checkpoint.main")]
#[case("launch.web-chat.dispatch")]
#[case("unit.d-1.out")]
#[case("unit.d-1.in")]
#[case("transcript.m-1")]
#[case("reply.web-chat.d-1")]
#[case("reply.web-chat.d-1.out")]
#[case("command.launcher.register")]
#[case("command.a.b.c.d")]
#[case("query.dispatches")]
#[case("content.diff")]
fn a_subject_survives_parse_and_display(#[case] text: &str) {
    assert_eq!(LogSubject::parse(text).unwrap().to_string(), text);
}

#[rstest::rstest]
#[case::empty("")]
#[case::foreign("orders.new")]
#[case::system("$JS.API.INFO")]
#[case::inbox("_INBOX_a.x")]
#[case::wildcard("launch.*.dispatch")]
#[case::full_wildcard("command.>")]
#[case::unknown_kind("ledger.party.p-1")]
#[case::extra_token("ledger.dispatch.d-1.x")]
#[case::missing_token("launch.web-chat")]
#[case::empty_token("launch..dispatch")]
#[case::upper_case("launch.Web.dispatch")]
#[case::space("launch.a b.dispatch")]
#[case::other_direction("unit.d-1.err")]
#[case::nothing_that_is_heard("reply.web-chat.d-1.in")]
#[case::no_verb("command.")]
#[case::five_words("command.a.b.c.d.e")]
#[case::trailing_dot("query.a.")]
#[case::no_question("content.")]
fn what_is_outside_the_grammar_is_refused(#[case] text: &str) {
    assert!(LogSubject::parse(text).is_err());
}

#[test]
fn the_ledger_agrees_with_its_entities() {
    for kind in Kind::ALL {
        for id in ["a", "_x", "d-0123456789", &"y".repeat(80)] {
            let entity = Entity::new(kind, id).unwrap();
            let subject = LogSubject::Ledger { kind, id: Token::parse(id).unwrap() };
            assert_eq!(entity.log_subject(), subject.to_string());
            assert_eq!(LogSubject::parse(&entity.log_subject()), Ok(subject));
        }
    }
    // The same ids are refused on both sides.
    for id in ["", "A", "a.b", "a*", ">", "ä", &"y".repeat(81)] {
        assert_eq!(Entity::new(Kind::Run, id), None);
        assert!(Token::parse(id).is_err());
    }
}

#[test]
fn names_of_the_contracts_are_tokens() {
    let launcher = LauncherId::parse(&"l".repeat(63)).unwrap();
    let dispatch = DispatchId::parse(&"d".repeat(64)).unwrap();
    for token in [Token::from(&launcher), Token::from(&dispatch)] {
        assert_eq!(Token::parse(token.as_str()), Ok(token.clone()));
    }
    assert!(LogSubject::reply(launcher.as_str(), dispatch.as_str()).is_ok());
}

#[test]
fn the_longest_subjects_fit() {
    let token = "t".repeat(TOKEN_BYTES_MAX);
    let longest = LogSubject::Ledger { kind: Kind::Checkpoint, id: Token::parse(&token).unwrap() };
    assert!(longest.to_string().len() <= SUBJECT_BYTES_MAX);
    // Four of the longest words would be 332 bytes.
    assert!(Words::parse(&[token.as_str(); WORDS_MAX].join(".")).is_err());
    let words = [token.as_str(), &token, "a", "b"];
    assert!(LogSubject::command(&words.join(".")).unwrap().to_string().len() <= SUBJECT_BYTES_MAX);
}
