//! The binary from end to end: every test starts `custody up` in a folder of its own, with a nats-server, boxes and a
//! scripted model of its own, and ends them. A missing image, server or engine fails the tests with the command that
//! repairs it. Must never touch a process or a container that the test did not start.

#![cfg(test)]

mod crash;
mod launcher;
mod ledger;
mod local_model;
mod projections;
mod refusals;
mod serve;
mod stack;
mod tail;
mod tamper;
mod walk;
