//! `custody dispatch say`: more words for a dispatch that has not ended, as an operator. What a launcher says with its own
//! key is `custody run --follow-up`.

use super::super::Ctx;
use super::super::run::own_subject;
use crate::client::Operator;
use crate::error::CliResult;
use crate::render::line;
use custody_contracts::canonical::hex;
use serde_json::{Value, json};

/// What to say, and to whom.
#[derive(Debug, clap::Args)]
pub(crate) struct SayArgs {
    /// Id, unique prefix, or `last`
    pub(super) id: String,
    /// The words; several are joined
    #[arg(required = true)]
    text: Vec<String>,
    /// The follow-up's own id; the same id and words are the same follow-up
    #[arg(long = "id", value_name = "ID")]
    message: Option<String>,
}

pub(super) async fn run(ctx: &Ctx, operator: &Operator, dispatch: &str, args: SayArgs) -> CliResult {
    let message = match args.message {
        Some(id) => id,
        None => hex(&crate::home::random::<16>()?),
    };
    let body = json!({ "dispatch": dispatch, "text": args.text.join(" "), "by": own_subject(), "id": message });
    let answer = operator.command("dispatch.say", body).await?;
    if ctx.render.format.is_some() {
        return ctx.render.one("command.v1", "seq", &answer);
    }
    let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or_default();
    line(format!("{dispatch} follow-up {} accepted (sequence {})", number("n"), number("seq")))
}
