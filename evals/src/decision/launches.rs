//! What launchers sent, judged again from its bytes: launches, and what was said to a dispatch.

use super::compare::compare;
use super::{Decisions, Divergence, Reversal, States, admission, divergence, said, state, time};
use crate::slice::Event;
use custody_contracts::canonical::digest;
use custody_contracts::events::{DispatchEvent, LaunchRef, LedgerEvent};
use custody_domain::dispatch::{Dispatch, DispatchCommand};
use custody_domain::run::RunState;

impl States<'_> {
    /// An admission or a refusal, judged again from the bytes of its launch.
    pub(super) fn judged(
        &self,
        event: &Event,
        known: &LedgerEvent,
        at: &LaunchRef,
        out: &mut Decisions,
    ) -> Option<Divergence> {
        *out.by_launch.entry(at.stream_seq).or_default() += 1;
        let Some((line, launch)) = self.launches.get(&at.stream_seq) else {
            return Some(divergence(event, format!("launch {}, which it decides, is not in the log", at.stream_seq)));
        };
        if *line > event.line {
            return Some(divergence(event, format!("launch {} stands after its decision", at.stream_seq)));
        }
        let grants = (&self.book, time(event));
        let judged = admission::judge(launch, &self.launchers, &self.workspaces, &self.dispatches, grants, known);
        let judged = match judged {
            Ok(judged) => judged,
            Err(why) => return Some(divergence(event, why)),
        };
        let id = judged.dispatch.to_string();
        let admits = matches!(judged.command, DispatchCommand::Admit(_));
        let outcome = match &judged.command {
            DispatchCommand::Refuse(e) => ["refused:", &e.reason].concat(),
            DispatchCommand::Admit(_)
            | DispatchCommand::RequestStop(_)
            | DispatchCommand::FollowUp(_)
            | DispatchCommand::RefuseFollowUp(_) => "admitted".to_owned(),
        };
        out.outcomes.entry(id.clone()).or_insert(outcome);
        out.decided.insert((id.clone(), digest(&launch.bytes)));
        let attribution = [
            ("causation", Some(format!("launch/{}", launch.seq))),
            ("correlation", Some(id.clone())),
            ("launcher", Some(judged.launcher.to_string())),
            ("subject", judged.subject),
        ];
        let now = state(&self.dispatches, &id);
        let mut found = compare::<Dispatch>(event, known, &id, &now, judged.command, &attribution)?;
        let admitted = matches!(known, LedgerEvent::Dispatch(DispatchEvent::Admitted(_)));
        found.reversal = match (admitted, admits) {
            (false, true) => Some(Reversal::RefusalToAllowed),
            (true, false) => Some(Reversal::AllowedToRefusal),
            _ => None,
        };
        Some(found)
    }

    /// What a launcher said to a dispatch, judged again from the bytes of its message.
    pub(super) fn said(
        &self,
        event: &Event,
        known: &LedgerEvent,
        at: &LaunchRef,
        out: &mut Decisions,
    ) -> Option<Divergence> {
        *out.by_launch.entry(at.stream_seq).or_default() += 1;
        let found = |what: String| Some(divergence(event, what));
        let Some((line, launch)) = self.launches.get(&at.stream_seq) else {
            return found(format!("message {}, which it decides, is not in the log", at.stream_seq));
        };
        if *line > event.line || at.digest != digest(&launch.bytes) {
            return found(format!("message {} is not the one that was decided here", at.stream_seq));
        }
        let ended = |id: &str| matches!(self.runs.get(id), Some(RunState::Finished(_)));
        let again = said::again(launch, &self.launchers, &self.dispatches, ended);
        match (known, again) {
            (LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(e)), Ok((follow_up, signature))) => {
                let asked = self.admitted.get(e.dispatch.as_str());
                let sealed = asked.is_some_and(|admitted| admitted.event.sealed.is_some());
                let same = follow_up.dispatch == e.dispatch
                    // Sealed words are named as they are kept: the digest needs a key that no log holds.
                    && (sealed || digest(follow_up.text.as_bytes()) == e.digest)
                    && Some(signature) == e.signature
                    && e.by == at.launcher.as_str();
                if same { None } else { found("what was said does not come out as recorded".into()) }
            }
            (LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(_)), Err(code)) => {
                let mut divergence = divergence(event, format!("what was said is refused now: {code}"));
                divergence.reversal = Some(Reversal::AllowedToRefusal);
                Some(divergence)
            }
            // Whether an id was used before is the dispatcher's own look, as with launches.
            (LedgerEvent::Dispatch(DispatchEvent::FollowUpRefused(e)), _) if e.reason == "MESSAGE_ID_REUSED" => None,
            (LedgerEvent::Dispatch(DispatchEvent::FollowUpRefused(e)), Err(code)) if code == e.reason => None,
            (LedgerEvent::Dispatch(DispatchEvent::FollowUpRefused(e)), Err(code)) => {
                found(format!("refused for {code}, not for {}", e.reason))
            }
            (_, Ok(_)) => {
                let mut divergence = divergence(event, "what was said is accepted now");
                divergence.reversal = Some(Reversal::RefusalToAllowed);
                Some(divergence)
            }
            (_, Err(_)) => None,
        }
    }
}
