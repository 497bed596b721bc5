//! One wire format on both sides: nothing changes but the model's name.

use super::super::flow::Pipe;
use super::super::record::{Call, Recorder};
use super::super::sse::SseParser;
use super::*;
use custody_contracts::canonical::digest;
use custody_contracts::events::EffectOutcome;
use rstest::rstest;

/// A stream with everything that a careless rewrite would lose.
const ODD: &[&str] = &[
    ": hello\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],  \"x\" : 1.10}\r\n\r\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"ü",
    "\"},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":34}}\n\ndata: [DONE]\n\n",
];

fn raw(content_type: &str, pieces: &[&str]) -> Turn {
    Turn::Raw {
        status: 200,
        content_type: content_type.to_owned(),
        pieces: pieces.iter().map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect(),
    }
}

#[tokio::test]
async fn a_stream_is_passed_byte_for_byte_and_counted() {
    let mut stand = Stand::new(vec![raw("text/event-stream", ODD)], |_| {}).await;
    let request = r#"{"temperature":0.10,"model":"gpt-x","stream" : true,"messages":[{"role":"user","content":"hi","z":1,"a":2}]}"#;
    let response = stand.post("/v1/chat/completions", request).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let body = response.bytes().await.unwrap();
    assert_eq!(body, ODD.concat().as_bytes());
    let record = stand.record().await.unwrap();
    assert_eq!(
        record,
        CallRecord {
            api: "openai-chat".to_owned(),
            upstream: "house".to_owned(),
            model: "real-model".to_owned(),
            request_digest: digest(request.as_bytes()),
            response_digest: digest(&body),
            status: 200,
            outcome: EffectOutcome::Succeeded,
            detail: None,
            input_tokens: 12,
            output_tokens: 34,
            duration_ms: record.duration_ms,
            cached_tokens: 0,
            cost_micros: None,
            attempts: 1,
            provider: "local".to_owned(),
            response_model: None,
        }
    );
    let sent = stand.model.requests().remove(0);
    assert_eq!(
        String::from_utf8(sent.bytes).unwrap(),
        r#"{"temperature":0.10,"model":"real-model","stream":true,"messages":[{"role":"user","content":"hi","z":1,"a":2}],"stream_options":{"include_usage":true}}"#
    );
    let kept = stand.blobs.wait(2).await;
    assert_eq!(kept[&record.request_digest], request.as_bytes());
    assert_eq!(kept[&record.response_digest], &body[..]);
}

#[tokio::test]
async fn an_agents_stream_options_are_kept() {
    let mut stand = Stand::new(vec![Turn::Say("ok".to_owned())], |_| {}).await;
    let mut request = say(true);
    request["stream_options"] = json!({ "include_obfuscation": false });
    stand.post("/v1/chat/completions", request.to_string()).await.bytes().await.unwrap();
    let sent = stand.model.requests().remove(0).body;
    assert_eq!(sent["stream_options"], json!({ "include_obfuscation": false, "include_usage": true }));
    assert!(stand.record().await.is_some());
}

#[rstest]
#[case::chat("/v1/chat/completions", ApiChoice::OpenaiChat, false)]
#[case::chat_streamed("/v1/chat/completions", ApiChoice::OpenaiChat, true)]
#[case::messages("/v1/messages?beta=true", ApiChoice::Anthropic, false)]
#[case::messages_streamed("/v1/messages?beta=true", ApiChoice::Anthropic, true)]
#[tokio::test]
async fn both_formats_pass_and_count(#[case] path: &str, #[case] api: ApiChoice, #[case] stream: bool) {
    let mut stand = Stand::new(vec![Turn::Say("one two three".to_owned())], |c| c.api = api).await;
    let body = stand.post(path, say(stream).to_string()).await.text().await.unwrap();
    for word in ["one", "two", "three"] {
        assert!(body.contains(word), "{body}");
    }
    let record = stand.record().await.unwrap();
    assert_eq!(record.outcome, EffectOutcome::Succeeded, "{record:?}");
    assert_eq!((record.input_tokens, record.output_tokens), (2, 3));
    assert_eq!(stand.model.requests()[0].body["model"], "real-model");
}

