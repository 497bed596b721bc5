//! What REST answers. Rows are the projector's rows with their names; what a newer projector adds is passed on. Must never
//! rename a field of a row.

mod audit;
mod dispatches;
mod follow_ups;
mod grants;
mod inbox;
mod installation;
mod session;
mod sessions;
mod workspaces;

pub use audit::*;
pub use dispatches::*;
pub use follow_ups::*;
pub use grants::*;
pub use inbox::*;
pub use installation::*;
pub use session::*;
pub use sessions::*;
pub use workspaces::*;
