//! `custody grant`: what persons let launchers do in their name. The statement that somebody agrees to is made from the
//! terms, shown first, and its digest goes with the consent. Must never agree for anybody without having shown it.

use super::run::own_subject;
use super::{Ctx, confirm};
use crate::client::{Operator, Target, rows};
use crate::error::{CliError, CliResult, exit};
use crate::render::{col, line, notice, wide};
use crate::server::clock::now_ms;
use crate::server::local::CLI_LAUNCHER;
use custody_contracts::canonical::{canonical, derived_id, digest};
use custody_contracts::grant::{
    ApprovalFor, ApprovalRule, Cron, GrantLimits, GrantRequested, GrantRevoked, GrantTerms, TriggerPattern,
};
use custody_contracts::ids::{GrantId, LauncherRef, Subject, UnixMillis, WorkspaceId};
use custody_contracts::tool::{Constraint, ConstraintOn};
use custody_contracts::unit::{Limits, Mode, Trigger, WorkspaceMount};
use custody_domain::grant::statement;
use serde_json::{Value, json};
use std::time::Duration;

/// Grants: issue, request, ls, show, explain, revoke, unused.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum GrantCommand {
    /// Give a launcher a grant: the statement is shown, and a yes is the consent that is recorded
    #[command(
        after_help = "A grant never changes: another ceiling is another grant. With --parent the new one may only be narrower, and has\nits parent's consent.\n\nExamples:\n  custody grant issue --launcher calendar --workspace notes:ro --expires 30d\n  custody grant issue --as u_jane --launcher integration:mail --trigger event --workspace default:propose --tool workspace_read --dispatches 10 --window 1d --yes\n  custody grant issue --request g-4mq…\n  custody grant issue --parent g-91c2 --workspace notes:ro --expires 1d --yes\n\nExit codes: 0 done, 5 refused."
    )]
    Issue(IssueArgs),
    /// Ask a person for a grant; they issue it, or do not
    #[command(
        after_help = "Examples:\n  custody grant request --as u_jane --launcher calendar --workspace notes:ro --why 'the weekly brief'\n  custody grant request --like g-91c2 --why 'it ended'"
    )]
    Request {
        /// What is asked for
        #[command(flatten)]
        terms: TermArgs,
        /// Why; the person reads it
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Every grant, the newest first: whose, to whom, how far, how often it was used
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  custody grant ls\n  custody grant ls --as u_jane -o wide\n  custody grant ls --launcher calendar"
    )]
    Ls {
        /// Only this person's
        #[arg(long = "as", value_name = "SUBJECT")]
        subject: Option<String>,
        /// Only to this launcher
        #[arg(long)]
        launcher: Option<String>,
    },
    /// One grant as it was issued, with its consent and its token
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  custody grant show g-91c2\n  custody grant show g-91c2 -o json"
    )]
    Show {
        /// Its id, or a unique prefix
        id: String,
    },
    /// What a grant lets happen, in the words that were agreed to, and whether it still stands
    #[command(after_help = "Examples:\n  custody grant explain g-91c2\n\nExit codes: 0 it stands, 5 it does not.")]
    Explain {
        /// Its id, or a unique prefix
        id: String,
    },
    /// Take a grant back: nothing is admitted under it from here on, and what runs is ended
    #[command(
        visible_alias = "rm",
        after_help = "The next call of a running dispatch is refused within a second, its container is gone within five. Grants that were derived\nfrom it end with it.\n\nExamples:\n  custody grant revoke g-91c2 --why 'the phone was lost'"
    )]
    Revoke {
        /// Its id, or a unique prefix
        id: String,
        /// Why; recorded
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        why: String,
    },
    /// Grants that stand and were not used for some time
    #[command(
        after_help = "Examples:\n  custody grant unused\n  custody grant unused --for 7d -o name | xargs -n1 custody grant revoke --why unused"
    )]
    Unused {
        /// For how long
        #[arg(long = "for", default_value = "30d", value_parser = crate::args::parse_duration)]
        period: Duration,
    },
}

/// What `issue` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct IssueArgs {
    #[command(flatten)]
    terms: TermArgs,
    /// Give what was asked for under this id
    #[arg(long, value_name = "GRANT", conflicts_with_all = ["like", "parent", "launcher", "workspaces", "tools"])]
    request: Option<String>,
    /// The grant that justifies it: this one may only be narrower
    #[arg(long, value_name = "GRANT")]
    parent: Option<String>,
    /// The person has agreed to the statement: do not ask
    #[arg(long)]
    yes: bool,
}

