//! The three tools offered to the model, and running one call. Must never act outside the workspace, and never fail the
//! run: a tool that cannot do its work says so to the model.

use crate::{
    message::ToolCall,
    workspace::{Refused, Workspace},
};
use serde_json::{Map, Value, json};

/// How much of a file one call of `read_file` gives to the model, in bytes.
pub const EXCERPT_BYTES_MAX: usize = 8 * 1024;

/// What a tool said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it did its work.
    pub ok: bool,
    /// The words, for the model and for the log.
    pub text: String,
}

/// The definitions in OpenAI's form; `write_file` only where writing is allowed.
pub fn definitions(may_write: bool) -> Vec<Value> {
    let function = |name: &str, description: &str, properties: Value, required: &[&str]| {
        json!({ "type": "function", "function": { "name": name, "description": description,
            "parameters": { "type": "object", "properties": properties, "required": required } } })
    };
    let path = json!({ "type": "string", "description": "path relative to the workspace" });
    let mut tools = vec![
        function("list_files", "List the files of the workspace or of one folder in it.", json!({ "path": path }), &[]),
        function(
            "read_file",
            "Read a text file of the workspace.",
            json!({ "path": path, "offset": { "type": "integer", "description": "byte to start from, 0 if absent" } }),
            &["path"],
        ),
    ];
    if may_write {
        let content = json!({ "type": "string", "description": "the whole new text of the file" });
        let description = "Write a text file of the workspace; replaces it if it is there.";
        tools.push(function(
            "write_file",
            description,
            json!({ "path": path, "content": content }),
            &["path", "content"],
        ));
    }
    tools
}

/// The arguments as an object; `None` when the model did not write one. No arguments at all are an empty object.
pub fn arguments(call: &ToolCall) -> Option<Map<String, Value>> {
    if call.arguments.trim().is_empty() {
        return Some(Map::new());
    }
    serde_json::from_str(&call.arguments).ok()
}

/// Runs one call.
pub fn run(workspace: &Workspace, may_write: bool, call: &ToolCall) -> Outcome {
    let done = match arguments(call) {
        None => Err(Refused("the arguments are not a JSON object".to_owned())),
        Some(arguments) => dispatch(workspace, may_write, &call.name, &arguments),
    };
    match done {
        Ok(text) => Outcome { ok: true, text },
        Err(Refused(why)) => Outcome { ok: false, text: format!("error: {why}") },
    }
}

fn dispatch(
    workspace: &Workspace,
    may_write: bool,
    name: &str,
    arguments: &Map<String, Value>,
) -> Result<String, Refused> {
    let text = |name: &str| arguments.get(name).and_then(Value::as_str);
    let needed = |name: &str| text(name).ok_or_else(|| Refused(format!("the argument {name} is missing")));
    match name {
        "list_files" => workspace.list(text("path").filter(|path| *path != "." && *path != "/").unwrap_or("")),
        "read_file" => {
            let offset = arguments.get("offset").and_then(Value::as_u64).unwrap_or(0);
            Ok(excerpt(
                &workspace.read(needed("path")?)?,
                usize::try_from(offset).unwrap_or(usize::MAX),
                EXCERPT_BYTES_MAX,
            ))
        }
        "write_file" if may_write => {
            let (path, content) = (needed("path")?, needed("content")?);
            workspace.write(path, content)?;
            Ok(format!("wrote {} bytes to {path}", content.len()))
        }
        "write_file" => Err(Refused("the workspace is read-only".to_owned())),
        _ => Err(Refused(format!("there is no tool {}", name.chars().take(64).collect::<String>()))),
    }
}

/// A part of a text, with a note on what is left.
pub fn excerpt(text: &str, offset: usize, max: usize) -> String {
    let start = text.floor_char_boundary(offset);
    let end = text.floor_char_boundary(start.saturating_add(max));
    let part = text.get(start..end).unwrap_or("");
    if end < text.len() {
        return format!("{part}\n[{} more bytes, next offset {end}]", text.len() - end);
    }
    part.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn call(name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: "c".into(), name: name.into(), arguments: arguments.into() }
    }

    #[rstest]
    #[case::list("list_files", "{}", true, true, "a.txt (5 bytes)")]
    #[case::list_without_arguments("list_files", "", true, true, "a.txt (5 bytes)")]
    #[case::list_dot("list_files", r#"{"path":"."}"#, true, true, "a.txt (5 bytes)")]
    #[case::list_slash("list_files", r#"{"path":"/"}"#, true, true, "a.txt (5 bytes)")]
    #[case::list_outside(
        "list_files",
        r#"{"path":"/etc"}"#,
        true,
        false,
        "error: the path must be relative to the workspace"
    )]
    #[case::read("read_file", r#"{"path":"a.txt"}"#, true, true, "hello")]
    #[case::read_offset("read_file", r#"{"path":"a.txt","offset":3}"#, true, true, "lo")]
    #[case::read_beyond("read_file", r#"{"path":"a.txt","offset":99}"#, true, true, "")]
    #[case::read_nothing("read_file", "{}", true, false, "error: the argument path is missing")]
    #[case::write("write_file", r#"{"path":"b/c","content":"12"}"#, true, true, "wrote 2 bytes to b/c")]
    #[case::write_read_only(
        "write_file",
        r#"{"path":"b","content":"12"}"#,
        false,
        false,
        "error: the workspace is read-only"
    )]
    #[case::unknown("run_shell", "{}", true, false, "error: there is no tool run_shell")]
    #[case::not_an_object("read_file", "[1]", true, false, "error: the arguments are not a JSON object")]
    #[case::cut("read_file", r#"{"path":"a"#, true, false, "error: the arguments are not a JSON object")]
    fn runs(
        #[case] name: &str,
        #[case] arguments: &str,
        #[case] may_write: bool,
        #[case] ok: bool,
        #[case] text: &str,
    ) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.txt"), "hello").unwrap();
        let workspace = Workspace::open(dir.path()).unwrap();
        assert_eq!(run(&workspace, may_write, &call(name, arguments)), Outcome { ok, text: text.into() });
        assert_eq!(dir.path().join("b").exists(), name == "write_file" && ok);
    }

    #[test]
    fn offers_writing_only_where_it_is_allowed() {
        let names = |may_write| -> Vec<String> {
            definitions(may_write).iter().map(|tool| tool["function"]["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(false), ["list_files", "read_file"]);
        assert_eq!(names(true), ["list_files", "read_file", "write_file"]);
    }

    #[rstest]
    #[case::whole("abc", 0, 3, "abc")]
    #[case::part("abcdef", 0, 4, "abcd\n[2 more bytes, next offset 4]")]
    #[case::next("abcdef", 4, 4, "ef")]
    #[case::whole_characters("éé", 0, 3, "é\n[2 more bytes, next offset 2]")]
    #[case::offset_in_a_character("éa", 1, 9, "éa")]
    fn excerpts(#[case] text: &str, #[case] offset: usize, #[case] max: usize, #[case] expected: &str) {
        assert_eq!(excerpt(text, offset, max), expected);
    }
}
