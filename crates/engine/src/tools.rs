//! The tools of this installation: tool.v1 documents from one folder, and beside them what an operator accepted of each
//! upstream's definition. Must never offer a tool whose document is not good or whose server is not configured.

use custody_contracts::catalogue;
use custody_contracts::tool::Tool;
use custody_domain::tool::{Definition, Offered, Tools};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The largest document.
pub const DOCUMENT_BYTES_MAX: u64 = 262_144;
/// The folder of accepted definitions, in the folder of documents.
const ACCEPTED: &str = "accepted";

/// Why a tool is not offered.
#[derive(Debug, thiserror::Error)]
#[error("tool document {path}: {why}")]
pub struct ToolError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// What the folder looked like: name, size and time of each file.
type Stamp = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// The tools. Files that change are read again at the next question, so that a tool which is added, narrowed or taken
/// away needs no restart.
#[derive(Debug, Clone)]
pub struct ToolBook {
    folder: Option<PathBuf>,
    servers: Arc<BTreeSet<String>>,
    known: Arc<Mutex<(Stamp, Arc<Tools>)>>,
}

impl ToolBook {
    /// The gateway's own tools alone.
    pub fn builtin() -> ToolBook {
        let known = Arc::new(Mutex::new((Vec::new(), Arc::new(Tools::builtin()))));
        ToolBook { folder: None, servers: Arc::default(), known }
    }

    /// Reads a folder; one that does not exist holds none.
    ///
    /// # Errors
    /// [`ToolError`] for the first document that cannot be offered.
    pub fn read(folder: &Path, servers: BTreeSet<String>) -> Result<ToolBook, ToolError> {
        let stamp = stamp(folder);
        let (tools, bad) = read_folder(folder, &servers)?;
        if let Some(first) = bad.into_iter().next() {
            return Err(first);
        }
        let known = Arc::new(Mutex::new((stamp, Arc::new(tools))));
        Ok(ToolBook { folder: Some(folder.to_owned()), servers: Arc::new(servers), known })
    }

    /// The tools as the files are now. A document that is broken now is not offered, whatever it was before.
    pub fn tools(&self) -> Arc<Tools> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(folder) = &self.folder else { return known.1.clone() };
        let now = stamp(folder);
        if now != known.0 {
            let tools = match read_folder(folder, &self.servers) {
                Ok((tools, bad)) => {
                    bad.iter().for_each(|error| tracing::error!(%error, "tool is not offered"));
                    tools
                }
                Err(error) => {
                    tracing::error!(%error, "tools cannot be read: only the gateway's own are offered");
                    Tools::builtin()
                }
            };
            *known = (now, Arc::new(tools));
        }
        known.1.clone()
    }
}

/// The file of a tool's document.
pub fn document_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

/// The file of what was accepted of a tool.
pub fn accepted_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(ACCEPTED).join(format!("{name}.json"))
}

fn stamp(folder: &Path) -> Stamp {
    let mut found = Stamp::new();
    for folder in [folder.to_owned(), folder.join(ACCEPTED)] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(meta) = entry.metadata() {
                found.push((entry.path(), meta.len(), meta.modified().ok()));
            }
        }
    }
    found.sort();
    found
}

fn read_folder(folder: &Path, servers: &BTreeSet<String>) -> Result<(Tools, Vec<ToolError>), ToolError> {
    let mut tools = Tools::builtin();
    let mut bad = Vec::new();
    for path in documents(folder)? {
        let read = read_document(&path).and_then(|document| {
            let refuse = |why: String| ToolError { path: path.clone(), why };
            if document_path(folder, &document.name) != path {
                return Err(refuse(format!("its file is named after another tool than {:?}", document.name)));
            }
            if let Some(server) = document.mcp_server.as_ref().filter(|server| !servers.contains(*server)) {
                return Err(refuse(format!("server {server:?} is not in [tools.servers]")));
            }
            let accepted = read_accepted(folder, &document.name)?;
            Offered::read(document, accepted.as_ref()).map_err(|e| refuse(e.to_string()))
        });
        match read
            .and_then(|tool| tools.clone().with(tool).map_err(|e| ToolError { path: path.clone(), why: e.to_string() }))
        {
            Ok(more) => tools = more,
            Err(error) => bad.push(error),
        }
    }
    Ok((tools, bad))
}

