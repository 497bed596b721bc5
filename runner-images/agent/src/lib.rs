//! A small, generic agent: one prompt, a chat model behind one endpoint, three file tools and the gateway's, a session file. A library so
//! that its rules have tables; the binary is `main`. Must never hold a credential, run a program, or connect to anything
//! but the endpoint and the tools' address it is given.

pub mod args;
pub mod run;

pub mod attach;
pub mod chat;
pub mod context;
pub mod message;
pub mod replay;
pub mod sse;
pub mod tools;

pub mod events;
pub mod http;
pub mod mcp;
pub mod model;
pub mod session;
pub mod workspace;
