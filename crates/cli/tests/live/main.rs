//! The binary from end to end: every test starts `custody up` in a folder of its own, with a nats-server, boxes and a
//! scripted model of its own, and ends them. A missing image, server or engine fails the tests with the command that
//! repairs it. Must never touch a process or a container that the test did not start.

#![cfg(test)]

mod approvals;
mod bad_input;
mod browser;
mod c2sp;
mod capitals;
mod contents;
mod crash;
mod crash_tool;
mod doors;
mod envoy;
mod erasure;
mod exfiltration;
mod flood;
mod grants;
mod identity;
mod keycloak;
mod launcher;
mod leaks;
mod ledger;
mod ledger_lost;
mod lifecycle;
mod local_model;
mod mcp;
mod oidc;
mod peer;
mod projections;
mod proof;
mod refusals;
mod runners;
mod sandbox;
mod serve;
mod stack;
mod stdio;
mod strangers;
mod tail;
mod tamper;
mod telemetry;
mod tokens;
mod tricks;
mod walk;
mod warm;
mod web;
mod why;
mod witness;
mod workloads;
mod workspaces;
