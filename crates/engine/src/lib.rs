//! The loops, written once over ports: admission, commands, notary (authority), runtime, gateway, inference, projector.
//!
//! A loop awaits, retries and acts; rules are `domain`'s and storage is an adapter's. No adapter is named here.

pub mod accept;
pub mod authority;
pub mod checked;
pub mod crash;
pub mod deciding;
pub mod follow;
pub mod gateway;
pub mod grants;
pub mod inference;
pub mod keys;
mod mcp;
pub mod presenting;
pub mod projector;
pub mod prove;
pub mod replay;
pub mod runners;
pub mod runtime;
pub mod sealed;
pub mod tools;
pub mod upstream;
pub mod verifying;
pub mod why;
