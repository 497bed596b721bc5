//! Two wire formats, end to end.

use super::pass::JsonValue;
use super::*;
use custody_contracts::events::EffectOutcome;
use rstest::rstest;

fn call() -> Turn {
    Turn::Call { id: "t1".to_owned(), name: "ls".to_owned(), args: json!({ "path": "/" }) }
}

#[rstest]
#[case::whole(false)]
#[case::streamed(true)]
#[tokio::test]
async fn a_chat_agent_speaks_to_anthropic(#[case] stream: bool) {
    let mut stand =
        Stand::new(vec![Turn::Say("one two three".to_owned()), call()], |c| c.api = ApiChoice::Anthropic).await;
    let mut request = say(stream);
    request["stream_options"] = json!({ "include_usage": true });
    request["messages"] =
        json!([{ "role": "system", "content": "Be brief." }, { "role": "user", "content": "two words" }]);
    let words = stand.post("/v1/chat/completions", request.to_string()).await.text().await.unwrap();
    let calls = stand.post("/v1/chat/completions", request.to_string()).await.text().await.unwrap();
    if stream {
        let (words, calls) = (events(&words), events(&calls));
        let said: String = words.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(said, "one two three");
        assert_eq!(words.last().unwrap()["usage"]["total_tokens"], 5);
        let parts = calls.iter().filter_map(|e| e["choices"][0]["delta"]["tool_calls"].get(0));
        let args: String = parts.filter_map(|c| c["function"]["arguments"].as_str()).collect();
        assert_eq!(args, r#"{"path":"/"}"#);
    } else {
        let words: Value = serde_json::from_str(&words).unwrap();
        let calls: Value = serde_json::from_str(&calls).unwrap();
        assert_eq!(words["choices"][0]["message"]["content"], "one two three");
        assert_eq!(words["choices"][0]["finish_reason"], "stop");
        assert_eq!(calls["choices"][0]["message"]["tool_calls"][0]["id"], "t1");
        assert_eq!(calls["choices"][0]["finish_reason"], "tool_calls");
    }
    let record = stand.record().await.unwrap();
    assert_eq!(record.outcome, EffectOutcome::Succeeded, "{record:?}");
    assert_eq!((record.api.as_str(), record.input_tokens, record.output_tokens), ("openai-chat", 2, 3));
    let sent = stand.model.requests().remove(0);
    assert_eq!(sent.path, "/v1/messages");
    assert_eq!(sent.headers["anthropic-version"], "2023-06-01");
    assert_eq!(sent.body["system"], "Be brief.");
    assert_eq!(sent.body["max_tokens"], 50);
}

#[rstest]
#[case::whole(false)]
#[case::streamed(true)]
#[tokio::test]
async fn an_anthropic_agent_speaks_to_chat(#[case] stream: bool) {
    let mut stand = Stand::new(vec![Turn::Say("one two three".to_owned()), call()], |_| {}).await;
    let mut request = say(stream);
    request["system"] = json!("Be brief.");
    let words = stand.post("/v1/messages", request.to_string()).await.text().await.unwrap();
    let calls = stand.post("/v1/messages", request.to_string()).await.text().await.unwrap();
    if stream {
        let (words, calls) = (events(&words), events(&calls));
        let said: String = words.iter().filter_map(|e| e["delta"]["text"].as_str()).collect();
        assert_eq!(said, "one two three");
        assert_eq!(words.last().unwrap(), &json!({ "type": "message_stop" }));
        let args: String = calls.iter().filter_map(|e| e["delta"]["partial_json"].as_str()).collect();
        assert_eq!(args, r#"{"path":"/"}"#);
        assert!(calls.iter().any(|e| e["delta"]["stop_reason"] == "tool_use"));
    } else {
        let words: Value = serde_json::from_str(&words).unwrap();
        let calls: Value = serde_json::from_str(&calls).unwrap();
        assert_eq!(words["content"], json!([{ "type": "text", "text": "one two three" }]));
        assert_eq!(calls["content"][0]["input"], json!({ "path": "/" }));
        assert_eq!(calls["stop_reason"], "tool_use");
    }
    let record = stand.record().await.unwrap();
    assert_eq!(record.outcome, EffectOutcome::Succeeded, "{record:?}");
    assert_eq!((record.api.as_str(), record.input_tokens, record.output_tokens), ("anthropic", 4, 3));
    let sent = stand.model.requests().remove(0);
    assert_eq!(sent.path, "/v1/chat/completions");
    assert_eq!(sent.body["messages"][0], json!({ "role": "system", "content": "Be brief." }));
}

#[tokio::test]
async fn a_translated_stream_that_breaks_says_so_in_the_agents_format() {
    let cut = || Turn::Cut { text: "one two three".to_owned(), after_bytes: 700 };
    let mut stand = Stand::new(vec![cut()], |c| c.api = ApiChoice::Anthropic).await;
    let body = stand.chat(true).await.text().await.unwrap();
    let events = events(&body);
    assert!(events.len() > 1, "{body}");
    let told = events.last().unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(told.contains("house"), "{told}");
    assert!(!body.contains("[DONE]"));
    let record = stand.record().await.unwrap();
    assert_eq!((record.outcome, record.status), (EffectOutcome::Failed, 200));
}

#[rstest]
#[case::error_event(
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
    "busy"
)]
#[case::no_end("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n", "before the end")]
#[tokio::test]
async fn a_failure_inside_a_stream_is_told(#[case] stream: &str, #[case] says: &str) {
    let turn = Turn::Raw {
        status: 200,
        content_type: "text/event-stream".to_owned(),
        pieces: vec![Bytes::copy_from_slice(stream.as_bytes())],
    };
    let mut stand = Stand::new(vec![turn], |c| c.api = ApiChoice::Anthropic).await;
    let body = stand.chat(true).await.text().await.unwrap();
    let told = events(&body).pop().unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(told.contains(says), "{told}");
    let record = stand.record().await.unwrap();
    assert_eq!(record.outcome, EffectOutcome::Failed);
    assert!(record.detail.unwrap().contains(says));
}

