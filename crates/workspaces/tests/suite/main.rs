//! Workspaces over real buckets: a folder, and an S3-compatible service in a process of its own. The suite over NATS is
//! among the live tests of the command line, the only crate that sees both adapters.

#![cfg(test)]

mod buckets;
mod encrypted;
mod hostile;
mod support;
