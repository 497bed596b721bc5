//! Trust, case by case: what a good log is, and that each way of changing one is found at the first bad sequence.
#![cfg(test)]

mod cosigns;
mod fixtures;
mod grants;
mod issued;
mod keyrings;
mod keys;
mod launches;
mod logs;
mod notes;
mod proof_fixtures;
mod proofs;
mod tokens;
