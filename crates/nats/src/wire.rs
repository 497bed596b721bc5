//! Requests and answers of the JetStream API in its own JSON, errors by code. Must never match a server's text.

use crate::connect::{Connection, REQUEST_TIMEOUT, Verb};
use async_nats::client::Request;
use async_nats::{HeaderMap, Message, RequestErrorKind};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// How long after a reconnect JetStream may take to answer what was asked before it.
const AFTER_RECONNECT: Duration = Duration::from_millis(500);

/// Error codes of the JetStream API that are told apart. Source: nats-server `errors.json`, 2.15.1.
pub(crate) mod code {
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    /// The same, found by a replicated stream before its log: another append of this subject is under way.
    pub(crate) const WRONG_LAST_SEQUENCE_IN_FLIGHT: u64 = 10164;
    pub(crate) const NO_MESSAGE: u64 = 10037;
    pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
    /// Storing failed: the stream or its disk is full.
    pub(crate) const STORE_FAILED: u64 = 10077;
    pub(crate) const ACCOUNT_STORAGE_EXCEEDED: u64 = 10002;
    pub(crate) const STORAGE_EXCEEDED: u64 = 10047;
    pub(crate) const INSUFFICIENT_RESOURCES: u64 = 10023;
    pub(crate) const MESSAGE_TOO_LARGE: u64 = 10054;
    pub(crate) const TOO_MANY_REQUESTS: u64 = 10167;
    /// JetStream is not ready, or has no leader now.
    pub(crate) const UNAVAILABLE: [u64; 3] = [10008, 10009, 10039];
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// The user lacks a permission.
    #[error("no permission for {0}")]
    Refused(String),
    /// Nobody listens.
    #[error("nobody answers on {0}")]
    NoResponders(String),
    /// No answer in time; it may have been carried out.
    #[error("no answer on {0} in time")]
    TimedOut(String),
    /// Larger than the server takes.
    #[error("{bytes} bytes are more than the server takes")]
    TooLarge {
        /// Its size without headers.
        bytes: usize,
    },
    /// The connection is gone; it may have been carried out.
    #[error("connection lost: {0}")]
    Lost(String),
}

/// Why the JetStream API did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It said no.
    #[error("JetStream says no ({code}): {description}")]
    Api {
        /// JetStream's `err_code`.
        code: u64,
        /// For people.
        description: String,
    },
    /// The answer is not what the API promises.
    #[error("JetStream's answer cannot be read: {0}")]
    Malformed(String),
}

impl ApiError {
    /// JetStream's code, if it answered with one.
    pub fn code(&self) -> Option<u64> {
        match self {
            ApiError::Api { code, .. } => Some(*code),
            ApiError::Ask(_) | ApiError::Malformed(_) => None,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Failure {
    error: FailureBody,
}
#[derive(Debug, Clone, Deserialize)]
struct FailureBody {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What a publish into a stream is answered. A refusal has the stream's name and sequence 0 in it too, so nothing of
/// an answer counts before its `error` was looked at.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct PubAck {
    #[serde(default)]
    error: Option<FailureBody>,
    #[serde(default)]
    pub(crate) stream: String,
    #[serde(default)]
    pub(crate) seq: u64,
    #[serde(default)]
    pub(crate) duplicate: bool,
    #[serde(default)]
    pub(crate) batch: Option<String>,
    #[serde(default)]
    pub(crate) count: Option<u64>,
}

/// Reads an answer of the API.
pub(crate) fn answer<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ApiError> {
    // The success types of the API have no `error` field, so the failure is tried first only when it is there.
    if let Ok(failure) = serde_json::from_slice::<Failure>(payload) {
        return Err(failure.error.into());
    }
    serde_json::from_slice(payload).map_err(|e| ApiError::Malformed(e.to_string()))
}

/// Reads the ack of a publish.
pub(crate) fn pub_ack(payload: &[u8]) -> Result<PubAck, ApiError> {
    let ack: PubAck = serde_json::from_slice(payload).map_err(|e| ApiError::Malformed(e.to_string()))?;
    match ack.error {
        Some(error) => Err(error.into()),
        None if ack.seq == 0 => Err(ApiError::Malformed("an ack without a sequence".to_owned())),
        None => Ok(ack),
    }
}

impl From<FailureBody> for ApiError {
    fn from(error: FailureBody) -> ApiError {
        let FailureBody { code, err_code, description } = error;
        ApiError::Api { code: if err_code == 0 { code } else { err_code }, description }
    }
}

impl Connection {
    /// Sends a request to JetStream and waits for one answer. A permission violation ends the wait at once, and a
    /// reconnect soon: the answer to what was sent before it is lost, and asking again is what resolves it.
    pub(crate) async fn ask(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message, AskError> {
        self.ask_within(subject, headers, payload, timeout, AFTER_RECONNECT).await
    }

    /// The same, with a wait of its own after a reconnect.
    pub(crate) async fn ask_within(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        timeout: Duration,
        after_reconnect: Duration,
    ) -> Result<Message, AskError> {
        let mut refusals = self.refusals();
        let mut connects = self.connects();
        connects.mark_unchanged();
        let mut reconnected = false;
        // One deadline over all of it: while the connection is down, even handing the request to the client can wait.
        let deadline = tokio::time::sleep(timeout);
        tokio::pin!(deadline);
        let bytes = payload.len();
        let mut request = Request::new().payload(payload).timeout(None);
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        let asked = self.client().send_request(subject.to_owned(), request);
        tokio::pin!(asked);
        loop {
            let refused = tokio::select! {
                biased;
                answer = &mut asked => return answer.map_err(|e| match e.kind() {
                    RequestErrorKind::TimedOut => AskError::TimedOut(subject.to_owned()),
                    RequestErrorKind::NoResponders => AskError::NoResponders(subject.to_owned()),
                    RequestErrorKind::MaxPayloadExceeded => AskError::TooLarge { bytes },
                    RequestErrorKind::InvalidSubject => AskError::Refused(subject.to_owned()),
                    RequestErrorKind::Other => AskError::Lost(e.to_string()),
                }),
                refused = refusals.recv() => refused,
                Ok(()) = connects.changed() => {
                    let soon = tokio::time::Instant::now() + after_reconnect;
                    let deadline = deadline.as_mut();
                    if soon < deadline.deadline() {
                        reconnected = true;
                        deadline.reset(soon);
                    }
                    continue;
                }
                () = &mut deadline => return Err(match reconnected {
                    true => AskError::Lost(format!("no answer on {subject} after a reconnect")),
                    false => AskError::TimedOut(subject.to_owned()),
                }),
            };
            match refused {
                Ok(r) if r.verb == Verb::Publish && r.subject == subject => {
                    return Err(AskError::Refused(r.subject));
                }
                // Fallen behind: the refusal may be among the lost ones; the timeout still ends the wait.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Err(AskError::Lost("closed".to_owned())),
            }
        }
    }

    /// One call of the JetStream API.
    pub(crate) async fn api<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        call: &str,
        body: &B,
    ) -> Result<T, ApiError> {
        let payload = serde_json::to_vec(body).map_err(|e| ApiError::Malformed(e.to_string()))?;
        let subject = ["$JS.API.", call].concat();
        let message = self.ask(&subject, None, payload.into(), REQUEST_TIMEOUT).await?;
        answer(&message.payload)
    }
}

/// The parts of a stream's info that we use.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct StreamInfo {
    pub(crate) config: serde_json::Value,
    pub(crate) state: StreamState,
}

/// A stream's state.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct StreamState {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
}

/// A message as the leader returns it.
#[derive(Debug, Clone)]
pub(crate) struct RawMessage {
    pub(crate) subject: String,
    pub(crate) seq: u64,
    pub(crate) message_id: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct GetAnswer {
    message: GetMessage,
}
#[derive(Deserialize)]
struct GetMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: Option<String>,
    #[serde(default)]
    data: Option<String>,
}

impl Connection {
    /// Configuration and state of a stream.
    pub(crate) async fn stream_info(&self, stream: &str) -> Result<StreamInfo, ApiError> {
        self.api(&["STREAM.INFO.", stream].concat(), &serde_json::json!({})).await
    }

