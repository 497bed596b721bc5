//! `custody subject`: the persons whose content is kept, and erasing one. What is destroyed and what stays is said before it is
//! done. Must never say that somebody is erased before the ledger does.

use super::run::own_subject;
use super::{Ctx, confirm};
use crate::client::{Operator, field, rows};
use crate::error::{CliError, CliResult, exit};
use crate::render::{Column, col, notice, wide};
use custody_contracts::ids::Subject;
use serde_json::{Value, json};

/// What `show` and `erase` say beside the numbers. Kept together with SECURITY.md.
const DESTROYED: &str = "their key, and with it: prompts, follow-ups and what agents answered, arguments and results of\ntools, bodies of model calls, session files and posted specifications. Grants that stand are revoked, and what runs under them ends.";
const STAYS: &str = "who, when, through whom and with which tools; digests and sizes; refusals and their reasons; files of\nworkspaces; and for 30 days what launchers published (LAUNCH), in the clear.";

/// Persons: ls, show, erase, enrol.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SubjectCommand {
    /// Every person whose content is kept under a key, and everybody who was erased
    #[command(visible_alias = "list", after_help = "Examples:\n  custody subject ls\n  custody subject ls -o json")]
    Ls,
    /// One person, and what erasing them would destroy
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  custody subject show u_jane\n\nExit codes: 0 found, 3 nobody of that id."
    )]
    Show {
        /// The person's id
        subject: String,
    },
    /// Destroy the key that a person's content is kept under; there is no way back
    #[command(
        after_help = "The intent is recorded, then grants end and the key is destroyed, then that is recorded. Broken off in between it is\nfinished at the next start, or by the same command. The ledger stays whole: what was signed is what was sealed, so\n`custody audit verify` and every proof bundle hold as before. Keep no backup of the keys of persons: it would bring\nback what was erased. Whoever was erased is refused from here on (SUBJECT_ERASED) until they are taken in again.\n\nExamples:\n  custody subject erase u_jane\n  custody subject erase u_jane --why 'asked for on 2026-11-28' --yes -o json\n\nExit codes: 0 erased, also when they were already, 2 nobody said yes, 8 authority does not answer."
    )]
    Erase {
        /// The person's id
        subject: String,
        /// Why, for the ledger; words that stay
        #[arg(long, default_value = "asked for", value_name = "TEXT")]
        why: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Take somebody in again who was erased, under a new key; what was erased stays erased
    #[command(after_help = "Examples:\n  custody subject enrol u_jane --why 'came back'")]
    Enrol {
        /// The person's id
        subject: String,
        /// Why, for the ledger; words that stay
        #[arg(long, default_value = "asked for", value_name = "TEXT")]
        why: String,
    },
}

const COLUMNS: [Column; 5] =
    [col("SUBJECT", "subject"), col("STATE", "state"), col("KEY", "key"), wide("BY", "by"), wide("WHY", "why")];

pub(crate) async fn run(ctx: &Ctx, command: SubjectCommand) -> CliResult {
    let operator = ctx.target()?.operator().await?;
    match command {
        SubjectCommand::Ls => ctx.render.list("subjects.v1", "subject", &COLUMNS, &all(&operator).await?),
        SubjectCommand::Show { subject } => {
            let subject = parse(&subject)?;
            let known = all(&operator).await?.into_iter().find(|row| row["subject"] == json!(subject));
            let Some(mut row) = known else {
                let why = format!("nothing of {subject} is kept under a key");
                return Err(CliError::new(exit::NOT_FOUND, "NOT_FOUND", why).hint("custody subject ls"));
            };
            count(&operator, &subject, &mut row).await?;
            ctx.render.one("subject.v1", "subject", &row)
        }
        SubjectCommand::Erase { subject, why, yes } => {
            let subject = parse(&subject)?;
            if !yes {
                let mut row = json!({});
                count(&operator, &subject, &mut row).await?;
                let (dispatches, grants) = (&row["dispatches"], &row["grants_standing"]);
                notice(format!("{subject} has {dispatches} dispatches and {grants} grants that stand."));
                notice(format!("destroyed: {DESTROYED}"));
                notice(format!("stays: {STAYS}"));
                confirm(ctx, &format!("erase {subject} for ever"))?;
            }
            let body = json!({ "subject": subject, "by": own_subject(), "why": why });
            let answer = operator.command("subject.erase", body).await?;
            ctx.render.one("subject-command.v1", "subject", &answer)
        }
        SubjectCommand::Enrol { subject, why } => {
            let body = json!({ "subject": parse(&subject)?, "by": own_subject(), "why": why });
            let answer = operator.command("subject.enrol", body).await?;
            ctx.render.one("subject-command.v1", "subject", &answer)
        }
    }
}

fn parse(text: &str) -> CliResult<Subject> {
    Subject::parse(text).map_err(|e| CliError::new(exit::USAGE, "SUBJECT_INVALID", e))
}

async fn all(operator: &Operator) -> CliResult<Vec<Value>> {
    field(&json!({ "rows": operator.command("subject.ls", json!({})).await? }), "rows")
}

/// How much there is of a person, as the projections have it.
async fn count(operator: &Operator, subject: &Subject, row: &mut Value) -> CliResult {
    let found = operator.query("dispatch.ls", json!({ "subject": subject, "limit": 500 })).await?;
    let grants = operator.query("grant.ls", json!({ "subject": subject, "status": ["issued"], "limit": 500 })).await?;
    let (found, grants) = (rows(&found).len(), rows(&grants).len());
    // The list ends at its limit; more is said as that.
    row["dispatches"] = if found < 500 { json!(found) } else { json!("500 or more") };
    row["grants_standing"] = json!(grants);
    Ok(())
}
