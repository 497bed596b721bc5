//! `custody contract`: the contracts that are compiled in. Reads files and standard input only; needs no server.

mod diff;

use super::Ctx;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, Render, col, line, notice, raw};
use custody_contracts::asyncapi::{self, ChannelFacts, StreamFacts};
use custody_contracts::catalogue::{self, CheckError, Violation};
use custody_contracts::seal;
use custody_engine::projector::QUERIES;
use custody_engine::runtime::CONTENTS;
use custody_streams::spec::{Discard, StreamOptions, StreamSpec, all};
use custody_streams::subject::{CONTENT_ALL, QUERY_ALL};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The largest document that is read for checking.
const DOCUMENT_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Contracts: ls, show, validate, diff, export.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ContractCommand {
    /// Every contract, its shapes, and whether it may still change
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody contract ls\n  custody contract ls -o name\n  custody contract ls -o json --fields name,digest"
    )]
    Ls,
    /// What a contract is for; its schema with -o json
    #[command(
        after_help = "Examples:\n  custody contract show unit.v1\n  custody contract show unit.v1 -o json > unit.schema.json\n  custody contract show ledger.v2 --shape RunFinished"
    )]
    Show {
        /// Its name, for example unit.v1
        name: String,
        /// Only this shape, as a schema that refers to nothing outside itself
        #[arg(long)]
        shape: Option<String>,
    },
    /// Check a document against a contract
    #[command(
        after_help = "Prints one line for each violation: JSON pointer, keyword, message.\n\nExamples:\n  custody contract validate unit.v1 dispatch.json\n  jq .data event.json | custody contract validate unit.v1 -\n  custody contract validate ledger.v2 event.json --shape RunFinished -o json\n\nExit codes: 0 valid, 1 not valid, 3 no such contract, shape or file."
    )]
    Validate {
        /// The contract, for example unit.v1
        name: String,
        /// The document; `-` reads standard input. At most 2 MiB
        #[arg(value_name = "FILE|-")]
        file: PathBuf,
        /// The shape [default: the contract's first]
        #[arg(long)]
        shape: Option<String>,
    },
    /// What changed between two schemas, and whether it breaks documents
    #[command(
        after_help = "A change is additive when every document that was valid stays valid; what cannot be shown to be additive is breaking.\n\nExamples:\n  custody contract diff unit.v1 ./unit.v2.json\n  custody contract diff old/schema.json new/schema.json -o json\n\nExit codes: 0 nothing or only additions, 6 something breaks."
    )]
    Diff {
        /// The older one: NAME.vN or a schema file
        a: String,
        /// The newer one: NAME.vN or a schema file
        b: String,
    },
    /// Schemas, and the AsyncAPI and OpenAPI descriptions, for other tools
    #[command(subcommand)]
    Export(ExportCommand),
}

/// What can be exported.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ExportCommand {
    /// AsyncAPI 3.1 of every subject, to standard output or DIR/asyncapi.json
    #[command(
        after_help = "Examples:\n  custody contract export asyncapi > asyncapi.json\n  custody contract export asyncapi ./api"
    )]
    Asyncapi {
        /// Folder; made if missing
        dir: Option<PathBuf>,
    },
    /// OpenAPI of the web's REST, to standard output or DIR/openapi.json
    #[command(
        after_help = "The document that a running server serves at /api/v1/openapi.json.\n\nExamples:\n  custody contract export openapi > openapi.json\n  custody contract export openapi ./api"
    )]
    Openapi {
        /// Folder; made if missing
        dir: Option<PathBuf>,
    },
    /// Every shape as a JSON Schema of its own, to standard output as one object or to DIR/SHAPE.json
    #[command(
        after_help = "Examples:\n  custody contract export schemas ./schemas\n  custody contract export schemas | jq 'keys'"
    )]
    Schemas {
        /// Folder; made if missing
        dir: Option<PathBuf>,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: ContractCommand) -> CliResult {
    match command {
        ContractCommand::Ls => ls(ctx),
        ContractCommand::Show { name, shape } => show(ctx, &name, shape.as_deref()),
        ContractCommand::Validate { name, file, shape } => validate(ctx, &name, &file, shape.as_deref()),
        ContractCommand::Diff { a, b } => compare(ctx, &a, &b),
        ContractCommand::Export(ExportCommand::Asyncapi { dir }) => export_asyncapi(dir.as_deref()),
        ContractCommand::Export(ExportCommand::Openapi { dir }) => export_openapi(dir.as_deref()),
        ContractCommand::Export(ExportCommand::Schemas { dir }) => export_schemas(dir.as_deref()),
    }
}

