//! Grants along a log that is verified: each one is proved, a narrower one is within its parent, and whatever is admitted
//! stands under a grant that was there, was not revoked, and covers it.

use super::{covers, narrower, prove};
use crate::keyring::Keyring;
use custody_contracts::events::{DispatchAdmitted, DispatchEvent, GrantCheck, LauncherEvent, LedgerEvent};
use custody_contracts::grant::{Grant, GrantEvent, GrantIssued};
use custody_contracts::ids::UnixMillis;
use custody_ledger::Recorded;
use std::collections::{BTreeMap, VecDeque};

/// The most grants from one to its first ancestor.
pub const DEPTH_MAX: usize = 8;

#[derive(Debug, Clone)]
struct Known {
    seq: u64,
    grant: Grant,
    parent: Option<String>,
    revoked: Option<u64>,
    /// When dispatches were admitted under it or its children, within two windows.
    uses: VecDeque<u64>,
}

/// The grants of a log so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chain {
    grants: BTreeMap<String, Known>,
    keys: BTreeMap<String, String>,
    begun: bool,
    verified: u64,
}

impl Chain {
    /// Grants whose token was verified.
    pub(crate) fn verified(&self) -> u64 {
        self.verified
    }

    /// Takes in the next event.
    ///
    /// # Errors
    /// Code and sentence of what is wrong.
    pub(crate) fn take_in(&mut self, ring: &Keyring, recorded: &Recorded) -> Result<(), (&'static str, String)> {
        match &recorded.event {
            Some(LedgerEvent::Launcher(LauncherEvent::Registered(e))) => {
                self.keys.insert(e.launcher.to_string(), e.public_key.clone());
            }
            Some(LedgerEvent::Launcher(LauncherEvent::Rotated(e))) => {
                self.keys.insert(e.launcher.to_string(), e.public_key.clone());
            }
            Some(LedgerEvent::Grant(GrantEvent::Issued(e))) => self.issued(ring, recorded.seq.0, e)?,
            Some(LedgerEvent::Grant(GrantEvent::Revoked(e))) => {
                if let Some(known) = self.grants.get_mut(e.grant.as_str()) {
                    known.revoked.get_or_insert(recorded.seq.0);
                }
            }
            Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => {
                self.admitted(e, &recorded.envelope.time).map_err(|why| ("UNGRANTED", why))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn issued(&mut self, ring: &Keyring, seq: u64, issued: &GrantIssued) -> Result<(), (&'static str, String)> {
        let id = issued.grant.id.to_string();
        self.begun = true;
        prove(ring, issued).map_err(|why| ("GRANT_UNPROVEN", format!("grant {id}: {why}")))?;
        if self.grants.contains_key(&id) {
            return Err(("GRANT_UNPROVEN", format!("grant {id} is issued a second time")));
        }
        if let Some(parent) = &issued.parent {
            let known = self.standing(parent.as_str()).map_err(|why| ("GRANT_UNPROVEN", why))?;
            narrower(&issued.grant.terms(), &known.grant)
                .map_err(|why| ("GRANT_UNPROVEN", format!("grant {id} goes beyond {parent}: {why}")))?;
        }
        self.verified += 1;
        let parent = issued.parent.as_ref().map(ToString::to_string);
        let known = Known { seq, grant: issued.grant.clone(), parent, revoked: None, uses: VecDeque::new() };
        self.grants.insert(id, known);
        Ok(())
    }

    /// A grant that is not revoked, and whose ancestors are not.
    fn standing(&self, id: &str) -> Result<&Known, String> {
        let found = self.grants.get(id).ok_or_else(|| format!("grant {id} was never issued"))?;
        for known in self.line(id) {
            if let Some(at) = known.revoked {
                return Err(format!("grant {} was revoked at sequence {at}", known.grant.id));
            }
        }
        Ok(found)
    }

    /// A grant and its ancestors.
    fn line(&self, id: &str) -> impl Iterator<Item = &Known> {
        let first = self.grants.get(id);
        std::iter::successors(first, |known| self.grants.get(known.parent.as_deref()?)).take(DEPTH_MAX)
    }

    fn admitted(&mut self, admitted: &DispatchAdmitted, time: &str) -> Result<(), String> {
        let dispatch = &admitted.dispatch;
        let used = match &admitted.grant {
            GrantCheck::NotChecked if self.begun => return Err(format!("{dispatch} was admitted without a grant")),
            GrantCheck::NotChecked => return Ok(()),
            GrantCheck::Checked(used) => used,
        };
        let at = UnixMillis::parse(time).ok_or_else(|| format!("the time of {dispatch} cannot be read"))?;
        let why = |why: String| format!("{dispatch} was admitted under grant {}: {why}", used.id);
        let known = self.standing(used.id.as_str()).map_err(why)?;
        if known.seq != used.seq {
            return Err(why(format!("it was issued at sequence {}, not at {}", known.seq, used.seq)));
        }
        let key = self.keys.get(admitted.launch.launcher.as_str()).map_or("", String::as_str);
        covers(&known.grant, &admitted.unit, key, at).map_err(|short| why(short.to_string()))?;
        let line: Vec<String> = self.line(used.id.as_str()).map(|known| known.grant.id.to_string()).collect();
        for id in line {
            let Some(known) = self.grants.get_mut(&id) else { continue };
            let (window, most) = (known.grant.limits.window_ms, known.grant.limits.dispatches);
            let newest = known.uses.back().copied().unwrap_or_default().max(at.0);
            while known.uses.front().is_some_and(|use_| use_.saturating_add(window.saturating_mul(2)) < newest) {
                known.uses.pop_front();
            }
            let first = at.0.saturating_sub(window);
            let within = known.uses.iter().rev().take_while(|use_| **use_ + window > first);
            let count = within.filter(|use_| **use_ > first && **use_ <= at.0).count() as u64;
            if count >= most {
                return Err(why(format!("{id} has {most} dispatches in {window} ms, and this is one more")));
            }
            known.uses.push_back(at.0);
        }
        Ok(())
    }
}
