//! What the auditor asks: the chain of each dispatch, launchers, keys, totals, the newest checkpoint, and every event
//! that cannot follow. Anomalies are findings in the state; the fold never stops.

use crate::table::{Table, folded_table};
use custody_contracts::events::{
    CheckpointEvent, DispatchEvent, EffectEvent, GrantCheck, KeyEvent, LauncherEvent, LedgerEvent, RunEvent,
    SignatureRule,
};
use custody_contracts::grant::GrantEvent;
use custody_contracts::token::TokenKeyState;
use custody_ledger::{Projection, Recorded};
use serde::{Deserialize, Serialize};

/// How many sequences of one dispatch are kept in its chain; more are counted.
pub const CHAIN_KEPT_MAX: usize = 1_000;
/// How many anomalies are kept; more are counted under `anomaly/dropped`.
pub const ANOMALIES_KEPT_MAX: u64 = 10_000;

/// One row of the audit projection; which fields are set follows from its key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditState {
    /// `total/<type>`: events of this type. `chain/<dispatch>`: events of it. `anomaly/dropped`: how many.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u64,
    /// `chain/<dispatch>`: sequences of its events.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seqs: Vec<u64>,
    /// `chain/<dispatch>`: what was seen, in order, each once: `a`dmitted, `r`efused, `x` stop asked,
    /// `u` more said, `c`laimed, `s`tarted, `f`inished. `grant/<id>`: `i`ssued, re`v`oked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub seen: String,
    /// `anomaly/<seq>`: what cannot be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomaly: Option<String>,
    /// `launcher/<id>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launcher: Option<LauncherRow>,
    /// `key/<kid>`: role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_role: Option<String>,
    /// `key/<kid>`: whether it was retired.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
    /// `checkpoint`: leaves under the newest one.
    #[serde(skip_serializing_if = "is_zero")]
    pub size: u64,
    /// `checkpoint`: its root, base 64.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub root: String,
}

impl AuditState {
    /// Notes a mark once, so that a chain's row never grows with its events.
    fn saw(&mut self, mark: char) {
        if !self.seen.contains(mark) {
            self.seen.push(mark);
        }
    }
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A launcher as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LauncherRow {
    /// Its id.
    pub launcher: String,
    /// What people call it.
    pub name: String,
    /// Its current key.
    pub public_key: String,
    /// Whether it must sign.
    pub must_sign: bool,
    /// Persons it may act for.
    pub subjects: Vec<String>,
    /// Why it is disabled, when it is.
    pub disabled: Option<String>,
    /// When it was registered, RFC 3339.
    pub registered_at: String,
    /// Dispatches admitted.
    pub admitted: u64,
    /// Dispatches refused.
    pub refused: u64,
}

/// The projection.
#[derive(Debug)]
pub struct Audit;

impl Projection for Audit {
    const NAME: &'static str = "audit";
    const VERSION: u32 = 2;
    type State = Table<AuditState>;