/// Digest over the names and digests of all contracts, in their order: two programs with the same one speak alike.
pub(crate) fn set_digest() -> String {
    let mut text = String::new();
    for contract in catalogue::ALL {
        text.push_str(&[contract.name, " ", &seal::digest_of(contract), "\n"].concat());
    }
    custody_contracts::canonical::digest(text.as_bytes())
}

fn ls(ctx: &Ctx) -> CliResult {
    let mut rows = Vec::new();
    for contract in catalogue::ALL {
        let shapes = catalogue::shapes(contract.name).map_err(unknown)?;
        let state = seal::state(contract.name).map_err(unknown)?;
        let digest = seal::digest_of(contract);
        rows.push(json!({ "name": contract.name, "shapes": shapes, "sealed": state.as_str(), "digest": digest }));
    }
    let columns = [col("NAME", "name"), col("SHAPES", "shapes"), col("SEALED", "sealed"), col("DIGEST", "digest")];
    ctx.render.list("contract.v1", "name", &columns, &rows)
}

fn show(ctx: &Ctx, name: &str, shape: Option<&str>) -> CliResult {
    let contract = catalogue::find(name).map_err(unknown)?;
    if let Some(shape) = shape {
        known_shape(contract.name, shape)?;
        let key = [contract.name, ".", shape].concat();
        let schema = asyncapi::schemas().remove(&key).unwrap_or_default();
        return line(serde_json::to_string_pretty(&schema)?);
    }
    match ctx.render.format() {
        Format::Json => raw(contract.schema.as_bytes()),
        Format::Jsonl => line(serde_json::from_str::<Value>(contract.schema)?),
        Format::Name => line(contract.name),
        Format::Table | Format::Wide | Format::Detailed => raw(contract.readme.as_bytes()),
        other @ (Format::Csv | Format::Template(_)) => Err(crate::render::unsupported(&other)),
    }
}

fn known_shape(name: &str, shape: &str) -> CliResult {
    let shapes = catalogue::shapes(name).map_err(unknown)?;
    if shapes.iter().any(|s| s == shape) {
        return Ok(());
    }
    Err(unknown(CheckError::UnknownShape {
        contract: name.to_owned(),
        shape: shape.chars().take(80).collect(),
        known: shapes.join(", "),
    }))
}

fn validate(ctx: &Ctx, name: &str, file: &Path, shape: Option<&str>) -> CliResult {
    let contract = catalogue::find(name).map_err(unknown)?;
    let first = catalogue::shapes(contract.name).map_err(unknown)?.first().map_or("", String::as_str);
    let shape = shape.unwrap_or(first);
    known_shape(contract.name, shape)?;
    let violations = match parse(&read_bounded(file)?) {
        Ok(document) => match catalogue::check(contract.name, shape, &document) {
            Ok(()) => Vec::new(),
            Err(CheckError::Invalid(violations)) => violations,
            Err(other) => return Err(unknown(other)),
        },
        Err(violation) => vec![violation],
    };
    report(&ctx.render, contract.name, shape, file, &violations)?;
    if violations.is_empty() { Ok(()) } else { Err(CliError::exit_only(exit::FAILED)) }
}

fn report(render: &Render, contract: &str, shape: &str, file: &Path, violations: &[Violation]) -> CliResult {
    let valid = violations.is_empty();
    if render.is_json() {
        let document = json!({ "contract": contract, "shape": shape, "valid": valid, "violations": violations });
        return render.one("validation.v1", "contract", &document);
    }
    if valid {
        notice(format!("{} is a valid {contract} {shape}", file.display()));
        return Ok(());
    }
    let rows = violations.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let columns = [col("POINTER", "pointer"), col("KEYWORD", "keyword"), col("MESSAGE", "message")];
    // A message that is cut says nothing about what to change.
    let render = Render { no_trunc: true, ..render.clone() };
    render.list("validation.v1", "pointer", &columns, &rows)
}

