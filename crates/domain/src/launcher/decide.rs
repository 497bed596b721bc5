//! What may happen to a launcher.

use super::{Launcher, LauncherCommand, LauncherRefusal, LauncherState};
use crate::events::OfLauncher;
use custody_contracts::events::LauncherEvent;
use custody_ledger::Decider;
use custody_trust::launch::is_user_key;

impl Decider for Launcher {
    type Command = LauncherCommand;
    type Event = OfLauncher;
    type State = LauncherState;
    type Refusal = LauncherRefusal;

    fn decide(state: &LauncherState, command: LauncherCommand) -> Result<Vec<OfLauncher>, LauncherRefusal> {
        let event = match command {
            LauncherCommand::Register(wanted) => {
                check_key(&wanted.public_key)?;
                match (&state.registered, &state.disabled) {
                    (Some(is), None) if is.public_key != wanted.public_key => {
                        return Err(LauncherRefusal::KeyDiffers(wanted.launcher.to_string()));
                    }
                    (Some(is), None) if *is == wanted => return Ok(Vec::new()),
                    _ => LauncherEvent::Registered(wanted),
                }
            }
            LauncherCommand::Rotate(wanted) => {
                check_key(&wanted.public_key)?;
                let is = state.registered.as_ref();
                let is = is.ok_or_else(|| LauncherRefusal::Unknown(wanted.launcher.to_string()))?;
                if state.disabled.is_some() {
                    return Err(LauncherRefusal::Disabled(wanted.launcher.to_string()));
                }
                if is.public_key == wanted.public_key {
                    return Ok(Vec::new());
                }
                LauncherEvent::Rotated(wanted)
            }
            LauncherCommand::Disable(wanted) => {
                if state.registered.is_none() {
                    return Err(LauncherRefusal::Unknown(wanted.launcher.to_string()));
                }
                if state.disabled.is_some() {
                    return Ok(Vec::new());
                }
                LauncherEvent::Disabled(wanted)
            }
        };
        Ok(vec![OfLauncher(event)])
    }

    fn evolve(state: LauncherState, event: &OfLauncher) -> LauncherState {
        state.after(&event.0)
    }
}

/// A key that only looks like one would make the server refuse its whole configuration.
fn check_key(key: &str) -> Result<(), LauncherRefusal> {
    if is_user_key(key) { Ok(()) } else { Err(LauncherRefusal::BadKey(key.chars().take(80).collect())) }
}
