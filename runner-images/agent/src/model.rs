//! Asks the model once, and again when the way to it breaks. Must never repeat a request that the model refused.

use crate::{
    chat::{Answer, BadStream, request, server_error},
    events::{Event, log, say},
    http::{self, Endpoint, Response},
    message::Message,
    replay::Replay,
    sse::Parser,
};
use serde_json::Value;
use std::{io::Read, thread, time::Duration};

/// How often a request is made again.
const RETRIES_MAX: u32 = 5;
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// The longest wait that a server may ask for.
const RETRY_AFTER_MAX: u64 = 30;
const ERROR_BODY_BYTES_MAX: u64 = 64 * 1024;

/// A failed run: what the error line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable code.
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl Failure {
    /// A failure with this code.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

impl From<BadStream> for Failure {
    fn from(bad: BadStream) -> Self {
        Self { code: bad.code, message: bad.message }
    }
}

/// One model behind one endpoint.
#[derive(Debug)]
pub struct Model {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its name.
    pub name: String,
    /// The system's words.
    pub system: String,
    /// The tools that are offered; emptied when the server says that it has none.
    pub tools: Vec<Value>,
}

/// How one attempt ended without an answer.
enum Broken {
    /// The way broke; another attempt may do.
    Again(String, Option<u64>),
    /// The server takes no tools.
    NoTools(String),
    /// No other attempt can do.
    Fatal(Failure),
}

impl Model {
    /// Asks, printing the words as they come.
    ///
    /// Errors: [`Failure`] with the server's own code, or `model_unreachable` after the last attempt.
    pub fn ask(&mut self, messages: &[Message]) -> Result<Answer, Failure> {
        let mut replay = Replay::default();
        let mut attempt = 0;
        loop {
            let body = request(&self.name, &self.system, messages, &self.tools).to_string();
            replay.restart();
            let (why, retry_after) = match self.attempt(&body, &mut replay) {
                Ok(answer) => return Ok(answer),
                Err(Broken::Fatal(failure)) => return Err(failure),
                Err(Broken::NoTools(why)) => {
                    log(&format!("the server takes no tools, going on without: {why}"));
                    self.tools.clear();
                    continue;
                }
                Err(Broken::Again(why, retry_after)) => (why, retry_after),
            };
            if attempt == RETRIES_MAX {
                return Err(Failure::new("model_unreachable", format!("after {} attempts: {why}", RETRIES_MAX + 1)));
            }
            let wait = wait(attempt, retry_after);
            log(&format!("asking again in {} ms: {why}", wait.as_millis()));
            thread::sleep(wait);
            attempt += 1;
        }
    }

    fn attempt(&self, body: &str, replay: &mut Replay) -> Result<Answer, Broken> {
        let again = |error: std::io::Error| Broken::Again(format!("{}: {error}", self.endpoint), None);
        let mut response = http::post(&self.endpoint, "/v1/chat/completions", body.as_bytes()).map_err(again)?;
        if response.status != 200 {
            return Err(self.refusal(response));
        }
        let mut answer = Answer::default();
        let mut parser = Parser::default();
        let mut buffer = [0; 16 * 1024];
        while answer.finish.is_none() || answer.usage.is_none() {
            let count = match response.body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                // The words are whole; only what would have come after them is missing.
                Err(_) if answer.finish.is_some() => break,
                Err(error) => return Err(again(error)),
            };
            let too_large = |_| Broken::Fatal(Failure::new("bad_stream", "an event of the stream is too large"));
            for data in parser.push(&buffer[..count]).map_err(too_large)? {
                let words = answer.apply(&data).map_err(|bad| Broken::Fatal(bad.into()))?;
                print(&replay.more(&words))?;
            }
        }
        if answer.finish.is_none() {
            return Err(Broken::Again("the stream ended before the answer did".to_owned(), None));
        }
        print(&replay.end())?;
        Ok(answer)
    }

    fn refusal(&self, response: Response) -> Broken {
        let status = response.status;
        let mut body = Vec::new();
        // A body that is cut still tells more than none.
        let _ = response.body.take(ERROR_BODY_BYTES_MAX).read_to_end(&mut body);
        let text = String::from_utf8_lossy(&body).into_owned();
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        let error = match document.get("error") {
            Some(error) => server_error(error),
            None => BadStream { code: format!("http_{status}"), message: text.chars().take(500).collect() },
        };
        let why = format!("status {status}, {}: {}", error.code, error.message);
        if !self.tools.is_empty() && matches!(status, 400 | 404 | 422 | 500 | 501) && speaks_of_tools(&text) {
            return Broken::NoTools(why);
        }
        match (status, response.retry_after) {
            (408 | 500..=599, after) | (429, after @ Some(_)) => Broken::Again(why, after),
            _ => Broken::Fatal(error.into()),
        }
    }
}

/// Servers have no code for it: llama-server says "tools param requires --jinja flag", others "does not support tools"
/// (llama.cpp and ollama, seen in 2025). It can go when the runners name what their model can do.
fn speaks_of_tools(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("tool")
        && ["jinja", "support", "not allowed", "unknown", "unrecognized"].iter().any(|word| text.contains(word))
}

fn print(words: &str) -> Result<(), Broken> {
    if words.is_empty() {
        return Ok(());
    }
    say(&Event::Text { text: words }).map_err(|error| Broken::Fatal(Failure::new("output_closed", error.to_string())))
}

/// Doubles from attempt to attempt; a server's own wish counts if it is longer, up to a maximum.
fn wait(attempt: u32, retry_after: Option<u64>) -> Duration {
    let own = BACKOFF_MIN.saturating_mul(1 << attempt.min(16)).min(BACKOFF_MAX);
    own.max(Duration::from_secs(retry_after.unwrap_or(0).min(RETRY_AFTER_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::first(0, None, 200)]
    #[case::third(2, None, 800)]
    #[case::last(4, None, 3200)]
    #[case::bounded(9, None, 5000)]
    #[case::server_asks_for_longer(0, Some(2), 2000)]
    #[case::server_asks_for_shorter(3, Some(0), 1600)]
    #[case::server_asks_for_too_long(0, Some(86_400), 30_000)]
    fn waits(#[case] attempt: u32, #[case] retry_after: Option<u64>, #[case] expected_ms: u128) {
        assert_eq!(wait(attempt, retry_after).as_millis(), expected_ms);
    }

    #[rstest]
    #[case("tools param requires --jinja flag", true)]
    #[case("model smollm2 does not support tools", true)]
    #[case("the tool budget is used up", false)]
    #[case("context size exceeded", false)]
    fn knows_servers_without_tools(#[case] text: &str, #[case] expected: bool) {
        assert_eq!(speaks_of_tools(text), expected);
    }
}
