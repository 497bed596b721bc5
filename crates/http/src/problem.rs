//! Every error of the HTTP surface, from one table: status, code, title. RFC 9457 problem details. Must never carry the
//! text of a lower layer that an operator's machine could be read from.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use custody_contracts::messages::ErrorDoc;
use serde::{Deserialize, Serialize};
use std::ops::Deref;

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $title:literal;)*) => {
        /// What went wrong. The code never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }
        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];
            /// HTTP status, stable code, title.
            pub const fn row(self) -> (u16, &'static str, &'static str) {
                match self { $(Code::$name => ($status, $code, $title),)* }
            }
        }
    };
}

table! {
    /// No session, or it ended.
    NotSignedIn = 401 "NOT_SIGNED_IN" "Sign in first";
    /// The key is nobody's.
    KeyRefused = 401 "KEY_REFUSED" "This key is not known";
    /// A sign-in at the identity provider that is not there any more, or was begun elsewhere.
    SignInOver = 400 "SIGN_IN_OVER" "This sign-in has ended; begin again";
    /// What came back from the identity provider is a no, or is not believed.
    SignInRefused = 401 "SIGN_IN_REFUSED" "The sign-in was refused";
    /// The identity provider knows them, and nobody here is linked to that.
    PersonUnknown = 403 "PERSON_UNKNOWN" "You are not known here";
    /// The identity provider does not answer as one.
    ProviderUnavailable = 503 "PROVIDER_UNAVAILABLE" "The identity provider does not answer";
    /// Only administrators.
    Forbidden = 403 "FORBIDDEN" "Only an administrator may do this";
    /// The page that asked is not ours.
    OriginRefused = 403 "ORIGIN_REFUSED" "The request came from another site";
    /// The host name is not ours.
    HostRefused = 421 "HOST_REFUSED" "This server does not answer to that name";
    /// There is no such thing, or it is somebody else's.
    NotFound = 404 "NOT_FOUND" "Not found or not yours";
    /// No such page.
    NoRoute = 404 "NO_ROUTE" "There is nothing at this address";
    /// The method is not one of this address.
    Method = 405 "METHOD_NOT_ALLOWED" "This address does not take that method";
    /// The request is not of its shape.
    Invalid = 400 "INVALID" "The request is not valid";
    /// It is valid, and this server cannot do it.
    Unprocessable = 422 "UNPROCESSABLE" "This server does not do that";
    /// The unit does not name the person who asks.
    SubjectRefused = 403 "SUBJECT_REFUSED" "A dispatch acts for the person who is signed in";
    /// The launch was refused by a rule.
    Refused = 403 "REFUSED" "The dispatch was refused";
    /// It is not in the state that the command needs.
    Conflict = 409 "CONFLICT" "It is not in a state for this";
    /// Too large.
    TooLarge = 413 "TOO_LARGE" "The request is too large";
    /// Too often.
    TooMany = 429 "TOO_MANY" "Too many tries; wait a moment";
    /// Too many streams at once.
    TooManyStreams = 503 "TOO_MANY_STREAMS" "The server has no room for another stream";
    /// Not in time.
    TimedOut = 504 "TIMED_OUT" "It was not done in time";
    /// A part behind this server does not answer.
    Unavailable = 503 "UNAVAILABLE" "A part of the installation does not answer";
    /// The log is not what it should be.
    Integrity = 500 "INTEGRITY" "The log is not intact";
    /// Ours.
    Internal = 500 "INTERNAL" "Something went wrong here";
}

/// One error as its reader gets it. Source: RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct Details {
    /// A page about this code, on this server.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable code, for example `NOT_FOUND`, or the code of the rule that refused.
    pub code: String,
    /// What was wrong this time.
    pub detail: String,
    /// The next step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// An error on its way to its reader: small, because most answers are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(Box<Details>);

impl Deref for Problem {
    type Target = Details;
    fn deref(&self) -> &Details {
        &self.0
    }
}

/// The longest detail.
const DETAIL_MAX: usize = 1_000;

impl Problem {
    /// A problem of the table.
    pub fn new(code: Code, detail: impl std::fmt::Display) -> Problem {
        let (status, name, title) = code.row();
        Problem(Box::new(Details {
            kind: ["/docs/errors#", name].concat(),
            title: title.to_owned(),
            status,
            code: name.to_owned(),
            detail: detail.to_string().chars().take(DETAIL_MAX).collect(),
            hint: None,
        }))
    }

    /// With a next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.0.hint = Some(hint.into());
        self
    }

    /// With the code of the rule that spoke, for example `LAUNCHER_DISABLED`.
    #[must_use]
    pub fn code(mut self, code: &str) -> Problem {
        code.clone_into(&mut self.0.code);
        self
    }

    /// Somebody else's and nobody's look alike.
    pub fn not_found() -> Problem {
        Problem::new(Code::NotFound, "there is no such thing, or it is not yours")
    }
}

/// What a role behind us answered, in the words of the table; its own code stays.
impl From<ErrorDoc> for Problem {
    fn from(doc: ErrorDoc) -> Problem {
        let code = match doc.code.as_str() {
            "NOT_FOUND" => Code::NotFound,
            "AMBIGUOUS" | "QUERY_INVALID" | "COMMAND_INVALID" | "QUERY_UNKNOWN" | "COMMAND_UNKNOWN" => Code::Invalid,
            "STALE" | "LEDGER_UNAVAILABLE" | "WORKSPACE_UNAVAILABLE" => Code::Unavailable,
            "ANSWER_TOO_LARGE" | "DIFF_TOO_LARGE" => Code::TooLarge,
            "WORKSPACE_CORRUPT" => Code::Integrity,
            "WORKSPACE_FAILED" => Code::Internal,
            _ => Code::Conflict,
        };
        let problem = Problem::new(code, &doc.message).code(&doc.code);
        match doc.hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&*self.0).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == 429 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_unique_and_upper_case_and_their_status_is_an_error() {
        let mut seen = BTreeSet::new();
        for code in Code::ALL {
            let (status, name, title) = code.row();
            assert!((400..600).contains(&status), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{name}");
            assert!(!title.is_empty() && seen.insert(name), "{name}");
        }
    }

    #[test]
    fn a_problem_is_served_as_rfc_9457_says() {
        let response = Problem::new(Code::TooMany, "five tries").into_response();
        assert_eq!(response.status().as_u16(), 429);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["retry-after"], "60");
    }

    #[test]
    fn a_detail_is_cut() {
        assert_eq!(Problem::new(Code::Invalid, "x".repeat(5_000)).detail.len(), DETAIL_MAX);
    }
}
