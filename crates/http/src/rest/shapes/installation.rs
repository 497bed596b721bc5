//! Runners and contracts of this installation.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunnerShape {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its image id.
    pub image: String,
    /// The whole agent-runner document.
    #[schema(value_type = Object)]
    pub document: Value,
}

/// One contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContractShape {
    /// Its name and version.
    #[schema(example = "unit.v1")]
    pub name: String,
    /// Digest of its schema.
    pub digest: String,
    /// sealed, unsealed or broken.
    pub seal: String,
    /// What it is, in a sentence.
    pub description: String,
    /// Its documents; the first is the default.
    pub shapes: Vec<String>,
}

/// One contract with its page and its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContractOne {
    /// Its name, digest and seal.
    pub contract: ContractShape,
    /// README.md, Markdown.
    pub readme: String,
    /// JSON Schema 2020-12.
    #[schema(value_type = Object)]
    pub schema: Value,
}