#[rstest]
#[case::not_json("application/json", "<html>")]
#[case::another_document("application/json", "{}")]
#[case::a_stream("text/event-stream", "data: {}\n\n")]
#[tokio::test]
async fn what_is_no_answer_is_a_bad_gateway(#[case] kind: &str, #[case] body: &str) {
    let turn =
        Turn::Raw { status: 200, content_type: kind.to_owned(), pieces: vec![Bytes::copy_from_slice(body.as_bytes())] };
    let mut stand = Stand::new(vec![turn], |c| c.api = ApiChoice::Anthropic).await;
    let response = stand.chat(false).await;
    assert_eq!(response.status(), 502);
    assert_eq!(response.json_value().await["error"]["code"], "upstream_failed");
    let record = stand.record().await.unwrap();
    assert_eq!((record.outcome, record.status), (EffectOutcome::Failed, 200));
}

/// Each format of an agent before each format of a model that the scripted model speaks.
#[rstest]
#[case::codex_at_chat(ApiChoice::OpenaiChat, false)]
#[case::codex_at_chat_streamed(ApiChoice::OpenaiChat, true)]
#[case::codex_at_messages(ApiChoice::Anthropic, false)]
#[case::codex_at_messages_streamed(ApiChoice::Anthropic, true)]
#[tokio::test]
async fn an_agent_of_responses_reaches_a_model_of_another_format(#[case] api: ApiChoice, #[case] stream: bool) {
    let mut stand = Stand::new(vec![Turn::Say("one two three".to_owned())], |c| c.api = api).await;
    let request = json!({ "model": "any", "instructions": "Be brief.", "input": "two words", "stream": stream });
    let response = stand.post("/v1/responses", request.to_string()).await;
    assert_eq!(response.status(), 200);
    let body = response.text().await.unwrap();
    let whole = match stream {
        true => events(&body).pop().unwrap()["response"].clone(),
        false => serde_json::from_str(&body).unwrap(),
    };
    assert_eq!(
        (&whole["status"], &whole["output"][0]["content"][0]["text"]),
        (&json!("completed"), &json!("one two three"))
    );
    let record = stand.record().await.unwrap();
    assert_eq!((record.api.as_str(), record.output_tokens), ("openai-responses", 3));
    assert_eq!(whole["usage"]["output_tokens"], 3);
}

/// What a model of Responses streams, for agents of both other formats.
#[rstest]
#[case::chat("/v1/chat/completions")]
#[case::messages("/v1/messages")]
#[tokio::test]
async fn a_model_of_responses_answers_agents_of_other_formats(#[case] path: &str) {
    let streamed = concat!(
        "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r1\",\"model\":\"m1\"}}\n\n",
        "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"one \"}\n\n",
        "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"two\"}\n\n",
        "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":2,",
        "\"input_tokens_details\":{\"cached_tokens\":4}}}}\n\n",
    );
    let turn = Turn::Raw {
        status: 200,
        content_type: "text/event-stream".to_owned(),
        pieces: vec![Bytes::copy_from_slice(streamed.as_bytes())],
    };
    let mut stand = Stand::new(vec![turn], |c| c.api = ApiChoice::OpenaiResponses).await;
    let body = stand.post(path, say(true).to_string()).await.text().await.unwrap();
    assert!(body.contains("one ") && body.contains("two"), "{body}");
    let record = stand.record().await.unwrap();
    assert_eq!((record.input_tokens, record.cached_tokens, record.output_tokens), (5, 4, 2));
    assert_eq!(record.response_model.as_deref(), Some("m1"));
    let sent = stand.model.requests().remove(0);
    assert_eq!((sent.path.as_str(), &sent.body["store"]), ("/v1/responses", &json!(false)));
}

#[rstest]
#[case::asked_of_the_upstream(ApiChoice::Anthropic, 7, true)]
#[case::estimated(ApiChoice::OpenaiChat, 41, false)]
#[tokio::test]
async fn tokens_are_counted_before_a_call(#[case] api: ApiChoice, #[case] tokens: u64, #[case] recorded: bool) {
    let told = Turn::Raw {
        status: 200,
        content_type: "application/json".to_owned(),
        pieces: vec![Bytes::from_static(b"{\"input_tokens\":7}")],
    };
    let mut stand = Stand::new(vec![told], |c| c.api = api).await;
    let request = json!({ "model": "any", "messages": [{ "role": "user", "content": "x".repeat(100) }] });
    let answer = stand.post("/v1/messages/count_tokens", request.to_string()).await;
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(answer, json!({ "input_tokens": tokens }));
    assert_eq!(stand.record().await.is_some(), recorded);
    assert_eq!(stand.model.requests().len(), usize::from(recorded));
}