/// The ceilings of a grant.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TermArgs {
    /// The person whose grant it is [default: u_<your login>]
    #[arg(long = "as", value_name = "SUBJECT")]
    subject: Option<String>,
    /// The launcher: user:ID, schedule:ID, integration:ID, or ID for user:ID
    #[arg(long)]
    launcher: Option<String>,
    /// As another grant, where nothing else is said
    #[arg(long, value_name = "GRANT")]
    like: Option<String>,
    /// A workspace and the most that may be done there, ID:ro, ID:propose or ID:rw; may be given several times
    #[arg(long = "workspace", value_name = "ID:MODE")]
    workspaces: Vec<String>,
    /// A tool that dispatches may ask for; may be given several times
    #[arg(long = "tool", value_name = "NAME")]
    tools: Vec<String>,
    /// What may start a dispatch: message, scheduled, event, transcription [default: message]
    #[arg(long = "trigger", value_name = "TRIGGER", value_parser = ["message", "scheduled", "event", "transcription"])]
    triggers: Vec<String>,
    /// The one rule that a scheduled dispatch must come from, five fields
    #[arg(long, value_name = "EXPR", requires = "tz")]
    cron: Option<String>,
    /// Its time zone
    #[arg(long, value_name = "ZONE", requires = "cron")]
    tz: Option<String>,
    /// The one integration that an event must come from
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,
    /// A rule for an argument of every call, KIND:/POINTER=VALUE with KIND recipient, path, host or amount; values of one
    /// argument are added up
    #[arg(long = "constraint", value_name = "RULE")]
    constraints: Vec<String>,
    /// Dispatches in one window [default: 100]
    #[arg(long, value_name = "N")]
    dispatches: Option<u64>,
    /// The length of a window [default: 1d]
    #[arg(long, value_parser = crate::args::parse_duration)]
    window: Option<Duration>,
    /// Model cost in one window, in millionths of the accounting currency
    #[arg(long, value_name = "N")]
    budget_micros: Option<u64>,
    /// Turns of each dispatch
    #[arg(long, value_name = "N")]
    turns: Option<u64>,
    /// Time of each dispatch
    #[arg(long, value_parser = crate::args::parse_duration)]
    wall: Option<Duration>,
    /// Tokens of each dispatch
    #[arg(long, value_name = "N")]
    tokens: Option<u64>,
    /// Model cost of each dispatch
    #[arg(long, value_name = "N")]
    cost_micros: Option<u64>,
    /// Tool calls of each dispatch
    #[arg(long, value_name = "N")]
    tool_calls: Option<u64>,
    /// Which calls wait for a person, on top of what the tool asks [default: gated]
    #[arg(long, value_parser = ["gated", "irreversible", "writes", "always"])]
    approval: Option<String>,
    /// Who may approve [default: the person]; may be given several times
    #[arg(long = "approver", value_name = "SUBJECT")]
    approvers: Vec<String>,
    /// How long it lasts, at most 90d [default: 30d]
    #[arg(long, value_parser = crate::args::parse_duration)]
    expires: Option<Duration>,
}

fn usage(error: impl std::fmt::Display) -> CliError {
    CliError::new(exit::USAGE, "GRANT_INVALID", error)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) async fn run(ctx: &Ctx, command: GrantCommand) -> CliResult {
    let target = ctx.target()?;
    let operator = target.operator().await?;
    let desk = Desk { ctx, operator };
    match command {
        GrantCommand::Issue(args) => desk.issue(args).await,
        GrantCommand::Request { terms, why } => desk.request(&terms, why).await,
        GrantCommand::Ls { subject, launcher } => desk.ls(subject, launcher).await,
        GrantCommand::Show { id } => desk.show(&id).await,
        GrantCommand::Explain { id } => desk.explain(&id).await,
        GrantCommand::Revoke { id, why } => desk.revoke(&id, why).await,
        GrantCommand::Unused { period } => desk.unused(period).await,
    }
}

struct Desk<'a> {
    ctx: &'a Ctx,
    operator: Operator,
}

/// The launcher as a unit names it.
fn launcher_ref(text: &str) -> CliResult<LauncherRef> {
    let named = if text.contains(':') { text.to_owned() } else { ["user:", text].concat() };
    LauncherRef::parse(&named).map_err(usage)
}

