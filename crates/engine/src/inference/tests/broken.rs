//! Upstreams that refuse, hang and break; agents that go away.

use super::pass::JsonValue;
use super::*;
use custody_contracts::canonical::digest;
use custody_contracts::events::EffectOutcome;
use rstest::rstest;
use tokio::sync::Notify;

fn status(status: u16, retry_after: Option<u64>) -> Turn {
    Turn::Status { status, retry_after, message: "the reason".to_owned() }
}

#[rstest]
#[case(429)]
#[case(500)]
#[case(502)]
#[case(503)]
#[case(529)]
#[tokio::test]
async fn a_refusal_that_may_pass_is_tried_again(#[case] code: u16) {
    let mut stand = Stand::new(vec![status(code, Some(0)), Turn::Say("fine".to_owned())], |_| {}).await;
    let answer = stand.chat(false).await.json_value().await;
    assert_eq!(answer["choices"][0]["message"]["content"], "fine");
    assert_eq!(stand.model.requests().len(), 2);
    let record = stand.record().await.unwrap();
    assert_eq!((record.outcome, record.status), (EffectOutcome::Succeeded, 200));
}

#[rstest]
#[case::after_the_last_retry(status(429, Some(0)), 2, 429, Some("0"), "scripted_429")]
#[case::when_the_wait_is_too_long(status(429, Some(21)), 1, 429, Some("21"), "scripted_429")]
#[case::when_a_retry_is_useless(status(400, None), 1, 400, None, "scripted_400")]
#[case::overloaded(status(529, Some(0)), 2, 529, Some("0"), "scripted_529")]
#[tokio::test]
async fn a_refusal_is_passed_on(
    #[case] turn: Turn,
    #[case] attempts: usize,
    #[case] code: u16,
    #[case] retry_after: Option<&str>,
    #[case] word: &str,
) {
    let mut stand = Stand::new(vec![turn.clone(), turn], |c| c.max_retries = 1).await;
    let response = stand.chat(true).await;
    assert_eq!(response.status(), code);
    assert_eq!(response.headers().get("retry-after").map(|v| v.to_str().unwrap()), retry_after);
    let body = response.bytes().await.unwrap();
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["error"]["message"], format!("upstream \"house\" answered {code}: the reason"));
    assert_eq!(told["error"]["code"], word);
    assert_eq!(stand.model.requests().len(), attempts);
    let record = stand.record().await.unwrap();
    assert_eq!((record.outcome, record.status), (EffectOutcome::Failed, code));
    assert_eq!(record.detail.unwrap(), format!("the upstream answered {code}: the reason"));
    assert_eq!(record.response_digest, digest(&body));
}

#[rstest]
#[case::unauthorized(401, "authentication_error")]
#[case::forbidden(403, "permission_error")]
#[tokio::test]
async fn an_upstreams_words_about_its_key_are_not_passed_on(#[case] code: u16, #[case] kind: &str) {
    let mut stand = Stand::new(vec![status(code, None)], |c| c.api = ApiChoice::Anthropic).await;
    let response = stand.post("/v1/messages", say(false).to_string()).await;
    assert_eq!(response.status(), code);
    let told = response.json_value().await;
    assert_eq!((&told["type"], &told["error"]["type"]), (&json!("error"), &json!(kind)));
    let message = told["error"]["message"].as_str().unwrap();
    assert!(message.contains("api_key_file") && !message.contains("the reason"), "{message}");
    assert!(stand.record().await.is_some());
}

#[tokio::test]
async fn a_redirect_is_never_followed() {
    let turn = Turn::Raw { status: 307, content_type: "text/plain".to_owned(), pieces: vec![] };
    let mut stand = Stand::new(vec![turn], |_| {}).await;
    assert_eq!(stand.chat(false).await.status(), 502);
    assert_eq!(stand.record().await.unwrap().status, 307);
    assert_eq!(stand.model.requests().len(), 1);
}

#[rstest]
#[case::no_head(Turn::Hang, 0)]
#[case::no_first_byte(Turn::HeldAfterHead { text: "late".to_owned(), release: Arc::new(Notify::new()) }, 200)]
#[tokio::test]
async fn an_upstream_that_hangs_is_a_timeout(#[case] turn: Turn, #[case] seen: u16) {
    let mut stand = Stand::new(vec![turn], |c| (c.timeout_ms, c.idle_timeout_ms) = (200, 200)).await;
    let response = stand.chat(true).await;
    assert_eq!(response.status(), 504);
    assert_eq!(response.json_value().await["error"]["code"], "upstream_timeout");
    let record = stand.record().await.unwrap();
    assert_eq!((record.outcome, record.status), (EffectOutcome::Failed, seen));
    assert_eq!(stand.model.requests().len(), 1);
}

