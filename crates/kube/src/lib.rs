//! Boxes as Kubernetes Jobs: the same port as the Docker adapter, the same hardening, one Job a box.
//!
//! `job` is pure: from a box to the Job that the API is asked for, compared with goldens and checked against the API's
//! own schema. `api` asks. What a Pod cannot be told, and what holds in its place, stands in `job`. Must never run a
//! command in a Pod, never mount a service account's token, and never start a box whose seccomp profile the node lacks
//! (the kubelet refuses it: that is the point of naming a `Localhost` profile).

pub mod api;
pub mod job;
pub mod status;

pub use api::Kubernetes;
pub use job::{KubeSettings, LinkSettings};
