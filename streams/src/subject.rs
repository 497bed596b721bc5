//! The grammar of log subjects: the only place where they are spelled. Must never be fed text that was not parsed into
//! a [`Token`] or [`Words`] first, so no caller can smuggle a dot or a wildcard into a subject.

use custody_contracts::events::Kind;
use custody_contracts::ids::{DispatchId, LauncherId};
use std::fmt;

/// The longest subject in bytes. Longest regular one: `reply.<63>.<64>.out`, 138 bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// The longest token in bytes; the same as an entity's id.
pub const TOKEN_BYTES_MAX: usize = 80;
/// The most words in a command or query verb.
pub const WORDS_MAX: usize = 4;

/// Every subject of the LEDGER stream.
pub const LEDGER_ALL: &str = "ledger.*.*";
/// Every subject of the LAUNCH stream.
pub const LAUNCH_ALL: &str = "launch.*.*";
/// Every output topic.
pub const OUT_ALL: &str = "unit.*.out";
/// Every input topic.
pub const IN_ALL: &str = "unit.*.in";
/// Every transcript.
pub const TRANSCRIPT_ALL: &str = "transcript.*";
/// Every reply to a launcher.
pub const REPLY_ALL: &str = "reply.*.*";
/// Everything that launchers hear of what their dispatches say.
pub const HEARD_ALL: &str = "reply.*.*.out";
/// Every command.
pub const COMMAND_ALL: &str = "command.>";
/// Every query.
pub const QUERY_ALL: &str = "query.>";
/// Every question about what a workspace holds.
pub const CONTENT_ALL: &str = "content.>";

/// Why a text is not a subject, or not a part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a log subject: {rule}")]
pub struct BadSubject {
    /// The text, cut to 120 characters.
    pub text: String,
    /// What a valid one looks like.
    pub rule: &'static str,
}

impl BadSubject {
    fn new(text: &str, rule: &'static str) -> Self {
        BadSubject { text: text.chars().take(120).collect(), rule }
    }
}

/// One token of a subject: 1 to 80 characters of `[a-z0-9_-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(String);

