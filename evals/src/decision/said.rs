//! What a launcher said to a dispatch, judged again: the same reading, the same rules, launchers and dispatches as the log
//! had them. Must never look at anything that is not in the log.

use crate::slice::LaunchLine;
use custody_contracts::events::{FollowUpAccepted, SignatureCheck};
use custody_contracts::ids::LauncherId;
use custody_contracts::launch::FollowUp;
use custody_domain::dispatch::{Dispatch, DispatchCommand, DispatchRefusal, DispatchState};
use custody_domain::launcher::LauncherState;
use custody_domain::say::{judge, may_reach, read};
use custody_ledger::Decider;
use custody_streams::subject::LogSubject;
use std::collections::BTreeMap;

/// The words and whose they are, or the code of the refusal.
pub(super) fn again(
    launch: &LaunchLine,
    launchers: &BTreeMap<String, LauncherState>,
    dispatches: &BTreeMap<String, DispatchState>,
    ended: impl Fn(&str) -> bool,
) -> Result<(FollowUp, SignatureCheck), String> {
    let code = |refusal: custody_domain::admission::Refusal| refusal.code.to_owned();
    let launcher = match LogSubject::parse(&launch.subject) {
        Ok(LogSubject::Launch { launcher, verb }) if verb.as_str() == "say" => {
            LauncherId::parse(launcher.as_str()).ok()
        }
        _ => None,
    };
    let launcher = launcher.ok_or("VERB_UNKNOWN")?;
    let said = read(&launch.bytes).map_err(code)?;
    let registered = launchers.get(launcher.as_str()).cloned().unwrap_or_default();
    let signature = judge(&said, &launcher, &registered, launch.stored_at).map_err(code)?;
    let follow_up = said.follow_up;
    let state = dispatches.get(follow_up.dispatch.as_str()).cloned().unwrap_or_default();
    let over = ended(follow_up.dispatch.as_str());
    may_reach(&follow_up.dispatch, state.admitted.as_deref(), Some(&launcher), over).map_err(code)?;
    let accepted = FollowUpAccepted {
        dispatch: follow_up.dispatch.clone(),
        n: 0,
        by: launcher.to_string(),
        launch: None,
        signature: None,
        digest: String::new(),
        bytes: 0,
        input_seq: 0,
    };
    match Dispatch::decide(&state, DispatchCommand::FollowUp(accepted)) {
        Ok(_) => Ok((follow_up, signature)),
        Err(DispatchRefusal::OneTurn(_)) => Err("FOLLOW_UP_ONE_TURN".into()),
        Err(DispatchRefusal::NoTurnLeft { .. }) => Err("FOLLOW_UP_NO_TURN".into()),
        Err(DispatchRefusal::NotAdmitted(_) | DispatchRefusal::IdReused { .. }) => Err("FOLLOW_UP_UNKNOWN".into()),
    }
}
