//! Every contract, compiled in: its schema, its README, its shapes, and the one validator that publish and consume use.

use jsonschema::{Draft, Registry, Validator};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One contract as it is compiled in.
#[derive(Debug, Clone, Copy)]
pub struct Contract {
    /// `unit.v1`.
    pub name: &'static str,
    /// JSON Schema 2020-12.
    pub schema: &'static str,
    /// What it is for.
    pub readme: &'static str,
}

macro_rules! contracts {
    ($($name:literal),* $(,)?) => {
        /// Every contract, in the order of the README.
        pub const ALL: &[Contract] = &[$(Contract {
            name: $name,
            schema: include_str!(concat!("../", $name, "/schema.json")),
            readme: include_str!(concat!("../", $name, "/README.md")),
        }),*];
    };
}
contracts!(
    "unit.v1",
    "agent-runner.v1",
    "agent-runner.v2",
    "workspace.v1",
    "tool.v1",
    "proactive-card.v1",
    "schedule.v1",
    "runtime.v1",
    "transcript.v1",
    "identity.v1",
    "grant.v1",
    "token.v1",
    "effect.v1",
    "ws.v1",
    "box.v1",
    "box.v2",
    "ledger.v1",
    "ledger.v2",
    "output.v1",
    "output.v2",
    "input.v1",
    "reply.v1",
    "audit.v1",
    "error.v1",
);

/// A name that is refused, and what replaced it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retired {
    /// The old name.
    pub name: String,
    /// The contract that says it now; empty when nothing does.
    pub replaced_by: String,
    /// Why.
    pub why: String,
}

/// Where and how a document breaks its contract.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// JSON pointer into the document; empty for the whole.
    pub pointer: String,
    /// The keyword that failed, for example `additionalProperties`.
    pub keyword: String,
    /// A sentence, cut to 400 characters.
    pub message: String,
}

/// Why a document could not be checked, or did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// No contract of this name.
    #[error("there is no contract {0:?}; `custody contract ls` lists them")]
    UnknownContract(String),
    /// The contract was retired.
    #[error("contract {name} is retired: {why}; use {replaced_by}")]
    Retired {
        /// The old name.
        name: String,
        /// What to use.
        replaced_by: String,
        /// Why.
        why: String,
    },
    /// The contract exists in other versions.
    #[error("contract {asked:?} does not exist; {known} does")]
    UnknownVersion {
        /// What was asked for.
        asked: String,
        /// What there is.
        known: String,
    },
    /// The contract has no such shape.
    #[error("contract {contract} has no shape {shape:?}; it has {known}")]
    UnknownShape {
        /// The contract.
        contract: String,
        /// What was asked for.
        shape: String,
        /// What there is.
        known: String,
    },
    /// The document breaks the contract; at most 20 violations, in document order.
    #[error("{}", first(.0))]
    Invalid(Vec<Violation>),
}

fn first(violations: &[Violation]) -> String {
    violations.first().map_or_else(String::new, |v| format!("at {:?} ({}): {}", v.pointer, v.keyword, v.message))
}

/// The names that are refused.
pub static RETIRED: LazyLock<Vec<Retired>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../retired.json")).unwrap_or_default());

struct Compiled {
    shapes: BTreeMap<&'static str, Vec<String>>,
    validators: BTreeMap<(String, String), Validator>,
}

static COMPILED: LazyLock<Result<Compiled, String>> = LazyLock::new(compile);

/// The `$id` of a contract's schema.
pub fn schema_id(name: &str) -> String {
    ["custody:", name].concat()
}

fn compile() -> Result<Compiled, String> {
    let mut documents = Vec::new();
    for contract in ALL {
        let value: Value =
            serde_json::from_str(contract.schema).map_err(|e| format!("{}/schema.json: {e}", contract.name))?;
        documents.push((contract.name, value));
    }
    let mut registry = Registry::new();
    for (name, value) in &documents {
        registry = registry.add(schema_id(name), value.clone()).map_err(|e| format!("{name}: {e}"))?;
    }
    let registry = registry.prepare().map_err(|e| e.to_string())?;
    let mut compiled = Compiled { shapes: BTreeMap::new(), validators: BTreeMap::new() };
    for (name, value) in &documents {
        let listed = value.get("x-shapes").and_then(Value::as_array).cloned().unwrap_or_default();
        let shapes: Vec<String> = listed.iter().filter_map(|s| s.as_str().map(str::to_owned)).collect();
        for shape in &shapes {
            let schema = json!({ "$ref": format!("{}#/$defs/{shape}", schema_id(name)) });
            let validator = jsonschema::options()
                .with_draft(Draft::Draft202012)
                .with_registry(&registry)
                .build(&schema)
                .map_err(|e| format!("{name} {shape}: {e}"))?;
            compiled.validators.insert(((*name).to_owned(), shape.clone()), validator);
        }
        compiled.shapes.insert(name, shapes);
    }
    Ok(compiled)
}

