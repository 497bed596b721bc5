//! Pure: traits and plain data between the loops and the adapters. No adapter and no loop is named here.

pub mod asks;
pub mod blobs;
pub mod clock;
pub mod compared;
pub mod containers;
pub mod identity;
pub mod inputs;
pub mod launches;
pub mod objects;
pub mod output;
pub mod outside;
pub mod pages;
pub mod requests;
pub mod secrets;
pub mod sign_in;
pub mod slots;
pub mod snapshots;
pub mod subjects;
pub mod token_keys;
pub mod workspaces;