    fn apply(state: &mut Self::State, recorded: &Recorded) {
        let Some(event) = &recorded.event else {
            anomaly(state, recorded, &format!("event type {:?} is not known", recorded.envelope.kind));
            return;
        };
        state.edit(&["total/", &recorded.envelope.kind].concat()).count += 1;
        if event.kind() != recorded.entity.kind {
            anomaly(state, recorded, "an event stands on another kind's subject");
        }
        match event {
            LedgerEvent::Dispatch(e) => on_dispatch(state, recorded, e),
            LedgerEvent::Run(e) => on_run(state, recorded, e),
            LedgerEvent::Effect(e) => {
                let chain = chain(state, e.dispatch().as_str(), recorded);
                let running = chain.seen.contains('c');
                if !running {
                    let what = match e {
                        EffectEvent::ModelCalled(_) => "a model was called for a dispatch that no runtime claimed",
                        EffectEvent::ToolIntended(_)
                        | EffectEvent::ToolFinished(_)
                        | EffectEvent::ToolRefused(_)
                        | EffectEvent::ToolAwaiting(_) => "a tool was called for a dispatch that no runtime claimed",
                        EffectEvent::BudgetWarned(_) | EffectEvent::BudgetExhausted(_) => {
                            "a budget was used by a dispatch that no runtime claimed"
                        }
                    };
                    anomaly(state, recorded, what);
                }
            }
            LedgerEvent::Launcher(e) => on_launcher(state, recorded, e),
            LedgerEvent::Key(KeyEvent::Introduced(e)) => {
                state.edit(&["key/", &e.kid].concat()).key_role = Some(e.role.as_str().to_owned());
            }
            LedgerEvent::Key(KeyEvent::Retired(e)) => state.edit(&["key/", &e.kid].concat()).retired = true,
            LedgerEvent::Approval(e) => {
                let running = chain(state, e.dispatch().as_str(), recorded).seen.contains('c');
                if !running {
                    anomaly(state, recorded, "a call was decided about of a dispatch that no runtime claimed");
                }
            }
            // Counted above; what it means for what is shown is the other folds' matter.
            LedgerEvent::Key(KeyEvent::Subject(_)) => {}
            LedgerEvent::Key(KeyEvent::TokenKey(e)) => {
                let row = state.edit(&["key/", &e.kid].concat());
                row.key_role = Some("tokens".to_owned());
                row.retired = e.state == TokenKeyState::Retired;
            }
            // Counted above, and in the chain of its dispatch.
            LedgerEvent::Token(e) => {
                if let Some(dispatch) = e.dispatch() {
                    chain(state, dispatch.as_str(), recorded);
                }
            }
            // Counted above; who may do what was decided before it was written.
            LedgerEvent::Workspace(_) => {}
            LedgerEvent::Grant(e) => {
                let key = ["grant/", e.grant().as_str()].concat();
                match e {
                    GrantEvent::Issued(_) => state.edit(&key).saw('i'),
                    GrantEvent::Revoked(_) => state.edit(&key).saw('v'),
                    GrantEvent::Requested(_) | GrantEvent::Refused(_) => {}
                }
            }
            LedgerEvent::Checkpoint(CheckpointEvent::Signed(e)) => {
                let row = state.edit("checkpoint");
                let grows = e.size > row.size;
                row.size = e.size;
                row.root.clone_from(&e.root);
                if !grows {
                    anomaly(state, recorded, "a checkpoint does not grow");
                }
            }
        }
    }
}

fn anomaly(state: &mut Table<AuditState>, recorded: &Recorded, what: &str) {
    let kept = state.get("total/anomaly").map_or(0, |r| r.count);
    state.edit("total/anomaly").count += 1;
    if kept < ANOMALIES_KEPT_MAX {
        // One message can be odd in more than one way; none of them hides another.
        let row = state.edit(&format!("anomaly/{:020}", recorded.seq.0));
        let before = row.anomaly.take().map_or_else(String::new, |before| [&before, "; "].concat());
        row.anomaly = Some([&before, what].concat());
    } else {
        state.edit("anomaly/dropped").count += 1;
    }
}

fn chain<'a>(state: &'a mut Table<AuditState>, dispatch: &str, recorded: &Recorded) -> &'a mut AuditState {
    let row = state.edit(&["chain/", dispatch].concat());
    row.count += 1;
    if row.seqs.len() < CHAIN_KEPT_MAX {
        row.seqs.push(recorded.seq.0);
    }
    row
}

fn on_dispatch(state: &mut Table<AuditState>, recorded: &Recorded, event: &DispatchEvent) {
    let (dispatch, mark, launcher) = match event {
        DispatchEvent::Admitted(e) => (&e.dispatch, 'a', Some(&e.launch.launcher)),
        DispatchEvent::Refused(e) => (&e.dispatch, 'r', Some(&e.launch.launcher)),
        DispatchEvent::StopRequested(e) => (&e.dispatch, 'x', None),
        DispatchEvent::FollowUpAccepted(e) => (&e.dispatch, 'u', None),
        // Under the message's own name: whoever is refused must not write into another one's chain.
        DispatchEvent::FollowUpRefused(e) => {
            chain(state, e.message.as_str(), recorded);
            return;
        }
    };
    let row = chain(state, dispatch.as_str(), recorded);
    let before = row.seen.clone();
    row.saw(mark);
    if mark == 'u' && (!before.contains('a') || before.contains('f')) {
        anomaly(state, recorded, "more was said to a dispatch that was never admitted or has ended");
    }
    if let DispatchEvent::Admitted(e) = event {
        on_grant_used(state, recorded, &e.grant);
    }
    if matches!(mark, 'a' | 'r') && (before.contains('a') || before.contains('r')) {
        anomaly(state, recorded, "a dispatch was decided twice");
    }
    if let Some(launcher) = launcher {
        let key = ["launcher/", launcher.as_str()].concat();
        if let Some(row) = state.get(&key).is_some().then(|| state.edit(&key)).and_then(|r| r.launcher.as_mut()) {
            if mark == 'a' { row.admitted += 1 } else { row.refused += 1 }
        } else if mark == 'a' {
            anomaly(state, recorded, "a dispatch was admitted for a launcher that is not registered");
        }
    }
}

