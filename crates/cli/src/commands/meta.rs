//! `custody completion`, `man`, `version` and `help`: everything about the program itself.

use super::Ctx;
use crate::args::Cli;
use crate::error::{CliError, CliResult, exit};
use crate::render::{Format, line, raw};
use clap::CommandFactory;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long the server may take to say that it is there.
const SERVER_WAIT: Duration = Duration::from_secs(3);

/// Completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  custody completion bash > ~/.local/share/bash-completion/completions/custody\n  custody completion zsh > \"${fpath[1]}/_custody\"\n  custody completion fish > ~/.config/fish/completions/custody.fish"
)]
pub(crate) struct CompletionArgs {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Manual pages into a folder.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One page a command: custody.1, custody-audit-tail.1, …\n\nExamples:\n  custody man ~/.local/share/man/man1"
)]
pub(crate) struct ManArgs {
    /// The folder; made if missing
    dir: PathBuf,
}

/// Help for a command, or a topic.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  custody help run\n  custody help audit tail\n  custody help exit-codes")]
pub(crate) struct HelpArgs {
    /// A command, or one of environment, exit-codes, formatting, subjects, accessibility
    words: Vec<String>,
}

/// Prints a shell's completion script.
pub(crate) fn completion(_: &Ctx, args: CompletionArgs) -> CliResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "custody", &mut script);
    raw(&script)
}

/// Writes the manual pages.
pub(crate) fn man(_: &Ctx, args: ManArgs) -> CliResult {
    std::fs::create_dir_all(&args.dir)?;
    clap_mangen::generate_to(Cli::command(), &args.dir)?;
    line(args.dir.display())
}

/// Prints versions.
pub(crate) async fn version(ctx: &Ctx) -> CliResult {
    let document = json!({
        "client": env!("CARGO_PKG_VERSION"),
        "contracts": super::contract::set_digest(),
        "server": server(ctx).await,
        "telemetry": "none",
    });
    if matches!(ctx.render.format(), Format::Table | Format::Wide) {
        let server = document.get("server").cloned().unwrap_or_default();
        let said = server.get("version").and_then(Value::as_str).map_or_else(String::new, |v| format!(" {v}"));
        line(format!("client     {}", env!("CARGO_PKG_VERSION")))?;
        line(format!("server     {}{said}", server.get("state").and_then(Value::as_str).unwrap_or_default()))?;
        line(format!("contracts  {}", super::contract::set_digest()))?;
        return line("telemetry  none");
    }
    ctx.render.one("version.v1", "client", &document)
}

/// Whether a server is there. A version is no reason to fail: what cannot be found out is `unknown`.
async fn server(ctx: &Ctx) -> Value {
    let Ok(target) = ctx.target() else { return json!({ "state": "unknown" }) };
    if let Some(up) = target.home.up() {
        return json!({ "state": "up", "version": up.version, "model": up.model });
    }
    if target.config.nats.url.is_none() {
        return json!({ "state": "down" });
    }
    match tokio::time::timeout(SERVER_WAIT, target.operator()).await {
        Ok(Ok(operator)) => {
            json!({ "state": "up", "nats": operator.connection.client().server_info().version })
        }
        Ok(Err(_)) | Err(_) => json!({ "state": "down" }),
    }
}

/// Prints help for a command or a topic.
pub(crate) fn help(_: &Ctx, args: HelpArgs) -> CliResult {
    if let [topic] = args.words.as_slice()
        && let Some((_, text)) = TOPICS.iter().find(|(name, _)| name == topic)
    {
        return raw(text.as_bytes());
    }
    let mut command = Cli::command();
    command.build();
    let mut at = &mut command;
    for word in &args.words {
        let found = at.find_subcommand_mut(word);
        at = found.ok_or_else(|| {
            let topics: Vec<&str> = TOPICS.iter().map(|(name, _)| *name).collect();
            CliError::new(
                exit::NOT_FOUND,
                "NO_SUCH_HELP",
                format!("there is no command or topic {:?}", args.words.join(" ")),
            )
            .hint(format!("custody --help lists the commands; topics are {}", topics.join(", ")))
        })?;
    }
    line(at.render_long_help())
}

/// Topics and their texts.
const TOPICS: [(&str, &str); 5] = [
    ("environment", ENVIRONMENT),
    ("exit-codes", EXIT_CODES),
    ("formatting", FORMATTING),
    ("subjects", SUBJECTS),
    ("accessibility", ACCESSIBILITY),
];

