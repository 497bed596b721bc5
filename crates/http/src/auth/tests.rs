//! Sign-in, its end, and what a user's change does, over files in a temporary folder and a clock that is set.

use super::*;
use custody_contracts::ids::UnixMillis;
use std::sync::atomic::{AtomicU64, Ordering};
use users::Linked;

#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::SeqCst))
    }
}

struct Stage {
    folder: tempfile::TempDir,
    clock: Arc<Hand>,
    auth: Auth,
}

const KEY: &str = "ck_jane";
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn user(subject: &str, key: &str) -> User {
    User {
        subject: subject.into(),
        name: subject.into(),
        admin: false,
        key_hash: hash(key),
        disabled: false,
        linked: None,
        added_at: 0,
    }
}

fn stage() -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let mut users = Users::default();
    users.put(user("u_jane", KEY)).unwrap();
    users.write(folder.path()).unwrap();
    let clock = Arc::new(Hand::default());
    let auth = Auth::open(folder.path().to_owned(), clock.clone(), Duration::from_secs(60)).unwrap();
    Stage { folder, clock, auth }
}

fn sign_in(auth: &Auth, key: &str) -> Result<(String, Person), Problem> {
    auth.sign_in(&Credential::AccessKey(key), HERE)
}

#[test]
fn a_key_becomes_a_session_that_ends_by_itself() {
    let stage = stage();
    let (token, person) = sign_in(&stage.auth, KEY).unwrap();
    assert_eq!((person.subject.as_str(), person.admin, person.expires_at), ("u_jane", false, 60_000));
    assert!(stage.auth.who(&token).is_some());
    stage.clock.0.store(60_000, Ordering::SeqCst);
    assert!(stage.auth.who(&token).is_none());
}

#[test]
fn a_wrong_key_is_refused_and_then_not_even_looked_at() {
    let stage = stage();
    for _ in 0..rate::FAILURES_MAX {
        assert_eq!(sign_in(&stage.auth, "ck_guess").unwrap_err().code, "KEY_REFUSED");
    }
    assert_eq!(sign_in(&stage.auth, KEY).unwrap_err().code, "TOO_MANY");
    stage.clock.0.store(rate::WINDOW_MS, Ordering::SeqCst);
    assert!(sign_in(&stage.auth, KEY).is_ok());
}

#[test]
fn a_restart_signs_nobody_out_and_no_file_holds_a_secret() {
    let stage = stage();
    let (token, _) = sign_in(&stage.auth, KEY).unwrap();
    let again = Auth::open(stage.folder.path().to_owned(), stage.clock.clone(), Duration::from_secs(60)).unwrap();
    assert_eq!(again.who(&token).unwrap().subject, "u_jane");
    for file in std::fs::read_dir(stage.folder.path()).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains(&token) && !text.contains(KEY));
    }
}

#[test]
fn a_sign_out_and_a_disabled_user_end_a_session_and_are_told() {
    let stage = stage();
    let (one, person) = sign_in(&stage.auth, KEY).unwrap();
    let (two, _) = sign_in(&stage.auth, KEY).unwrap();
    let mut changes = stage.auth.changes();
    stage.auth.sign_out(&person.session).unwrap();
    assert!(stage.auth.who(&one).is_none() && stage.auth.who(&two).is_some());
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    let mut users = Users::read(stage.folder.path()).unwrap();
    users.put(User { disabled: true, ..user("u_jane", KEY) }).unwrap();
    users.write(stage.folder.path()).unwrap();
    assert!(stage.auth.refresh().unwrap() && changes.has_changed().unwrap());
    assert!(stage.auth.who(&two).is_none() && sign_in(&stage.auth, KEY).is_err());
    assert!(!stage.auth.refresh().unwrap());
}

#[test]
fn sessions_of_one_person_have_a_maximum() {
    let stage = stage();
    let (first, _) = sign_in(&stage.auth, KEY).unwrap();
    for n in 0..sessions::SESSIONS_EACH_MAX {
        stage.clock.0.store(u64::try_from(n).unwrap() + 1, Ordering::SeqCst);
        sign_in(&stage.auth, KEY).unwrap();
    }
    assert!(stage.auth.who(&first).is_none());
    assert_eq!(stage.auth.with(|s| s.sessions.len()), sessions::SESSIONS_EACH_MAX);
}

#[test]
fn a_person_sees_their_own_and_an_administrator_sees_all() {
    let stage = stage();
    let (_, jane) = sign_in(&stage.auth, KEY).unwrap();
    assert!(jane.may_see(Some("u_jane")) && !jane.may_see(Some("u_omar")) && !jane.may_see(None));
    let admin = Person { admin: true, ..jane };
    assert!(admin.may_see(Some("u_omar")) && admin.may_see(None));
}

