//! What an operator may write, and what follows from it.

use super::*;
use rstest::rstest;

fn config(url: &str, api: ApiChoice) -> ModelConfig {
    let mut config: ModelConfig =
        serde_json::from_value(serde_json::json!({ "name": "house", "url": url, "model": "m" })).unwrap();
    config.api = api;
    config
}

#[rstest]
#[case::host("http://model:8080", "http://model:8080", None, false, Api::OpenaiChat)]
#[case::slash("http://model:8080/", "http://model:8080", None, false, Api::OpenaiChat)]
#[case::v1("https://api.example.com/v1", "https://api.example.com", None, false, Api::OpenaiChat)]
#[case::v1_slash("https://api.example.com/v1/", "https://api.example.com", None, false, Api::OpenaiChat)]
#[case::prefix("https://example.com/api/v1", "https://example.com/api", None, false, Api::OpenaiChat)]
#[case::by_host("https://api.anthropic.com", "https://api.anthropic.com", None, false, Api::Anthropic)]
#[case::by_path("http://127.0.0.1:9/v1/messages", "http://127.0.0.1:9", None, true, Api::Anthropic)]
#[case::chat_path("http://localhost:9/v1/chat/completions", "http://localhost:9", None, true, Api::OpenaiChat)]
#[case::responses_path("http://[::1]:9/v1/responses", "http://[::1]:9", None, true, Api::OpenaiResponses)]
#[case::socket("unix:/run/llm.sock", "http://localhost", Some("/run/llm.sock"), true, Api::OpenaiChat)]
#[case::socket_url("unix:///run/llm.sock", "http://localhost", Some("/run/llm.sock"), true, Api::OpenaiChat)]
fn an_address_is_understood(
    #[case] url: &str,
    #[case] base: &str,
    #[case] socket: Option<&str>,
    #[case] local: bool,
    #[case] api: Api,
) {
    let route = config(url, ApiChoice::Auto).route().unwrap();
    assert_eq!(route.base, base);
    assert_eq!(route.socket.as_deref(), socket.map(std::path::Path::new));
    assert_eq!(route.local, local);
    assert_eq!(route.tls, url.starts_with("https:"));
    assert_eq!(route.api, api);
}

#[rstest]
#[case::anthropic(ApiChoice::Anthropic, Api::Anthropic)]
#[case::chat(ApiChoice::OpenaiChat, Api::OpenaiChat)]
#[case::responses(ApiChoice::OpenaiResponses, Api::OpenaiResponses)]
fn a_choice_beats_the_address(#[case] choice: ApiChoice, #[case] api: Api) {
    assert_eq!(config("https://api.anthropic.com/v1", choice).route().unwrap().api, api);
    assert_eq!(config("unix:/x.sock", choice).route().unwrap().api, api);
}

#[rstest]
#[case::scheme("ftp://model", "https://")]
#[case::nothing("", "relative URL")]
#[case::user("http://me:secret@model/v1", "api_key_file")]
#[case::query("http://model/v1?key=x", "?")]
#[case::path("http://model/llm", "/v1")]
#[case::relative_socket("unix:llm.sock", "absolute")]
#[case::t37_a_clouds_metadata("http://169.254.169.254/v1", "never connected to")]
#[case::t37_the_same_mapped("http://[::ffff:169.254.169.254]/v1", "never connected to")]
fn an_address_is_refused(#[case] url: &str, #[case] says: &str) {
    let why = config(url, ApiChoice::Auto).route().unwrap_err().to_string();
    assert!(why.contains(says), "{why}");
    assert!(!why.contains("secret"), "{why}");
}

#[test]
fn a_socket_path_has_a_limit() {
    let path = |len: usize| format!("unix:/{}", "x".repeat(len - 1));
    assert!(config(&path(SOCKET_PATH_BYTES_MAX), ApiChoice::Auto).route().is_ok());
    assert!(config(&path(SOCKET_PATH_BYTES_MAX + 1), ApiChoice::Auto).route().is_err());
}

