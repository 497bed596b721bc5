//! Every grant of a ledger, and what was done under each: a fold. From it the authority chooses the grant that covers a
//! dispatch, and the gateway asks whether that grant still stands. Taking in the same event again changes nothing.

use custody_contracts::events::{DispatchAdmitted, DispatchEvent, EffectEvent, GrantCheck, LedgerEvent, RunEvent};
use custody_contracts::grant::{Grant, GrantEvent, GrantIssued, GrantRequested, GrantRevoked};
use custody_contracts::ids::{GrantId, UnixMillis};
use custody_contracts::unit::{Invocation, Limits};
use custody_trust::grant::{DEPTH_MAX, Shortfall, covers};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A grant that was issued.
#[derive(Debug, Clone)]
pub struct Held {
    /// Where it was issued.
    pub seq: u64,
    /// What was issued.
    pub issued: Arc<GrantIssued>,
    /// How it was taken back, when it was.
    pub revoked: Option<GrantRevoked>,
}

/// A dispatch that was admitted under a grant and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUse {
    /// The grant.
    pub grant: GrantId,
    /// Whether a stop was asked for.
    pub stopping: bool,
}

/// Proof that a grant covers a dispatch. Only [`Book::cover`] makes one; nothing is admitted without it.
#[derive(Debug)]
pub struct GrantPermit {
    id: GrantId,
    seq: u64,
    limits: Option<Limits>,
}

impl GrantPermit {
    /// The grant.
    pub fn id(&self) -> &GrantId {
        &self.id
    }

    /// Where it was issued.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The dispatch's limits, lowered to those of the grant and of its parents.
    pub fn into_limits(self) -> Option<Limits> {
        self.limits
    }
}

/// What was used under one grant and its children.
#[derive(Debug, Clone, Default)]
struct Used {
    /// (time, dispatch) of admissions within the window.
    dispatches: BTreeSet<(u64, String)>,
    /// (time, call) and cost of model calls within the window.
    costs: BTreeMap<(u64, String), u64>,
}

/// The fold.
#[derive(Debug, Clone, Default)]
pub struct Book {
    begun: bool,
    requested: BTreeMap<String, GrantRequested>,
    held: BTreeMap<String, Held>,
    /// (person, launcher) to (sequence, grant).
    of_pair: BTreeMap<(String, String), BTreeSet<(u64, String)>>,
    used: BTreeMap<String, Used>,
    open: BTreeMap<String, OpenUse>,
    /// Grant to the one that justifies it.
    parents: BTreeMap<String, String>,
}

impl Book {
    /// Whether this ledger has a grant: from its first one on nothing is admitted without.
    pub fn begun(&self) -> bool {
        self.begun
    }

