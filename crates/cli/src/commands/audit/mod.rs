//! `custody audit`: the log as evidence.

mod export;
mod prove;
mod tiles;
mod verify;
mod why;

pub(crate) use export::{BUNDLE, BundleHead, BundleLine};
pub(crate) use verify::{kept_heads, pinned, verify_file};

use super::Ctx;
use super::tail::{Filters, follow};
use crate::error::{CliError, CliResult, exit};
use std::path::PathBuf;

/// The audit log.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditCommand {
    /// List events
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody audit ls --since 24h --outcome refused\n  custody audit ls -o csv > events.csv"
    )]
    Ls {
        #[command(flatten)]
        filters: Filters,
    },
    /// List events and, with -f, go on
    #[command(after_help = "Examples:\n  custody audit tail -f")]
    Tail {
        #[command(flatten)]
        filters: Filters,
        /// Go on
        #[arg(short, long)]
        follow: bool,
    },
    /// Who caused it, under which authority, and what the log proves
    #[command(
        after_help = "Examples:\n  custody audit why last\n  custody audit why 42\n  custody audit why d-7f3a-t1 -o json"
    )]
    Why {
        /// Effect id, dispatch id, unique prefix, `last`, or a ledger sequence
        id: String,
    },
    /// Write one event with everything that stands behind it into a file that anybody can check
    #[command(
        after_help = "The bundle holds the events from the launcher's registration to the effect, each with its audit path to one\nsigned checkpoint, the history of the keys that signed them, and what the launcher itself signed while it is kept.\nWith --tlog each event also comes as a C2SP tlog-proof, which verifiers of other makers read.\n\nExamples:\n  custody audit prove d-7f3a-t1 --output-file proof.json\n  custody audit prove last > proof.json\n  custody audit prove 42 --since /mnt/usb/latest --output-file proof.json\n  custody audit verify proof.json"
    )]
    Prove(prove::ProveArgs),
    /// Check sequence, signatures, roles, tree and checkpoints; live, or offline on an exported log or a proof bundle
    #[command(
        after_help = "Without FILE the running ledger is checked, against every checkpoint that was kept outside it.\nWith a file nothing else is read: no server, no state folder, no network.\nExit code 9 and the first bad sequence when anything is wrong.\n\nA bundle shows that its events are in the signed log, who signed them, and that they belong together; it cannot show\nthat nothing was left out of it, for example the retirement of a key. The whole log can.\n\nExamples:\n  custody audit verify\n  custody audit verify evidence.ndjson --expect a91f…c3\n  custody audit verify evidence.ndjson --checkpoint /mnt/usb/latest\n  custody audit verify proof.json --root-key k-authority-0123456789abcdef --checkpoint /mnt/usb/latest"
    )]
    Verify {
        /// A file written by `custody audit export` or `custody audit prove`
        file: Option<PathBuf>,
        /// Fail unless the root over everything is this one, hexadecimal; for a bundle, the root of its checkpoint
        #[arg(long, value_name = "HEAD")]
        expect: Option<String>,
        /// A checkpoint kept outside (a signed note); the log must contain what it covers
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
        /// Fail unless the log's first key has this id
        #[arg(long, value_name = "KID")]
        root_key: Option<String>,
        /// For a bundle: fail unless this witness cosigned its checkpoint (C2SP verifier key); may be given again
        #[arg(long, value_name = "VKEY", requires = "file")]
        witness: Vec<String>,
    },
    /// Write the log into a file that `audit verify` checks without any server
    #[command(
        after_help = "With --tiles the tree is written as C2SP tlog-tiles: clients of other makers read it, check it whole, and make proofs\nof inclusion and of consistency from it alone.\n\nExamples:\n  custody audit export --output-file evidence.ndjson\n  custody audit export > evidence.ndjson\n  custody audit export --tiles log-2026-11"
    )]
    Export {
        /// The file; standard output without it. Never over an existing file unless --force
        #[arg(long, value_name = "FILE", visible_alias = "to")]
        output_file: Option<PathBuf>,
        /// Write over an existing file
        #[arg(long)]
        force: bool,
        /// Write `checkpoint`, `log.vkey` and `tile/` into this new folder instead
        #[arg(long, value_name = "FOLDER", conflicts_with_all = ["output_file", "force"])]
        tiles: Option<PathBuf>,
    },
}

pub(crate) async fn run(ctx: &Ctx, command: AuditCommand) -> CliResult {
    match command {
        AuditCommand::Ls { filters } => follow(ctx, filters, false).await,
        AuditCommand::Tail { filters, follow: on } => follow(ctx, filters, on).await,
        AuditCommand::Why { id } => why::why(ctx, &id).await,
        AuditCommand::Prove(args) => prove::prove(ctx, args).await,
        AuditCommand::Verify { file, expect, checkpoint, root_key, witness } => {
            verify::verify(ctx, verify::Asked { file, expect, checkpoint, root_key, witness }).await
        }
        AuditCommand::Export { tiles: Some(folder), .. } => {
            let operator = ctx.target()?.operator().await?;
            tiles::export(&operator.log().await?, &folder).await
        }
        AuditCommand::Export { output_file, force, tiles: None } => export::export(ctx, output_file, force).await,
    }
}

fn unavailable(error: custody_ledger::LogError) -> CliError {
    match error {
        custody_ledger::LogError::Broken { seq, why } => {
            CliError::new(exit::INTEGRITY, "GAP", format!("first bad sequence {seq}: {why}"))
        }
        other @ custody_ledger::LogError::Unavailable(_) => {
            CliError::new(exit::UNREACHABLE, "LEDGER_UNAVAILABLE", other).hint("custody doctor")
        }
    }
}
