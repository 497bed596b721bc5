//! Giving grants and taking them back, and the reactor that ends what runs under a grant that stands no more.

use super::launchers::Launchers;
use super::meta;
use super::workspaces::WorkspaceBook;
use crate::grants::Grants;
use custody_contracts::canonical::{derived_id, digest};
use custody_contracts::catalogue;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{DispatchStopRequested, Kind, StopReason};
use custody_contracts::grant::{
    Consent, ConsentMethod, GrantIssued, GrantRefused, GrantRequested, GrantRevoked, GrantTerms,
};
use custody_contracts::ids::{DispatchId, GrantId, UnixMillis};
use custody_contracts::messages::ErrorDoc;
use custody_domain::dispatch::{Dispatch, DispatchCommand};
use custody_domain::grant::{Facts, GrantCommand, GrantRefusal, Grants as Rule, may_issue, statement};
use custody_ledger::{Command, Entity, HandleError, Log, Outcome, Seq, Sign, handle};
use custody_ports::clock::Clock;
use custody_trust::grant::mint;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between TERM and KILL of what runs under a grant that stands no more.
pub const REVOKED_GRACE_MS: u64 = 500;
/// Between two tries to stop a dispatch.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that the reactor sleeps when nothing is known to end.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Everything that grants need.
#[derive(Clone)]
pub struct GrantDesk {
    /// The ledger.
    pub log: Arc<dyn Log>,
    /// Authority's key: the identity that signs grants.
    pub signer: Arc<dyn Sign>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Launchers.
    pub launchers: Launchers,
    /// Workspaces.
    pub workspaces: WorkspaceBook,
    /// Grants.
    pub grants: Grants,
    /// Who says so in the tokens, for example `https://custody.local`.
    pub base: String,
}

/// `command.grant.issue`: the person agreed to these terms.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssueGrant {
    /// What they agreed to. Absent: what was asked for under `request`.
    #[serde(default)]
    pub wanted: Option<GrantTerms>,
    /// A grant that was asked for.
    #[serde(default)]
    pub request: Option<GrantId>,
    /// How they agreed.
    pub method: ConsentMethod,
    /// In which signed-in session.
    #[serde(default)]
    pub session: Option<String>,
    /// Digest of the statement that was shown to them; of a narrower grant it may be left out.
    #[serde(default)]
    pub statement_digest: Option<String>,
    /// The grant that justifies it: then its consent is this one's too.
    #[serde(default)]
    pub parent: Option<GrantId>,
    /// Who asks authority to issue it.
    pub by: String,
}

fn refused(code: &str, message: impl Into<String>, hint: &str) -> ErrorDoc {
    ErrorDoc::new(code, message.into(), Some(hint.to_owned()))
}

fn unavailable(error: &dyn std::fmt::Display) -> ErrorDoc {
    ErrorDoc::new("LEDGER_UNAVAILABLE", error.to_string(), Some("custody doctor".into()))
}

impl GrantDesk {
    /// Asks a person for a grant.
    ///
    /// # Errors
    /// An error.v1 with a stable code.
    pub async fn request(&self, request: GrantRequested) -> Result<Value, ErrorDoc> {
        let value = serde_json::to_value(&request).map_err(|e| unavailable(&e))?;
        catalogue::check("ledger.v2", "GrantRequested", &value)
            .map_err(|e| refused("GRANT_INVALID", e.to_string(), "custody contract show ledger.v2"))?;
        let (subject, id) = (request.wanted.subject.to_string(), request.wanted.id.clone());
        self.append(&id, subject, GrantCommand::Request(Box::new(request))).await
    }

