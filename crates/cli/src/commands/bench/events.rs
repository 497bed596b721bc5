//! Ledger events as a busy installation writes them: for each dispatch admitted, claimed, started, a model call and an
//! end. Signatures are of the right length and nothing more, unless keys are given: what folds the log does not check them,
//! `audit verify` does.

use super::failed;
use crate::commands::run::unit;
use crate::error::CliResult;
use custody_contracts::canonical::derived_id;
use custody_contracts::envelope::Meta;
use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, EffectEvent, EffectOutcome, GrantCheck, Kind, LaunchRef, LauncherEvent,
    LauncherRegistered, LedgerEvent, ModelCalled, OutputRef, Role, RunClaimed, RunEvent, RunFinished, RunStarted,
    RunnerRef, SessionFile, SignatureCheck, SignatureRule, StopReason, Usage,
};
use custody_contracts::ids::{DispatchId, LauncherId, RunnerName, SessionId, UnixMillis};
use custody_contracts::unit::{Entrypoint, Invocation, SessionStart, Start};
use custody_ledger::recorded::encode;
use custody_ledger::{Entity, Sign};
use custody_trust::RoleKey;
use std::collections::BTreeMap;

/// Events of one dispatch.
pub(super) const PER_DISPATCH: u64 = 5;
/// Turns of one session.
const TURNS: u64 = 10;
/// Where time begins: 2026-11-22T00:00:00Z.
const EPOCH_MS: u64 = 1_795_305_600_000;

/// One message to publish.
pub(super) struct Message {
    /// `ledger.<kind>.<id>`.
    pub(super) subject: String,
    /// The stored bytes.
    pub(super) bytes: Vec<u8>,
}

struct Unsigned(Role);

impl Sign for Unsigned {
    fn kid(&self) -> &'static str {
        "k-bench-0000000000000000"
    }
    fn role(&self) -> Role {
        self.0
    }
    fn sign_hex(&self, _: &[u8]) -> String {
        "0".repeat(128)
    }
}

/// What all dispatches share.
pub(super) struct Maker {
    /// The keys of authority, runtime and gateway; without them nothing is really signed.
    keys: Option<[RoleKey; 3]>,
    launcher: LauncherId,
    runner: RunnerRef,
    first: Invocation,
}

fn digest(n: u64) -> String {
    format!("sha256:{n:064x}")
}

impl Maker {
    /// A maker.
    pub(super) fn new() -> CliResult<Maker> {
        let prompt = "Summarise the notes of this week and list what is still open.".to_owned();
        let start = Start::Entrypoint(Entrypoint::Inline(prompt));
        Ok(Maker {
            keys: None,
            launcher: LauncherId::parse("web-chat").map_err(failed)?,
            runner: RunnerRef::plain(RunnerName::parse("custody-agent").map_err(failed)?, "1.0.0", digest(1)),
            first: unit("web-chat", "u_jane", "custody-agent", &["notes:rw".to_owned()], start, None)?,
        })
    }

    /// A maker whose events are signed.
    pub(super) fn signing(keys: [RoleKey; 3]) -> CliResult<Maker> {
        Ok(Maker { keys: Some(keys), ..Maker::new()? })
    }

    /// One message of an entity.
    pub(super) fn message(
        &self,
        kind: Kind,
        entity: &str,
        event: &LedgerEvent,
        id: &str,
        at: u64,
    ) -> CliResult<Message> {
        let key = self.keys.iter().flatten().find(|key| key.role() == kind.writer());
        let bare = Unsigned(kind.writer());
        let signer: &dyn Sign = match key {
            Some(key) => key,
            None => &bare,
        };
        message(signer, kind, entity, event, id, at)
    }

    /// The message before all others: a launcher is registered, or every dispatch would be an anomaly.
    pub(super) fn opening(&self) -> CliResult<Message> {
        let registered = LauncherRegistered {
            launcher: self.launcher.clone(),
            public_key: ["U", &"A".repeat(55)].concat(),
            name: "Web chat".to_owned(),
            signature: SignatureRule::Required,
            subjects: vec!["*".to_owned()],
            by: "custody-bench".to_owned(),
        };
        let event = LedgerEvent::Launcher(LauncherEvent::Registered(registered));
        self.message(Kind::Launcher, self.launcher.as_str(), &event, "opening", EPOCH_MS)
    }

