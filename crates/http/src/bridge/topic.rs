//! The grammar of topics. Pure. Must never let a topic through that no rule authorises.

use custody_contracts::ids::{DispatchId, SessionId};
use std::fmt;

/// What can be followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The list of dispatches: the person's own, everybody's for an administrator.
    Dispatches,
    /// One dispatch: its row and every event of it.
    Dispatch(DispatchId),
    /// The list of sessions.
    Sessions,
    /// One session: its turns.
    Session(SessionId),
    /// What one dispatch says.
    Output(DispatchId),
    /// Rows of the audit tail.
    Audit,
    /// How the installation is.
    Health,
}

impl Topic {
    /// The topic of a text.
    pub fn parse(text: &str) -> Option<Topic> {
        match text.split_once('/') {
            None => match text {
                "dispatches" => Some(Topic::Dispatches),
                "sessions" => Some(Topic::Sessions),
                "audit" => Some(Topic::Audit),
                "health" => Some(Topic::Health),
                _ => None,
            },
            Some(("dispatch", id)) => DispatchId::parse(id).ok().map(Topic::Dispatch),
            Some(("session", id)) => SessionId::parse(id).ok().map(Topic::Session),
            Some(("output", id)) => DispatchId::parse(id).ok().map(Topic::Output),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Topic::Dispatches => f.write_str("dispatches"),
            Topic::Dispatch(id) => write!(f, "dispatch/{id}"),
            Topic::Sessions => f.write_str("sessions"),
            Topic::Session(id) => write!(f, "session/{id}"),
            Topic::Output(id) => write!(f, "output/{id}"),
            Topic::Audit => f.write_str("audit"),
            Topic::Health => f.write_str("health"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("dispatches", true)]
    #[case("dispatch/d-7f3a", true)]
    #[case("session/s-1", true)]
    #[case("output/d-7f3a", true)]
    #[case("sessions", true)]
    #[case("audit", true)]
    #[case("health", true)]
    #[case::unknown("cards", false)]
    #[case::no_id("dispatch", false)]
    #[case::empty_id("dispatch/", false)]
    #[case::wildcard("dispatch/*", false)]
    #[case::two_levels("dispatch/a/b", false)]
    #[case::upper("session/S", false)]
    #[case::empty("", false)]
    fn a_topic_is_one_of_seven_and_prints_as_it_was_read(#[case] text: &str, #[case] good: bool) {
        let topic = Topic::parse(text);
        assert_eq!(topic.is_some(), good);
        if let Some(topic) = topic {
            assert_eq!(topic.to_string(), text);
        }
    }
}