#[test]
fn somebody_who_was_added_a_moment_ago_comes_in_at_once_and_the_streams_hear_of_it() {
    let stage = stage();
    let mut users = Users::read(stage.folder.path()).unwrap();
    users.put(user("u_new", "ck_of_a_moment_ago")).unwrap();
    users.write(stage.folder.path()).unwrap();
    let changes = stage.auth.changes();
    assert!(sign_in(&stage.auth, "ck_guess").is_err(), "another key stays nobody's");
    assert_eq!(sign_in(&stage.auth, "ck_of_a_moment_ago").unwrap().1.subject.as_str(), "u_new");
    assert!(changes.has_changed().unwrap());
}

fn vouched(issuer: &str, id: &str) -> Vouched {
    Vouched { issuer: issuer.into(), id: id.into() }
}

#[test]
fn whoever_a_provider_vouches_for_comes_in_as_whom_an_administrator_linked_and_as_nobody_else() {
    let stage = stage();
    let change = |edit: &dyn Fn(&mut Users)| {
        let mut users = Users::read(stage.folder.path()).unwrap();
        edit(&mut users);
        users.write(stage.folder.path()).unwrap();
        stage.auth.refresh().unwrap();
    };
    let come = |issuer: &str, id: &str| stage.auth.sign_in(&Credential::Vouched(&vouched(issuer, id)), HERE);
    // Neither by her name here nor by anything else, before she is linked.
    assert_eq!(come("https://id.test", "u_jane").unwrap_err().code, "PERSON_UNKNOWN");
    let link = Linked { issuer: "https://id.test".into(), id: "5f2c".into() };
    change(&|users| users.link("u_jane", Some(link.clone())).unwrap());
    let (token, jane) = come("https://id.test", "5f2c").unwrap();
    assert_eq!((jane.subject.as_str(), jane.provider, jane.expires_at), ("u_jane", Provider::Oidc, 60_000));
    assert!(stage.auth.who(&token).is_some());
    for (issuer, id) in [("https://evil.test", "5f2c"), ("https://id.test", "5f2C"), ("https://id.test/", "5f2c")] {
        assert_eq!(come(issuer, id).unwrap_err().code, "PERSON_UNKNOWN", "{issuer} {id}");
    }
    // With the link goes what rests on it; her key is another matter.
    let (by_key, _) = sign_in(&stage.auth, KEY).unwrap();
    change(&|users| users.link("u_jane", None).unwrap());
    assert!(stage.auth.who(&token).is_none() && stage.auth.who(&by_key).is_some());
    assert_eq!(come("https://id.test", "5f2c").unwrap_err().code, "PERSON_UNKNOWN");
    assert_eq!(come("https://id.test", "5f2c").unwrap_err().code, "TOO_MANY", "tries are counted as those of keys");
    stage.clock.0.store(rate::WINDOW_MS, Ordering::SeqCst);
    change(&|users| {
        users.link("u_jane", Some(link.clone())).unwrap();
        let jane = users.get("u_jane").cloned().unwrap();
        users.put(User { disabled: true, ..jane }).unwrap();
    });
    assert_eq!(come("https://id.test", "5f2c").unwrap_err().code, "PERSON_UNKNOWN");
}

#[test]
fn one_id_at_a_provider_is_one_person_here() {
    let mut users = Users::default();
    for subject in ["u_jane", "u_omar"] {
        users.put(user(subject, subject)).unwrap();
    }
    let link = |issuer: &str| Some(Linked { issuer: issuer.into(), id: "5f2c".into() });
    users.link("u_jane", link("https://id.test")).unwrap();
    users.link("u_jane", link("https://id.test")).unwrap();
    assert!(users.link("u_omar", link("https://id.test")).unwrap_err().contains("u_jane"));
    users.link("u_omar", link("https://other.test")).unwrap();
    assert_eq!(users.by_link("https://other.test", "5f2c").unwrap().subject, "u_omar");
    assert!(users.link("u_eva", None).is_err());
    users.link("u_jane", None).unwrap();
    users.link("u_omar", link("https://id.test")).unwrap();
}

#[test]
fn a_provider_that_is_down_is_written_about_once_a_second() {
    let stage = stage();
    assert!(stage.auth.tells_of_silence() && !stage.auth.tells_of_silence());
    stage.clock.0.store(TELLS_EVERY_MS - 1, Ordering::SeqCst);
    assert!(!stage.auth.tells_of_silence());
    stage.clock.0.store(TELLS_EVERY_MS, Ordering::SeqCst);
    assert!(stage.auth.tells_of_silence());
}
