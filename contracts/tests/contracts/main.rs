//! Every contract against its own documents: what must pass passes, what must fail fails by the keyword it names, and
//! no field is ignored. The documents are files beside the schemas, so they are read here and nowhere in the crate.
#![cfg(test)]

mod asyncapi;
mod canonical;
mod documents;
mod events;
mod fields;
mod fixtures;
mod messages;
mod names;
mod seals;
mod upcasts;
