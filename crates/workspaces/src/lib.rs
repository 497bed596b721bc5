//! Workspaces: a git repository in a bucket, encrypted at rest when asked, given to a box as a plain folder and taken back
//! as one commit. Holds no rule of what may land. Must never run anything out of a repository (no hook, filter,
//! submodule, merge driver), never follow a link of a working copy, and never put git's own files where a box sees them.

mod bucket;
mod check_out;
mod compare;
mod git;
mod heads;
mod names;
mod open;
mod repository;
mod seal;
mod trees;
mod walk;

pub use bucket::{Buckets, FileObjects, S3Objects};
pub use open::GitWorkspaces;
pub use seal::{Identities, SealError, new_identity};