fn mount(text: &str) -> CliResult<WorkspaceMount> {
    let (id, mode) = text.split_once(':').unwrap_or((text, "ro"));
    let mode =
        serde_json::from_value::<Mode>(json!(mode)).map_err(|_| usage(format!("{mode:?} is not ro, rw or propose")))?;
    Ok(WorkspaceMount { id: WorkspaceId::parse(id).map_err(usage)?, mode })
}

/// Rules for arguments: `recipient:/to=*@acme.test`, `amount:/sum=100`.
fn constraints(rules: &[String]) -> CliResult<Vec<Constraint>> {
    let mut out: Vec<Constraint> = Vec::new();
    for rule in rules {
        let parts = rule.split_once(':').and_then(|(on, rest)| Some((on, rest.split_once('=')?)));
        let Some((on, (argument, value))) = parts else {
            return Err(usage(format!("{rule:?} is not KIND:/POINTER=VALUE")).hint("recipient:/to=*@acme.test"));
        };
        let on = serde_json::from_value::<ConstraintOn>(json!(on))
            .map_err(|_| usage(format!("{on:?} is not recipient, path, amount or host")))?;
        if on == ConstraintOn::Amount {
            let max = serde_json::from_str(value).map_err(|_| usage(format!("{value:?} is not a number")))?;
            out.push(Constraint { on, argument: argument.to_owned(), allow: None, max: Some(max) });
            continue;
        }
        match out.iter_mut().find(|known| known.on == on && known.argument == argument) {
            Some(Constraint { allow: Some(allow), .. }) => allow.push(value.to_owned()),
            _ => {
                let allow = Some(vec![value.to_owned()]);
                out.push(Constraint { on, argument: argument.to_owned(), allow, max: None });
            }
        }
    }
    Ok(out)
}