fn compiled() -> Result<&'static Compiled, CheckError> {
    COMPILED.as_ref().map_err(|why| {
        CheckError::Invalid(vec![Violation {
            pointer: String::new(),
            keyword: "$schema".into(),
            message: format!("a compiled-in schema is broken: {why}"),
        }])
    })
}

/// The contract of a name.
///
/// # Errors
/// [`CheckError::Retired`], [`CheckError::UnknownVersion`] or [`CheckError::UnknownContract`].
pub fn find(name: &str) -> Result<&'static Contract, CheckError> {
    if let Some(contract) = ALL.iter().find(|c| c.name == name) {
        return Ok(contract);
    }
    if let Some(old) = RETIRED.iter().find(|r| r.name == name || r.name.split(".v").next() == Some(name)) {
        return Err(CheckError::Retired {
            name: old.name.clone(),
            replaced_by: old.replaced_by.clone(),
            why: old.why.clone(),
        });
    }
    let base = name.split(".v").next().unwrap_or(name);
    match ALL.iter().find(|c| c.name.split(".v").next() == Some(base)) {
        Some(known) => Err(CheckError::UnknownVersion { asked: cut(name), known: known.name.to_owned() }),
        None => Err(CheckError::UnknownContract(cut(name))),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The shapes of a contract; the first is the one that is meant when none is named.
///
/// # Errors
/// As [`find`].
pub fn shapes(name: &str) -> Result<&'static [String], CheckError> {
    let contract = find(name)?;
    Ok(compiled()?.shapes.get(contract.name).map_or(&[], Vec::as_slice))
}

/// Checks a document against a shape of a contract. Safe to call from any thread; pure.
///
/// # Errors
/// [`CheckError::Invalid`] with the first 20 violations, or why there is nothing to check against.
pub fn check(name: &str, shape: &str, document: &Value) -> Result<(), CheckError> {
    let contract = find(name)?;
    let compiled = compiled()?;
    let Some(validator) = compiled.validators.get(&(contract.name.to_owned(), shape.to_owned())) else {
        return Err(CheckError::UnknownShape {
            contract: contract.name.to_owned(),
            shape: cut(shape),
            known: shapes(name)?.join(", "),
        });
    };
    if validator.is_valid(document) {
        return Ok(());
    }
    let violations = validator
        .iter_errors(document)
        .take(20)
        .map(|error| Violation {
            pointer: error.instance_path().to_string(),
            keyword: error.kind().keyword().to_owned(),
            message: error.to_string().chars().take(400).collect(),
        })
        .collect();
    Err(CheckError::Invalid(violations))
}

/// Checks that a document is a JSON Schema on its own: what it refers to stands in it, and nothing is fetched.
///
/// # Errors
/// [`CheckError::Invalid`] with what is wrong with it.
pub fn check_schema(schema: &Value) -> Result<(), CheckError> {
    validator(schema).map(|_| ())
}

/// Checks a document against a schema that is no contract of ours: the arguments of an upstream's tool. Pure.
///
/// # Errors
/// [`CheckError::Invalid`] with the first violation, or with what is wrong with the schema.
pub fn check_against(schema: &Value, document: &Value) -> Result<(), CheckError> {
    validator(schema)?.validate(document).map_err(|error| {
        CheckError::Invalid(vec![Violation {
            pointer: error.instance_path().to_string(),
            keyword: error.kind().keyword().to_owned(),
            // Of arguments, which are somebody's: what is wrong is told, and not what they are.
            message: error.masked().to_string().chars().take(400).collect(),
        }])
    })
}

fn validator(schema: &Value) -> Result<Validator, CheckError> {
    // A pattern of somebody else must not cost more than the text is long.
    let patterns = jsonschema::PatternOptions::regex();
    let built = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns).build(schema);
    built.map_err(|error| {
        CheckError::Invalid(vec![Violation {
            pointer: error.instance_path().to_string(),
            keyword: "$schema".into(),
            message: error.to_string().chars().take(400).collect(),
        }])
    })
}
