//! The policy over tool calls: Cedar, checked against a schema when it is read. The principal is a dispatch, whose
//! parents are its person and its launcher; the resource is a tool, whose parents are its server and its tags.
//!
//! Pure: no clock, no file, no socket. Must never take an error for a permit: what cannot be evaluated is forbidden, and
//! what cannot be read is not used in part.

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet, Request,
    RestrictedExpression, Schema, ValidationMode, Validator,
};
use custody_contracts::canonical::digest;
use custody_contracts::events::ToolEffect;
use custody_contracts::tool::ToolGrant;
use custody_contracts::unit::{InputTrust, Trigger};
use custody_domain::tool::{Policy, PolicyAsked, Verdict};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

/// What holds in every installation.
pub const DEFAULT: &str = include_str!("default.cedar");
/// What a policy can speak of.
pub const SCHEMA: &str = include_str!("schema.cedarschema");
/// The largest text of an operator, in bytes.
pub const TEXT_BYTES_MAX: usize = 262_144;
/// The most rules.
pub const RULES_MAX: usize = 1_024;

/// The rule of a decision that no rule made.
const NONE: &str = "no-rule-permits";
/// The rule of a decision that could not be made.
const BROKEN: &str = "policy-error";
/// The longest id of a rule. Source: contract ledger.v2, `RuledBy`.
const ID_BYTES_MAX: usize = 128;

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is too large.
    #[error("the policy has more than {TEXT_BYTES_MAX} bytes or {RULES_MAX} rules")]
    TooLarge,
    /// It is not Cedar.
    #[error("the policy cannot be read: {0}")]
    Syntax(String),
    /// A rule has no name, or one that cannot be recorded, or that of another rule.
    #[error("each rule has an @id of its own of [A-Za-z0-9_.:/-]: {0}")]
    Id(String),
    /// It speaks of what there is not.
    #[error("the policy does not fit the schema: {0}")]
    Schema(String),
}

/// The rules of an installation, in Cedar.
#[derive(Debug)]
pub struct CedarPolicy {
    rules: PolicySet,
    schema: Schema,
    names: Names,
    digest: String,
}

/// The types of entities, parsed once.
#[derive(Debug)]
struct Names {
    subject: EntityTypeName,
    launcher: EntityTypeName,
    dispatch: EntityTypeName,
    tool: EntityTypeName,
    server: EntityTypeName,
    barrier: EntityTypeName,
    call: EntityUid,
}

impl Names {
    fn new() -> Result<Names, PolicyError> {
        let syntax = |e: &dyn std::fmt::Display| PolicyError::Syntax(e.to_string());
        let name = |text: &str| EntityTypeName::from_str(text).map_err(|e| syntax(&e));
        Ok(Names {
            subject: name("Custody::Subject")?,
            launcher: name("Custody::Launcher")?,
            dispatch: name("Custody::Dispatch")?,
            tool: name("Custody::Tool")?,
            server: name("Custody::Server")?,
            barrier: name("Custody::Barrier")?,
            call: EntityUid::from_str(r#"Custody::Action::"call""#).map_err(|e| syntax(&e))?,
        })
    }
}

impl CedarPolicy {
    /// The rules of every installation, and an operator's own on top.
    ///
    /// # Errors
    /// [`PolicyError`]: a text that is not good as a whole is not used at all.
    pub fn read(own: Option<&str>) -> Result<CedarPolicy, PolicyError> {
        let own = own.unwrap_or_default();
        if own.len() > TEXT_BYTES_MAX {
            return Err(PolicyError::TooLarge);
        }
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|e| PolicyError::Schema(e.to_string()))?;
        let mut rules = PolicySet::new();
        for text in [DEFAULT, own] {
            add(&mut rules, text)?;
        }
        let checked = Validator::new(schema.clone()).validate(&rules, ValidationMode::Strict);
        if let Some(error) = checked.validation_errors().next() {
            return Err(PolicyError::Schema(error.to_string()));
        }
        let digest = digest([SCHEMA, DEFAULT, own].join("\n").as_bytes());
        Ok(CedarPolicy { rules, schema, names: Names::new()?, digest })
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.rules.policies().count()
    }