    /// One message from the stream's leader; `None` when there is none like it.
    pub(crate) async fn leader_get(
        &self,
        stream: &str,
        query: &serde_json::Value,
    ) -> Result<Option<RawMessage>, ApiError> {
        let got: Result<GetAnswer, ApiError> = self.api(&["STREAM.MSG.GET.", stream].concat(), query).await;
        let message = match got {
            Ok(answer) => answer.message,
            Err(ApiError::Api { code: code::NO_MESSAGE, .. }) => return Ok(None),
            Err(other) => return Err(other),
        };
        let decode = |text: Option<String>| -> Result<Vec<u8>, ApiError> {
            use base64::Engine as _;
            let text = text.unwrap_or_default();
            base64::engine::general_purpose::STANDARD.decode(text).map_err(|e| ApiError::Malformed(e.to_string()))
        };
        let headers = decode(message.hdrs)?;
        Ok(Some(RawMessage {
            subject: message.subject,
            seq: message.seq,
            message_id: header_of(&headers, "Nats-Msg-Id"),
            bytes: decode(message.data)?,
        }))
    }
}

/// One header of a raw header block: `NATS/1.0\r\nName: value\r\n…`.
fn header_of(block: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(block).ok()?;
    text.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim().to_owned())
    })
}

/// The number of a header.
pub(crate) fn header_number(headers: Option<&HeaderMap>, name: &str) -> Option<u64> {
    headers?.get(name)?.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{ApiError, header_of, pub_ack};

    #[rstest::rstest]
    #[case::stored(r#"{"stream":"LEDGER","seq":7}"#, Ok((7, false)))]
    #[case::again(r#"{"stream":"LEDGER","seq":7,"duplicate":true}"#, Ok((7, true)))]
    #[case::refused(
        r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"},"stream":"LEDGER","seq":0}"#,
        Err(Some(10071))
    )]
    #[case::old_form(r#"{"error":{"code":503,"description":"no"}}"#, Err(Some(503)))]
    #[case::nothing(r#"{"stream":"LEDGER","seq":0}"#, Err(None))]
    #[case::empty("", Err(None))]
    #[case::other("[]", Err(None))]
    fn an_ack_is_read_by_its_error_first(#[case] payload: &str, #[case] wanted: Result<(u64, bool), Option<u64>>) {
        let read = pub_ack(payload.as_bytes());
        assert_eq!(read.map(|a| (a.seq, a.duplicate)).map_err(|e: ApiError| e.code()), wanted);
    }

    #[test]
    fn a_header_is_found_by_its_whole_name() {
        let block = b"NATS/1.0\r\nX-Nats-Msg-Id: no\r\nNats-Msg-Id: a:b\r\n\r\n";
        assert_eq!(header_of(block, "Nats-Msg-Id"), Some("a:b".to_owned()));
        assert_eq!(header_of(block, "Nats-Msg"), None);
        assert_eq!(header_of(b"", "Nats-Msg-Id"), None);
    }
}
