//! The roles, composed: which adapters each loop gets. One file for what `up` adds: the supervised nats-server, the
//! local model, the streams.

pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod disk;
pub(crate) mod face;
pub(crate) mod identity;
pub(crate) mod local;
pub(crate) mod model;
pub(crate) mod outside;
pub(crate) mod roles;
pub(crate) mod telemetry;
pub(crate) mod web;
pub(crate) mod workspaces;
