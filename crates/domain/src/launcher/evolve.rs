//! A launcher's state from its events.

use super::LauncherState;
use custody_contracts::events::LauncherEvent;

impl LauncherState {
    /// The state after one more event.
    pub fn after(mut self, event: &LauncherEvent) -> Self {
        match event {
            LauncherEvent::Registered(e) => {
                self.registered = Some(e.clone());
                self.disabled = None;
            }
            LauncherEvent::Rotated(e) => {
                if let Some(is) = &mut self.registered {
                    is.public_key.clone_from(&e.public_key);
                }
            }
            LauncherEvent::Disabled(e) => self.disabled = Some(e.why.clone()),
        }
        self
    }
}
