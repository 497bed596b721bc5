//! A witness over HTTP. Source: C2SP tlog-witness, `add-checkpoint`. Must never follow a redirect or read an answer that
//! is larger than cosignatures are.

use custody_outbound::Networks;
use custody_ports::outside::{OutsideError, Witness, WitnessAnswer};
use custody_trust::cosign::ANSWER_BYTES_MAX;
use futures::StreamExt;
use futures::future::BoxFuture;
use std::time::Duration;

/// The longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The longest that a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Characters of a witness's words that are kept.
const WORDS_MAX: usize = 200;

/// A witness at an address.
#[derive(Debug, Clone)]
pub struct HttpWitness {
    client: reqwest::Client,
    url: String,
}

impl HttpWitness {
    /// `base` is the witness's submission prefix, `https://witness.example/prefix` or plain HTTP.
    ///
    /// # Errors
    /// When there is no HTTP client to be had, or nothing is ever asked at its address.
    pub fn new(base: &str) -> Result<HttpWitness, String> {
        custody_outbound::written(base).map_err(|e| e.to_string())?;
        // A witness of the house may be in any network of it: it is shown what anybody may see, and answers signatures.
        let client = custody_outbound::builder(base, &Networks::any())
            .connect_timeout(CONNECT_MAX)
            .timeout(REQUEST_MAX)
            .build()
            .map_err(|e| e.to_string())?;
        Ok(HttpWitness { client, url: format!("{}/add-checkpoint", base.trim_end_matches('/')) })
    }

    async fn ask(&self, request: String) -> Result<WitnessAnswer, OutsideError> {
        let gone = |why: String| OutsideError::Unavailable(format!("{}: {why}", self.url));
        let sent = self.client.post(&self.url).body(request).send().await;
        let response = sent.map_err(|e| gone(e.without_url().to_string()))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            body.extend_from_slice(&chunk.map_err(|e| gone(e.without_url().to_string()))?);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(OutsideError::Refused(format!("its answer has more than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        match status {
            200 => Ok(WitnessAnswer::Cosigned(text)),
            409 => match text.trim().parse() {
                Ok(size) => Ok(WitnessAnswer::Conflict(size)),
                Err(_) => Ok(WitnessAnswer::Refused { status, detail: words(&text) }),
            },
            // Too many requests, or an error of its own: the same again may be taken.
            429 | 500..=599 => Err(gone(format!("status {status}: {}", words(&text)))),
            _ => Ok(WitnessAnswer::Refused { status, detail: words(&text) }),
        }
    }
}

fn words(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect()
}

impl Witness for HttpWitness {
    fn add(&self, request: String) -> BoxFuture<'_, Result<WitnessAnswer, OutsideError>> {
        Box::pin(self.ask(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that reads one request and answers with these bytes.
    async fn once(answer: String) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/prefix/", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
            while !read.ends_with(b"the note\n") {
                let n = stream.read(&mut buffer).await.unwrap();
                read.extend_from_slice(&buffer[..n]);
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(read).unwrap()
        });
        (base, served)
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }

    #[rstest]
    #[case::signed("200 OK", "a line\n", Ok(WitnessAnswer::Cosigned("a line\n".into())))]
    #[case::another_size("409 Conflict", "17\n", Ok(WitnessAnswer::Conflict(17)))]
    #[case::no_size("409 Conflict", "no", Ok(WitnessAnswer::Refused { status: 409, detail: "no".into() }))]
    #[case::unknown("403 Forbidden", "unknown\x07log\n", Ok(WitnessAnswer::Refused { status: 403, detail: "unknown log".into() }))]
    #[case::inconsistent("422 Unprocessable", "", Ok(WitnessAnswer::Refused { status: 422, detail: String::new() }))]
    #[case::elsewhere("302 Found", "", Ok(WitnessAnswer::Refused { status: 302, detail: String::new() }))]
    #[case::busy("503 Busy", "later", Err("later"))]
    #[case::too_many("429 Too Many", "slower", Err("slower"))]
    #[tokio::test]
    async fn what_a_witness_says_is_read(
        #[case] status: &str,
        #[case] body: &str,
        #[case] expected: Result<WitnessAnswer, &str>,
    ) {
        let (base, served) = once(http(status, body)).await;
        let answer = HttpWitness::new(&base).unwrap().add("old 0\n\nthe note\n".into()).await;
        match (answer, expected) {
            (Err(OutsideError::Unavailable(why)), Err(part)) => assert!(why.contains(part), "{why}"),
            (answer, expected) => assert_eq!(answer.map_err(|e| e.to_string()), expected.map_err(str::to_owned)),
        }
        assert!(served.await.unwrap().starts_with("POST /prefix/add-checkpoint HTTP/1.1\r\n"));
    }

    #[rstest]
    #[case::at_the_maximum(ANSWER_BYTES_MAX, true)]
    #[case::one_more(ANSWER_BYTES_MAX + 1, false)]
    #[tokio::test]
    async fn an_answer_has_a_largest_size(#[case] bytes: usize, #[case] taken: bool) {
        let (base, _served) = once(http("200 OK", &"x".repeat(bytes))).await;
        let answer = HttpWitness::new(&base).unwrap().add("old 0\n\nthe note\n".into()).await;
        assert_eq!(matches!(answer, Ok(WitnessAnswer::Cosigned(_))), taken);
        assert_eq!(matches!(answer, Err(OutsideError::Refused(_))), !taken);
    }

    #[tokio::test]
    async fn nobody_there_is_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let answer = HttpWitness::new(&base).unwrap().add(String::new()).await;
        assert!(matches!(answer, Err(OutsideError::Unavailable(_))));
    }
}
