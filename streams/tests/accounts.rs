//! Who may do what, as data, and the text that says it to a server.

#![cfg(test)]

use custody_contracts::events::{Kind, Role};
use custody_contracts::ids::LauncherId;
use custody_streams::accounts::{
    Accounts, AccountsError, LAUNCHERS_MAX, Launcher, ServerConfig, ServiceUser, SyncInterval, UserKey, accounts_text,
    launcher_permissions, server_text, service_permissions,
};

fn key(n: usize) -> UserKey {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let tail: String = (0..4).map(|i| char::from(digits[(n >> (5 * i)) & 31])).collect();
    UserKey::parse("test", &format!("U{}{tail}", "A".repeat(51))).unwrap()
}

fn launcher(id: &str, n: usize) -> Launcher {
    Launcher { id: LauncherId::parse(id).unwrap(), key: key(n) }
}

fn accounts() -> Accounts {
    Accounts {
        services: ServiceUser::ALL.into_iter().enumerate().map(|(n, user)| (user, key(n))).collect(),
        launchers: vec![launcher("web-chat", 100), launcher("cron", 101)],
        system: vec![key(200)],
    }
}

fn config() -> ServerConfig {
    ServerConfig {
        server_name: "log-1".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 4222,
        store_dir: "/var/lib/custody/jetstream".to_owned(),
        log_file: "/var/lib/custody/nats.log".to_owned(),
        file_bytes_max: 1 << 30,
        sync_interval: SyncInterval::Always,
        accounts: accounts(),
    }
}

#[test]
fn one_kind_has_one_writer() {
    for kind in Kind::ALL {
        let subject = format!("ledger.{}.*", kind.as_str());
        let writers: Vec<ServiceUser> = ServiceUser::ALL
            .into_iter()
            .filter(|user| *user != ServiceUser::Admin)
            .filter(|user| service_permissions(*user).publish.contains(&subject))
            .collect();
        assert_eq!(writers.iter().map(|w| Role::parse(w.as_str())).collect::<Vec<_>>(), [Some(kind.writer())]);
    }
}

#[test]
fn nobody_but_the_administrator_may_change_streams_or_use_wildcards_over_the_api() {
    for user in ServiceUser::ALL.into_iter().filter(|user| *user != ServiceUser::Admin) {
        let permissions = service_permissions(user);
        for subject in &permissions.publish {
            let dangerous = [
                ".STREAM.CREATE",
                ".STREAM.UPDATE",
                ".STREAM.DELETE",
                ".STREAM.PURGE",
                ".STREAM.MSG.DELETE",
                ".STREAM.RESTORE",
                ".STREAM.SNAPSHOT",
                "$JS.API.>",
                "$JS.>",
            ];
            // Packs for a key that was rotated away have to go; nothing of the ledger lies there.
            let workspaces = subject == "$JS.API.STREAM.PURGE.OBJ_workspaces";
            let keeps = matches!(user, ServiceUser::Runtime | ServiceUser::Operator);
            assert!(
                (workspaces && keeps) || !dangerous.iter().any(|d| subject.contains(d)),
                "{user:?} may publish {subject}"
            );
            assert!(subject != ">" && !subject.starts_with('*') && !subject.starts_with("launch."), "{subject}");
        }
        // What it hears is its own inbox and what it serves.
        let inbox = format!("_INBOX_{}.>", user.as_str());
        let deliver = format!("deliver.{}.*", user.as_str());
        for subject in &permissions.subscribe {
            let own = [inbox.as_str(), deliver.as_str(), "command.>", "query.>", "content.>"];
            assert!(own.contains(&subject.as_str()), "{user:?}: {subject}");
        }
        assert_eq!(permissions.answers, permissions.subscribe.len() > 2);
    }
}

#[test]
fn only_authority_touches_the_launch_consumer() {
    for user in ServiceUser::ALL.into_iter().filter(|user| *user != ServiceUser::Admin) {
        let touches = service_permissions(user)
            .publish
            .iter()
            .any(|s| s.contains(".CONSUMER.") && s.contains("LAUNCH") || s == "reply.*.*");
        assert_eq!(touches, user == ServiceUser::Authority, "{user:?}");
    }
}

#[test]
fn only_authority_writes_what_a_dispatch_is_told_and_only_gateway_what_it_says() {
    let written = [
        ("unit.*.in", ServiceUser::Authority),
        ("unit.*.out", ServiceUser::Gateway),
        ("reply.*.*.out", ServiceUser::Gateway),
    ];
    for (subject, writer) in written {
        for user in ServiceUser::ALL.into_iter().filter(|user| *user != ServiceUser::Admin) {
            let writes = service_permissions(user).publish.iter().any(|s| s == subject);
            assert_eq!(writes, user == writer, "{user:?} {subject}");
        }
    }
}

#[test]
fn only_runtime_tells_what_a_workspace_holds_and_only_the_web_asks() {
    for user in ServiceUser::ALL.into_iter().filter(|user| *user != ServiceUser::Admin) {
        let permissions = service_permissions(user);
        let has = |subjects: &[String]| subjects.iter().any(|s| s == "content.>");
        assert_eq!(has(&permissions.subscribe), user == ServiceUser::Runtime, "{user:?}");
        assert_eq!(has(&permissions.publish), user == ServiceUser::Api, "{user:?}");
        // Nobody without a bucket of its own reaches one.
        let buckets = permissions.publish.iter().any(|s| s.contains("workspaces"));
        assert_eq!(buckets, matches!(user, ServiceUser::Runtime | ServiceUser::Operator), "{user:?}");
    }
}

