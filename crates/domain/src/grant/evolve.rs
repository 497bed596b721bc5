//! A grant's state from its events.

use super::GrantState;
use custody_contracts::grant::GrantEvent;

impl GrantState {
    /// The state after one more event.
    pub fn after(mut self, event: &GrantEvent) -> Self {
        match event {
            GrantEvent::Requested(e) => self.requested = self.requested.or_else(|| Some(e.clone())),
            GrantEvent::Issued(e) => self.issued = self.issued.or_else(|| Some(e.clone())),
            GrantEvent::Refused(_) => {}
            GrantEvent::Revoked(e) => self.revoked = self.revoked.or_else(|| Some(e.clone())),
        }
        self
    }
}
