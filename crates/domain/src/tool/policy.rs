//! What a policy is asked, and what no policy can take away: some calls wait for a person whatever else is written.

use custody_contracts::events::{DispatchAdmitted, RuledBy, ToolEffect};
use custody_contracts::grant::ApprovalFor;
use custody_contracts::tool::{Tool, ToolGrant};
use custody_contracts::unit::InputTrust;

/// A question: may this dispatch call this tool?
#[derive(Debug, Clone, Copy)]
pub struct PolicyAsked<'a> {
    /// Who: a dispatch, with its person and its launcher.
    pub admitted: &'a DispatchAdmitted,
    /// What.
    pub tool: &'a Tool,
    /// Whether a person approved exactly this call.
    pub approved: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Permit {
        /// The id of the rule that says so.
        rule: String,
    },
    /// It may not. A policy that cannot be evaluated says this.
    Forbid {
        /// The id of the rule that says so.
        rule: String,
        /// In a sentence.
        why: String,
    },
}

/// A policy. Asking it twice gives the same answer twice.
pub trait Policy: Send + Sync + std::fmt::Debug {
    /// Digest over all of its text.
    fn digest(&self) -> &str;

    /// Answers a question.
    fn decide(&self, asked: PolicyAsked<'_>) -> Verdict;
}

/// How a policy stands to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ruling {
    /// It may be made as it stands.
    Permitted(RuledBy),
    /// It may be made when a person approved it.
    Waits(RuledBy),
    /// It may not be made.
    Forbidden(RuledBy, String),
}

/// Why a call waits for a person that was not asked yet, whatever a policy says.
pub fn waits(tool: &Tool, trust: InputTrust, granted: Option<ApprovalFor>) -> Option<&'static str> {
    if tool.grant == ToolGrant::Gate {
        return Some("tool-is-gated");
    }
    if trust == InputTrust::Untrusted && tool.effect == ToolEffect::Irreversible {
        return Some("untrusted-only-proposes");
    }
    let least = match tool.effect {
        ToolEffect::Irreversible => ApprovalFor::Irreversible,
        ToolEffect::Write => ApprovalFor::Writes,
        ToolEffect::Read => ApprovalFor::Always,
    };
    granted.is_some_and(|granted| granted >= least).then_some("grant-asks")
}

/// Asks a policy about a call, and if it forbids it, whether an approval would change that.
pub(super) fn ruling(
    policy: &dyn Policy,
    admitted: &DispatchAdmitted,
    tool: &Tool,
    granted: Option<ApprovalFor>,
    approved: bool,
) -> Ruling {
    let ruled = |rule: &str| RuledBy { digest: policy.digest().to_owned(), rule: rule.to_owned() };
    let ask = |approved| policy.decide(PolicyAsked { admitted, tool, approved });
    let first = ask(approved);
    match first {
        Verdict::Permit { rule } if approved => Ruling::Permitted(ruled(&rule)),
        Verdict::Permit { rule } => match waits(tool, admitted.unit.trigger.input_trust(), granted) {
            None => Ruling::Permitted(ruled(&rule)),
            Some(rule) => Ruling::Waits(ruled(rule)),
        },
        Verdict::Forbid { rule, why } if approved => Ruling::Forbidden(ruled(&rule), why),
        Verdict::Forbid { rule, why } => match ask(true) {
            Verdict::Permit { .. } => Ruling::Waits(ruled(&rule)),
            Verdict::Forbid { .. } => Ruling::Forbidden(ruled(&rule), why),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A policy for tests: a tool tagged `forbidden` is nobody's, one tagged `asks` waits for a person.
    #[derive(Debug)]
    pub(crate) struct Tagged;

    impl Policy for Tagged {
        fn digest(&self) -> &'static str {
            "sha256:0000000000000000000000000000000000000000000000000000000000000000"
        }

        fn decide(&self, asked: PolicyAsked<'_>) -> Verdict {
            let tagged = |tag: &str| asked.tool.barriers.iter().any(|own| own == tag);
            if tagged("forbidden") {
                return Verdict::Forbid { rule: "no-forbidden".into(), why: "it is forbidden".into() };
            }
            if tagged("asks") && !asked.approved {
                return Verdict::Forbid { rule: "asks".into(), why: "it asks".into() };
            }
            Verdict::Permit { rule: "tool-of-the-unit".into() }
        }
    }
}
