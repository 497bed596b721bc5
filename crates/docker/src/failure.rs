//! What went wrong at the engine, told apart by HTTP status and never by text. Must never turn "it may have been
//! done" into "it was not".

use bollard::errors::Error as Bollard;
use custody_ports::containers::BoxError;
use std::error::Error as _;

/// Most characters of the engine's own words that are kept.
const WORDS_MAX: usize = 1_000;

/// The outcome of one call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The engine answered with this status.
    Status(u16, String),
    /// No answer, half an answer, or an answer that makes no sense: it may have been done.
    Unknown(String),
}

impl Failure {
    /// The engine said no, or fell over while doing it. A 5xx is not a refusal: moby answers 500 also after it has
    /// created or started what it was asked for.
    pub(crate) fn into_box_error(self) -> BoxError {
        match self {
            Failure::Status(status, words) if status < 500 => BoxError::Refused(words),
            Failure::Status(status, words) => BoxError::Unavailable(format!("status {status}: {words}")),
            Failure::Unknown(words) => BoxError::Unavailable(words),
        }
    }

    /// The status, when there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Failure::Status(status, _) => Some(*status),
            Failure::Unknown(_) => None,
        }
    }
}

impl From<Bollard> for Failure {
    fn from(error: Bollard) -> Self {
        match error {
            Bollard::DockerResponseServerError { status_code, message } => {
                Failure::Status(status_code, words(message.trim()))
            }
            other => Failure::Unknown(words(&chain(&other))),
        }
    }
}

/// The error and its causes in one line: the client's own text is "client error (Connect)" and no more.
fn chain(error: &Bollard) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

/// The engine's words as data: bounded.
pub(crate) fn words(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::bad_request(400, BoxError::Refused("no".into()))]
    #[case::conflict(409, BoxError::Refused("no".into()))]
    #[case::fell_over(500, BoxError::Unavailable("status 500: no".into()))]
    #[case::proxy(502, BoxError::Unavailable("status 502: no".into()))]
    #[case::not_now(503, BoxError::Unavailable("status 503: no".into()))]
    fn by_status(#[case] status_code: u16, #[case] wanted: BoxError) {
        let failure = Failure::from(Bollard::DockerResponseServerError { status_code, message: " no\n".into() });
        assert_eq!(failure.status(), Some(status_code));
        assert_eq!(failure.into_box_error(), wanted);
    }

    #[rstest]
    #[case::timeout(Bollard::RequestTimeoutError)]
    #[case::nonsense(Bollard::JsonDataError { message: "x".into(), column: 1 })]
    #[case::connection(Bollard::IOError { err: std::io::ErrorKind::ConnectionReset.into() })]
    fn without_an_answer_it_may_have_been_done(#[case] error: Bollard) {
        assert!(matches!(Failure::from(error).into_box_error(), BoxError::Unavailable(_)));
    }

    #[test]
    fn words_are_bounded() {
        assert_eq!(words(&"ä".repeat(WORDS_MAX + 1)).chars().count(), WORDS_MAX);
    }
}