#[rstest]
#[case::no_time("timeout_ms", |c: &mut ModelConfig| c.timeout_ms = 0)]
#[case::long_silence("idle_timeout_ms", |c: &mut ModelConfig| c.idle_timeout_ms = WAIT_MS_MAX + 1)]
#[case::many_retries("max_retries", |c: &mut ModelConfig| c.max_retries = RETRIES_MAX + 1)]
#[case::large_request("request_bytes_max", |c: &mut ModelConfig| c.request_bytes_max = BLOB_BYTES_MAX + 1)]
#[case::no_response("response_bytes_max", |c: &mut ModelConfig| c.response_bytes_max = 0)]
#[case::no_tokens("max_output_tokens", |c: &mut ModelConfig| c.max_output_tokens = 0)]
#[case::no_name("name", |c: &mut ModelConfig| c.name.clear())]
#[case::two_lines("model", |c: &mut ModelConfig| c.model = "a\nb".to_owned())]
fn a_value_is_refused_by_name(#[case] field: &str, #[case] spoil: fn(&mut ModelConfig)) {
    let mut config = config("http://model", ApiChoice::Auto);
    spoil(&mut config);
    let why = config.route().unwrap_err().to_string();
    assert!(why.starts_with(&format!("model.{field} ")), "{why}");
}

#[test]
fn the_table_has_defaults_and_refuses_other_keys() {
    let config = config("http://model", ApiChoice::Auto);
    assert_eq!((config.request_bytes_max, config.response_bytes_max), (1 << 20, 8 << 20));
    assert!(config.route().is_ok());
    let other = serde_json::json!({ "name": "n", "url": "http://m", "model": "m", "api_key": "sk-1" });
    assert!(serde_json::from_value::<ModelConfig>(other).is_err());
    let words = serde_json::to_value(&config).unwrap();
    assert_eq!(words["api"], "auto");
    assert_eq!(serde_json::from_value::<ModelConfig>(words).unwrap(), config);
}

#[rstest]
#[case::nothing(Tokens::default(), 0)]
#[case::a_million_each(Tokens { input: 1_000_000, output: 1_000_000, ..Tokens::default() }, 18_000_000)]
#[case::cached_ones_are_cheaper(Tokens { input: 1_000_000, cached: 900_000, ..Tokens::default() }, 570_000)]
#[case::cache_writes_cost_more(Tokens { input: 100, cache_write: 100, ..Tokens::default() }, 375)]
#[case::a_part_counts_whole(Tokens { input: 1, ..Tokens::default() }, 3)]
#[case::more_cached_than_sent(Tokens { input: 10, cached: 20, ..Tokens::default() }, 6)]
fn a_call_has_its_price(#[case] tokens: Tokens, #[case] cost: u64) {
    let price = Price { input: 3_000_000, output: 15_000_000, cached: Some(300_000), cache_write: Some(3_750_000) };
    assert_eq!(price.cost_micros(tokens), cost);
}

#[test]
fn a_price_never_wraps_and_is_rounded_up() {
    let most = Price { input: u64::MAX, output: u64::MAX, cached: None, cache_write: None };
    assert_eq!(most.cost_micros(Tokens { input: u64::MAX, output: u64::MAX, ..Tokens::default() }), u64::MAX);
    let least = Price { input: 1, output: 1, cached: None, cache_write: None };
    assert_eq!(least.cost_micros(Tokens { input: 1, ..Tokens::default() }), 1);
}

#[test]
fn a_model_that_is_named_must_be_there() {
    let mut models = Models::one(config("http://model", ApiChoice::Auto));
    assert!(models.check().is_ok());
    let runner = RunnerModels { model: None, names: BTreeMap::from([("fast".into(), "small".into())]) };
    models.runners.insert("pi".into(), runner);
    let why = models.check().unwrap_err().to_string();
    assert!(why.contains("runners.pi") && why.contains("small"), "{why}");
}

#[rstest]
#[case("unix:/x.sock", ApiChoice::Auto, None, "local")]
#[case("http://127.0.0.1:9", ApiChoice::Anthropic, None, "local")]
#[case("https://api.anthropic.com", ApiChoice::Auto, None, "anthropic")]
#[case("https://api.openai.com/v1", ApiChoice::OpenaiResponses, None, "openai")]
#[case("https://x.openai.azure.com/v1", ApiChoice::OpenaiChat, None, "azure.ai.openai")]
#[case("https://gpu.example.org", ApiChoice::OpenaiChat, Some("vllm"), "vllm")]
fn who_runs_an_upstream_has_a_word(
    #[case] url: &str,
    #[case] api: ApiChoice,
    #[case] provider: Option<&str>,
    #[case] expected: &str,
) {
    let config = ModelConfig { provider: provider.map(str::to_owned), ..config(url, api) };
    assert_eq!(config.route().unwrap().provider, expected);
}