#[test]
fn only_the_gateway_asks_for_a_dispatchs_token_and_only_an_operator_changes_keys() {
    for user in ServiceUser::ALL.into_iter().filter(|user| *user != ServiceUser::Admin) {
        let publish = service_permissions(user).publish;
        let operator = publish.iter().any(|s| s == "command.>");
        assert_eq!(operator, user == ServiceUser::Operator, "{user:?}");
        let own: Vec<&str> = publish.iter().map(String::as_str).filter(|s| s.starts_with("command.token.")).collect();
        let expected: &[&str] = match user {
            ServiceUser::Gateway => &["command.token.dispatch", "command.token.exchange", "command.token.assert"],
            ServiceUser::Api => &["command.token.exchange", "command.token.published"],
            _ => &[],
        };
        assert_eq!(own, expected, "{user:?}");
        assert!(!publish.iter().any(|s| s.starts_with("command.key.")), "{user:?}");
    }
}

#[test]
fn a_launcher_has_three_subjects_of_its_own() {
    let permissions = launcher_permissions(&LauncherId::parse("web-chat").unwrap());
    assert_eq!(permissions.publish, ["launch.web-chat.*"]);
    assert_eq!(permissions.subscribe, ["_INBOX_web-chat.>", "reply.web-chat.>"]);
    assert!(!permissions.answers);
}

#[test]
fn the_text_holds_every_user_once_and_no_seed() {
    let text = server_text(&config()).unwrap();
    for (_, key) in &accounts().services {
        assert_eq!(text.matches(key.as_str()).count(), 1);
    }
    for line in ["sync_interval: always", "strict: true", "max_payload: 1MB", "system_account: SYS"] {
        assert!(text.contains(line), "{line}");
    }
    assert_eq!(text.matches('{').count(), text.matches('}').count());
    assert_eq!(text.matches('[').count(), text.matches(']').count());
    // For somebody else's server: the accounts of ours, nothing of the server itself.
    let part = accounts_text(&accounts()).unwrap();
    assert!(["LOG {", "SERVICES {", "EDGE {"].iter().all(|account| part.contains(account)));
    for foreign in ["SYS", "jetstream {", "listen", "store_dir", key(200).as_str()] {
        assert!(!part.contains(foreign), "{foreign}");
    }
}

#[test]
fn the_default_sync_interval_is_written_only_when_asked_for() {
    let text = server_text(&ServerConfig { sync_interval: SyncInterval::ServerDefault, ..config() }).unwrap();
    assert!(!text.contains("sync_interval"));
}

#[rstest::rstest]
#[case::empty("")]
#[case::seed("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY")]
#[case::account("ADWJVSUSEVC2GHL5GRATN2LOEOQOY2E6Z2VXNU3JEIK6BDGPWNIW3AXF")]
#[case::short("UAAAA")]
#[case::injection("UAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA }, { user: x, pa")]
fn a_key_that_is_none_is_refused(#[case] text: &str) {
    assert!(matches!(UserKey::parse("x", text), Err(AccountsError::BadKey { .. })));
}

#[test]
fn two_users_with_one_key_are_refused() {
    let mut twice = accounts();
    twice.launchers.push(launcher("other", 100));
    let refused = AccountsError::SameKey { first: "launcher web-chat".into(), second: "launcher other".into() };
    assert_eq!(accounts_text(&twice), Err(refused));
    let mut as_service = accounts();
    as_service.launchers.push(launcher("other", 0));
    assert!(matches!(accounts_text(&as_service), Err(AccountsError::SameKey { .. })));
}

#[test]
fn the_most_launchers_fit_and_one_more_is_refused() {
    let many = |count: usize| Accounts {
        launchers: (0..count).map(|n| launcher(&format!("l-{n}"), n)).collect(),
        ..Accounts::default()
    };
    assert!(accounts_text(&many(LAUNCHERS_MAX)).is_ok());
    assert_eq!(accounts_text(&many(LAUNCHERS_MAX + 1)), Err(AccountsError::TooMany(LAUNCHERS_MAX + 1)));
}

#[rstest::rstest]
#[case("/a\"b")]
#[case("/a\nb")]
#[case("/a\\b")]
#[case("")]
fn a_path_that_would_change_the_configuration_is_refused(#[case] path: &str) {
    let bad = ServerConfig { store_dir: path.to_owned(), ..config() };
    assert!(matches!(server_text(&bad), Err(AccountsError::BadText { .. })));
}

/// Whoever lives where the streams are can have answers stored in them by naming a reply subject.
#[test]
fn only_the_administrator_lives_where_the_streams_are() {
    let text = accounts_text(&accounts()).unwrap();
    let (log, others) = text.split_once("SERVICES {").unwrap();
    for (user, key) in &accounts().services {
        assert_eq!(log.contains(key.as_str()), *user == ServiceUser::Admin, "{user:?}");
        assert_eq!(others.contains(key.as_str()), *user != ServiceUser::Admin, "{user:?}");
    }
    assert!(!others.contains("jetstream"));
}