impl Desk<'_> {
    async fn row(&self, id: &str) -> CliResult<Value> {
        let answer = self.operator.query("grant.get", json!({ "id": id })).await?;
        Ok(answer.get("row").cloned().unwrap_or(Value::Null))
    }

    /// The launcher's key as it is registered.
    async fn key(&self, launcher: &LauncherRef) -> CliResult<String> {
        let id = launcher.as_str().split_once(':').map_or("", |(_, id)| id);
        let all = rows(&self.operator.query("launcher.ls", json!({})).await?);
        let found = all.iter().find(|row| row.get("launcher").and_then(Value::as_str) == Some(id));
        let key = found.and_then(|row| row.get("public_key")).and_then(Value::as_str);
        key.map(str::to_owned).ok_or_else(|| {
            CliError::new(exit::REFUSED, "LAUNCHER_UNKNOWN", format!("launcher {id} is not registered"))
                .hint(format!("custody launcher register {id}"))
        })
    }

    /// Terms from words, and from the grant that they are to be like.
    async fn terms(&self, args: &TermArgs, like: Option<&str>) -> CliResult<GrantTerms> {
        let like = args.like.as_deref().or(like);
        let base: Option<GrantTerms> = match like {
            None => None,
            Some(id) => {
                let row = self.row(id).await?;
                Some(serde_json::from_value(row.get("terms").cloned().unwrap_or(Value::Null))?)
            }
        };
        let missing = |what: &str| usage(format!("{what} is missing")).hint("custody grant issue -h");
        let launcher = match (&args.launcher, &base) {
            (Some(text), _) => launcher_ref(text)?,
            (None, Some(base)) => base.launcher.clone(),
            (None, None) => return Err(missing("--launcher")),
        };
        let subject = match (&args.subject, &base) {
            (Some(text), _) => Subject::parse(text).map_err(usage)?,
            (None, Some(base)) => base.subject.clone(),
            (None, None) => Subject::parse(&own_subject()).map_err(usage)?,
        };
        let workspaces = match (args.workspaces.is_empty(), &base) {
            (false, _) => args.workspaces.iter().map(|text| mount(text)).collect::<CliResult<_>>()?,
            (true, Some(base)) => base.workspaces.clone(),
            (true, None) => return Err(missing("--workspace")),
        };
        let tools = match (args.tools.is_empty(), &base) {
            (true, Some(base)) => base.tools.clone(),
            _ => args.tools.clone(),
        };
        let now = now_ms();
        // Of a parent the end counts too: what is not said is not longer than it.
        let last = base.as_ref().filter(|_| args.like.is_none()).and_then(|b| UnixMillis::parse(&b.expires));
        let wanted = now.saturating_add(millis(args.expires.unwrap_or(Duration::from_secs(30 * 86_400))));
        let ends =
            last.map_or(wanted, |UnixMillis(last)| if args.expires.is_none() { last.min(wanted) } else { wanted });
        let mut terms = GrantTerms {
            id: GrantId::parse("g-new").map_err(usage)?,
            launcher_key: self.key(&launcher).await?,
            subject,
            launcher,
            tools,
            workspaces,
            trigger: trigger(args, base.as_ref())?,
            constraints: match (args.constraints.is_empty(), &base) {
                (true, Some(base)) => base.constraints.clone(),
                _ => constraints(&args.constraints)?,
            },
            limits: limits(args, base.as_ref()),
            approval: approval(args, base.as_ref())?,
            not_before: UnixMillis(now).rfc3339(),
            expires: UnixMillis(ends).rfc3339(),
        };
        // Its id is a function of what it says: the same words at the same moment are one grant.
        let said = canonical(&serde_json::to_value(&terms)?);
        terms.id = GrantId::parse(&derived_id("g-", &[said.as_bytes()])).map_err(usage)?;
        Ok(terms)
    }

    async fn issue(&self, args: IssueArgs) -> CliResult {
        let mut body = json!({ "method": "operator", "by": own_subject() });
        let terms: GrantTerms = match &args.request {
            Some(id) => {
                let row = self.row(id).await?;
                serde_json::from_value(row.get("terms").cloned().unwrap_or(Value::Null))?
            }
            None => self.terms(&args.terms, args.parent.as_deref()).await?,
        };
        if let Some(parent) = &args.parent {
            body["parent"] = self.row(parent).await?.get("grant").cloned().unwrap_or(Value::Null);
        }
        let words = statement(&terms);
        if !args.yes {
            notice(&words);
            confirm(self.ctx, &format!("give this in the name of {}", terms.subject))?;
        }
        body["statement_digest"] = json!(digest(words.as_bytes()));
        body["wanted"] = serde_json::to_value(&terms)?;
        let answer = self.operator.command("grant.issue", body).await?;
        self.done(&terms, "issued", &answer)
    }

    fn done(&self, terms: &GrantTerms, state: &str, answer: &Value) -> CliResult {
        let row = json!({
            "grant": terms.id, "state": state, "subject": terms.subject, "launcher": terms.launcher, "expires": terms.expires,
            "seq": answer.get("seq"), "changed": answer.get("changed"),
        });
        self.ctx.render.one("grant-command.v1", "grant", &row)
    }

    async fn request(&self, args: &TermArgs, why: String) -> CliResult {
        let terms = self.terms(args, None).await?;
        let asked = GrantRequested { wanted: terms.clone(), by: own_subject(), why };
        let answer = self.operator.command("grant.request", serde_json::to_value(&asked)?).await?;
        notice(format!("{} gives it: custody grant issue --request {}", terms.subject, terms.id));
        self.done(&terms, "requested", &answer)
    }

    async fn all(&self, filter: Value) -> CliResult<Vec<Value>> {
        let mut rows = rows(&self.operator.query("grant.ls", filter).await?);
        rows.iter_mut().for_each(|row| flatten(row, now_ms()));
        Ok(rows)
    }

    async fn ls(&self, subject: Option<String>, launcher: Option<String>) -> CliResult {
        let mut filter = json!({ "limit": 500 });
        if let Some(subject) = subject {
            filter["subject"] = json!(subject);
        }
        if let Some(launcher) = launcher {
            filter["launcher"] = json!(launcher);
        }
        let rows = self.all(filter).await?;
        self.ctx.render.list("grant-row.v1", "grant", &COLUMNS, &rows)
    }

    async fn unused(&self, period: Duration) -> CliResult {
        let before = UnixMillis(now_ms().saturating_sub(millis(period))).rfc3339();
        let mut rows = self.all(json!({ "status": ["issued"], "limit": 500 })).await?;
        rows.retain(|row| {
            let at = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let last = [at("last_used_at"), at("issued_at")].into_iter().max().unwrap_or_default();
            at("status") == "issued" && last < before
        });
        self.ctx.render.list("grant-row.v1", "grant", &COLUMNS, &rows)
    }

    async fn show(&self, id: &str) -> CliResult {
        let mut row = self.row(id).await?;
        flatten(&mut row, now_ms());
        self.ctx.render.one("grant-row.v1", "grant", &row)
    }

    async fn explain(&self, id: &str) -> CliResult {
        let mut row = self.row(id).await?;
        flatten(&mut row, now_ms());
        let text = |name: &str| row.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let status = text("status");
        if self.ctx.render.format.is_some() {
            self.ctx.render.one("grant-row.v1", "grant", &row)?;
        } else {
            let terms: GrantTerms = serde_json::from_value(row.get("terms").cloned().unwrap_or(Value::Null))?;
            line(format!("{} {status}", text("grant")))?;
            let words = if text("statement").is_empty() { statement(&terms) } else { text("statement") };
            for sentence in words.lines() {
                line(format!("  {sentence}"))?;
            }
            if let Some(consent) = row.get("consent").filter(|c| c.is_object()) {
                let of = |name: &str| consent.get(name).and_then(Value::as_str).unwrap_or_default();
                line(format!("  agreed {} ({}), recorded by {}", of("at"), of("method"), text("by")))?;
            }
            if let Some(parent) = row.get("parent").and_then(Value::as_str) {
                line(format!("  derived from {parent}"))?;
            }
            line(format!(
                "  used {} times, last {}",
                row.get("uses").unwrap_or(&Value::Null),
                or_never(&text("last_used_at"))
            ))?;
        }
        let id = text("grant");
        match status.as_str() {
            "issued" => Ok(()),
            "revoked" => {
                let why = format!("grant {id} was revoked by {}: {}", text("revoked_by"), text("revoked_why"));
                Err(CliError::new(exit::REFUSED, "GRANT_REVOKED", why).hint(format!("custody grant issue --like {id}")))
            }
            "requested" => {
                Err(CliError::new(exit::REFUSED, "GRANT_MISSING", format!("{} has not given it", text("subject")))
                    .hint(format!("custody grant issue --request {id}")))
            }
            _ => Err(CliError::new(exit::REFUSED, "GRANT_EXPIRED", format!("grant {id} ended at {}", text("expires")))
                .hint(format!("custody grant issue --like {id} --expires 30d"))),
        }
    }

    async fn revoke(&self, id: &str, why: String) -> CliResult {
        let row = self.row(id).await?;
        let full = row.get("grant").and_then(Value::as_str).unwrap_or(id);
        let revoked = GrantRevoked { grant: GrantId::parse(full).map_err(usage)?, by: own_subject(), why };
        let answer = self.operator.command("grant.revoke", serde_json::to_value(&revoked)?).await?;
        let row = json!({
            "grant": full, "state": "revoked", "seq": answer.get("seq"), "changed": answer.get("changed"),
        });
        self.ctx.render.one("grant-command.v1", "grant", &row)
    }
}

