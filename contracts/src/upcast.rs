//! Upcasting at the door: a document of an older version becomes one of the newest, once, before anything else sees it.
//! Must never guess: a version that is not known is refused by name, and what is stored is never rewritten.

use crate::catalogue::{self, CheckError};
use serde_json::Value;

/// One version's way to the next. A pure function: the same document always gives the same one.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The older version, `unit.v1`.
    pub from: &'static str,
    /// The next one, `unit.v2`.
    pub to: &'static str,
    /// Shape and document in the older form to document in the newer one, or a sentence that says why there is none.
    pub lift: fn(&str, Value) -> Result<Value, String>,
}

/// Every step there is. Each of these versions only adds optional fields and new shapes to the one before it.
pub const STEPS: &[Step] = &[
    Step { from: "agent-runner.v1", to: "agent-runner.v2", lift: as_it_is },
    Step { from: "box.v1", to: "box.v2", lift: hello_of_box_v2 },
    Step { from: "ledger.v1", to: "ledger.v2", lift: as_it_is },
    Step { from: "output.v1", to: "output.v2", lift: as_it_is },
];

fn as_it_is(_: &str, document: Value) -> Result<Value, String> {
    Ok(document)
}

/// A worker names the protocol that it speaks; that name is the one thing that changed.
fn hello_of_box_v2(shape: &str, mut document: Value) -> Result<Value, String> {
    if shape == "WorkerMessage"
        && let Some(protocol) = document.get_mut("protocol")
    {
        *protocol = Value::from("box.v2");
    }
    Ok(document)
}

/// Why a document could not be brought to the newest version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpcastError {
    /// The name is not one of a contract that is spoken: unknown, retired, or of a version that does not exist.
    #[error(transparent)]
    NotSpoken(#[from] CheckError),
    /// A step found no newer form of this document.
    #[error("{shape} of {from} has no form in {to}: {why}")]
    NoNewerForm {
        /// The version it is in.
        from: &'static str,
        /// The version it was to be brought to.
        to: &'static str,
        /// The shape.
        shape: String,
        /// Why not.
        why: String,
    },
    /// The steps go round in a circle: a bug in the table.
    #[error("the upcasters of {0} never end")]
    Endless(String),
}

/// A document of any version that is spoken, in the form of the newest. Idempotent; checks name and shape, and leaves
/// the rules inside the document to [`catalogue::check`].
///
/// # Errors
/// [`UpcastError::NotSpoken`] with a pointer for a retired name, an unknown version or shape; otherwise what a step says.
pub fn upcast(name: &str, shape: &str, document: Value) -> Result<Value, UpcastError> {
    let contract = catalogue::find(name)?;
    let shapes = catalogue::shapes(name)?;
    if !shapes.iter().any(|s| s == shape) {
        return Err(UpcastError::NotSpoken(CheckError::UnknownShape {
            contract: contract.name.to_owned(),
            shape: shape.chars().take(80).collect(),
            known: shapes.join(", "),
        }));
    }
    through(STEPS, contract.name, shape, document).map(|(_, newest)| newest)
}

/// The newest version's name and form of a document, by these steps.
///
/// # Errors
/// [`UpcastError::NoNewerForm`] or [`UpcastError::Endless`].
pub fn through(
    steps: &[Step],
    name: &'static str,
    shape: &str,
    document: Value,
) -> Result<(&'static str, Value), UpcastError> {
    let (mut at, mut document) = (name, document);
    for _ in 0..=steps.len() {
        let Some(step) = steps.iter().find(|s| s.from == at) else { return Ok((at, document)) };
        document = (step.lift)(shape, document).map_err(|why| UpcastError::NoNewerForm {
            from: step.from,
            to: step.to,
            shape: shape.to_owned(),
            why,
        })?;
        at = step.to;
    }
    Err(UpcastError::Endless(name.to_owned()))
}
