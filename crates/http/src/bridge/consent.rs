//! The web chat's own grant: a person who is signed in and starts their first dispatch here lets the web chat act in their
//! name, on the workspace that everybody begins with. Recorded once, with the session that they were signed in with. One
//! that they have revoked is not given again by this. Must never agree for anybody but the person of the session.

use crate::api::Api;
use crate::auth::Person;
use crate::problem::{Code, Problem};
use custody_contracts::canonical::{canonical, derived_id, digest};
use custody_contracts::grant::{ApprovalFor, ApprovalRule, GrantLimits, GrantTerms, TriggerPattern};
use custody_contracts::ids::{GrantId, LauncherRef, Subject, UnixMillis, WorkspaceId};
use custody_contracts::unit::{Mode, Trigger, WorkspaceMount};
use custody_domain::grant::statement;
use custody_domain::tool::Tools;
use serde_json::{Value, json};

/// How long it lasts.
const LIFE_MS: u64 = 90 * 86_400_000;
/// So long before its end it is given anew.
const AHEAD_MS: u64 = 7 * 86_400_000;

/// Sees to it that the person has answered for the web chat once. Nothing when they have, whatever the answer was.
///
/// # Errors
/// That the projector or the authority does not answer, or refuses.
pub(crate) async fn given(api: &Api, person: &Person) -> Result<(), Problem> {
    let launcher = api.settings.launcher.as_str();
    let filter = json!({ "subject": person.subject, "launcher": launcher, "limit": 500 });
    let known = api.query("grant.ls", filter).await?;
    let now = api.clock.now();
    let rows = known.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
    // The newest one counts: it stands, or it was revoked and nothing is given in its place.
    let newest = rows.iter().find(|row| row.get("status").and_then(Value::as_str) != Some("requested"));
    if let Some(row) = newest {
        let revoked = row.get("status").and_then(Value::as_str) == Some("revoked");
        let ends =
            row.pointer("/terms/expires").and_then(Value::as_str).and_then(UnixMillis::parse).unwrap_or_default();
        if revoked || ends.0 > now.0 + AHEAD_MS {
            return Ok(());
        }
    }
    let terms = terms(api, person, now).await?;
    let body = json!({
        "wanted": terms, "method": "oidc", "session": person.session, "by": person.subject,
        "statement_digest": digest(statement(&terms).as_bytes()),
    });
    api.command("grant.issue", body).await.map(|_| ())
}

async fn terms(api: &Api, person: &Person, now: UnixMillis) -> Result<GrantTerms, Problem> {
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
