//! grant.v1: what a person lets a launcher do in their name; and what the ledger says of grants. Must never hold a secret.

use crate::ids::{GrantId, LauncherRef, Subject, UnixMillis};
use crate::tool::Constraint;
use crate::unit::{Limits, Trigger, WorkspaceMount};
use serde::{Deserialize, Serialize};

/// The longest life of a grant: 90 days, in milliseconds. Source: contract grant.v1.
pub const LIFE_MS_MAX: u64 = 90 * 86_400_000;

/// The ceiling of every dispatch under it. Source: contract grant.v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who grants.
    pub subject: Subject,
    /// To whom, as a unit names the launcher.
    pub launcher: LauncherRef,
    /// The launcher's public key, `U…`.
    pub launcher_key: String,
    /// Tools that a dispatch may ask for.
    pub tools: Vec<String>,
    /// Workspaces, and the most that may be done in each.
    pub workspaces: Vec<WorkspaceMount>,
    /// What may start a dispatch.
    pub trigger: TriggerPattern,
    /// What the arguments of calls must satisfy, on top of the tool's own constraints.
    pub constraints: Vec<Constraint>,
    /// How much.
    pub limits: GrantLimits,
    /// 0, and nothing else exists.
    pub redelegation_depth: u64,
    /// When a call waits for a person.
    pub approval: ApprovalRule,
    /// Not before this moment, RFC 3339.
    pub not_before: String,
    /// Not after this moment, RFC 3339.
    pub expires: String,
    /// How the subject agreed.
    pub consent: Consent,
}

/// What may start a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerPattern {
    /// The triggers that are allowed.
    pub on: Vec<Trigger>,
    /// The one rule that a scheduled dispatch must come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// The one integration that an event must come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integration: Option<String>,
}

/// A rule in a time zone. Source: contract schedule.v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cron {
    /// Five fields.
    pub expr: String,
    /// An IANA time zone.
    pub tz: String,
}

/// How much may be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantLimits {
    /// Dispatches in one window.
    pub dispatches: u64,
    /// The length of a window, sliding, in milliseconds.
    pub window_ms: u64,
    /// Model cost in one window, in millionths of the accounting currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_micros: Option<u64>,
    /// Ceilings of each dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_dispatch: Option<Limits>,
}

/// When a call waits for a person, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// Which calls.
    pub rule: ApprovalFor,
    /// Who may approve; none named is the subject alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvers: Option<Vec<Subject>>,
}

/// Which calls wait for a person. Later ones hold what earlier ones hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalFor {
    /// Only those whose tool says so.
    Gated,
    /// Also every irreversible one.
    Irreversible,
    /// Also every one that changes something.
    Writes,
    /// Every one.
    Always,
}

impl ApprovalFor {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            ApprovalFor::Gated => "gated",
            ApprovalFor::Irreversible => "irreversible",
            ApprovalFor::Writes => "writes",
            ApprovalFor::Always => "always",
        }
    }
}

/// How the subject agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// In which way.
    pub method: ConsentMethod,
    /// When, RFC 3339.
    pub at: String,
    /// The sign-in session, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Digest of the text that was shown.
    pub statement_digest: String,
}

/// In which way somebody agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConsentMethod {
    /// In a signed-in browser session.
    Oidc,
    /// Signed in on the command line.
    Cli,
    /// On a single-user installation, by its operator.
    Operator,
}

impl ConsentMethod {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            ConsentMethod::Oidc => "oidc",
            ConsentMethod::Cli => "cli",
            ConsentMethod::Operator => "operator",
        }
    }
}