    /// Issues a grant, or records why not. The same terms under the same id again are the same grant.
    ///
    /// # Errors
    /// An error.v1 with the code of the refusal.
    pub async fn issue(&self, ask: IssueGrant) -> Result<Value, ErrorDoc> {
        let terms = match (ask.wanted, &ask.request) {
            (Some(terms), _) => terms,
            (None, Some(id)) => {
                let asked = self.grants.with(|book| book.requested(id.as_str()).cloned());
                let missing = || refused("GRANT_MISSING", format!("nobody asked for a grant {id}"), "custody grant ls");
                asked.ok_or_else(missing)?.wanted
            }
            (None, None) => {
                return Err(refused("COMMAND_INVALID", "neither `wanted` nor `request`", "custody grant issue -h"));
            }
        };
        let now = self.clock.now();
        let held = ask.parent.as_ref().and_then(|id| self.grants.get(id.as_str()));
        let (consent, words) = match (&ask.parent, held) {
            (Some(_), Some(held)) => (held.grant.consent.clone(), held.statement.clone()),
            _ => {
                let words = statement(&terms);
                // Of nothing shown the digest is that of nothing, to which nobody can have agreed.
                let shown = ask.statement_digest.unwrap_or_else(|| digest(b""));
                let at = now.rfc3339();
                (Consent { method: ask.method, at, session: ask.session, statement_digest: shown }, words)
            }
        };
        if let Some(known) = self.grants.get(terms.id.as_str()).filter(|known| known.grant.terms() == terms) {
            // Given before; a consent is given once.
            let seq = self.grants.with(|book| book.get(terms.id.as_str()).map_or(0, |held| held.seq));
            return Ok(json!({ "grant": known.grant.id, "seq": seq, "changed": false }));
        }
        let own = terms.launcher.as_str().split_once(':').map_or("", |(_, own)| own);
        let launcher = self.launchers.get(own);
        let workspaces = self.workspaces.of(terms.workspaces.iter().map(|w| w.id.as_str()));
        let may = self.grants.with(|book| {
            let facts = Facts { launcher: &launcher, workspaces: &workspaces, grants: book, now };
            may_issue(&terms, &consent, ask.parent.as_ref(), facts)
        });
        let grant = terms.clone().agreed(consent);
        let minted = may.and_then(|()| {
            mint(self.signer.as_ref(), &grant, &self.base, now).map_err(|why| GrantRefusal {
                code: "GRANT_TOO_LARGE",
                detail: why.to_string(),
                hint: "give two grants".into(),
            })
        });
        let (subject, id) = (terms.subject.to_string(), terms.id.clone());
        match minted {
            Ok(token) => {
                let issued =
                    GrantIssued { grant, token: token.into_text(), statement: words, parent: ask.parent, by: ask.by };
                self.append(&id, subject, GrantCommand::Issue(Box::new(issued))).await
            }
            Err(refusal) => {
                let told = ErrorDoc::new(refusal.code, refusal.detail.clone(), Some(refusal.hint.clone()));
                let refused = GrantRefused {
                    wanted: terms,
                    parent: ask.parent,
                    reason: refusal.code.into(),
                    detail: refusal.detail,
                    hint: refusal.hint,
                    by: ask.by,
                };
                // What does not keep its contract is told and not recorded: the record could not hold it.
                let fits = serde_json::to_value(&refused)
                    .is_ok_and(|v| catalogue::check("ledger.v2", "GrantRefused", &v).is_ok());
                if fits {
                    self.append(&id, subject, GrantCommand::Refuse(Box::new(refused))).await?;
                }
                Err(told)
            }
        }
    }

    /// Takes a grant back. When this returns nothing more is admitted under it.
    ///
    /// # Errors
    /// An error.v1 with a stable code.
    pub async fn revoke(&self, revoked: GrantRevoked) -> Result<Value, ErrorDoc> {
        let id = revoked.grant.clone();
        let subject = self.grants.get(id.as_str()).map_or_else(String::new, |held| held.grant.subject.to_string());
        let _alone = self.grants.revoking().await;
        self.append(&id, subject, GrantCommand::Revoke(revoked)).await
    }