const COLUMNS: [crate::render::Column; 12] = [
    col("GRANT", "grant"),
    col("STATUS", "status"),
    col("SUBJECT", "subject"),
    col("LAUNCHER", "launcher"),
    col("WORKSPACES", "workspaces"),
    col("USES", "uses"),
    col("LAST-USED", "last_used_at"),
    col("EXPIRES", "expires"),
    wide("TOOLS", "tools"),
    wide("TRIGGERS", "triggers"),
    wide("PARENT", "parent"),
    wide("CONSENT", "method"),
];

fn or_never(text: &str) -> &str {
    if text.is_empty() { "never" } else { text }
}

/// Puts the ceilings beside the other fields, and says whether it has ended.
fn flatten(row: &mut Value, now: u64) {
    let terms = row.get("terms").cloned().unwrap_or(Value::Null);
    let list = |name: &str| terms.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let words =
        |items: Vec<Value>| items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect::<Vec<_>>().join(",");
    let on: Vec<String> = list("workspaces")
        .iter()
        .map(|w| {
            let of = |name: &str| w.get(name).and_then(Value::as_str).unwrap_or_default();
            [of("id"), ":", of("mode")].concat()
        })
        .collect();
    row["workspaces"] = json!(on.join(","));
    row["tools"] = json!(words(list("tools")));
    row["triggers"] = json!(words(terms.pointer("/trigger/on").and_then(Value::as_array).cloned().unwrap_or_default()));
    row["expires"] = terms.get("expires").cloned().unwrap_or(Value::Null);
    row["method"] = row.pointer("/consent/method").cloned().unwrap_or(Value::Null);
    let ended = row["expires"].as_str().and_then(UnixMillis::parse).is_some_and(|UnixMillis(end)| end <= now);
    if ended && row["status"] == "issued" {
        row["status"] = json!("expired");
    }
}

