//! The ledger's pure half: what `handle` does in each case, what a log owes its callers, what a stored message is read
//! as, and the tree. Every future here is ready at once, so no runtime is needed.
#![cfg(test)]

mod fixtures;
mod handling;
mod memory;
mod reading;
mod tree;
