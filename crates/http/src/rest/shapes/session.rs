//! Who is signed in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The person, as units and events name them.
    #[schema(example = "u_jane")]
    pub subject: String,
    /// What people call them.
    pub name: String,
    /// Whether they see everybody's dispatches.
    pub admin: bool,
    /// Who vouched for them.
    pub provider: crate::auth::Provider,
    /// When the session ends. Unix milliseconds.
    pub expires_at: u64,
    /// The launcher that their messages are launched through: `user:<launcher>` in a unit.
    #[schema(example = "web-chat")]
    pub launcher: String,
    /// The server's version.
    pub version: String,
}
