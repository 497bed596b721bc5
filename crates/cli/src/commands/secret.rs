//! `custody secret`: credentials of upstreams, each kept as an age file. A value comes in on standard input and never goes
//! out again: only the gateway opens it.

use super::Ctx;
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, line};
use custody_ports::secrets::{SECRET_BYTES_MAX, SecretText};
use custody_secrets::StoreError;
use serde_json::json;
use std::io::Read;

/// Secrets: set, ls, rm.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SecretCommand {
    /// Keep a secret, read from standard input
    #[command(
        after_help = "Tools and servers name it as cred_ref. The same reference again replaces it; the next call uses the new one.\n\nExamples:\n  custody secret set secret://mail/key < key.txt\n  pass show mail | custody secret set secret://mail/key"
    )]
    Set {
        /// secret://name or secret://folder/name
        reference: String,
    },
    /// Every reference; never a value
    #[command(visible_alias = "list", after_help = "Examples:\n  custody secret ls")]
    Ls,
    /// Forget a secret
    #[command(visible_alias = "remove", after_help = "Examples:\n  custody secret rm secret://mail/key")]
    Rm {
        /// Its reference
        reference: String,
    },
}

pub(crate) fn run(ctx: &Ctx, command: SecretCommand) -> CliResult {
    let store = ctx.target()?.home.secrets();
    match command {
        SecretCommand::Set { reference } => {
            let mut text = String::new();
            let most = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX) + 2;
            std::io::stdin().lock().take(most).read_to_string(&mut text)?;
            let secret = SecretText::parse(text.trim_end()).ok_or(StoreError::BadSecret).map_err(refused)?;
            store.set(&reference, &secret).map_err(refused)?;
            line(reference)
        }
        SecretCommand::Ls => {
            let found = store.list().map_err(refused)?;
            let rows: Vec<_> = found.iter().map(|reference| json!({ "reference": reference })).collect();
            ctx.render.list("secrets.v1", "reference", &[col("REFERENCE", "reference")], &rows)
        }
        SecretCommand::Rm { reference } => {
            store.remove(&reference).map_err(refused)?;
            line(reference)
        }
    }
}

fn refused(error: StoreError) -> CliError {
    match error {
        StoreError::Unknown(_) => CliError::new(exit::NOT_FOUND, "SECRET_UNKNOWN", error).hint("custody secret ls"),
        StoreError::BadReference(_) | StoreError::BadSecret => CliError::new(exit::USAGE, "SECRET_INVALID", error),
        StoreError::TooMany => CliError::new(exit::CONFLICT, "SECRETS_FULL", error).hint("custody secret rm"),
        StoreError::Identity { .. } | StoreError::File { .. } => {
            CliError::new(exit::FAILED, "SECRETS_UNUSABLE", error).hint("custody doctor")
        }
    }
}