#[tokio::test]
async fn an_upstream_that_falls_silent_midway_is_told_in_the_stream() {
    let turn = Turn::HeldMidway { text: "one two three".to_owned(), release: Arc::new(Notify::new()) };
    let mut stand = Stand::new(vec![turn], |c| c.idle_timeout_ms = 200).await;
    let body = stand.chat(true).await.text().await.unwrap();
    assert!(body.contains("one") && !body.contains("[DONE]"), "{body}");
    let told = events(&body).pop().unwrap();
    assert_eq!(told["error"]["message"], "upstream \"house\" was silent for 200 ms");
    let record = stand.record().await.unwrap();
    assert_eq!(record.outcome, EffectOutcome::Failed);
    assert_eq!(record.response_digest, digest(body.as_bytes()));
}

#[tokio::test]
async fn an_answer_held_back_comes_whole_after_its_release() {
    let release = Arc::new(Notify::new());
    let turn = Turn::HeldMidway { text: "one two three".to_owned(), release: Arc::clone(&release) };
    let mut stand = Stand::new(vec![turn], |_| {}).await;
    let mut response = stand.chat(true).await;
    let mut body = response.chunk().await.unwrap().unwrap().to_vec();
    release.notify_one();
    while let Some(piece) = response.chunk().await.unwrap() {
        body.extend_from_slice(&piece);
    }
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(stand.record().await.unwrap().outcome, EffectOutcome::Succeeded);
}

#[rstest]
#[case::streamed(true)]
#[case::whole(false)]
#[tokio::test]
async fn an_agent_that_goes_away_leaves_a_failed_record(#[case] stream: bool) {
    let turn = Turn::HeldMidway { text: "one two three".to_owned(), release: Arc::new(Notify::new()) };
    let mut stand = Stand::new(vec![turn], |_| {}).await;
    if stream {
        let mut response = stand.chat(true).await;
        assert!(response.chunk().await.unwrap().is_some());
        drop(response);
    } else {
        let request =
            stand.agent.post(format!("{}/v1/chat/completions", stand.url)).body(say(false).to_string()).send();
        let mut request = Box::pin(request);
        tokio::select! {
            _ = &mut request => panic!("nobody released the answer"),
            () = stand.model.has_seen(1) => {}
        }
        drop(request);
    }
    let record = stand.record().await.unwrap();
    assert_eq!(record.outcome, EffectOutcome::Failed);
    assert!(record.detail.unwrap().contains("went away"));
}

#[rstest]
#[case::streamed(true)]
#[case::whole(false)]
#[tokio::test]
async fn a_connection_that_breaks_never_looks_whole(#[case] stream: bool) {
    let turn = Turn::Cut { text: "one two three four five six".to_owned(), after_bytes: 150 };
    let mut stand = Stand::new(vec![turn], |_| {}).await;
    let response = stand.chat(stream).await;
    assert_eq!(response.status(), 200);
    let body = response.text().await;
    match stream {
        true => assert!(body.unwrap().contains("upstream_failed")),
        false => assert!(body.is_err()),
    }
    let record = stand.record().await.unwrap();
    assert_eq!((record.outcome, record.status), (EffectOutcome::Failed, 200));
}

#[rstest]
#[case::streamed(true)]
#[case::whole(false)]
#[tokio::test]
async fn an_answer_has_a_largest_size(#[case] stream: bool) {
    let turn = Turn::Say("word ".repeat(1000));
    let mut stand = Stand::new(vec![turn], |c| c.response_bytes_max = 3000).await;
    let body = stand.chat(stream).await.text().await;
    match stream {
        true => assert!(body.unwrap().contains("more than 3000 bytes")),
        false => assert!(body.is_err()),
    }
    let record = stand.record().await.unwrap();
    assert_eq!(record.outcome, EffectOutcome::Failed);
    assert!(record.detail.unwrap().contains("more than 3000 bytes"));
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_a_bad_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("nobody.sock");
    let mut stand = Stand::new(vec![], |c| {
        c.url = format!("unix:{}", socket.display());
        c.max_retries = 1;
    })
    .await;
    let probe = stand.door.probe().await.unwrap_err();
    let response = stand.chat(true).await;
    assert_eq!(response.status(), 502);
    let told = response.text().await.unwrap();
    let record = stand.record().await.unwrap();
    assert_eq!((record.outcome, record.status), (EffectOutcome::Failed, 0));
    for text in [probe, told, record.detail.unwrap()] {
        assert!(text.contains("cannot be reached"), "{text}");
        assert!(!text.contains("nobody.sock"), "{text}");
    }
}
