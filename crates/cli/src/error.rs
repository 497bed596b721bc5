//! Errors as people and programs meet them: a stable code, one sentence, the next step, an exit code.

use custody_contracts::messages::ErrorDoc;
use std::fmt;

/// Exit codes. Source: `custody help exit-codes`; each has a test.
pub(crate) mod exit {
    /// Failed, unexpected.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 2;
    /// Not found.
    pub(crate) const NOT_FOUND: u8 = 3;
    /// Not signed in, or credentials refused.
    pub(crate) const NOT_SIGNED_IN: u8 = 4;
    /// Refused by policy.
    pub(crate) const REFUSED: u8 = 5;
    /// Conflict.
    pub(crate) const CONFLICT: u8 = 6;
    /// Timed out.
    pub(crate) const TIMED_OUT: u8 = 7;
    /// Server or NATS not reachable.
    pub(crate) const UNREACHABLE: u8 = 8;
    /// Integrity: gap, bad signature, broken tree.
    pub(crate) const INTEGRITY: u8 = 9;
    /// With `--wait`: the dispatch ended failed.
    pub(crate) const ENDED_FAILED: u8 = 10;
    /// Interrupted.
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// An error that ends the command.
#[derive(Debug)]
pub(crate) struct CliError {
    /// Stable code, upper snake.
    pub(crate) code: String,
    /// Exit code.
    pub(crate) exit: u8,
    /// One sentence.
    pub(crate) message: String,
    /// The next step.
    pub(crate) hint: Option<String>,
    /// Whether it was said already and only the exit code is left to give.
    pub(crate) silent: bool,
}

impl CliError {
    /// An error with a code and an exit code.
    pub(crate) fn new(exit: u8, code: &str, message: impl fmt::Display) -> Self {
        CliError { code: code.to_owned(), exit, message: message.to_string(), hint: None, silent: false }
    }

    /// The same with a next step.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Only an exit code: what there was to say has been said.
    pub(crate) fn exit_only(exit: u8) -> Self {
        CliError { code: String::new(), exit, message: String::new(), hint: None, silent: true }
    }

    /// An error.v1 from the server as a command's error.
    pub(crate) fn from_doc(doc: ErrorDoc) -> Self {
        let exit = match doc.code.as_str() {
            "NOT_FOUND" | "LAUNCHER_UNKNOWN" => exit::NOT_FOUND,
            "AMBIGUOUS" | "COMMAND_INVALID" | "QUERY_INVALID" => exit::USAGE,
            "LAUNCHER_REFUSED" | "KEY_REFUSED" => exit::CONFLICT,
            "TOKEN_REFUSED"
            | "WORKSPACE_REFUSED"
            | "APPROVAL_REFUSED"
            | "APPROVAL_NOT_YOURS"
            | "SUBJECT_NOT_ALLOWED"
            | "CONSENT_STATEMENT"
            | "LAUNCHER_DISABLED" => exit::REFUSED,
            code if code.starts_with("GRANT_") || code.starts_with("WORKSPACE_") => exit::REFUSED,
            "APPROVAL_DECIDED" | "APPROVAL_STALE" | "APPROVAL_EXPIRED" => exit::CONFLICT,
            "DISPATCH_NOT_ADMITTED" => exit::NOT_FOUND,
            "STALE" => exit::TIMED_OUT,
            "LEDGER_UNAVAILABLE" => exit::UNREACHABLE,
            _ => exit::FAILED,
        };
        CliError { code: doc.code, exit, message: doc.message, hint: doc.hint, silent: false }
    }

    /// As error.v1.
    pub(crate) fn doc(&self) -> ErrorDoc {
        ErrorDoc::new(&self.code, self.message.clone(), self.hint.clone())
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return CliError::exit_only(0);
        }
        CliError::new(exit::FAILED, "IO", error)
    }
}

impl From<serde_json::Error> for CliError {
    fn from(error: serde_json::Error) -> Self {
        CliError::new(exit::FAILED, "JSON", error)
    }
}

impl From<anyhow::Error> for CliError {
    fn from(error: anyhow::Error) -> Self {
        CliError::new(exit::FAILED, "FAILED", format!("{error:#}"))
    }
}

/// What a command gives back.
pub(crate) type CliResult<T = ()> = Result<T, CliError>;