    fn ask(&self, asked: PolicyAsked<'_>) -> Result<Verdict, String> {
        let uid = |name: &EntityTypeName, id: &str| EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id));
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let (unit, names) = (&asked.admitted.unit, &self.names);
        let subject = uid(&names.subject, unit.identity.subject.as_str());
        let launcher = uid(&names.launcher, asked.admitted.launch.launcher.as_str());
        let who = uid(&names.dispatch, asked.admitted.dispatch.as_str());
        let attributes = HashMap::from([
            ("subject".to_owned(), text(unit.identity.subject.as_str())),
            ("launcher".to_owned(), text(asked.admitted.launch.launcher.as_str())),
            ("runner".to_owned(), text(asked.admitted.runner.name.as_str())),
            ("trigger".to_owned(), text(trigger(unit.trigger))),
            ("input_trust".to_owned(), text(trust(unit.trigger.input_trust()))),
        ]);
        let parents = HashSet::from([subject.clone(), launcher.clone()]);
        let dispatch = Entity::new(who.clone(), attributes, parents).map_err(|e| e.to_string())?;

        let tool = asked.tool;
        let server = uid(&names.server, tool.mcp_server.as_deref().unwrap_or("builtin"));
        let barriers: Vec<EntityUid> = tool.barriers.iter().map(|tag| uid(&names.barrier, tag)).collect();
        let what = uid(&names.tool, &tool.name);
        let attributes = HashMap::from([
            ("name".to_owned(), text(&tool.name)),
            ("scope".to_owned(), text(&tool.scope)),
            ("effect".to_owned(), text(effect(tool.effect))),
            ("gated".to_owned(), RestrictedExpression::new_bool(tool.grant == ToolGrant::Gate)),
            ("idempotent".to_owned(), RestrictedExpression::new_bool(tool.idempotent)),
            ("barriers".to_owned(), RestrictedExpression::new_set(tool.barriers.iter().map(|tag| text(tag)))),
        ]);
        let parents = barriers.iter().cloned().chain([server.clone()]).collect();
        let resource = Entity::new(what.clone(), attributes, parents).map_err(|e| e.to_string())?;

        let bare = [subject, launcher, server]
            .into_iter()
            .chain(barriers)
            .map(|uid| Entity::new_no_attrs(uid, HashSet::new()));
        let entities = Entities::from_entities([dispatch, resource].into_iter().chain(bare), Some(&self.schema))
            .map_err(|e| e.to_string())?;
        let approved = ("approved".to_owned(), RestrictedExpression::new_bool(asked.approved));
        let context = Context::from_pairs([approved]).map_err(|e| e.to_string())?;
        let request =
            Request::new(who, names.call.clone(), what, context, Some(&self.schema)).map_err(|e| e.to_string())?;

        let answer = Authorizer::new().is_authorized(&request, &self.rules, &entities);
        // A rule that errs is left out of the decision by Cedar: a forbid that errs would permit.
        if let Some(error) = answer.diagnostics().errors().next() {
            return Err(error.to_string());
        }
        let mut reasons: Vec<String> = answer.diagnostics().reason().map(ToString::to_string).collect();
        reasons.sort();
        Ok(match (answer.decision(), reasons.into_iter().next()) {
            (Decision::Allow, Some(rule)) => Verdict::Permit { rule },
            (Decision::Deny, Some(rule)) => Verdict::Forbid { why: "a rule of the policy".to_owned(), rule },
            (Decision::Allow | Decision::Deny, None) => {
                Verdict::Forbid { rule: NONE.to_owned(), why: "no rule permits it".to_owned() }
            }
        })
    }
}

impl Policy for CedarPolicy {
    fn digest(&self) -> &str {
        &self.digest
    }

    fn decide(&self, asked: PolicyAsked<'_>) -> Verdict {
        self.ask(asked)
            .unwrap_or_else(|why| Verdict::Forbid { rule: BROKEN.to_owned(), why: why.chars().take(400).collect() })
    }
}

/// Adds the rules of a text under the ids that they give themselves.
fn add(rules: &mut PolicySet, text: &str) -> Result<(), PolicyError> {
    let read = PolicySet::from_str(text).map_err(|e| PolicyError::Syntax(e.to_string()))?;
    if read.templates().next().is_some() {
        return Err(PolicyError::Syntax("templates are not used".into()));
    }
    for rule in read.policies() {
        let id = rule.annotation("id").unwrap_or_default();
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_.:/-".contains(&b);
        let first = id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !first || id.len() > ID_BYTES_MAX || !id.bytes().all(good) || [NONE, BROKEN].contains(&id) {
            return Err(PolicyError::Id(format!("{:?} is none", id.chars().take(80).collect::<String>())));
        }
        rules.add(rule.new_id(PolicyId::new(id))).map_err(|_| PolicyError::Id(format!("{id} stands twice")))?;
    }
    if rules.policies().count() > RULES_MAX { Err(PolicyError::TooLarge) } else { Ok(()) }
}

fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Message => "message",
        Trigger::Scheduled => "scheduled",
        Trigger::Event => "event",
        Trigger::Transcription => "transcription",
    }
}

fn trust(trust: InputTrust) -> &'static str {
    match trust {
        InputTrust::Trusted => "trusted",
        InputTrust::Untrusted => "untrusted",
    }
}

fn effect(effect: ToolEffect) -> &'static str {
    match effect {
        ToolEffect::Read => "read",
        ToolEffect::Write => "write",
        ToolEffect::Irreversible => "irreversible",
    }
}

#[cfg(test)]
mod tests;