/// A grant before the subject agreed: everything but the consent. Source: contract ledger.v2, `GrantTerms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantTerms {
    /// The id that the grant will have.
    pub id: GrantId,
    /// Who would grant.
    pub subject: Subject,
    /// To whom.
    pub launcher: LauncherRef,
    /// The launcher's public key.
    pub launcher_key: String,
    /// Tools.
    pub tools: Vec<String>,
    /// Workspaces.
    pub workspaces: Vec<WorkspaceMount>,
    /// What may start a dispatch.
    pub trigger: TriggerPattern,
    /// What arguments must satisfy.
    pub constraints: Vec<Constraint>,
    /// How much.
    pub limits: GrantLimits,
    /// When a call waits for a person.
    pub approval: ApprovalRule,
    /// Not before this moment, RFC 3339.
    pub not_before: String,
    /// Not after this moment, RFC 3339.
    pub expires: String,
}

impl GrantTerms {
    /// The grant that they become when the subject agrees.
    pub fn agreed(self, consent: Consent) -> Grant {
        Grant {
            id: self.id,
            subject: self.subject,
            launcher: self.launcher,
            launcher_key: self.launcher_key,
            tools: self.tools,
            workspaces: self.workspaces,
            trigger: self.trigger,
            constraints: self.constraints,
            limits: self.limits,
            redelegation_depth: 0,
            approval: self.approval,
            not_before: self.not_before,
            expires: self.expires,
            consent,
        }
    }
}

impl Grant {
    /// What was agreed to, without the consent.
    pub fn terms(&self) -> GrantTerms {
        GrantTerms {
            id: self.id.clone(),
            subject: self.subject.clone(),
            launcher: self.launcher.clone(),
            launcher_key: self.launcher_key.clone(),
            tools: self.tools.clone(),
            workspaces: self.workspaces.clone(),
            trigger: self.trigger.clone(),
            constraints: self.constraints.clone(),
            limits: self.limits.clone(),
            approval: self.approval.clone(),
            not_before: self.not_before.clone(),
            expires: self.expires.clone(),
        }
    }

    /// Its first moment; the end of time when it is not written as Custody writes times, so that it is never valid.
    pub fn begins(&self) -> UnixMillis {
        UnixMillis::parse(&self.not_before).unwrap_or(UnixMillis(u64::MAX))
    }

    /// The moment from which it is no more; the beginning of time when it is not written as Custody writes times.
    pub fn ends(&self) -> UnixMillis {
        UnixMillis::parse(&self.expires).unwrap_or_default()
    }
}

/// Somebody asked a person for a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRequested {
    /// What is asked for.
    pub wanted: GrantTerms,
    /// Who asks.
    pub by: String,
    /// Why.
    pub why: String,
}

/// A person gave a launcher a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantIssued {
    /// The grant.
    pub grant: Grant,
    /// The same as a signed token.
    pub token: String,
    /// The words that were agreed to.
    pub statement: String,
    /// The grant that justifies it, for a narrower one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GrantId>,
    /// Who asked authority to issue it.
    pub by: String,
}

/// A grant was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRefused {
    /// What was asked for.
    pub wanted: GrantTerms,
    /// The grant that was to justify it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<GrantId>,
    /// Stable code, for example `GRANT_WIDER`.
    pub reason: String,
    /// What was wrong, in a sentence.
    pub detail: String,
    /// What to do next.
    pub hint: String,
    /// Who asked.
    pub by: String,
}

/// A grant was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRevoked {
    /// Which.
    pub grant: GrantId,
    /// Who did it.
    pub by: String,
    /// Why.
    pub why: String,
}

/// Events of kind grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantEvent {
    /// Asked for.
    Requested(Box<GrantRequested>),
    /// Given.
    Issued(Box<GrantIssued>),
    /// Refused.
    Refused(Box<GrantRefused>),
    /// Taken back.
    Revoked(GrantRevoked),
}

impl GrantEvent {
    /// The grant that it is about.
    pub fn grant(&self) -> &GrantId {
        match self {
            GrantEvent::Requested(e) => &e.wanted.id,
            GrantEvent::Issued(e) => &e.grant.id,
            GrantEvent::Refused(e) => &e.wanted.id,
            GrantEvent::Revoked(e) => &e.grant,
        }
    }
}
