//! The key goes to the upstream and nowhere else.

use super::super::key::{ApiKey, KeyGuard, KeyLeaked};
use super::*;
use custody_contracts::events::EffectOutcome;
use rstest::rstest;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const KEY: &str = "sk-abababac-SECRET";

fn key_file(dir: &Path, text: &str, mode: u32) -> PathBuf {
    let path = dir.join("key");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[rstest]
#[case::chat(ApiChoice::OpenaiChat, "authorization", "Bearer sk-abababac-SECRET")]
#[case::anthropic(ApiChoice::Anthropic, "x-api-key", "sk-abababac-SECRET")]
#[tokio::test]
async fn the_key_goes_to_the_upstream_only(#[case] api: ApiChoice, #[case] header: &str, #[case] value: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = key_file(dir.path(), &format!("{KEY}\n"), 0o600);
    let error = Turn::Status { status: 400, retry_after: None, message: format!("wrong: {KEY}") };
    let leak = || Turn::Say(format!("my key is {KEY} indeed"));
    let mut stand = Stand::new(vec![Turn::Say("fine".to_owned()), error, leak(), leak()], |c| {
        c.api = api;
        c.api_key_file = Some(file);
    })
    .await;
    let mut shown = vec![format!("{:?}", stand.door)];
    for stream in [true, true, true, false] {
        let request = stand.agent.post(format!("{}/v1/chat/completions", stand.url));
        // Whatever credential an agent sends is not passed on either.
        let response =
            request.header("authorization", "Bearer agents-own").body(say(stream).to_string()).send().await.unwrap();
        shown.push(format!("{:?}", response.headers()));
        shown.push(response.text().await.unwrap_or_default());
        shown.push(format!("{:?}", stand.record().await.unwrap()));
    }
    for text in &shown {
        assert!(!text.contains("SECRET"), "{text}");
    }
    assert!(shown[5].contains("wrong: [key]"), "{}", shown[5]);
    assert!(shown[8].contains("repeated its own key"), "{}", shown[8]);
    for sent in stand.model.requests() {
        assert_eq!(sent.headers[header], value);
        assert!(!sent.headers.values().any(|v| v.contains("agents-own")));
        assert!(!String::from_utf8(sent.bytes).unwrap().contains("SECRET"));
    }
    for body in stand.blobs.wait(8).await.values() {
        assert!(!String::from_utf8_lossy(body).contains("SECRET"));
    }
}

#[tokio::test]
async fn a_leaked_key_ends_the_call_as_failed() {
    let dir = tempfile::tempdir().unwrap();
    let file = key_file(dir.path(), KEY, 0o400);
    let mut stand = Stand::new(vec![Turn::Say(KEY.to_owned())], |c| c.api_key_file = Some(file)).await;
    assert!(stand.chat(false).await.text().await.is_err());
    assert_eq!(stand.record().await.unwrap().outcome, EffectOutcome::Failed);
}

#[tokio::test]
async fn only_known_headers_of_an_agent_go_on() {
    let mut stand = Stand::new(vec![], |c| c.api = ApiChoice::Anthropic).await;
    let request = stand.agent.post(format!("{}/v1/messages", stand.url)).body(say(false).to_string());
    let request =
        request.header("anthropic-beta", "tools-1").header("cookie", "a=b").header("x-forwarded-for", "10.0.0.1");
    request.send().await.unwrap().bytes().await.unwrap();
    assert!(stand.record().await.is_some());
    let sent = stand.model.requests().remove(0);
    assert_eq!(sent.headers["anthropic-beta"], "tools-1");
    let mut names: Vec<&str> = sent.headers.keys().map(String::as_str).collect();
    names.retain(|name| !["host", "content-length"].contains(name));
    assert_eq!(names, ["accept", "anthropic-beta", "anthropic-version", "content-type", "user-agent"]);
}

#[rstest]
#[case::group_may_read(KEY, 0o640, "chmod 600")]
#[case::all_may_read(KEY, 0o604, "chmod 600")]
#[case::empty(" \n", 0o600, "visible ASCII")]
#[case::two_lines("a\nb", 0o600, "visible ASCII")]
fn a_key_file_is_refused(#[case] text: &str, #[case] mode: u32, #[case] says: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = key_file(dir.path(), text, mode);
    let mut config = config("http://127.0.0.1:1");
    config.api_key_file = Some(path);
    let why = Door::new(Models::one(config), Kept::new()).unwrap_err().to_string();
    assert!(why.contains(says), "{why}");
    assert!(!why.contains("SECRET"), "{why}");
}

#[rstest]
#[case::missing("nothing-here", "cannot be opened")]
#[case::folder("", "not a regular file")]
fn a_key_file_must_be_a_file(#[case] name: &str, #[case] says: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config("http://127.0.0.1:1");
    config.api_key_file = Some(dir.path().join(name));
    let why = Door::new(Models::one(config), Kept::new()).unwrap_err().to_string();
    assert!(why.contains(says), "{why}");
}

#[test]
fn a_key_is_found_wherever_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let key = ApiKey::read(&key_file(dir.path(), KEY, 0o600)).unwrap_or_else(|why| panic!("{why}"));
    let leak = format!("sk-ab {KEY} rest");
    let clean = "sk-abab sk-abababac-SECRE sk-ababababac-SECRET? sk-".as_bytes();
    for cut in 0..=leak.len() {
        let mut guard = KeyGuard::new(Some(&key));
        let found = guard.push(&leak.as_bytes()[..cut]).and_then(|_| guard.push(&leak.as_bytes()[cut..]));
        assert_eq!(found, Err(KeyLeaked), "cut at {cut}");
    }
    for cut in 0..=clean.len() {
        let mut guard = KeyGuard::new(Some(&key));
        let mut all = guard.push(&clean[..cut]).unwrap();
        all.extend(guard.push(&clean[cut..]).unwrap());
        all.extend(guard.rest());
        assert_eq!(all, clean, "cut at {cut}");
    }
}
