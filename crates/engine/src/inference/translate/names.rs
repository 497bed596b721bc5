//! The names of tools where one format has more kinds than the other: OpenAI Responses groups functions in namespaces
//! and has free-form tools, Chat Completions has flat functions only. Must never let two tools become one.

use super::Untranslatable;
use std::collections::BTreeMap;

/// The longest name of a function. Source: OpenAI API reference, "Chat", `tools[].function.name`, 2025.
const NAME_BYTES_MAX: usize = 64;

/// What a flat name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ToolName {
    /// Its namespace.
    pub(super) namespace: Option<String>,
    /// Its name there.
    pub(super) name: String,
    /// Whether it takes free text and not an object.
    pub(super) custom: bool,
}

/// Every tool of a request, by flat name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct ToolNames(BTreeMap<String, ToolName>);

impl ToolNames {
    /// Takes a tool in and says what it is called flat.
    pub(super) fn add(&mut self, namespace: Option<&str>, name: &str, custom: bool) -> Result<String, Untranslatable> {
        let flat = flat(namespace, name);
        let tool = ToolName { namespace: namespace.map(str::to_owned), name: name.to_owned(), custom };
        if flat.len() > NAME_BYTES_MAX {
            return Err(Untranslatable::new(format!("the tool name {flat:?} is longer than {NAME_BYTES_MAX} bytes")));
        }
        match self.0.insert(flat.clone(), tool.clone()) {
            Some(before) if before != tool => {
                Err(Untranslatable::new(format!("two tools would both be called {flat:?} at this upstream")))
            }
            _ => Ok(flat),
        }
    }

    /// What a model's call means to the agent. A name that was never offered stays what it is.
    pub(super) fn meant(&self, flat: &str) -> ToolName {
        let unknown = || ToolName { namespace: None, name: flat.to_owned(), custom: false };
        self.0.get(flat).cloned().unwrap_or_else(unknown)
    }
}

/// The flat name of a tool: `namespace__name`.
pub(super) fn flat(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        None => name.to_owned(),
        Some(space) if space.ends_with("__") => [space, name].concat(),
        Some(space) => [space, "__", name].concat(),
    }
}