    /// Takes in one event. `time` is its envelope's.
    pub fn take_in(&mut self, seq: u64, time: UnixMillis, event: &LedgerEvent) {
        match event {
            LedgerEvent::Grant(event) => self.on_grant(seq, event),
            LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) => self.on_admitted(e, time),
            LedgerEvent::Dispatch(DispatchEvent::StopRequested(e)) => {
                if let Some(open) = self.open.get_mut(e.dispatch.as_str()) {
                    open.stopping = true;
                }
            }
            LedgerEvent::Run(RunEvent::Finished(e)) => drop(self.open.remove(e.dispatch.as_str())),
            LedgerEvent::Effect(EffectEvent::ModelCalled(e)) => {
                if let (Some(cost), Some(open)) = (e.cost_micros, self.open.get(e.dispatch.as_str())) {
                    let call = format!("{}/{}", e.dispatch, e.n);
                    let grant = open.grant.to_string();
                    self.spend(&grant, time, call, cost);
                }
            }
            LedgerEvent::Dispatch(
                DispatchEvent::Refused(_) | DispatchEvent::FollowUpAccepted(_) | DispatchEvent::FollowUpRefused(_),
            )
            | LedgerEvent::Run(RunEvent::Claimed(_) | RunEvent::Started(_))
            | LedgerEvent::Effect(_)
            | LedgerEvent::Launcher(_)
            | LedgerEvent::Key(_)
            | LedgerEvent::Token(_)
            | LedgerEvent::Checkpoint(_)
            | LedgerEvent::Workspace(_)
            | LedgerEvent::Approval(_) => {}
        }
    }

    fn on_grant(&mut self, seq: u64, event: &GrantEvent) {
        match event {
            GrantEvent::Requested(e) => {
                self.requested.entry(e.wanted.id.to_string()).or_insert_with(|| (**e).clone());
            }
            GrantEvent::Issued(e) => {
                self.begun = true;
                let id = e.grant.id.to_string();
                if self.held.contains_key(&id) {
                    return;
                }
                if let Some(parent) = &e.parent {
                    self.parents.insert(id.clone(), parent.to_string());
                }
                let pair = (e.grant.subject.to_string(), e.grant.launcher.to_string());
                self.of_pair.entry(pair).or_default().insert((seq, id.clone()));
                self.held.insert(id, Held { seq, issued: Arc::new((**e).clone()), revoked: None });
            }
            GrantEvent::Refused(_) => self.begun = true,
            GrantEvent::Revoked(e) => {
                if let Some(held) = self.held.get_mut(e.grant.as_str()) {
                    held.revoked.get_or_insert_with(|| e.clone());
                }
            }
        }
    }

    fn on_admitted(&mut self, admitted: &DispatchAdmitted, time: UnixMillis) {
        let GrantCheck::Checked(used) = &admitted.grant else { return };
        let dispatch = admitted.dispatch.to_string();
        self.count(used.id.as_str(), time, &dispatch);
        self.open.entry(dispatch).or_insert_with(|| OpenUse { grant: used.id.clone(), stopping: false });
    }

    /// The grant and its ancestors, nearest first.
    fn line<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::successors(Some(id), |id| self.parents.get(*id).map(String::as_str)).take(DEPTH_MAX)
    }

    fn count(&mut self, grant: &str, time: UnixMillis, dispatch: &str) {
        let line: Vec<String> = self.line(grant).map(str::to_owned).collect();
        for id in line {
            let window = self.window(&id);
            let used = self.used.entry(id).or_default();
            used.dispatches.insert((time.0, dispatch.to_owned()));
            let newest = used.dispatches.last().map_or(0, |(at, _)| *at);
            while used.dispatches.first().is_some_and(|(at, _)| at.saturating_add(window.saturating_mul(2)) < newest) {
                used.dispatches.pop_first();
            }
        }
    }

    fn spend(&mut self, grant: &str, time: UnixMillis, call: String, cost: u64) {
        let line: Vec<String> = self.line(grant).map(str::to_owned).collect();
        for id in line {
            let window = self.window(&id);
            let used = self.used.entry(id).or_default();
            used.costs.insert((time.0, call.clone()), cost);
            let newest = used.costs.last_key_value().map_or(0, |((at, _), _)| *at);
            while used
                .costs
                .first_key_value()
                .is_some_and(|((at, _), _)| at.saturating_add(window.saturating_mul(2)) < newest)
            {
                used.costs.pop_first();
            }
        }
    }

    fn window(&self, id: &str) -> u64 {
        self.held.get(id).map_or(0, |held| held.issued.grant.limits.window_ms)
    }

    /// A grant that was issued.
    pub fn get(&self, id: &str) -> Option<&Held> {
        self.held.get(id)
    }

    /// What was asked for under an id.
    pub fn requested(&self, id: &str) -> Option<&GrantRequested> {
        self.requested.get(id)
    }

    /// Every grant that was issued, by id.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Held)> {
        self.held.iter().map(|(id, held)| (id.as_str(), held))
    }

    /// How many grants are above one, itself counted.
    pub fn depth(&self, id: &str) -> usize {
        self.line(id).count()
    }

    /// How many grants of a person to a launcher neither ended nor were revoked.
    pub fn standing_of(&self, subject: &str, launcher: &str, now: UnixMillis) -> usize {
        self.pair(subject, launcher).filter(|held| self.standing(held.issued.grant.id.as_str(), now).is_ok()).count()
    }

    fn pair(&self, subject: &str, launcher: &str) -> impl Iterator<Item = &Held> {
        let ids = self.of_pair.get(&(subject.to_owned(), launcher.to_owned())).into_iter().flatten();
        ids.filter_map(|(_, id)| self.held.get(id))
    }

    /// Whether a grant stands: issued, begun, not ended, and neither it nor any grant above it revoked.
    ///
    /// # Errors
    /// `GRANT_MISSING`, `GRANT_REVOKED`, `GRANT_NOT_YET` or `GRANT_EXPIRED`.
    pub fn standing(&self, id: &str, now: UnixMillis) -> Result<&Held, Shortfall> {
        let missing = || Shortfall::new("GRANT_MISSING", format!("there is no grant {id}"));
        let found = self.held.get(id).ok_or_else(missing)?;
        for own in self.line(id) {
            let held = self.held.get(own).ok_or_else(missing)?;
            let whose = if own == id { String::new() } else { format!(", which {id} was derived from,") };
            if let Some(revoked) = &held.revoked {
                let why = if revoked.why.is_empty() { String::new() } else { format!(": {}", revoked.why) };
                let text = format!("grant {own}{whose} was revoked by {}{why}", revoked.by);
                return Err(Shortfall::new("GRANT_REVOKED", text));
            }
            let grant = &held.issued.grant;
            if now < grant.begins() {
                let text = format!("grant {own}{whose} begins at {}", grant.not_before);
                return Err(Shortfall::new("GRANT_NOT_YET", text));
            }
            if now >= grant.ends() {
                return Err(Shortfall::new("GRANT_EXPIRED", format!("grant {own}{whose} ended at {}", grant.expires)));
            }
        }
        Ok(found)
    }

    /// The grant that covers a unit: of the person's grants to this launcher the first one issued that does.
    ///
    /// # Errors
    /// The ceiling at which the one that came nearest failed; of several as near, the one issued last.
    pub fn cover(
        &self,
        unit: &Invocation,
        launcher_key: &str,
        dispatch: &str,
        now: UnixMillis,
    ) -> Result<GrantPermit, Shortfall> {
        let (subject, launcher) = (unit.identity.subject.as_str(), unit.identity.launcher.as_str());
        let mut nearest: Option<(usize, Shortfall)> = None;
        for held in self.pair(subject, launcher) {
            match self.one(held, unit, launcher_key, dispatch, now) {
                Ok(()) => {
                    let id = held.issued.grant.id.clone();
                    let limits = self.lowered(id.as_str(), unit.limits.as_ref());
                    return Ok(GrantPermit { id, seq: held.seq, limits });
                }
                Err(short) => {
                    let near = nearness(short.code);
                    if nearest.as_ref().is_none_or(|(before, _)| near >= *before) {
                        nearest = Some((near, short));
                    }
                }
            }
        }
        Err(nearest
            .map(|(_, short)| short)
            .unwrap_or_else(|| Shortfall::new("GRANT_MISSING", format!("{subject} has given {launcher} no grant"))))
    }

    fn one(&self, held: &Held, unit: &Invocation, key: &str, dispatch: &str, now: UnixMillis) -> Result<(), Shortfall> {
        let id = held.issued.grant.id.as_str();
        self.standing(id, now)?;
        covers(&held.issued.grant, unit, key, now)?;
        self.room(id, dispatch, now)
    }

    /// Whether one more dispatch fits into the windows of a grant and of those above it, and money is left in them. A
    /// dispatch that is counted already fits.
    ///
    /// # Errors
    /// `GRANT_WINDOW` or `GRANT_BUDGET`.
    pub fn room(&self, id: &str, dispatch: &str, now: UnixMillis) -> Result<(), Shortfall> {
        let nothing = Used::default();
        for own in self.line(id) {
            let Some(held) = self.held.get(own) else { continue };
            let (limits, used) = (&held.issued.grant.limits, self.used.get(own).unwrap_or(&nothing));
            let first = now.0.saturating_sub(limits.window_ms);
            let within = used.dispatches.iter().rev().take_while(|(at, _)| *at > first).filter(|(at, _)| *at <= now.0);
            let others = within.filter(|(_, other)| other != dispatch).count() as u64;
            let secs = limits.window_ms / 1_000;
            if others >= limits.dispatches {
                let text = format!("grant {own} has {} dispatches in {secs} s, and they are used", limits.dispatches);
                return Err(Shortfall::new("GRANT_WINDOW", text));
            }
        }
        self.affords(id, now)
    }

    /// Whether money is left in the windows of a grant and of those above it.
    ///
    /// # Errors
    /// `GRANT_BUDGET`.
    pub fn affords(&self, id: &str, now: UnixMillis) -> Result<(), Shortfall> {
        let nothing = Used::default();
        for own in self.line(id) {
            let Some(held) = self.held.get(own) else { continue };
            let (limits, used) = (&held.issued.grant.limits, self.used.get(own).unwrap_or(&nothing));
            let Some(budget) = limits.budget_micros else { continue };
            let first = now.0.saturating_sub(limits.window_ms);
            let spent = used.costs.iter().rev().take_while(|((at, _), _)| *at > first);
            let spent: u64 = spent.map(|(_, cost)| *cost).fold(0, u64::saturating_add);
            if spent >= budget {
                let secs = limits.window_ms / 1_000;
                let text = format!("grant {own} has {budget} millionths in {secs} s, and {spent} are spent");
                return Err(Shortfall::new("GRANT_BUDGET", text));
            }
        }
        Ok(())
    }

    /// Takes a place in the windows for a dispatch that is about to be admitted.
    ///
    /// # Errors
    /// As [`Book::room`]: somebody was quicker.
    pub fn reserve(&mut self, id: &str, dispatch: &str, now: UnixMillis) -> Result<(), Shortfall> {
        // One that read the clock later may have been quicker: the place that it took counts too.
        let newest = self.line(id).filter_map(|own| self.used.get(own)?.dispatches.last()).map(|(at, _)| *at).max();
        self.room(id, dispatch, UnixMillis(newest.map_or(now.0, |newest| newest.max(now.0))))?;
        self.count(id, now, dispatch);
        Ok(())
    }

    /// Gives a place back that was taken at this moment: the dispatch was not admitted now.
    pub fn release(&mut self, id: &str, dispatch: &str, at: UnixMillis) {
        if self.open.contains_key(dispatch) {
            return;
        }
        let line: Vec<String> = self.line(id).map(str::to_owned).collect();
        for own in line {
            if let Some(used) = self.used.get_mut(&own) {
                used.dispatches.remove(&(at.0, dispatch.to_owned()));
            }
        }
    }

    fn lowered(&self, id: &str, asked: Option<&Limits>) -> Option<Limits> {
        let mut out = asked.cloned();
        for own in self.line(id) {
            let Some(most) = self.held.get(own).and_then(|held| held.issued.grant.limits.per_dispatch.as_ref()) else {
                continue;
            };
            let low = out.get_or_insert_with(Limits::default);
            // No number of turns is one turn: a ceiling must not open a box for more.
            low.turns = low.turns.map(|own| most.turns.map_or(own, |most| own.min(most)));
            for (own, most) in [
                (&mut low.wall_ms, most.wall_ms),
                (&mut low.idle_ms, most.idle_ms),
                (&mut low.tokens, most.tokens),
                (&mut low.cost_micros, most.cost_micros),
                (&mut low.tool_calls, most.tool_calls),
            ] {
                *own = match (*own, most) {
                    (Some(own), Some(most)) => Some(own.min(most)),
                    (own, most) => own.or(most),
                };
            }
        }
        out
    }

    /// The grant that a dispatch that has not ended was admitted under.
    pub fn of_dispatch(&self, dispatch: &str) -> Option<&OpenUse> {
        self.open.get(dispatch)
    }

    /// Dispatches that have not ended, are not being stopped, and whose grant stands no more; with why.
    pub fn fallen(&self, now: UnixMillis) -> Vec<(String, GrantId, Shortfall)> {
        let open = self.open.iter().filter(|(_, open)| !open.stopping);
        open.filter_map(|(dispatch, open)| {
            let why = self.standing(open.grant.as_str(), now).err()?;
            Some((dispatch.clone(), open.grant.clone(), why))
        })
        .collect()
    }

    /// The next moment at which a grant of a dispatch that has not ended ends by itself.
    pub fn next_end(&self, now: UnixMillis) -> Option<UnixMillis> {
        let open = self.open.values().filter(|open| !open.stopping);
        let ends = open.flat_map(|open| self.line(open.grant.as_str())).filter_map(|id| self.held.get(id));
        ends.map(|held| held.issued.grant.ends()).filter(|end| *end > now).min()
    }

    /// What one grant's document says, when it stands or stood.
    pub fn document(&self, id: &str) -> Option<&Grant> {
        self.held.get(id).map(|held| &held.issued.grant)
    }
}

/// How far a candidate came: a later rule that says no is nearer to a yes.
fn nearness(code: &str) -> usize {
    const ORDER: [&str; 10] = [
        "GRANT_REVOKED",
        "GRANT_EXPIRED",
        "GRANT_NOT_YET",
        "GRANT_KEY",
        "GRANT_TRIGGER",
        "GRANT_TOOL",
        "GRANT_WORKSPACE",
        "GRANT_MODE",
        "GRANT_WINDOW",
        "GRANT_BUDGET",
    ];
    ORDER.iter().position(|own| *own == code).map_or(0, |at| at + 1)
}
