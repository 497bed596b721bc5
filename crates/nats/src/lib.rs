//! The JetStream adapter: the ledger, launches, output, blobs and requests over NATS; the guard's facts; stream
//! reconcile; and the supervised server. Must never decide anything: what is right is data in `custody-streams`.

pub mod appender;
pub mod blobs;
pub mod connect;
pub mod facts;
pub mod launches;
pub mod log;
pub mod objects;
mod ordered;
pub mod output;
pub mod pages;
pub mod reconcile;
pub mod requests;
pub mod server;
mod wire;

pub use blobs::JetBlobs;
pub use connect::{ConnectError, ConnectOptions, Connection, Credentials, Seed};
pub use launches::JetLaunches;
pub use log::JetLog;
pub use objects::JetObjects;
pub use output::JetOutput;
pub use pages::JetPages;
pub use requests::{NatsRequests, RequestClient};
pub use server::{ServerError, ServerOptions, ServerState, Supervised};
pub use wire::{ApiError, AskError};