    async fn append(&self, id: &GrantId, subject: String, body: GrantCommand) -> Result<Value, ErrorDoc> {
        let entity = Entity::new(Kind::Grant, id.as_str())
            .ok_or_else(|| ErrorDoc::new("COMMAND_INVALID", format!("{id} is not an id"), None))?;
        let last = self.log.load(&entity).await.map_err(|e| unavailable(&e))?.last().map_or(0, |s| s.seq.0);
        let told = digest(format!("{body:?}").as_bytes());
        let command_id = derived_id("grt-", &[id.as_str().as_bytes(), told.as_bytes(), &last.to_be_bytes()]);
        let meta = Meta {
            subject: (!subject.is_empty()).then_some(subject),
            grant: Some(id.to_string()),
            ..meta(self.clock.now(), id.as_str())
        };
        let command = Command { id: command_id, entity: entity.clone(), meta, body };
        let outcome = handle::<Rule>(self.log.as_ref(), self.signer.as_ref(), command).await;
        let answer = match outcome {
            Ok(Outcome::Appended(Seq(seq)) | Outcome::AlreadyThere(Seq(seq))) => {
                json!({ "grant": id, "seq": seq, "changed": true })
            }
            Ok(Outcome::Nothing) => json!({ "grant": id, "seq": last, "changed": false }),
            Ok(Outcome::Refused(no)) => return Err(refused("GRANT_REFUSED", no.to_string(), "custody grant ls")),
            Err(HandleError::Append(e)) => return Err(unavailable(&e)),
            Err(other) => return Err(unavailable(&other)),
        };
        for stored in self.log.load(&entity).await.map_err(|e| unavailable(&e))? {
            self.grants.learn(&stored);
        }
        Ok(answer)
    }

    /// Asks every dispatch to stop whose grant was revoked or has ended, until cancelled. Safe in several replicas: a
    /// second stop of the same kind changes nothing.
    pub async fn end_fallen(self, cancel: CancellationToken) {
        let mut changed = self.grants.changes();
        loop {
            changed.mark_unchanged();
            let now = self.clock.now();
            let (fallen, next) = self.grants.with(|book| (book.fallen(now), book.next_end(now)));
            let mut failed = false;
            for (dispatch, grant, why) in fallen {
                failed |= !self.end(&dispatch, &grant, why.code).await;
            }
            let wait = match (failed, next) {
                (true, _) => RETRY,
                (false, Some(UnixMillis(at))) => Duration::from_millis(at.saturating_sub(now.0)).min(LOOK_MAX),
                (false, None) => LOOK_MAX,
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                result = changed.changed() => if result.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn end(&self, dispatch: &str, grant: &GrantId, code: &str) -> bool {
        let (Ok(id), Some(entity)) = (DispatchId::parse(dispatch), Entity::new(Kind::Dispatch, dispatch)) else {
            return true;
        };
        let stop = DispatchStopRequested {
            dispatch: id,
            by: ["grant:", grant.as_str(), "/", code].concat(),
            grace_ms: REVOKED_GRACE_MS,
            reason: Some(StopReason::Revoked),
        };
        let meta = Meta { grant: Some(grant.to_string()), ..meta(self.clock.now(), dispatch) };
        let id = derived_id("rev-", &[dispatch.as_bytes(), grant.as_str().as_bytes()]);
        let command = Command { id, entity: entity.clone(), meta, body: DispatchCommand::RequestStop(stop) };
        match handle::<Dispatch>(self.log.as_ref(), self.signer.as_ref(), command).await {
            Ok(_) => {
                tracing::info!(dispatch, %grant, code, "stopped: its grant stands no more");
                if let Ok(history) = self.log.load(&entity).await {
                    history.iter().for_each(|stored| self.grants.learn(stored));
                }
                true
            }
            Err(error) => {
                tracing::warn!(%error, dispatch, "could not be asked to stop; trying again");
                false
            }
        }
    }
}
