//! Whether a person may give a grant: it is never more than they have themselves, and a narrower one is never more than
//! the one that justifies it.

use super::{Book, statement};
use crate::launcher::LauncherState;
use crate::workspace::{WorkspaceState, may_mount};
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::catalogue;
use custody_contracts::grant::{Consent, ConsentMethod, GrantTerms, LIFE_MS_MAX};
use custody_contracts::ids::{GrantId, UnixMillis};
use custody_trust::grant::{DEPTH_MAX, narrower};
use std::collections::{BTreeMap, BTreeSet};

/// The largest grant in bytes of canonical JSON: its token repeats most of it, and both must fit into one message.
pub const DOCUMENT_BYTES_MAX: usize = 8_192;
/// The most grants that stand for one person and one launcher.
pub const STANDING_MAX: usize = 128;

/// Why a grant is refused, with the next step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct GrantRefusal {
    /// Stable code.
    pub code: &'static str,
    /// What was wrong, in a sentence, cut to 1,000 characters.
    pub detail: String,
    /// What to do next.
    pub hint: String,
}

fn no<T>(code: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Result<T, GrantRefusal> {
    Err(GrantRefusal { code, detail: detail.into().chars().take(1_000).collect(), hint: hint.into() })
}

/// What the ledger says at the moment of the question.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The launcher that the terms name, by its own id.
    pub launcher: &'a LauncherState,
    /// Registered workspaces, by id.
    pub workspaces: &'a BTreeMap<String, WorkspaceState>,
    /// Every grant.
    pub grants: &'a Book,
    /// The moment.
    pub now: UnixMillis,
}

/// Whether the terms may be granted, under a parent when one is named. `consent` is how the person agreed.
///
/// # Errors
/// The [`GrantRefusal`] of the first rule that says no, in this order: form, times, consent, launcher, key, person,
/// workspaces, parent, number.
pub fn may_issue(
    terms: &GrantTerms,
    consent: &Consent,
    parent: Option<&GrantId>,
    facts: Facts<'_>,
) -> Result<(), GrantRefusal> {
    let grant = terms.clone().agreed(consent.clone());
    let document = serde_json::to_value(&grant).unwrap_or_default();
    if let Err(error) = catalogue::check("grant.v1", "Grant", &document) {
        return no("GRANT_INVALID", error.to_string(), "check it with `custody contract validate grant.v1 FILE`");
    }
    let bytes = canonical(&document).len();
    if bytes > DOCUMENT_BYTES_MAX {
        let why = format!("the grant has {bytes} bytes, {DOCUMENT_BYTES_MAX} are the most");
        return no("GRANT_TOO_LARGE", why, "give two grants");
    }
    form(terms)?;
    times(terms, facts.now)?;
    if parent.is_none() && consent.statement_digest != digest(statement(terms).as_bytes()) {
        let why = "what was agreed to is not what these terms say";
        return no("CONSENT_STATEMENT", why, "show the statement of these very terms, and ask again");
    }
    launcher(terms, facts.launcher)?;
    for mount in &terms.workspaces {
        if let Err(more) = may_mount(facts.workspaces.get(mount.id.as_str()), &terms.subject, mount) {
            let why = format!("nobody can give what they have not: {}", more.detail);
            return no(more.code, why, more.hint);
        }
    }
    if let Some(parent) = parent {
        within(terms, consent, parent, facts)?;
    }
    let standing = facts.grants.standing_of(terms.subject.as_str(), terms.launcher.as_str(), facts.now);
    if standing >= STANDING_MAX {
        let why = format!("{} has {standing} grants of {} that stand", terms.launcher, terms.subject);
        return no("GRANT_TOO_MANY", why, "`custody grant unused` shows what can be revoked");
    }
    Ok(())
}

/// A consent that any terms can have: for asking whether they could be granted at all. Grants nothing.
pub fn any_consent(terms: &GrantTerms) -> Consent {
    Consent {
        method: ConsentMethod::Operator,
        at: terms.not_before.clone(),
        session: None,
        statement_digest: digest(statement(terms).as_bytes()),
    }
}

fn form(terms: &GrantTerms) -> Result<(), GrantRefusal> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = terms.workspaces.iter().find(|w| !seen.insert(w.id.as_str())) {
        return no("GRANT_INVALID", format!("workspace {} is named twice", twice.id), "name each workspace once");
    }
    Ok(())
}

fn times(terms: &GrantTerms, now: UnixMillis) -> Result<(), GrantRefusal> {
    let written = |text: &str| UnixMillis::parse(text).filter(|at| at.rfc3339() == text);
    let (Some(begins), Some(ends)) = (written(&terms.not_before), written(&terms.expires)) else {
        let why = "its times are not written as UTC with milliseconds, such as 2026-11-22T21:00:00.000Z";
        return no("GRANT_INVALID", why, "write them so: a time that is read in two ways is no ceiling");
    };
    if ends <= begins {
        return no("GRANT_INVALID", "it ends before it begins", "give it a later end");
    }
    if ends.0 - begins.0 > LIFE_MS_MAX || ends.0.saturating_sub(now.0) > LIFE_MS_MAX {
        return no("GRANT_TOO_LONG", "it would last longer than 90 days", "--expires 90d is the most");
    }
    if ends <= now {
        return no("GRANT_EXPIRED", format!("it ended at {}", terms.expires), "give it a later end");
    }
    Ok(())
}

fn launcher(terms: &GrantTerms, state: &LauncherState) -> Result<(), GrantRefusal> {
    let id = terms.launcher.as_str().split_once(':').map_or("", |(_, own)| own);
    let Some(registered) = state.registered() else {
        let why = format!("launcher {id} is not registered");
        return no("LAUNCHER_UNKNOWN", why, format!("an operator registers it: custody launcher register {id}"));
    };
    if let Some(why) = state.disabled() {
        let why = format!("launcher {id} is disabled: {why}");
        return no("LAUNCHER_DISABLED", why, format!("an operator registers it again: custody launcher register {id}"));
    }
    if registered.public_key != terms.launcher_key {
        let why = format!("the key is not the one that launcher {id} is registered with");
        return no("GRANT_KEY", why, "`custody launcher ls -o wide` shows the key");
    }
    let subject = terms.subject.as_str();
    if !registered.subjects.iter().any(|s| s == "*" || s == subject) {
        let why = format!("launcher {id} may not act for {subject}, whatever they grant");
        let how =
            format!("an operator registers it for that person: custody launcher register {id} --subject {subject}");
        return no("SUBJECT_NOT_ALLOWED", why, how);
    }
    Ok(())
}

fn within(terms: &GrantTerms, consent: &Consent, parent: &GrantId, facts: Facts<'_>) -> Result<(), GrantRefusal> {
    let held = match facts.grants.standing(parent.as_str(), facts.now) {
        Ok(held) => held,
        Err(short) => return no(short.code, short.detail, "`custody grant ls` shows the grants that stand"),
    };
    if *consent != held.issued.grant.consent {
        return no(
            "GRANT_WIDER",
            "consent: it is not the one of its parent",
            "a narrower grant has its parent's consent",
        );
    }
    if facts.grants.depth(parent.as_str()) >= DEPTH_MAX {
        let why = format!("{parent} is {DEPTH_MAX} grants below the first one");
        return no("GRANT_DEPTH", why, "derive it from an earlier one");
    }
    match narrower(terms, &held.issued.grant) {
        Ok(()) => Ok(()),
        Err(wider) => {
            let how = format!("leave it out, or ask {} for a grant of its own", terms.subject);
            no("GRANT_WIDER", wider.to_string(), how)
        }
    }
}
