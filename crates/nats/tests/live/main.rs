//! The adapter against a real nats-server: every test starts its own, on its own port, in its own folder, and ends it
//! by its process id. A missing server fails the tests.

#![cfg(test)]

mod support;

mod blobs;
mod crash;
mod guard;
mod launches;
mod log;
mod output;
mod pages;
mod permissions;
mod reconcile;
mod requests;
mod server;
