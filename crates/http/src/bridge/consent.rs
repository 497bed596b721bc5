//! The web chat's own grant: before a person's first dispatch from here they let the web chat act in their name, on the
//! workspace that everybody begins with. They read the words first and agree by their digest, as for any grant; without
//! that nothing is launched. Must never agree for anybody, and never ask again for what was taken back.

use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Code, Problem};
use custody_contracts::canonical::{canonical, derived_id};
use custody_contracts::grant::{ApprovalFor, ApprovalRule, GrantLimits, GrantTerms, TriggerPattern};
use custody_contracts::ids::{GrantId, LauncherRef, Subject, UnixMillis, WorkspaceId};
use custody_contracts::unit::{Mode, Trigger, WorkspaceMount};
use custody_domain::tool::Tools;
use serde_json::{Value, json};

/// How long it lasts.
const LIFE_MS: u64 = 90 * 86_400_000;

/// What a person answered for the web chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, or what they gave has ended.
    Needed,
    /// A grant stands: its id.
    Given(String),
    /// They took it back: its id. Another one is theirs to give.
    Revoked(String),
}

/// Where a person stands.
///
/// # Errors
/// That the projector does not answer.
pub async fn standing(api: &Api, person: &Person) -> Result<Standing, Problem> {
    let filter = json!({ "subject": person.subject, "launcher": api.settings.launcher, "limit": 500 });
    let known = api.query("grant.ls", filter).await?;
    let rows = known.get("rows").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Ok(stands(rows, api.clock.now()))
}

/// Refuses what would be launched without an answer. What was revoked goes on: admission refuses it by its own rule.
///
/// # Errors
/// `CONSENT_NEEDED`; that the projector does not answer.
pub(crate) async fn answered(api: &Api, person: &Person) -> Result<(), Problem> {
    match standing(api, person).await? {
        Standing::Given(_) | Standing::Revoked(_) => Ok(()),
        Standing::Needed => Err(Problem::new(Code::Conflict, "you have not agreed yet to what the web chat may do")
            .code("CONSENT_NEEDED")
            .hint("read it at /chat and agree there; GET /api/v1/consent and POST /api/v1/grants do the same")),
    }
}

/// Pure: the newest one counts, of those that were ever given. Rows come newest first.
fn stands(rows: &[Value], now: UnixMillis) -> Standing {
    let text = |row: &Value, at: &str| row.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(row) = rows.iter().find(|row| text(row, "/status") != "requested") else { return Standing::Needed };
    if text(row, "/status") == "revoked" {
        return Standing::Revoked(text(row, "/grant"));
    }
    let ends = UnixMillis::parse(&text(row, "/terms/expires")).unwrap_or_default();
    if ends.0 > now.0 { Standing::Given(text(row, "/grant")) } else { Standing::Needed }
}

/// The terms that a person is asked to agree to.
///
/// # Errors
/// That the projector does not answer.
pub async fn terms(api: &Api, person: &Person) -> Result<GrantTerms, Problem> {
    let now = api.clock.now();
    let launcher = api.settings.launcher.as_str();
    let internal = |e: &dyn std::fmt::Display| Problem::new(Code::Internal, e);
    let all = api.query("launcher.ls", json!({})).await?;
    let own = |row: &&Value| row.get("launcher").and_then(Value::as_str) == Some(launcher);
    let found = all.get("rows").and_then(Value::as_array).and_then(|rows| rows.iter().find(own));
    let key = found.and_then(|row| row.get("public_key")).and_then(Value::as_str).unwrap_or_default();
    let default = WorkspaceId::parse("default").map_err(|e| internal(&e))?;
    let mut terms = GrantTerms {
        id: GrantId::parse("g-new").map_err(|e| internal(&e))?,
        subject: Subject::parse(&person.subject).map_err(|e| internal(&e))?,
        launcher: LauncherRef::parse(&["user:", launcher].concat()).map_err(|e| internal(&e))?,
        launcher_key: key.to_owned(),
        tools: Tools::builtin().names().map(str::to_owned).collect(),
        workspaces: vec![WorkspaceMount { id: default, mode: Mode::Rw }],
        trigger: TriggerPattern { on: vec![Trigger::Message], cron: None, integration: None },
        constraints: Vec::new(),
        limits: GrantLimits { dispatches: 10_000, window_ms: 86_400_000, budget_micros: None, per_dispatch: None },
        approval: ApprovalRule { rule: ApprovalFor::Gated, approvers: None },
        not_before: now.rfc3339(),
        expires: UnixMillis(now.0 + LIFE_MS).rfc3339(),
    };
    let said = canonical(&serde_json::to_value(&terms).map_err(|e| internal(&e))?);
    terms.id = GrantId::parse(&derived_id("g-", &[said.as_bytes()])).map_err(|e| internal(&e))?;
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: UnixMillis = UnixMillis(1_782_000_000_000);

    fn row(grant: &str, status: &str, days: i64) -> Value {
        let ends = UnixMillis(NOW.0.saturating_add_signed(days * 86_400_000));
        json!({ "grant": grant, "status": status, "terms": { "expires": ends.rfc3339() } })
    }

    #[rstest]
    #[case::nobody_asked(&[], Standing::Needed)]
    #[case::only_asked_for(&[row("g-1", "requested", 30)], Standing::Needed)]
    #[case::given(&[row("g-1", "issued", 30)], Standing::Given("g-1".into()))]
    #[case::its_last_day(&[row("g-1", "issued", 1)], Standing::Given("g-1".into()))]
    #[case::ended(&[row("g-1", "issued", 0)], Standing::Needed)]
    #[case::taken_back(&[row("g-2", "revoked", 30), row("g-1", "issued", 30)], Standing::Revoked("g-2".into()))]
    #[case::given_again(&[row("g-3", "issued", 30), row("g-2", "revoked", 30)], Standing::Given("g-3".into()))]
    #[case::asked_for_after(&[row("g-2", "requested", 30), row("g-1", "issued", 30)], Standing::Given("g-1".into()))]
    #[case::without_an_end(&[json!({ "grant": "g-1", "status": "issued" })], Standing::Needed)]
    fn where_a_person_stands(#[case] rows: &[Value], #[case] expected: Standing) {
        assert_eq!(stands(rows, NOW), expected);
    }
}
