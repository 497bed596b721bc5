//! What the door refuses by itself: no call, no record.

use super::pass::JsonValue;
use super::*;
use rstest::rstest;

#[rstest]
#[case::no_json("/v1/chat/completions", "{", 400, "invalid_json")]
#[case::no_object("/v1/chat/completions", "[]", 400, "invalid_json")]
#[case::two_models("/v1/chat/completions", r#"{"model":"a","model":"b"}"#, 400, "invalid_json")]
#[case::stream("/v1/chat/completions", r#"{"stream":"yes"}"#, 400, "invalid_json")]
#[case::options("/v1/chat/completions", r#"{"stream":true,"stream_options":1}"#, 400, "invalid_request")]
#[case::responses("/v1/responses", "{}", 400, "not_supported")]
#[case::path("/v1/embeddings", "{}", 404, "unknown_path")]
#[case::longer_path("/v1/messages/batches", "{}", 404, "unknown_path")]
#[tokio::test]
async fn a_request_is_refused(#[case] path: &str, #[case] body: &'static str, #[case] status: u16, #[case] code: &str) {
    let mut stand = Stand::new(vec![], |_| {}).await;
    let response = stand.post(path, body).await;
    assert_eq!(response.status(), status);
    let told = response.json_value().await;
    assert_eq!(told["error"]["code"], code);
    assert_eq!(stand.record().await, None);
    assert!(stand.model.requests().is_empty());
}

#[tokio::test]
async fn what_cannot_be_translated_is_refused_in_the_agents_format() {
    let mut stand = Stand::new(vec![], |_| {}).await;
    let request = json!({ "max_tokens": 1, "messages": [{ "role": "user", "content": [{ "type": "image" }] }] });
    let response = stand.post("/v1/messages", request.to_string()).await;
    assert_eq!(response.status(), 400);
    let told = response.json_value().await;
    assert_eq!((&told["type"], &told["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
    assert_eq!(stand.record().await, None);
}

#[rstest]
#[case::at_the_limit(0, 200)]
#[case::one_byte_more(1, 413)]
#[case::far_more(3_000_000, 413)]
#[tokio::test]
async fn a_request_has_a_largest_size(#[case] more: usize, #[case] status: u16) {
    const LIMIT_BYTES: usize = 4096;
    let mut stand = Stand::new(vec![], |c| c.request_bytes_max = LIMIT_BYTES as u64).await;
    let mut body = say(false).to_string();
    body.push_str(&" ".repeat(LIMIT_BYTES + more - body.len()));
    let response = stand.post("/v1/chat/completions", body).await;
    assert_eq!(response.status(), status);
    if status == 413 {
        assert_eq!(response.json_value().await["error"]["code"], "request_too_large");
    }
    assert_eq!(stand.record().await.is_some(), status == 200);
    assert_eq!(stand.model.requests().len(), usize::from(status == 200));
}

#[tokio::test]
async fn a_method_and_an_encoding_are_refused() {
    let mut stand = Stand::new(vec![], |_| {}).await;
    let response = stand.agent.get(format!("{}/v1/messages", stand.url)).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &HeaderValue::from_static("POST")));
    assert_eq!(stand.record().await, None);
    let request = stand.agent.post(format!("{}/v1/messages", stand.url)).header("content-encoding", "gzip").body("x");
    assert_eq!(request.send().await.unwrap().status(), 415);
    assert_eq!(stand.record().await, None);
}

#[tokio::test]
async fn calls_have_a_largest_number() {
    let mut stand = Stand::new(vec![], |_| {}).await;
    let all = Arc::clone(&stand.door.0.calls).try_acquire_many_owned(CALLS_MAX as u32).unwrap();
    let response = stand.chat(false).await;
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &HeaderValue::from_static("1")));
    assert_eq!(stand.record().await, None);
    drop(all);
    assert_eq!(stand.chat(false).await.status(), 200);
}

#[tokio::test]
async fn a_call_gives_its_place_back_when_its_bodies_are_stored() {
    let mut stand = Stand::new(vec![], |_| {}).await;
    stand.chat(false).await.bytes().await.unwrap();
    assert!(stand.record().await.is_some());
    let calls = Arc::clone(&stand.door.0.calls);
    let all = tokio::time::timeout(LIMIT, calls.acquire_many_owned(CALLS_MAX as u32)).await.unwrap().unwrap();
    assert_eq!(stand.blobs.wait(2).await.len(), 2);
    drop(all);
}