    /// The five messages of the dispatch of this number; the same number always gives the same bytes.
    pub(super) fn dispatch(&self, number: u64) -> CliResult<Vec<Message>> {
        let id = derived_id("d-", &[&number.to_be_bytes()]);
        let turn = number % TURNS;
        let session = derived_id("s-", &[&(number - turn).to_be_bytes()]);
        let dispatch = DispatchId::parse(&id).map_err(failed)?;
        let session = SessionId::parse(&session).map_err(failed)?;
        let begun = EPOCH_MS + number * 100;
        let container = format!("{number:064x}");
        let mut unit = self.first.clone();
        if turn > 0 {
            let inline = Some("And what changed since then?".to_owned());
            unit.start = Start::Session(SessionStart { reference: session.to_string(), inline });
        }
        let admitted = DispatchAdmitted {
            dispatch: dispatch.clone(),
            session: session.clone(),
            unit,
            launch: LaunchRef {
                stream_seq: number + 1,
                launcher: self.launcher.clone(),
                event_id: Some(format!("{number:032x}")),
                digest: digest(number),
                stored_at: None,
            },
            runner: self.runner.clone(),
            grant: GrantCheck::NotChecked,
            signature: SignatureCheck::Verified,
            sealed: None,
        };
        let claimed = RunClaimed {
            dispatch: dispatch.clone(),
            attempt: 1,
            runtime: "i-0123456789ab".to_owned(),
            image: self.runner.image.clone(),
            container_name: ["custody-", &id, "-1"].concat(),
            spec_digest: digest(2),
            session: session.clone(),
            resume_digest: (turn > 0).then(|| digest(number - 1)),
            deadline_at: UnixMillis(begun + 3_600_000),
            warm: None,
            mounts: Vec::new(),
        };
        let phases = [("create", 61), ("start", 142)];
        let started = RunStarted {
            dispatch: dispatch.clone(),
            attempt: 1,
            container: container.clone(),
            started_at: UnixMillis(begun + 210),
            phases_ms: phases.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<BTreeMap<_, _>>(),
            in_force: None,
        };
        let called = ModelCalled {
            dispatch: dispatch.clone(),
            n: 1,
            api: "openai-chat".to_owned(),
            upstream: "local".to_owned(),
            model: "smollm2-135m-instruct".to_owned(),
            request_digest: digest(number + 7),
            response_digest: digest(number + 8),
            status: 200,
            outcome: EffectOutcome::Succeeded,
            detail: None,
            input_tokens: 312,
            output_tokens: 48,
            duration_ms: 1_090,
            cached_tokens: None,
            cost_micros: None,
            attempts: None,
            provider: None,
            response_model: None,
        };
        let finished = RunFinished {
            dispatch,
            attempt: 1,
            container: Some(container),
            exit_code: Some(0),
            reason: StopReason::Completed,
            detail: None,
            started_at: Some(UnixMillis(begun + 210)),
            finished_at: UnixMillis(begun + 1_500),
            session: Some(SessionFile { id: session, digest: digest(number), bytes: 4_096 * (turn + 1) }),
            output: OutputRef {
                subject: ["unit.", &id, ".out"].concat(),
                frames: 9,
                bytes: 1_204,
                digest: digest(number + 9),
                truncated: false,
            },
            usage: Usage { wall_ms: 1_290, input_tokens: 312, output_tokens: 48, model_calls: 1 },
            agent_session: None,
            phases_ms: BTreeMap::new(),
            commits: Vec::new(),
            parked: false,
            turns: None,
        };
        let effect = [&id, "-m1"].concat();
        [
            (Kind::Dispatch, &id, LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted))), 0),
            (Kind::Run, &id, LedgerEvent::Run(RunEvent::Claimed(claimed)), 5),
            (Kind::Run, &id, LedgerEvent::Run(RunEvent::Started(started)), 210),
            (Kind::Effect, &effect, LedgerEvent::Effect(EffectEvent::ModelCalled(called)), 1_400),
            (Kind::Run, &id, LedgerEvent::Run(RunEvent::Finished(Box::new(finished))), 1_500),
        ]
        .into_iter()
        .map(|(kind, entity, event, after)| self.message(kind, entity, &event, &id, begun + after))
        .collect()
    }
}

fn message(
    signer: &dyn Sign,
    kind: Kind,
    entity: &str,
    event: &LedgerEvent,
    dispatch: &str,
    at: u64,
) -> CliResult<Message> {
    let meta = Meta {
        time: UnixMillis(at).rfc3339(),
        subject: Some("u_jane".to_owned()),
        causation: Some(["launch/", dispatch].concat()),
        correlation: Some(dispatch.to_owned()),
        launcher: Some("web-chat".to_owned()),
        ..Meta::default()
    };
    let (name, _) = event.names();
    let command = derived_id("cmd-", &[entity.as_bytes(), name.as_bytes(), &at.to_be_bytes()]);
    let bytes = encode(signer, &command, std::slice::from_ref(event), &meta)?;
    let entity = Entity::new(kind, entity).ok_or_else(|| failed("no entity id"))?;
    Ok(Message { subject: entity.log_subject(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody_contracts::catalogue::check;
    use custody_ledger::{Projection, Recorded, Seq, Stored};
    use custody_projections::{Audit, Dispatches, Sessions, audit, sessions};

    fn recorded(count: u64) -> Vec<Recorded> {
        let maker = Maker::new().unwrap();
        let messages = (0..count).flat_map(|n| maker.dispatch(n).unwrap());
        let messages = std::iter::once(maker.opening().unwrap()).chain(messages);
        let stored = messages.zip(1..).map(|(m, seq)| Stored {
            seq: Seq(seq),
            log_subject: m.subject,
            message_id: None,
            bytes: m.bytes,
        });
        stored.flat_map(|s| Recorded::read(&s).unwrap()).collect()
    }

    #[test]
    fn every_event_keeps_the_contract() {
        for recorded in recorded(2) {
            let event = recorded.event.unwrap();
            let (_, shape) = event.names();
            assert_eq!(check("ledger.v2", shape, &event.to_value().unwrap()), Ok(()), "{shape}");
        }
    }

    #[test]
    fn the_log_folds_without_anomalies() {
        let (mut dispatches, mut held, mut audited) = Default::default();
        let log = recorded(TURNS * 2);
        assert_eq!(log.len() as u64, 1 + TURNS * 2 * PER_DISPATCH);
        for recorded in &log {
            Dispatches::apply(&mut dispatches, recorded);
            Sessions::apply(&mut held, recorded);
            Audit::apply(&mut audited, recorded);
        }
        assert_eq!(dispatches.len() as u64, TURNS * 2);
        assert!(dispatches.iter().all(|(_, row)| row.terminal_events == 1));
        let turns: Vec<u64> = sessions::rows(&held).map(|row| row.turn_count).collect();
        assert_eq!(turns, [TURNS, TURNS]);
        assert_eq!(audit::anomalies(&audited).collect::<Vec<_>>(), []);
    }
}