const ENVIRONMENT: &str = "\
Environment variables. A flag wins over its variable, a variable over the configuration file.

  CUSTODY_STATE          state folder of the installation          [$XDG_STATE_HOME/custody, ~/.local/state/custody]
  CUSTODY_CONFIG         configuration file                        [$XDG_CONFIG_HOME/custody/config.toml, ~/.config/…]
  CUSTODY_CACHE          programs, runners and builds              [$XDG_CACHE_HOME/custody, ~/.cache/custody]
  CUSTODY_OUTPUT         form of the output, as -o
  CUSTODY_COLOR          auto, always or never, as --color
  CUSTODY_TIMEOUT        longest wait for an answer, as --timeout
  CUSTODY_NO_INPUT       true: never ask, as --no-input
  CUSTODY_LOG            what `up` and `serve` trace, for example warn,custody_engine=debug
  CUSTODY_RUNNERS        folder with agent-runner.v2 documents     [runners in the cache folder]
  CUSTODY_SOURCE         Custody's source tree, for runner build     [where an image was last built from]
  CUSTODY_NATS_SERVER    the nats-server executable                [bin/nats-server in the cache folder, then PATH]
  CUSTODY_LOCAL_MODEL    the local model's program                 [bin/custody-local-model in the cache folder]
  CUSTODY_MODEL_URL      address of a model, as `up --model-url`
  CUSTODY_MODEL          model name for `up --model-url`
  CUSTODY_MODEL_KEY_FILE file with the key for `up --model-url`
  CUSTODY_EVALS          folder with scenarios for `eval`          [evals here or in a folder above]
  DOCKER_HOST            the container engine                      [unix:///var/run/docker.sock]
  NO_COLOR, CLICOLOR_FORCE  colours off or on
  HTTPS_PROXY, NO_PROXY  for a model that is reached by HTTPS

No variable holds a secret: keys are in files of mode 0600.
";

const EXIT_CODES: &str = "\
Exit codes. With -o json an error is one error.v1 document on standard error.

  0    done
  1    failed, unexpected; a document is not valid; a check of `doctor` failed
  2    wrong usage; a configuration that cannot be used
  3    not found
  4    not signed in, or credentials refused
  5    refused by policy: an admission rule, a forbidden change; the message names the rule
  6    conflict: already decided otherwise, something differs
  7    timed out
  8    server, NATS or a role not reachable
  9    integrity: a gap in the sequence, a bad signature, a broken chain, an unsafe stream
  10   the dispatch ended otherwise than completed; a runner failed its checks
  130  interrupted

`custody eval run` has four of its own: 0 clean, 1 a gate failed, 2 an eval is invalid, 3 the baseline differs.
";

const FORMATTING: &str = "\
Output. Data goes to standard output, everything else to standard error.

  -o table         columns, upper-case headers, two spaces between: the default
  -o wide          more columns
  -o detailed      every field, one a line
  -o json          one JSON document; each object names its schema
  -o jsonl         one JSON document a line
  -o csv           RFC 4180
  -o name          only ids, for $( )
  -o template='{dispatch} {usage.wall_ms}'   fields of each record

  --fields a,b.c   only these fields, in every form
  --no-headers     no header line
  --no-trunc       no cutting of long cells
  --time relative|utc|iso   for people; JSON has RFC 3339 in UTC, durations in milliseconds

Text from agents is shown with its control characters replaced: it cannot move the cursor.
";

const SUBJECTS: &str = "\
Subjects on NATS. A launcher sees its own and nothing else.

  launch.<launcher>.dispatch       a launcher asks: a CloudEvent custody.launch.dispatch.v1 with a unit.v1
  reply.<launcher>.<dispatch>      what became of it: reply.v1
  ledger.<kind>.<id>               one entity of the ledger; kinds: dispatch run effect launcher key checkpoint
  unit.<dispatch>.out              what a dispatch says: output.v2
  unit.<dispatch>.in               what it is told
  transcript.<meeting>             segments of a meeting: transcript.v1
  command.<verb>, query.<verb>     requests of operators to authority and projector

Streams: LEDGER (kept for ever), LAUNCH (30 days), OUTPUT (7 days), TRANSCRIPT, OBJ_blobs, OBJ_workspaces.
`custody contract export asyncapi` describes each of them with its schema.
";

const ACCESSIBILITY: &str = "\
Accessibility. There is no spinner, no redraw and no box drawing: each line that was printed stays as it is.

Colour is never the only sign: outcome words (ok, refused, failed) are always there. --color never, NO_COLOR=1 or
CUSTODY_COLOR=never switches it off. Progress is plain lines on standard error. Nothing asks a question when --no-input,
CUSTODY_NO_INPUT=true or -o json is given, or when standard input is no terminal. --no-trunc shows every word;
-o detailed has one field a line and suits screen readers better than columns.
";

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn topics_fit_a_screen() {
        for (name, text) in TOPICS {
            let widest = text.lines().map(|l| l.chars().count()).max().unwrap_or(0);
            assert!(widest <= 120, "{name} is {widest} wide");
            assert!(text.ends_with('\n') && text.lines().count() <= 40, "{name}");
        }
    }

    #[rstest]
    #[case(exit::FAILED)]
    #[case(exit::USAGE)]
    #[case(exit::NOT_FOUND)]
    #[case(exit::NOT_SIGNED_IN)]
    #[case(exit::REFUSED)]
    #[case(exit::CONFLICT)]
    #[case(exit::TIMED_OUT)]
    #[case(exit::UNREACHABLE)]
    #[case(exit::INTEGRITY)]
    #[case(exit::ENDED_FAILED)]
    #[case(exit::INTERRUPTED)]
    fn every_exit_code_is_explained(#[case] code: u8) {
        let start = format!("  {code} ");
        assert!(EXIT_CODES.lines().any(|l| l.starts_with(&start)), "{code}");
    }

    #[test]
    fn no_topic_hides_a_command() {
        let command = Cli::command();
        for (name, _) in TOPICS {
            assert!(command.find_subcommand(name).is_none(), "{name} is both");
        }
    }
}