fn trigger(args: &TermArgs, base: Option<&GrantTerms>) -> CliResult<TriggerPattern> {
    if args.triggers.is_empty()
        && args.cron.is_none()
        && args.integration.is_none()
        && let Some(base) = base
    {
        return Ok(base.trigger.clone());
    }
    let mut on = Vec::new();
    for word in &args.triggers {
        let one: Trigger = serde_json::from_value(json!(word))?;
        if !on.contains(&one) {
            on.push(one);
        }
    }
    if on.is_empty() {
        on.push(Trigger::Message);
    }
    let cron = args.cron.clone().zip(args.tz.clone()).map(|(expr, tz)| Cron { expr, tz });
    Ok(TriggerPattern { on, cron, integration: args.integration.clone() })
}

fn limits(args: &TermArgs, base: Option<&GrantTerms>) -> GrantLimits {
    let before = base.map(|b| b.limits.clone());
    let each = before.as_ref().and_then(|b| b.per_dispatch.clone()).unwrap_or_default();
    let each = Limits {
        turns: args.turns.or(each.turns),
        wall_ms: args.wall.map(millis).or(each.wall_ms),
        idle_ms: each.idle_ms,
        tokens: args.tokens.or(each.tokens),
        cost_micros: args.cost_micros.or(each.cost_micros),
        tool_calls: args.tool_calls.or(each.tool_calls),
    };
    GrantLimits {
        dispatches: args.dispatches.or_else(|| before.as_ref().map(|b| b.dispatches)).unwrap_or(100),
        window_ms: args.window.map(millis).or_else(|| before.as_ref().map(|b| b.window_ms)).unwrap_or(86_400_000),
        budget_micros: args.budget_micros.or_else(|| before.and_then(|b| b.budget_micros)),
        per_dispatch: (each != Limits::default()).then_some(each),
    }
}

fn approval(args: &TermArgs, base: Option<&GrantTerms>) -> CliResult<ApprovalRule> {
    let rule = match (&args.approval, base) {
        (Some(word), _) => serde_json::from_value(json!(word))?,
        (None, Some(base)) => base.approval.rule,
        (None, None) => ApprovalFor::Gated,
    };
    let approvers = match (args.approvers.is_empty(), base) {
        (true, base) => base.and_then(|b| b.approval.approvers.clone()),
        (false, _) => {
            Some(args.approvers.iter().map(|s| Subject::parse(s).map_err(usage)).collect::<CliResult<Vec<_>>>()?)
        }
    };
    Ok(ApprovalRule { rule, approvers })
}

/// Lets the command line and the web chat of this machine mount a workspace that its operator has just made: a new grant
/// each, like the one that stands and one workspace wider. Nothing where none stands.
pub(crate) async fn let_own_mount(
    ctx: &Ctx,
    target: &Target,
    operator: Operator,
    workspace: &WorkspaceId,
    mode: Mode,
) -> CliResult {
    let desk = Desk { ctx, operator };
    let me = own_subject();
    for launcher in [CLI_LAUNCHER, target.config.http.launcher.as_str()] {
        let filter = json!({ "subject": me, "launcher": launcher, "status": ["issued"], "limit": 500 });
        let standing = desk.all(filter).await?.into_iter().find(|row| row["status"] == "issued");
        let Some(row) = standing else { continue };
        let mut terms: GrantTerms = serde_json::from_value(row.get("terms").cloned().unwrap_or(Value::Null))?;
        if terms.workspaces.iter().any(|w| w.id == *workspace) {
            continue;
        }
        terms.workspaces.push(WorkspaceMount { id: workspace.clone(), mode });
        terms.not_before = UnixMillis(now_ms()).rfc3339();
        let said = canonical(&serde_json::to_value(&terms)?);
        terms.id = GrantId::parse(&derived_id("g-", &[said.as_bytes()])).map_err(usage)?;
        let body = json!({
            "wanted": terms, "method": "operator", "by": me, "statement_digest": digest(statement(&terms).as_bytes()),
        });
        desk.operator.command("grant.issue", body).await?;
        notice(format!("{launcher} may mount it for you: grant {}", terms.id));
    }
    Ok(())
}
