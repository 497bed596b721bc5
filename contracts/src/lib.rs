//! What crosses a boundary: the sealed schemas, and the types that are the events.
//!
//! Pure: no clock, no socket, no file. The schemas are compiled in; the same bytes are validated at publish and at
//! consume. Nothing here decides anything: rules live in `domain`.

pub mod approval;
pub mod asyncapi;
pub mod box_protocol;
mod bundle;
pub mod canonical;
pub mod card;
pub mod catalogue;
pub mod cloudevent;
pub mod envelope;
pub mod events;
pub mod grant;
pub mod ids;
pub mod isolation;
pub mod launch;
pub mod messages;
pub mod once;
pub mod runner;
pub mod seal;
pub mod sealed;
pub mod spiffe;
pub mod token;
pub mod tool;
pub mod unit;
pub mod upcast;
pub mod workload;
pub mod workspace;
pub mod ws;
