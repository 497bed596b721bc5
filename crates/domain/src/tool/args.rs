//! The arguments of builtin tools, parsed into what cannot be wrong. Must never let a path through that could leave its
//! workspace by its own text; links are the executor's to refuse.

use super::{CARD, ToolRefusal, workspace};
use custody_contracts::unit::WorkspaceMount;
use serde::Deserialize;
use serde_json::Value;

/// The most bytes of one reading.
pub const READ_BYTES_MAX: u64 = 262_144;
/// The most bytes of one written file.
pub const WRITE_BYTES_MAX: usize = 1_048_576;
/// The longest path in bytes.
const PATH_BYTES_MAX: usize = 1_024;

/// A path inside a workspace: relative, without `.` and `..`, empty for the workspace itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InnerPath(Vec<String>);

impl InnerPath {
    /// Checks a text.
    ///
    /// # Errors
    /// A refusal for a path that is absolute, goes up, is too long, or holds a control character.
    pub fn parse(text: &str) -> Result<InnerPath, ToolRefusal> {
        let bad = |why: &str| {
            let hint = "give a path inside the workspace, such as notes/today.md";
            ToolRefusal::new("PATH_NOT_ALLOWED", format!("the path {why}"), hint)
        };
        if text.len() > PATH_BYTES_MAX {
            return Err(bad("is longer than 1024 bytes"));
        }
        if text.starts_with('/') {
            return Err(bad("is absolute"));
        }
        if text.chars().any(char::is_control) {
            return Err(bad("holds a control character"));
        }
        let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
        let parts: Vec<String> = parts.map(str::to_owned).collect();
        if parts.iter().any(|part| part == "..") {
            return Err(bad("goes up"));
        }
        Ok(InnerPath(parts))
    }

    /// Its parts.
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// With slashes; `.` for the workspace itself.
    pub fn text(&self) -> String {
        if self.0.is_empty() { ".".to_owned() } else { self.0.join("/") }
    }
}

/// What a builtin tool is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileCall {
    /// List a folder.
    List {
        /// The folder.
        path: InnerPath,
    },
    /// Read a file.
    Read {
        /// The file.
        path: InnerPath,
        /// The first byte.
        offset: u64,
        /// The most bytes.
        limit: u64,
    },
    /// Write a whole file.
    Write {
        /// The file.
        path: InnerPath,
        /// Its text.
        text: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "it is read from the document by `workspace`, and must be allowed here")]
    workspace: Option<String>,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    text: Option<String>,
}

/// The longest title of a card, in characters. Source: contract proactive-card.v1.
const TITLE_CHARS_MAX: usize = 200;
/// The longest body of a card, in bytes.
const BODY_BYTES_MAX: usize = 16_384;

/// A card that an agent puts before a person.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenCard {
    title: String,
    body: String,
}

/// What is wrong with arguments, without what they are.
fn unread(tool: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("invalid ").and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((_, expected)) => format!("{tool}: something that is not {expected}"),
        None => format!("{tool}: {text}"),
    }
}

/// Checks the arguments of a card.
///
/// # Errors
/// A refusal that says what is wrong with them.
pub(super) fn card(args: &Value) -> Result<(), ToolRefusal> {
    let bad =
        |detail: String| ToolRefusal::new("ARGUMENTS_INVALID", detail, "tools/list has the schema of the arguments");
    let given: GivenCard = serde_json::from_value(args.clone()).map_err(|e| bad(unread(CARD, &e)))?;
    if given.title.is_empty() || given.title.chars().count() > TITLE_CHARS_MAX || given.title.contains(['\r', '\n']) {
        return Err(bad(format!("{CARD}: the title is one line of at most {TITLE_CHARS_MAX} characters")));
    }
    if given.body.len() > BODY_BYTES_MAX {
        return Err(bad(format!("{CARD}: the body is longer than {BODY_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Reads the arguments of a builtin tool.
///
/// # Errors
/// A refusal that says what is wrong with them.
pub(super) fn read<'a>(
    tool: &str,
    args: &Value,
    mounts: &'a [WorkspaceMount],
) -> Result<(&'a WorkspaceMount, FileCall), ToolRefusal> {
    let bad =
        |detail: String| ToolRefusal::new("ARGUMENTS_INVALID", detail, "tools/list has the schema of the arguments");
    let mount = workspace(mounts, args)?;
    let given: Given = serde_json::from_value(args.clone()).map_err(|e| bad(unread(tool, &e)))?;
    let absent = |name: &str| bad(format!("{tool} has no argument {name:?}"));
    let path = InnerPath::parse(given.path.as_deref().unwrap_or_default())?;
    let named = |path: InnerPath| if path.parts().is_empty() { Err(absent("path")) } else { Ok(path) };
    let call = match (tool, given.offset, given.limit, given.text) {
        ("workspace_list", None, None, None) => FileCall::List { path },
        ("workspace_read", offset, limit, None) => {
            let limit = limit.unwrap_or(READ_BYTES_MAX);
            if limit == 0 || limit > READ_BYTES_MAX {
                return Err(bad(format!("limit is not between 1 and {READ_BYTES_MAX}")));
            }
            FileCall::Read { path: named(path)?, offset: offset.unwrap_or(0), limit }
        }
        ("workspace_write", None, None, Some(text)) => {
            if text.len() > WRITE_BYTES_MAX {
                return Err(bad(format!("text is {} bytes; {WRITE_BYTES_MAX} are the most", text.len())));
            }
            // What stands there is executed by git on the host: hooks, filters, configuration.
            if path.parts().iter().any(|part| part.eq_ignore_ascii_case(".git")) {
                return Err(ToolRefusal::new(
                    "PATH_NOT_ALLOWED",
                    "nothing is written below a folder named .git",
                    "write the workspace's own files; they are committed when the run ends",
                ));
            }
            FileCall::Write { path: named(path)?, text }
        }
        ("workspace_write", None, None, None) => return Err(absent("text")),
        _ => return Err(bad(format!("{tool} was given an argument that it does not have"))),
    };
    Ok((mount, call))
}
