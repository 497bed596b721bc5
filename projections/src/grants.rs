//! Every grant: what was asked for, what was given, by which consent, and what was done under it. Whether one has expired
//! is the reader's to say: a fold has no clock.

use crate::table::{Table, folded_table};
use custody_contracts::events::{DispatchEvent, EffectEvent, GrantCheck, LedgerEvent};
use custody_contracts::grant::{Consent, GrantEvent, GrantTerms};
use custody_ledger::{Projection, Recorded};
use serde::{Deserialize, Serialize};

/// One grant, or one that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrantRow {
    /// Its id.
    pub grant: String,
    /// `requested`, `issued` or `revoked`.
    pub status: String,
    /// Who grants.
    pub subject: String,
    /// To whom.
    pub launcher: String,
    /// Everything but the consent.
    pub terms: Option<GrantTerms>,
    /// How the person agreed.
    pub consent: Option<Consent>,
    /// The words that they agreed to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub statement: String,
    /// The grant that justifies it.
    pub parent: Option<String>,
    /// Who asked authority for it.
    pub by: String,
    /// Why it was asked for.
    pub why: Option<String>,
    /// When it was issued, RFC 3339.
    pub issued_at: Option<String>,
    /// Where.
    pub issued_seq: Option<u64>,
    /// When it was revoked, RFC 3339.
    pub revoked_at: Option<String>,
    /// By whom.
    pub revoked_by: Option<String>,
    /// Why.
    pub revoked_why: Option<String>,
    /// Dispatches that were admitted under it itself.
    pub uses: u64,
    /// When one last was, RFC 3339.
    pub last_used_at: Option<String>,
    /// Which one.
    pub last_dispatch: Option<String>,
    /// What their model calls cost, in millionths of the accounting currency.
    pub cost_micros: u64,
    /// Sequence of its last event.
    pub last_seq: u64,
}

/// The projection.
#[derive(Debug)]
pub struct Grants;

impl Projection for Grants {
    const NAME: &'static str = "grants";
    const VERSION: u32 = 1;
    type State = Table<GrantRow>;

    fn apply(state: &mut Self::State, recorded: &Recorded) {
        match &recorded.event {
            Some(LedgerEvent::Grant(event)) => on_grant(state, recorded, event),
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                let GrantCheck::Checked(used) = &e.grant else { return };
                let row = state.edit(used.id.as_str());
                row.uses += 1;
                row.last_used_at = Some(recorded.envelope.time.clone());
                row.last_dispatch = Some(e.dispatch.to_string());
                row.last_seq = recorded.seq.0;
            }
            Some(LedgerEvent::Effect(EffectEvent::ModelCalled(e))) => {
                if let (Some(cost), Some(grant)) = (e.cost_micros, &recorded.envelope.grant)
                    && state.get(grant).is_some()
                {
                    let row = state.edit(grant);
                    row.cost_micros = row.cost_micros.saturating_add(cost);
                }
            }
            Some(
                LedgerEvent::Dispatch(
                    DispatchEvent::Refused(_)
                    | DispatchEvent::StopRequested(_)
                    | DispatchEvent::FollowUpAccepted(_)
                    | DispatchEvent::FollowUpRefused(_),
                )
                | LedgerEvent::Run(_)
                | LedgerEvent::Effect(_)
                | LedgerEvent::Launcher(_)
                | LedgerEvent::Key(_)
                | LedgerEvent::Token(_)
                | LedgerEvent::Checkpoint(_)
                | LedgerEvent::Workspace(_)
                | LedgerEvent::Approval(_),
            )
            | None => {}
        }
    }
}

fn on_grant(state: &mut Table<GrantRow>, recorded: &Recorded, event: &GrantEvent) {
    let time = recorded.envelope.time.clone();
    match event {
        GrantEvent::Requested(e) => {
            let row = terms(state, recorded, &e.wanted);
            if row.status.is_empty() {
                row.status = "requested".into();
                row.by.clone_from(&e.by);
                row.why = Some(e.why.clone());
            }
        }
        GrantEvent::Issued(e) => {
            let row = terms(state, recorded, &e.grant.terms());
            if row.issued_seq.is_none() {
                row.status = "issued".into();
                row.by.clone_from(&e.by);
                row.consent = Some(e.grant.consent.clone());
                row.statement.clone_from(&e.statement);
                row.parent = e.parent.as_ref().map(ToString::to_string);
                row.issued_at = Some(time);
                row.issued_seq = Some(recorded.seq.0);
            }
        }
        // What was refused is no grant; the audit tail has it.
        GrantEvent::Refused(_) => {}
        GrantEvent::Revoked(e) => {
            let row = state.edit(e.grant.as_str());
            row.last_seq = recorded.seq.0;
            if row.revoked_at.is_none() {
                row.status = "revoked".into();
                row.revoked_at = Some(time);
                row.revoked_by = Some(e.by.clone());
                row.revoked_why = Some(e.why.clone());
            }
        }
    }
}

fn terms<'a>(state: &'a mut Table<GrantRow>, recorded: &Recorded, terms: &GrantTerms) -> &'a mut GrantRow {
    let row = state.edit(terms.id.as_str());
    row.grant = terms.id.to_string();
    row.subject = terms.subject.to_string();
    row.launcher = terms.launcher.to_string();
    row.terms = Some(terms.clone());
    row.last_seq = recorded.seq.0;
    row
}

folded_table!(Grants);
