//! The api role's face to the network: sign-in, REST, the websocket bridge, and the embedded UI.
//!
//! Everything here is for a person who signed in. It reads the ledger, the output and the projector's answers, publishes
//! launches as the web chat's own launcher, and sends commands; it appends nothing to the ledger and holds no signing
//! key of a role, no engine's socket and no model key. Must never trust a page: who asks is read from the session
//! cookie, and what they may see is asked for every topic and every row.
//!
//! `oauth` is for programs: the token service's endpoints, which hand on to authority what they are asked.
//!
//! `workloads` is another face, of another role on a listener of its own: the runtime's, for programs with a token. The
//! two share the table of problems and nothing else.

pub mod api;
pub mod assets;
pub mod auth;
pub mod bridge;
pub mod guard;
pub mod oauth;
pub mod problem;
pub mod rest;
pub mod serve;
pub mod settings;
pub mod workloads;

pub use api::Api;
pub use settings::HttpSettings;
