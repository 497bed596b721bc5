//! The bridge between the log and a screen: ws.v1 over the websocket and over server-sent events.
//!
//! One tail of the ledger and one of the output for the whole process ([`hub`]). A connection holds cursors, not queues:
//! it reads from the tails' rings what comes after its cursor, so a slow reader costs nothing but its own lateness.
//! Must never send what the person behind a connection may not see, and never a frame whose `prev` is not the cursor
//! that the frame before it left.

pub mod commands;
pub mod connection;
pub mod consent;
pub mod feed;
pub mod frames;
pub mod health;
pub mod hub;
pub mod items;
pub mod open;
pub mod ring;
pub mod sse;
pub mod topic;
pub mod ws;

/// Subscriptions of one connection.
pub const SUBS_MAX: usize = 64;
/// Commands and subscriptions of one connection that are being worked on.
pub const WORK_MAX: usize = 32;
/// Connections of this process, websockets and event streams together.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Connections of one person.
pub const CONNECTIONS_EACH_MAX: usize = 1_100;
