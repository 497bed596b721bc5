//! `cargo xtask seal`: contracts/seal.json says by digest which schemas never change again. Must never change or drop
//! an entry: what is sealed may stand in a log that outlives this version of the code.

use crate::tidy::contract_problems;
use crate::tree::Tree;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Where the seals are.
pub(crate) const PATH: &str = "contracts/seal.json";

/// `unit.v1` to `sha256:` and 64 hexadecimal digits, over the canonical JSON of the schema.
pub(crate) type Seals = BTreeMap<String, String>;

/// Keys sorted at every level, no white space: the same text from every layout of one document.
pub(crate) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<&String, &Value> = map.iter().collect();
            out.push('{');
            for (i, (key, inner)) in sorted.into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(inner, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    let mut out = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
    }
    out
}

/// The digest of a contract's schema as it stands now.
///
/// # Errors
/// When the schema is missing or is not JSON.
pub(crate) fn schema_digest(tree: &Tree, name: &str) -> Result<String> {
    let path = format!("contracts/{name}/schema.json");
    let text = tree.text(&path).with_context(|| format!("{path} is missing"))?;
    let value: Value = serde_json::from_str(text).with_context(|| format!("{path} is not JSON"))?;
    Ok(digest(canonical(&value).as_bytes()))
}

/// What seal.json says; `None` when there is no such file.
///
/// # Errors
/// When it is not an object of texts.
pub(crate) fn read(tree: &Tree) -> Result<Option<Seals>> {
    let Some(text) = tree.text(PATH) else { return Ok(None) };
    Ok(Some(serde_json::from_str(text).with_context(|| format!("{PATH} is not an object of texts"))?))
}

/// The bytes of seal.json: sorted, indented, one entry a line, so that a diff shows what was sealed.
pub(crate) fn render(seals: &Seals) -> String {
    if seals.is_empty() {
        return "{}\n".to_owned();
    }
    let mut text = String::from("{\n");
    for (i, (name, digest)) in seals.iter().enumerate() {
        let comma = if i + 1 < seals.len() { "," } else { "" };
        let _ = writeln!(text, "  {}: {}{comma}", Value::from(name.as_str()), Value::from(digest.as_str())); // as above
    }
    text.push_str("}\n");
    text
}