/// A document's bytes, or one more than the limit: what is too large is judged by [`parse`].
fn read_bounded(file: &Path) -> CliResult<Vec<u8>> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let opened = std::fs::File::open(file).map_err(|e| unreadable(file, &e))?;
    opened.take(DOCUMENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|e| unreadable(file, &e))?;
    Ok(bytes)
}

fn unreadable(file: &Path, error: &std::io::Error) -> CliError {
    let exit = if error.kind() == std::io::ErrorKind::NotFound { exit::NOT_FOUND } else { exit::FAILED };
    CliError::new(exit, "FILE_UNREADABLE", format!("{}: {error}", file.display()))
        .hint("name a file, or - for standard input")
}

/// The document of some bytes; what cannot be one is a violation of `json` itself.
fn parse(bytes: &[u8]) -> Result<Value, Violation> {
    let json = |message: String| Violation { pointer: String::new(), keyword: "json".into(), message };
    if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(json(format!("the document is larger than {DOCUMENT_BYTES_MAX} bytes")));
    }
    // serde_json refuses what is nested deeper than 128 levels.
    serde_json::from_slice(bytes).map_err(|e| json(format!("not JSON: {e}")))
}

fn compare(ctx: &Ctx, a: &str, b: &str) -> CliResult {
    let changes = diff::diff(&schema_of(a)?, &schema_of(b)?);
    let rows = changes.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let columns = [col("PATH", "path"), col("CHANGE", "change"), col("EFFECT", "effect")];
    let render = Render { no_trunc: true, ..ctx.render.clone() };
    if changes.is_empty() && !render.is_json() {
        notice(format!("{a} and {b} are the same"));
    } else {
        render.list("contract-diff.v1", "path", &columns, &rows)?;
    }
    match changes.iter().filter(|c| c.effect == diff::Effect::Breaking).count() {
        0 => Ok(()),
        _ => Err(CliError::exit_only(exit::CONFLICT)),
    }
}

/// The schema of a contract's name, or of a file.
fn schema_of(text: &str) -> CliResult<Value> {
    match catalogue::find(text) {
        Ok(contract) => Ok(serde_json::from_str(contract.schema)?),
        Err(error) if !Path::new(text).is_file() => Err(unknown(error)),
        Err(_) => {
            let path = Path::new(text);
            parse(&read_bounded(path)?).map_err(|v| {
                CliError::new(exit::FAILED, "SCHEMA_UNREADABLE", format!("{}: {}", path.display(), v.message))
                    .hint("give a JSON Schema")
            })
        }
    }
}

fn export_openapi(dir: Option<&Path>) -> CliResult {
    let text = serde_json::to_string_pretty(&custody_http::rest::document())?;
    match dir {
        None => line(text),
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            write(&dir.join("openapi.json"), &text)
        }
    }
}

fn export_asyncapi(dir: Option<&Path>) -> CliResult {
    let document = asyncapi::document(&channel_facts());
    let text = serde_json::to_string_pretty(&document)?;
    match dir {
        None => line(text),
        Some(dir) => {
            std::fs::create_dir_all(dir)?;
            write(&dir.join("asyncapi.json"), &text)
        }
    }
}

