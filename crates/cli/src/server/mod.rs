//! The roles, composed: which adapters each loop gets. One file for what `up` adds: the supervised nats-server, the
//! local model, the streams.

pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod local;
pub(crate) mod model;
pub(crate) mod roles;