/// What is wrong with a sealed contract, or `None`.
pub(crate) fn broken(tree: &Tree, name: &str, sealed: &str) -> Option<String> {
    match schema_digest(tree, name) {
        Ok(now) if now == sealed => None,
        Ok(now) => Some(format!(
            "the sealed schema of {name} changed ({} is now {}): put it back and make a new .v{} with an upcaster",
            short(sealed),
            short(&now),
            version(name).map_or_else(|| "N+1".to_owned(), |v| (v + 1).to_string()),
        )),
        Err(why) => Some(format!("{name} is sealed, but {why:#}")),
    }
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

/// The 1 of `unit.v1`.
pub(crate) fn version(name: &str) -> Option<u32> {
    name.rsplit_once(".v")?.1.parse().ok()
}

/// The seals with `names` added.
///
/// # Errors
/// When a name is sealed already, or its folder is not complete enough to be frozen.
pub(crate) fn added(tree: &Tree, names: &[String]) -> Result<Seals> {
    let mut seals = read(tree)?.unwrap_or_default();
    for name in names {
        let problems = contract_problems(tree, name);
        if let Some(problem) = problems.first() {
            bail!("{name} cannot be sealed: {}: {}", problem.path, problem.why);
        }
        let now = schema_digest(tree, name)?;
        match seals.get(name) {
            Some(sealed) if *sealed == now => bail!("{name} is sealed already, and unchanged"),
            Some(sealed) => bail!("{}", broken(tree, name, sealed).unwrap_or_default()),
            None => seals.insert(name.clone(), now),
        };
    }
    Ok(seals)
}

/// The command. `names` is empty for a check. Returns whether every seal holds.
///
/// # Errors
/// As [`added`], or when the tree cannot be read or the file cannot be written.
pub(crate) fn run(root: &Path, names: &[String]) -> Result<bool> {
    let (holds, text) = act(root, names)?;
    crate::out(&text)?;
    Ok(holds)
}

/// Does what [`run`] does, and says it in a text.
fn act(root: &Path, names: &[String]) -> Result<(bool, String)> {
    let tree = Tree::load(root)?;
    let (mut holds, mut text) = (true, String::new());
    if !names.is_empty() {
        let seals = added(&tree, names)?;
        std::fs::write(root.join(PATH), render(&seals)).with_context(|| format!("writing {PATH}"))?;
        for name in names {
            let _ = writeln!(text, "sealed {name} {}", seals.get(name).map_or("", String::as_str)); // as above
        }
        return Ok((holds, text));
    }
    let Some(seals) = read(&tree)? else {
        bail!("{PATH} is missing: seal a contract with `cargo xtask seal --add NAME.vN`")
    };
    if seals.is_empty() {
        text.push_str("no contract is sealed yet\n");
    }
    for (name, sealed) in &seals {
        let broken = broken(&tree, name, sealed);
        holds &= broken.is_none();
        let _ = match broken {
            None => writeln!(text, "ok   {name} {sealed}"),
            Some(why) => writeln!(text, "FAIL {name}: {why}"),
        }; // as above
    }
    Ok((holds, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SCHEMA: &str = r#"{"x-shapes":["A"],"$defs":{"A":{"type":"object"}}}"#;

    fn tree(schema: &str, seals: Option<&str>) -> Tree {
        let mut tree = Tree::of(&[
            ("contracts/a.v1/schema.json", schema),
            ("contracts/a.v1/README.md", "# a.v1\n"),
            ("contracts/a.v1/golden/A.minimal.json", "{}"),
            ("contracts/a.v1/reject/A.text.type.json", "1"),
        ]);
        if let Some(text) = seals {
            tree.put(PATH, text, false);
        }
        tree
    }

    fn sealed() -> String {
        render(&added(&tree(SCHEMA, None), &["a.v1".to_owned()]).unwrap())
    }

    #[rstest]
    #[case::sorted(r#"{ "b": 1, "a": { "d": [ 1, 2 ], "c": null } }"#, r#"{"a":{"c":null,"d":[1,2]},"b":1}"#)]
    #[case::texts("\"a \\\"b\\\" \\u00e9\\n\"", "\"a \\\"b\\\" é\\n\"")]
    #[case::empty("[{}, []]", "[{},[]]")]
    fn canonical_depends_on_the_document_only(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(canonical(&serde_json::from_str(text).unwrap()), expected);
    }

    #[test]
    fn digest_is_sha_256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest(b"abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[rstest]
    #[case::same(SCHEMA, true)]
    #[case::same_in_another_layout(r#"{ "$defs": {"A": {"type":"object"}}, "x-shapes": ["A"] }"#, true)]
    #[case::a_new_field(r#"{"x-shapes":["A"],"$defs":{"A":{"type":"object","title":"x"}}}"#, false)]
    fn a_sealed_schema_never_changes(#[case] schema: &str, #[case] holds: bool) {
        let text = sealed();
        let tree = tree(schema, Some(&text));
        let seals = read(&tree).unwrap().unwrap();
        let why = broken(&tree, "a.v1", &seals["a.v1"]);
        assert_eq!(why.is_none(), holds, "{why:?}");
        assert!(holds || why.unwrap().contains("make a new .v2 with an upcaster"));
    }

    #[test]
    fn a_sealed_contract_never_goes_away() {
        let why = broken(&Tree::default(), "a.v1", "sha256:00").unwrap();
        assert!(why.contains("a.v1 is sealed") && why.contains("missing"), "{why}");
    }

    #[rstest]
    #[case::changed(r#"{"x-shapes":["A"],"$defs":{"A":{"type":"array"}}}"#, "make a new .v2 with an upcaster")]
    #[case::unchanged(SCHEMA, "sealed already")]
    fn add_refuses_what_is_sealed(#[case] schema: &str, #[case] expected: &str) {
        let why = added(&tree(schema, Some(&sealed())), &["a.v1".to_owned()]).unwrap_err().to_string();
        assert!(why.contains(expected), "{why}");
    }

    #[test]
    fn add_refuses_an_incomplete_contract_and_keeps_the_others() {
        let why = added(&tree(SCHEMA, None), &["b.v1".to_owned()]).unwrap_err().to_string();
        assert!(why.contains("b.v1 cannot be sealed"), "{why}");
        let seals = added(&tree(SCHEMA, Some(r#"{"0.v1":"sha256:00"}"#)), &["a.v1".to_owned()]).unwrap();
        assert_eq!(seals.keys().collect::<Vec<_>>(), ["0.v1", "a.v1"]);
        assert_eq!(render(&seals).lines().count(), 4);
        assert_eq!(serde_json::from_str::<Seals>(&render(&seals)).unwrap(), seals);
    }

    #[test]
    fn a_seal_is_written_once_and_then_holds() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let git = std::process::Command::new("git").args(["init", "--quiet"]).current_dir(root).status().unwrap();
        assert!(git.success());
        for (path, file) in tree(SCHEMA, None).iter() {
            std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            std::fs::write(root.join(path), &file.bytes).unwrap();
        }
        let add = ["a.v1".to_owned()];
        assert!(act(root, &[]).unwrap_err().to_string().contains("is missing"));
        assert!(act(root, &add).unwrap().1.starts_with("sealed a.v1 sha256:"));
        let (holds, text) = act(root, &[]).unwrap();
        assert!(holds && text.starts_with("ok   a.v1 sha256:"), "{text}");
        std::fs::write(root.join("contracts/a.v1/schema.json"), r#"{"x-shapes":["A"]}"#).unwrap();
        let (holds, text) = act(root, &[]).unwrap();
        assert!(!holds && text.starts_with("FAIL a.v1: "), "{text}");
        assert!(act(root, &add).unwrap_err().to_string().contains("make a new .v2"));
    }
}