impl Token {
    /// Checks and wraps a text.
    ///
    /// # Errors
    /// [`BadSubject`] when it is empty, too long, or has another character.
    pub fn parse(text: &str) -> Result<Token, BadSubject> {
        let ok = !text.is_empty()
            && text.len() <= TOKEN_BYTES_MAX
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if ok { Ok(Token(text.to_owned())) } else { Err(BadSubject::new(text, "a token is 1 to 80 of [a-z0-9_-]")) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// A name of the contracts is at most 64 characters of the token alphabet, so it is a token.
impl From<&LauncherId> for Token {
    fn from(id: &LauncherId) -> Token {
        Token(id.as_str().to_owned())
    }
}
impl From<&DispatchId> for Token {
    fn from(id: &DispatchId) -> Token {
        Token(id.as_str().to_owned())
    }
}

/// One to four tokens with dots between, for example `launcher.register`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Words(String);

impl Words {
    /// Checks and wraps a text.
    ///
    /// # Errors
    /// [`BadSubject`] when a part is not a token or there are none or more than four.
    pub fn parse(text: &str) -> Result<Words, BadSubject> {
        if text.split('.').count() > WORDS_MAX || text.split('.').any(|t| Token::parse(t).is_err()) {
            return Err(BadSubject::new(text, "a verb is 1 to 4 tokens with dots between"));
        }
        let words = Words(text.to_owned());
        if "command.".len() + words.0.len() > SUBJECT_BYTES_MAX {
            return Err(BadSubject::new(text, "a subject has at most 255 bytes"));
        }
        Ok(words)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One NATS subject of ours. Named so that it is never mistaken for the person, the `Subject`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogSubject {
    /// `ledger.<kind>.<id>`: one entity.
    Ledger {
        /// Its kind.
        kind: Kind,
        /// Its id.
        id: Token,
    },
    /// `launch.<launcher>.<verb>`: what a launcher publishes.
    Launch {
        /// Who.
        launcher: Token,
        /// For example `dispatch`.
        verb: Token,
    },
    /// `unit.<dispatch>.out`: what a dispatch says.
    Out {
        /// Which.
        dispatch: Token,
    },
    /// `unit.<dispatch>.in`: what a dispatch is told.
    In {
        /// Which.
        dispatch: Token,
    },
    /// `transcript.<meeting>`: segments of a meeting.
    Transcript {
        /// Which.
        meeting: Token,
    },
    /// `reply.<launcher>.<dispatch>`: what became of a launch.
    Reply {
        /// To whom.
        launcher: Token,
        /// About which dispatch.
        dispatch: Token,
    },
    /// `reply.<launcher>.<dispatch>.out`: what a dispatch says, to whoever launched it. Kept nowhere.
    Heard {
        /// To whom.
        launcher: Token,
        /// Which dispatch says it.
        dispatch: Token,
    },
    /// `command.<verb>`: a request to authority.
    Command {
        /// For example `launcher.register`.
        verb: Words,
    },
    /// `query.<verb>`: a request to the projector.
    Query {
        /// For example `dispatch.show`.
        verb: Words,
    },
    /// `content.<verb>`: a question about what a workspace holds, to the runtime, which has its bucket.
    Content {
        /// For example `diff`.
        verb: Words,
    },
}

impl fmt::Display for LogSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogSubject::Ledger { kind, id } => write!(f, "ledger.{}.{id}", kind.as_str()),
            LogSubject::Launch { launcher, verb } => write!(f, "launch.{launcher}.{verb}"),
            LogSubject::Out { dispatch } => write!(f, "unit.{dispatch}.out"),
            LogSubject::In { dispatch } => write!(f, "unit.{dispatch}.in"),
            LogSubject::Transcript { meeting } => write!(f, "transcript.{meeting}"),
            LogSubject::Reply { launcher, dispatch } => write!(f, "reply.{launcher}.{dispatch}"),
            LogSubject::Heard { launcher, dispatch } => write!(f, "reply.{launcher}.{dispatch}.out"),
            LogSubject::Command { verb } => write!(f, "command.{verb}"),
            LogSubject::Query { verb } => write!(f, "query.{verb}"),
            LogSubject::Content { verb } => write!(f, "content.{verb}"),
        }
    }
}

impl LogSubject {
    /// The subject of a text.
    ///
    /// # Errors
    /// [`BadSubject`] for anything outside the grammar.
    pub fn parse(text: &str) -> Result<LogSubject, BadSubject> {
        if text.len() > SUBJECT_BYTES_MAX {
            return Err(BadSubject::new(text, "a subject has at most 255 bytes"));
        }
        if let Some(verb) = text.strip_prefix("command.") {
            return Ok(LogSubject::Command { verb: Words::parse(verb)? });
        }
        if let Some(verb) = text.strip_prefix("query.") {
            return Ok(LogSubject::Query { verb: Words::parse(verb)? });
        }
        if let Some(verb) = text.strip_prefix("content.") {
            return Ok(LogSubject::Content { verb: Words::parse(verb)? });
        }
        let tokens: Vec<&str> = text.split('.').collect();
        Ok(match tokens.as_slice() {
            ["ledger", kind, id] => LogSubject::Ledger {
                kind: Kind::parse(kind).ok_or_else(|| BadSubject::new(text, "the kind is not one of ledger.v2"))?,
                id: Token::parse(id)?,
            },
            ["launch", launcher, verb] => {
                LogSubject::Launch { launcher: Token::parse(launcher)?, verb: Token::parse(verb)? }
            }
            ["unit", dispatch, "out"] => LogSubject::Out { dispatch: Token::parse(dispatch)? },
            ["unit", dispatch, "in"] => LogSubject::In { dispatch: Token::parse(dispatch)? },
            ["transcript", meeting] => LogSubject::Transcript { meeting: Token::parse(meeting)? },
            ["reply", launcher, dispatch] => {
                LogSubject::Reply { launcher: Token::parse(launcher)?, dispatch: Token::parse(dispatch)? }
            }
            ["reply", launcher, dispatch, "out"] => {
                LogSubject::Heard { launcher: Token::parse(launcher)?, dispatch: Token::parse(dispatch)? }
            }
            _ => {
                return Err(BadSubject::new(
                    text,
                    "ledger, launch, unit, transcript, reply, command, query or content",
                ));
            }
        })
    }

    /// `unit.<dispatch>.out`.
    ///
    /// # Errors
    /// [`BadSubject`] when the id is not a token.
    pub fn out(dispatch: &str) -> Result<LogSubject, BadSubject> {
        Ok(LogSubject::Out { dispatch: Token::parse(dispatch)? })
    }

    /// `unit.<dispatch>.in`.
    ///
    /// # Errors
    /// [`BadSubject`] when the id is not a token.
    pub fn input(dispatch: &str) -> Result<LogSubject, BadSubject> {
        Ok(LogSubject::In { dispatch: Token::parse(dispatch)? })
    }

    /// `launch.<launcher>.<verb>`.
    ///
    /// # Errors
    /// [`BadSubject`] when a part is not a token.
    pub fn launch(launcher: &str, verb: &str) -> Result<LogSubject, BadSubject> {
        Ok(LogSubject::Launch { launcher: Token::parse(launcher)?, verb: Token::parse(verb)? })
    }

    /// `reply.<launcher>.<dispatch>`.
    ///
    /// # Errors
    /// [`BadSubject`] when a part is not a token.
    pub fn reply(launcher: &str, dispatch: &str) -> Result<LogSubject, BadSubject> {
        Ok(LogSubject::Reply { launcher: Token::parse(launcher)?, dispatch: Token::parse(dispatch)? })
    }

    /// `reply.<launcher>.<dispatch>.out`.
    ///
    /// # Errors
    /// [`BadSubject`] when a part is not a token.
    pub fn heard(launcher: &str, dispatch: &str) -> Result<LogSubject, BadSubject> {
        Ok(LogSubject::Heard { launcher: Token::parse(launcher)?, dispatch: Token::parse(dispatch)? })
    }

    /// `command.<verb>`.
    ///
    /// # Errors
    /// [`BadSubject`] when the verb is not one to four tokens.
    pub fn command(verb: &str) -> Result<LogSubject, BadSubject> {
        Ok(LogSubject::Command { verb: Words::parse(verb)? })
    }

    /// `query.<verb>`.
    ///
    /// # Errors
    /// [`BadSubject`] when the verb is not one to four tokens.
    pub fn query(verb: &str) -> Result<LogSubject, BadSubject> {
        Ok(LogSubject::Query { verb: Words::parse(verb)? })
    }

    /// `content.<verb>`.
    ///
    /// # Errors
    /// [`BadSubject`] when the verb is not one to four tokens.
    pub fn content(verb: &str) -> Result<LogSubject, BadSubject> {
        Ok(LogSubject::Content { verb: Words::parse(verb)? })
    }
}