fn export_schemas(dir: Option<&Path>) -> CliResult {
    let schemas = asyncapi::schemas();
    let Some(dir) = dir else {
        return line(serde_json::to_string_pretty(&Value::Object(schemas.into_iter().collect::<Map<_, _>>()))?);
    };
    std::fs::create_dir_all(dir)?;
    for (key, schema) in schemas {
        write(&dir.join([&key, ".json"].concat()), &serde_json::to_string_pretty(&schema)?)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> CliResult {
    std::fs::write(path, [text, "\n"].concat())?;
    line(path.display())
}

/// What streams and verbs add to the description of subjects.
fn channel_facts() -> Vec<ChannelFacts> {
    let mut facts: Vec<ChannelFacts> = all(&StreamOptions::one_machine()).iter().map(stream_facts).collect();
    let verbs = QUERIES.iter().map(|v| (*v).to_owned()).collect();
    facts.push(ChannelFacts { subjects: vec![QUERY_ALL.to_owned()], stream: None, verbs });
    let verbs = CONTENTS.iter().map(|v| (*v).to_owned()).collect();
    facts.push(ChannelFacts { subjects: vec![CONTENT_ALL.to_owned()], stream: None, verbs });
    facts
}

fn stream_facts(spec: &StreamSpec) -> ChannelFacts {
    const MS: u64 = 1_000_000;
    let limit = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
    ChannelFacts {
        subjects: spec.subjects.clone(),
        stream: Some(StreamFacts {
            stream: spec.name.clone(),
            retention: spec.retention.clone(),
            discard: if spec.discard == Discard::New { "new" } else { "old" }.to_owned(),
            duplicate_window_ms: spec.duplicate_window / MS,
            max_age_ms: (spec.max_age > 0).then_some(spec.max_age / MS),
            max_message_bytes: limit(spec.max_msg_size),
            max_bytes: limit(spec.max_bytes),
            deny_delete: spec.deny_delete,
            deny_purge: spec.deny_purge,
        }),
        verbs: Vec::new(),
    }
}

/// A name that leads nowhere, as this command's error.
fn unknown(error: CheckError) -> CliError {
    let (code, hint) = match &error {
        CheckError::UnknownContract(_) => ("CONTRACT_UNKNOWN", "custody contract ls".to_owned()),
        CheckError::UnknownVersion { known, .. } => {
            ("CONTRACT_VERSION_UNKNOWN", ["custody contract show ", known].concat())
        }
        CheckError::UnknownShape { contract, .. } => ("SHAPE_UNKNOWN", ["custody contract show ", contract].concat()),
        CheckError::Retired { replaced_by, .. } if replaced_by.is_empty() => {
            ("CONTRACT_RETIRED", "custody contract ls".to_owned())
        }
        CheckError::Retired { replaced_by, .. } => {
            ("CONTRACT_RETIRED", ["custody contract show ", replaced_by].concat())
        }
        CheckError::Invalid(_) => {
            let hint = "the program itself is damaged: install it again".to_owned();
            return CliError::new(exit::FAILED, "CONTRACT_BROKEN", error).hint(hint);
        }
    };
    CliError::new(exit::NOT_FOUND, code, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::unknown("nonsense.v1", "CONTRACT_UNKNOWN", "custody contract ls")]
    #[case::version("unit.v9", "CONTRACT_VERSION_UNKNOWN", "custody contract show unit.v1")]
    #[case::retired("event.v1", "CONTRACT_RETIRED", "custody contract show schedule.v1")]
    #[case::retired_without_version("task", "CONTRACT_RETIRED", "custody contract show workspace.v1")]
    fn a_name_that_leads_nowhere_says_where_to_go(#[case] name: &str, #[case] code: &str, #[case] hint: &str) {
        let error = unknown(catalogue::find(name).unwrap_err());
        assert_eq!((error.code.as_str(), error.exit), (code, exit::NOT_FOUND));
        assert_eq!(error.hint.as_deref(), Some(hint));
    }

    #[rstest]
    #[case::not_json(b"{".to_vec(), "not JSON")]
    #[case::deep([vec![b'['; 4_000], vec![b']'; 4_000]].concat(), "recursion")]
    #[case::large(vec![b' '; 2 * 1024 * 1024 + 1], "larger")]
    fn what_is_no_document_breaks_json(#[case] bytes: Vec<u8>, #[case] part: &str) {
        let violation = parse(&bytes).unwrap_err();
        assert_eq!(violation.keyword, "json");
        assert!(violation.message.contains(part), "{}", violation.message);
    }

    #[test]
    fn every_stream_and_every_query_is_described() {
        let document = asyncapi::document(&channel_facts());
        assert_eq!(document["channels"]["launch"]["x-jetstream"]["stream"], "LAUNCH");
        assert_eq!(document["channels"]["launch"]["x-jetstream"]["max_age_ms"], json!(30u64 * 86_400_000));
        let verbs = document["channels"]["query"]["parameters"]["verb"]["enum"].as_array().unwrap();
        assert_eq!(verbs.len(), QUERIES.len());
    }

    #[test]
    fn the_set_digest_is_one_digest() {
        let digest = set_digest();
        assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");
        assert_eq!(digest, set_digest());
    }
}