/// Every document of a folder, by name.
///
/// # Errors
/// [`ToolError`] when the folder cannot be read.
pub fn documents(folder: &Path) -> Result<Vec<PathBuf>, ToolError> {
    let bad = |e: std::io::Error| ToolError { path: folder.to_owned(), why: e.to_string() };
    let mut found = Vec::new();
    match std::fs::read_dir(folder) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.map_err(bad)?.path();
                if path.extension().is_some_and(|e| e == "json") {
                    found.push(path);
                }
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(bad(e)),
    }
    found.sort();
    Ok(found)
}

/// Reads and checks one document.
///
/// # Errors
/// [`ToolError`] with the JSON pointer and keyword of the first violation.
pub fn read_document(path: &Path) -> Result<Tool, ToolError> {
    let bad = |why: String| ToolError { path: path.to_owned(), why };
    let value = read_json(path)?;
    catalogue::check("tool.v1", "Tool", &value).map_err(|e| bad(e.to_string()))?;
    serde_json::from_value(value).map_err(|e| bad(e.to_string()))
}

/// What was accepted of a tool; `None` when nothing was.
///
/// # Errors
/// [`ToolError`] when it is there and cannot be read.
pub fn read_accepted(folder: &Path, name: &str) -> Result<Option<Definition>, ToolError> {
    let path = accepted_path(folder, name);
    if !path.exists() {
        return Ok(None);
    }
    let value = read_json(&path)?;
    serde_json::from_value(value).map(Some).map_err(|e| ToolError { path, why: e.to_string() })
}

fn read_json(path: &Path) -> Result<serde_json::Value, ToolError> {
    let bad = |why: String| ToolError { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?.len();
    if size > DOCUMENT_BYTES_MAX {
        return Err(bad(format!("{size} bytes are more than {DOCUMENT_BYTES_MAX}")));
    }
    let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(path: PathBuf, value: &serde_json::Value) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value.to_string()).unwrap();
    }

    #[test]
    fn a_tool_is_offered_from_the_moment_its_definition_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let servers = || BTreeSet::from(["mail".to_owned()]);
        let book = ToolBook::read(folder, servers()).unwrap();
        assert!(book.tools().get("mail__send").is_none());
        let document = json!({
            "name": "mail__send", "scope": "mail:send", "grant": "gate", "transport": "mcp", "mcp_server": "mail",
            "barriers": [], "effect": "irreversible", "idempotent": false, "constraints": [],
        });
        write(document_path(folder, "mail__send"), &document);
        assert!(book.tools().get("mail__send").is_none(), "nobody accepted it");
        let why = ToolBook::read(folder, servers()).unwrap_err().to_string();
        assert!(why.contains("custody tool accept mail__send"), "{why}");
        let definition = json!({ "name": "send", "description": "Sends.", "input_schema": { "type": "object" } });
        write(accepted_path(folder, "mail__send"), &definition);
        assert!(book.tools().get("mail__send").is_some_and(|tool| tool.is_gated()));
        let why = ToolBook::read(folder, BTreeSet::new()).unwrap_err().to_string();
        assert!(why.contains("[tools.servers]"), "{why}");
        // What breaks is offered no more; the others stay.
        write(document_path(folder, "mail__send"), &json!({ "name": "mail__send" }));
        let tools = book.tools();
        assert!(tools.get("mail__send").is_none() && tools.get("workspace_read").is_some());
        std::fs::remove_file(document_path(folder, "mail__send")).unwrap();
        write(document_path(folder, "other"), &document);
        assert!(ToolBook::read(folder, servers()).unwrap_err().to_string().contains("named after another tool"));
    }

    #[test]
    fn a_document_has_a_largest_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = document_path(folder.path(), "workspace_read");
        let document = json!({
            "name": "workspace_read", "scope": "workspace:read", "grant": "auto", "transport": "builtin",
            "barriers": [], "effect": "read", "idempotent": true, "constraints": [],
        })
        .to_string();
        let room = usize::try_from(DOCUMENT_BYTES_MAX).unwrap() - document.len();
        std::fs::write(&path, document.clone() + &" ".repeat(room)).unwrap();
        read_document(&path).unwrap();
        std::fs::write(&path, document + &" ".repeat(room + 1)).unwrap();
        assert!(read_document(&path).unwrap_err().why.contains("are more than"));
    }
}
