//! A launcher: registered with a key, rotated, disabled.

mod decide;
mod evolve;
#[cfg(test)]
mod tests;

use custody_contracts::events::{LauncherDisabled, LauncherRegistered, LauncherRotated};

/// What one launcher is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LauncherState {
    registered: Option<LauncherRegistered>,
    disabled: Option<String>,
}

impl LauncherState {
    /// Its registration with the current key; `None` if it never was.
    pub fn registered(&self) -> Option<&LauncherRegistered> {
        self.registered.as_ref()
    }

    /// Why it is disabled, when it is.
    pub fn disabled(&self) -> Option<&str> {
        self.disabled.as_deref()
    }
}

/// What can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LauncherCommand {
    /// Register, or register again after it was disabled, or with other rules.
    Register(LauncherRegistered),
    /// Give it a new key.
    Rotate(LauncherRotated),
    /// Disable it.
    Disable(LauncherDisabled),
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LauncherRefusal {
    /// There is none of this name.
    #[error("launcher {0} is not registered")]
    Unknown(String),
    /// It is registered with another key; rotating is another verb.
    #[error("launcher {0} is registered with another key; rotate it, or disable it first")]
    KeyDiffers(String),
    /// It is disabled.
    #[error("launcher {0} is disabled; register it again")]
    Disabled(String),
    /// Not a NATS user key.
    #[error("{0:?} is not a NATS user key (U and 55 base-32 digits with their check sum)")]
    BadKey(String),
}

/// The rule.
#[derive(Debug)]
pub struct Launcher;
