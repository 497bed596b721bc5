//! The folds against files that are reviewed like code, and the properties that make a projection disposable.
#![cfg(test)]

mod audits;
mod fixtures;
mod folds;
mod goldens;
mod logs;
mod rows;
mod tables;
mod usages;
