//! Commands against a real nats-server: streams, launchers, projections and doctor, with roles that answer as a test
//! wants them to. A missing server fails these tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its stage must fail")]

mod support;

use async_nats::Subscriber;
use custody_nats::Connection;
use custody_nats::server::PrivateServer;
use custody_streams::accounts::{ServiceUser, SyncInterval};
use futures::StreamExt;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use support::{code, command, err, error, json, out};

/// A server, and a folder with the credentials of its users.
struct Stage {
    home: tempfile::TempDir,
    server: PrivateServer,
}

impl Stage {
    async fn new() -> Stage {
        let home = tempfile::tempdir().unwrap();
        let server = PrivateServer::start(&home.path().join("nats"), &[], SyncInterval::Always).await.unwrap();
        let users = home.path().join("users");
        std::fs::create_dir(&users).unwrap();
        for (user, seed) in &server.services {
            std::fs::write(users.join(format!("{}.nk", user.as_str())), seed.expose()).unwrap();
        }
        let stage = Stage { home, server };
        stage.configure("");
        stage
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "[nats]\nurl = \"{}\"\ncredentials = \"{}\"\nassume_sync_always = true\n{more}",
            self.server.server.url(),
            self.home.path().join("users").display(),
        );
        std::fs::write(self.home.path().join("custody.toml"), text).unwrap();
    }

    async fn custody(&self, arguments: &[&str]) -> Output {
        let mut all = command(self.home.path());
        all.arg("--config").arg(self.home.path().join("custody.toml")).args(arguments);
        tokio::process::Command::from(all).output().await.unwrap()
    }

    async fn end(self) {
        self.server.server.stop().await;
    }

    /// A role that answers each request with what `answer` says, and nothing for `None`.
    async fn role(
        &self,
        user: ServiceUser,
        subject: &'static str,
        answer: fn(&str, &Value) -> Option<Value>,
    ) -> Connection {
        let connection = self.server.connect(user).await.unwrap();
        let mut requests: Subscriber = connection.client().subscribe(subject).await.unwrap();
        connection.client().flush().await.unwrap();
        let client = connection.client().clone();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let body = serde_json::from_slice(&request.payload).unwrap_or(Value::Null);
                if let (Some(reply), Some(value)) = (request.reply, answer(&request.subject, &body)) {
                    client.publish(reply, value.to_string().into()).await.unwrap();
                }
            }
        });
        connection
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_made_checked_and_never_cut() {
    let stage = Stage::new().await;
    let empty = stage.custody(&["streams", "guard", "-o", "json"]).await;
    assert_eq!(code(&empty), 9, "{}", err(&empty));
    assert!(json(&empty).as_array().unwrap().iter().any(|f| f["code"] == "STREAM_MISSING" && f["fatal"] == true));
    assert_eq!(code(&stage.custody(&["streams", "diff"]).await), 6);
    let missing = stage.custody(&["streams", "ls", "-o", "json"]).await;
    assert!(json(&missing).as_array().unwrap().iter().all(|s| s["state"] == "missing"), "{}", out(&missing));

    let unasked = stage.custody(&["streams", "apply", "-o", "json"]).await;
    assert_eq!((code(&unasked), error(&unasked)["code"].as_str()), (2, Some("CONFIRMATION_NEEDED")));
    let made = stage.custody(&["streams", "apply", "--yes", "-o", "json"]).await;
    assert_eq!(code(&made), 0, "{}", err(&made));
    assert_eq!(json(&made).as_array().unwrap().len(), 6);
    assert_eq!(code(&stage.custody(&["streams", "diff"]).await), 0);
    assert_eq!(code(&stage.custody(&["streams", "guard"]).await), 0);
    let listed = json(&stage.custody(&["streams", "ls", "-o", "json"]).await);
    assert_eq!(listed[0]["stream"], "LEDGER");

    stage.configure("ledger_bytes_max = 1000000000\n");
    assert_eq!(code(&stage.custody(&["streams", "diff"]).await), 6);
    let cut = stage.custody(&["streams", "apply", "--yes", "-o", "json"]).await;
    assert_eq!(code(&cut), 5, "{}", err(&cut));
    assert_eq!(error(&cut)["code"], "STREAM_CHANGE_FORBIDDEN");
    assert!(error(&cut)["message"].as_str().unwrap().contains("LEDGER.max_bytes"), "{}", err(&cut));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_hold_public_keys_and_the_missing_seeds_are_made() {
    let stage = Stage::new().await;
    std::fs::remove_file(stage.home.path().join("users/gateway.nk")).unwrap();
    let output = stage.custody(&["streams", "accounts"]).await;
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    let operator = stage.server.services[&ServiceUser::Operator].public_key();
    assert!(text.contains(&operator) && text.contains("EDGE"), "{text}");
    for seed in stage.server.services.values() {
        assert!(!text.contains(seed.expose()) && !err(&output).contains(seed.expose()));
    }
    let made = stage.home.path().join("users/gateway.nk");
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!text.contains(std::fs::read_to_string(made).unwrap().trim()));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_not_there_or_silent_has_its_own_exit_code() {
    let stage = Stage::new().await;
    let nobody = stage.custody(&["projection", "ls", "-o", "json"]).await;
    assert_eq!((code(&nobody), error(&nobody)["code"].as_str()), (8, Some("ROLE_NOT_RUNNING")));
    let silent = stage.role(ServiceUser::Projector, "query.>", |_, _| None).await;
    let late = stage.custody(&["projection", "ls", "--timeout", "200ms", "-o", "json"]).await;
    assert_eq!((code(&late), error(&late)["code"].as_str()), (7, Some("TIMED_OUT")));
    silent.close().await;
    let stranger = custody_nats::Seed::generate().unwrap();
    std::fs::write(stage.home.path().join("users/operator.nk"), stranger.expose()).unwrap();
    let refused = stage.custody(&["projection", "ls", "-o", "json"]).await;
    assert_eq!((code(&refused), error(&refused)["code"].as_str()), (4, Some("CREDENTIALS_REFUSED")));
    assert!(!err(&refused).contains(stranger.expose()));
    stage.end().await;
}

fn projector(subject: &str, body: &Value) -> Option<Value> {
    let rows = |rows: Value| Some(json!({ "ok": { "rows": rows } }));
    match (subject, body["id"].as_str()) {
        ("query.projection.verify", _) => rows(json!([
            { "name": "audit", "seq": 9, "live": "sha256:a", "rebuilt": "sha256:a", "equal": true },
            { "name": "sessions", "seq": 9, "live": "sha256:a", "rebuilt": "sha256:b", "equal": false },
        ])),
        ("query.projection.rebuild", Some("audit")) => Some(json!({ "ok": { "row": { "name": "audit", "seq": 9 } } })),
        ("query.session.get", Some("s-a")) => {
            Some(json!({ "ok": { "row": { "session": "s-a", "turn_count": 1, "turns": [
            { "dispatch": "d-a", "container": "c".repeat(64), "outcome": "completed", "left": "sha256:0123456789abcdef" } ] } } }))
        }
        ("query.session.ls", _) => {
            rows(json!([{ "session": "s-a", "turn_count": 1, "began_at": "2026-11-22T21:00:00.000Z" }]))
        }
        ("query.launcher.ls", _) => rows(json!([{ "launcher": "web", "disabled": null, "subjects": ["u_jane"] }])),
        _ => Some(json!({ "schema": "error.v1", "code": "NOT_FOUND", "message": "there is none" })),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_projector_says_is_shown_and_has_its_exit_code() {
    let stage = Stage::new().await;
    let role = stage.role(ServiceUser::Projector, "query.>", projector).await;
    let verified = stage.custody(&["projection", "verify", "-o", "json"]).await;
    assert_eq!(code(&verified), 9, "{}", err(&verified));
    assert_eq!(json(&verified)[1]["equal"], false);
    assert!(err(&verified).contains("sessions") && !err(&verified).contains("audit,"), "{}", err(&verified));
    let rebuilt = stage.custody(&["projection", "rebuild", "audit", "-o", "json"]).await;
    assert_eq!((code(&rebuilt), json(&rebuilt)["schema"].as_str()), (0, Some("projection.v1")));
    assert_eq!(code(&stage.custody(&["projection", "rebuild", "nonsense"]).await), 3);
    let turns = stage.custody(&["session", "show", "s-a"]).await;
    assert!(
        out(&turns).starts_with("TURN") && out(&turns).contains("d-a") && out(&turns).contains("0123456789ab"),
        "{}",
        out(&turns)
    );
    assert_eq!(json(&stage.custody(&["session", "show", "s-a", "-o", "json"]).await)["turns"][0]["dispatch"], "d-a");
    assert_eq!(out(&stage.custody(&["session", "ls", "-o", "name"]).await), "s-a\n");
    assert_eq!(code(&stage.custody(&["session", "show", "s-z"]).await), 3);
    assert!(out(&stage.custody(&["launcher", "ls"]).await).contains("enabled"));
    role.close().await;
    stage.end().await;
}

fn authority(subject: &str, body: &Value) -> Option<Value> {
    let shape = match subject {
        "command.launcher.register" => "LauncherRegistered",
        "command.launcher.rotate" => "LauncherRotated",
        _ => "LauncherDisabled",
    };
    // A body that breaks its contract is not answered, and the command times out.
    custody_contracts::catalogue::check("ledger.v2", shape, body).ok()?;
    Some(match body["launcher"].as_str() {
        Some("taken") => json!({ "schema": "error.v1", "code": "LAUNCHER_REFUSED", "message": "it has another key" }),
        _ => json!({ "ok": { "seq": 5, "changed": true } }),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launchers_key_is_made_kept_and_never_printed() {
    let stage = Stage::new().await;
    let role = stage.role(ServiceUser::Authority, "command.>", authority).await;
    let seed = stage.home.path().join("state/launchers/web.nk");
    let registered = stage.custody(&["launcher", "register", "web", "--subject", "u_jane", "-o", "json"]).await;
    assert_eq!(code(&registered), 0, "{}", err(&registered));
    let first = std::fs::read_to_string(&seed).unwrap();
    assert_eq!(std::fs::metadata(&seed).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(json(&registered)["seed_file"].as_str(), seed.to_str());
    assert!(!out(&registered).contains(first.trim()) && !err(&registered).contains(first.trim()));

    let rotated = stage.custody(&["launcher", "rotate", "web", "-o", "json"]).await;
    assert_eq!(code(&rotated), 0, "{}", err(&rotated));
    let second = std::fs::read_to_string(&seed).unwrap();
    assert_ne!(first, second);
    assert!(!seed.with_extension("nk.next").exists());
    assert!(!out(&rotated).contains(second.trim()));

    assert_eq!(code(&stage.custody(&["launcher", "disable", "web", "--why", "key lost"]).await), 0);
    let taken = stage.custody(&["launcher", "register", "taken", "-o", "json"]).await;
    assert_eq!((code(&taken), error(&taken)["code"].as_str()), (6, Some("LAUNCHER_REFUSED")));
    assert!(!stage.home.path().join("state/launchers/taken.nk").exists(), "a key that was refused is not kept");
    let own = stage.custody(&["launcher", "register", "other", "--public-key", first.trim()]).await;
    assert_eq!(code(&own), 2);
    assert!(!err(&own).contains(first.trim()), "a seed given by mistake is not repeated");
    role.close().await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_what_is_wrong_and_prints_no_secret() {
    let stage = Stage::new().await;
    let output = stage.custody(&["doctor", "-o", "json"]).await;
    assert_eq!(code(&output), 1, "streams are missing, and nothing answers: {}", out(&output));
    let document = json(&output);
    assert_eq!(document["schema"], "doctor.v1");
    let check = |document: &Value, name: &str| {
        let checks = document["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|c| c["check"] == name).unwrap_or_else(|| panic!("no check {name}"))
    };
    assert_eq!(check(&document, "server")["status"], "ok");
    assert_eq!(check(&document, "guard")["status"], "fail");
    assert_eq!(check(&document, "guard")["fix"], "run `custody streams apply`");
    assert_eq!(check(&document, "projections")["status"], "fail");
    assert_eq!(check(&document, "engine")["status"], "fail");
    for seed in stage.server.services.values() {
        assert!(!out(&output).contains(seed.expose()) && !err(&output).contains(seed.expose()));
    }

    assert_eq!(code(&stage.custody(&["streams", "apply", "--yes"]).await), 0);
    let mended = json(&stage.custody(&["doctor", "-o", "json"]).await);
    assert_eq!(check(&mended, "guard")["status"], "warn", "the server's own word is missing, an operator's is there");
    assert_eq!(check(&mended, "clock")["status"], "ok");
    assert_eq!(check(&mended, "streams")["status"], "ok");

    let url = stage.server.server.url().to_owned();
    stage.server.server.stop().await;
    let down = stage.custody(&["doctor", "-o", "json"]).await;
    assert_eq!(code(&down), 1);
    let down = json(&down);
    assert_eq!(check(&down, "server")["status"], "fail", "{url} is gone");
    assert_eq!(check(&down, "clock")["status"], "skip");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_is_content_with_a_machine_where_nothing_was_started() {
    let home = tempfile::tempdir().unwrap();
    let mut doctor = command(home.path());
    doctor.args(["doctor", "-o", "jsonl"]);
    let output = tokio::process::Command::from(doctor).output().await.unwrap();
    let document = json(&output);
    let failed: Vec<&str> = document["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["status"] == "fail")
        .filter_map(|c| c["check"].as_str())
        .collect();
    assert!(failed.iter().all(|c| ["engine", "disk"].contains(c)), "{failed:?}");
}
