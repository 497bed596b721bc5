//! The worker, PID 1 in every runner image: takes one job from the gateway's socket, runs the agent, turns its output
//! into frames, ends with one exit frame. A library so that its rules have tables; the binary is `main`. Must never
//! hold a credential, open a connection other than the gateway's socket, or decide what an agent may do.

pub mod protocol;

pub mod budget;
pub mod coalesce;
pub mod frames;
pub mod lines;
pub mod mapping;
pub mod mounts;
pub mod network;
pub mod prepare;
pub mod template;
pub mod verdict;

pub mod agent;
pub mod event;
pub mod files;
pub mod follow;
pub mod link;
pub mod outbox;
pub mod output;
pub mod process;
pub mod relay;
pub mod signals;
pub mod supervise;
pub mod turn;