#[rstest]
#[case::streamed(
    true,
    "text/event-stream",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":6}}}\n\n"
)]
#[case::whole(
    false,
    "application/json",
    "{\"output\":[],\"error\":null,\"usage\":{\"input_tokens\":5,\"output_tokens\":6}}"
)]
#[tokio::test]
async fn responses_pass_and_count(#[case] stream: bool, #[case] kind: &str, #[case] answer: &str) {
    let mut stand = Stand::new(vec![raw(kind, &[answer])], |c| c.api = ApiChoice::OpenaiResponses).await;
    let request = json!({ "model": "any", "input": "hi", "stream": stream });
    let body = stand.post("/v1/responses", request.to_string()).await.text().await.unwrap();
    assert_eq!(body, answer);
    let record = stand.record().await.unwrap();
    assert_eq!(record.outcome, EffectOutcome::Succeeded, "{record:?}");
    assert_eq!((record.api.as_str(), record.input_tokens, record.output_tokens), ("openai-responses", 5, 6));
    assert_eq!(stand.model.requests()[0].body, json!({ "model": "real-model", "input": "hi", "stream": stream }));
}

#[tokio::test]
async fn a_socket_serves_like_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let model = ScriptedModel::unix(&dir.path().join("m.sock"), vec![]).unwrap();
    let mut stand = Stand::new(vec![], |c| c.url = model.url().to_owned()).await;
    stand.door.probe().await.unwrap();
    let answer: Value = stand.chat(false).await.json_value().await;
    assert_eq!(answer["choices"][0]["message"]["content"], "You said: two words. I have seen 1 user turns.");
    assert_eq!(stand.record().await.unwrap().status, 200);
    assert_eq!(model.requests().len(), 2);
    assert!(stand.model.requests().is_empty());
}

#[tokio::test]
async fn the_models_are_listed_without_a_record() {
    let mut stand = Stand::new(vec![], |_| {}).await;
    let response = stand.agent.get(format!("{}/v1/models", stand.url)).send().await.unwrap();
    let list = response.json_value().await;
    assert_eq!(list["data"][0]["id"], "real-model");
    assert_eq!(stand.record().await, None);
}

/// The agent may close as soon as it has read the end mark; the upstream may keep its connection open after it.
#[tokio::test]
async fn an_answer_whose_end_mark_passed_is_whole() {
    let pieces = futures::stream::iter([Ok(Bytes::from(ODD.concat()))]).chain(futures::stream::pending()).boxed();
    let (done, record) = oneshot::channel();
    let stand = Stand::new(vec![], |_| {}).await;
    let permit = Arc::clone(&stand.door.0.calls).try_acquire_owned().unwrap();
    let target = stand.door.target("r", None).unwrap();
    let call = Call {
        context: CallContext {
            dispatch: "d-test".to_owned(),
            subject: custody_contracts::ids::Subject::parse("u_jane").unwrap(),
            runner: "r".to_owned(),
            n: 1,
        },
        api: Api::OpenaiChat,
        target: target.clone(),
        request: Bytes::new(),
        permit,
    };
    let recorder = Recorder::start(call, done, stand.blobs.clone());
    let flow = target.flow(Api::OpenaiChat, pieces, Pipe::Events(SseParser::default()), recorder);
    let mut body = flow.into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.data_ref().unwrap(), ODD.concat().as_bytes());
    drop(body);
    let record = record.await.unwrap();
    assert_eq!(record.outcome, EffectOutcome::Succeeded);
    assert_eq!(record.output_tokens, 34);
}

/// `reqwest` without its `json` feature.
pub(super) trait JsonValue {
    async fn json_value(self) -> Value;
}

impl JsonValue for reqwest::Response {
    async fn json_value(self) -> Value {
        serde_json::from_slice(&self.bytes().await.unwrap()).unwrap()
    }
}