fn on_grant_used(state: &mut Table<AuditState>, recorded: &Recorded, grant: &GrantCheck) {
    let what = match grant {
        GrantCheck::NotChecked if state.get("total/custody.grant.issued.v1").is_none() => return,
        GrantCheck::NotChecked => "a dispatch was admitted without a grant",
        GrantCheck::Checked(used) => {
            let seen = state.get(&["grant/", used.id.as_str()].concat()).map_or("", |row| row.seen.as_str());
            match (seen.contains('i'), seen.contains('v')) {
                (true, false) => return,
                (true, true) => "a dispatch was admitted under a grant that was revoked",
                (false, _) => "a dispatch was admitted under a grant that was never issued",
            }
        }
    };
    anomaly(state, recorded, what);
}

fn on_run(state: &mut Table<AuditState>, recorded: &Recorded, event: &RunEvent) {
    let (dispatch, mark, needs) = match event {
        RunEvent::Claimed(e) => (&e.dispatch, 'c', 'a'),
        RunEvent::Started(e) => (&e.dispatch, 's', 'c'),
        RunEvent::Finished(e) => (&e.dispatch, 'f', 'c'),
    };
    let row = chain(state, dispatch.as_str(), recorded);
    let before = row.seen.clone();
    row.saw(mark);
    if !before.contains(needs) {
        let what = match mark {
            'c' => "a run was claimed for a dispatch that was never admitted",
            's' => "a run started that was never claimed",
            _ => "a run finished that was never claimed",
        };
        anomaly(state, recorded, what);
    }
    if before.contains(mark) {
        anomaly(
            state,
            recorded,
            if mark == 'f' { "a second terminal event" } else { "a run was claimed or started twice" },
        );
    } else if before.contains('f') {
        anomaly(state, recorded, "a run went on after its terminal event");
    }
}

fn on_launcher(state: &mut Table<AuditState>, recorded: &Recorded, event: &LauncherEvent) {
    let id = match event {
        LauncherEvent::Registered(e) => &e.launcher,
        LauncherEvent::Rotated(e) => &e.launcher,
        LauncherEvent::Disabled(e) => &e.launcher,
    };
    let row = state.edit(&["launcher/", id.as_str()].concat());
    let launcher = row.launcher.get_or_insert_with(LauncherRow::default);
    match event {
        LauncherEvent::Registered(e) => {
            launcher.launcher = e.launcher.to_string();
            launcher.name.clone_from(&e.name);
            launcher.public_key.clone_from(&e.public_key);
            launcher.must_sign = e.signature == SignatureRule::Required;
            launcher.subjects.clone_from(&e.subjects);
            launcher.disabled = None;
            launcher.registered_at.clone_from(&recorded.envelope.time);
        }
        LauncherEvent::Rotated(e) => launcher.public_key.clone_from(&e.public_key),
        LauncherEvent::Disabled(e) => launcher.disabled = Some(e.why.clone()),
    }
}

/// Launchers, in the order of their ids.
pub fn launchers(state: &Table<AuditState>) -> impl Iterator<Item = &LauncherRow> {
    state.with_prefix("launcher/").filter_map(|(_, row)| row.launcher.as_ref())
}

/// Sequence and text of every anomaly kept.
pub fn anomalies(state: &Table<AuditState>) -> impl Iterator<Item = (u64, &str)> {
    state.with_prefix("anomaly/").filter_map(|(key, row)| {
        let seq = key.strip_prefix("anomaly/")?.parse().ok()?;
        Some((seq, row.anomaly.as_deref()?))
    })
}

folded_table!(Audit);
