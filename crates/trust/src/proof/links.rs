//! The links of a chain: that what is in a bundle belongs together, in the order in which it must have happened. Every
//! fact here is in the signed bytes of an event. Must never follow a link that only the bundle's maker asserts.

use crate::launch::{LaunchSignature, check as check_launch};
use crate::place::{dispatch_in, in_its_place};
use crate::verify::Finding;
use custody_contracts::canonical::digest;
use custody_contracts::events::{
    DispatchAdmitted, DispatchEvent, EffectEvent, Kind, LauncherEvent, LedgerEvent, RunEvent, SignatureCheck,
};
use custody_contracts::grant::GrantEvent;
use custody_contracts::token::TokenEvent;
use custody_ledger::Recorded;
use serde_json::Value;
use std::collections::BTreeSet;

/// What the chain is about.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) event_type: String,
    pub(super) dispatch: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) launcher: Option<String>,
    pub(super) grant: Option<String>,
}

fn missing(seq: u64, what: impl Into<String>) -> Finding {
    Finding { seq, code: "LINK_MISSING", message: what.into() }
}

fn broken(one: &Recorded, what: impl Into<String>) -> Finding {
    Finding { seq: one.seq.0, code: "LINK_BROKEN", message: what.into() }
}

/// The dispatch that an event belongs to: what its data says, else what its envelope says.
fn dispatch_of(one: &Recorded) -> Option<String> {
    let of_dispatch = !matches!(one.entity.kind, Kind::Key | Kind::Launcher | Kind::Checkpoint | Kind::Grant);
    let said = one.event.as_ref().and_then(dispatch_in);
    said.or_else(|| one.envelope.correlation.clone().filter(|_| of_dispatch))
}

/// Checks that the entries are one chain and that the focus is its subject.
pub(super) fn check(recorded: &[Recorded], focus: u64) -> Result<Chain, Finding> {
    for one in recorded {
        in_its_place(one).map_err(|why| broken(one, why))?;
    }
    let about = recorded.iter().find(|r| r.seq.0 == focus);
    let about = about.ok_or_else(|| missing(focus, "the event that was asked about is not in it"))?;
    let mut chain = Chain {
        event_type: about.envelope.kind.clone(),
        dispatch: dispatch_of(about).filter(|d| begun(recorded, d).is_some() || about.entity.kind != Kind::Workspace),
        subject: about.envelope.subject.clone(),
        launcher: about.envelope.launcher.clone(),
        grant: about.envelope.grant.clone(),
    };
    let Some(dispatch) = chain.dispatch.clone() else {
        related(recorded, |one| one.entity == about.entity)?;
        return Ok(chain);
    };
    let first = begun(recorded, &dispatch)
        .ok_or_else(|| missing(focus, format!("the admission or refusal of {dispatch} is missing")))?;
    chain.subject = first.envelope.subject.clone();
    chain.launcher = first.envelope.launcher.clone();
    chain.grant = first.envelope.grant.clone();
    if let Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) = &first.event
        && let Some(used) = e.grant.id()
    {
        chain.grant = Some(used.to_string());
    }
    let line = line_of(recorded, chain.grant.as_deref());
    let granted = |one: &Recorded| one.entity.kind == Kind::Grant && line.contains(one.entity.id.as_str());
    let launched =
        |one: &Recorded| one.entity.kind == Kind::Launcher && Some(&one.entity.id) == chain.launcher.as_ref();
    related(recorded, |one| granted(one) || launched(one) || dispatch_of(one).as_ref() == Some(&dispatch))?;
    for one in recorded.iter().filter(|one| dispatch_of(one).as_ref() == Some(&dispatch)) {
        if one.seq < first.seq {
            return Err(broken(one, "it stands before its dispatch was admitted"));
        }
        follows(recorded, one)?;
        for (what, said, wanted) in [
            ("person", &one.envelope.subject, &chain.subject),
            ("launcher", &one.envelope.launcher, &chain.launcher),
            ("grant", &one.envelope.grant, &chain.grant),
        ] {
            if said.is_some() && said != wanted {
                return Err(broken(one, format!("it names another {what} than the admission of {dispatch}")));
            }
        }
    }
    if let Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(admitted))) = &first.event {
        admission(recorded, first, admitted)?;
        if let Some(grant) = &chain.grant
            && !recorded.iter().any(|one| granted(one) && one.seq < first.seq)
        {
            return Err(missing(first.seq.0, format!("grant {grant}, under which it was admitted, is missing")));
        }
    }
    Ok(chain)
}

/// A grant and the ones that justify it, as far as they are here.
fn line_of<'a>(recorded: &'a [Recorded], grant: Option<&'a str>) -> BTreeSet<&'a str> {
    let mut line = BTreeSet::new();
    let mut next = grant;
    while let Some(id) = next.filter(|id| line.insert(*id)) {
        next = recorded.iter().find_map(|one| match &one.event {
            Some(LedgerEvent::Grant(GrantEvent::Issued(e))) if e.grant.id.as_str() == id => {
                e.parent.as_ref().map(custody_contracts::ids::GrantId::as_str)
            }
            _ => None,
        });
    }
    line
}

/// The event that a dispatch begins with.
fn begun<'a>(recorded: &'a [Recorded], dispatch: &str) -> Option<&'a Recorded> {
    recorded.iter().find(|one| match &one.event {
        Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(e))) => e.dispatch.as_str() == dispatch,
        Some(LedgerEvent::Dispatch(DispatchEvent::Refused(e))) => e.dispatch.as_str() == dispatch,
        _ => false,
    })
}

/// Nothing is in a bundle that does not belong to it: keys always do.
fn related(recorded: &[Recorded], belongs: impl Fn(&Recorded) -> bool) -> Result<(), Finding> {
    let stranger = recorded.iter().find(|one| one.entity.kind != Kind::Key && !belongs(one));
    stranger.map_or(Ok(()), |one| {
        Err(Finding { seq: one.seq.0, code: "UNRELATED", message: "it does not belong to the chain".into() })
    })
}

/// An admission agrees with its own envelope, and its launcher was registered before it.
fn admission(recorded: &[Recorded], first: &Recorded, admitted: &DispatchAdmitted) -> Result<(), Finding> {
    let person = admitted.unit.identity.subject.as_str();
    if first.envelope.subject.as_deref() != Some(person) {
        return Err(broken(first, format!("it admits for {person} and its envelope says another person")));
    }
    let launcher = admitted.launch.launcher.as_str();
    if first.envelope.launcher.as_deref() != Some(launcher) {
        return Err(broken(first, format!("it was asked by {launcher} and its envelope says another launcher")));
    }
    match launcher_key(recorded, first) {
        Some(Some(_)) => Ok(()),
        Some(None) => Err(broken(first, format!("launcher {launcher} was disabled before"))),
        None => Err(missing(first.seq.0, format!("the registration of launcher {launcher} is missing"))),
    }
}

/// The launcher's key at an admission: `Some(None)` when it was disabled, `None` when nothing says it.
fn launcher_key<'a>(recorded: &'a [Recorded], first: &Recorded) -> Option<Option<&'a str>> {
    let mut key = None;
    for one in recorded.iter().filter(|one| one.seq < first.seq) {
        match &one.event {
            Some(LedgerEvent::Launcher(LauncherEvent::Registered(e))) => key = Some(Some(e.public_key.as_str())),
            // A rotation replaces a key that is there.
            Some(LedgerEvent::Launcher(LauncherEvent::Rotated(e))) if key.is_some() => {
                key = Some(Some(e.public_key.as_str()));
            }
            Some(LedgerEvent::Launcher(LauncherEvent::Disabled(_))) => key = Some(None),
            _ => {}
        }
    }
    key
}

/// What must have happened before an event, did: an attempt is claimed before it starts or ends, a run is claimed before
/// an effect or a token, an intent stands before its outcome, a dispatch token before what it is exchanged for.
fn follows(recorded: &[Recorded], one: &Recorded) -> Result<(), Finding> {
    let before = |wanted: &dyn Fn(&LedgerEvent) -> bool| {
        recorded.iter().filter(|r| r.seq < one.seq).filter_map(|r| r.event.as_ref()).any(wanted)
    };
    let claimed = |dispatch: &str, attempt: Option<u32>| {
        before(&|event| match event {
            LedgerEvent::Run(RunEvent::Claimed(e)) => {
                e.dispatch.as_str() == dispatch && attempt.is_none_or(|a| e.attempt == a)
            }
            _ => false,
        })
    };
    let good = match &one.event {
        Some(LedgerEvent::Run(RunEvent::Started(e))) => claimed(e.dispatch.as_str(), Some(e.attempt)),
        Some(LedgerEvent::Run(RunEvent::Finished(e))) => claimed(e.dispatch.as_str(), Some(e.attempt)),
        Some(LedgerEvent::Effect(EffectEvent::ToolFinished(e))) => {
            claimed(e.dispatch.as_str(), None)
                && before(&|event| match event {
                    LedgerEvent::Effect(EffectEvent::ToolIntended(i)) => i.dispatch == e.dispatch && i.n == e.n,
                    _ => false,
                })
        }
        Some(LedgerEvent::Effect(e)) => claimed(e.dispatch().as_str(), None),
        Some(LedgerEvent::Token(TokenEvent::Issued(e))) => {
            let exchanged = |from: &String| {
                before(&|event| matches!(event, LedgerEvent::Token(TokenEvent::Issued(d)) if d.jti == *from))
            };
            claimed(e.dispatch.as_str(), None) && e.from.as_ref().is_none_or(exchanged)
        }
        _ => true,
    };
    if good { Ok(()) } else { Err(missing(one.seq.0, "what must have happened before it is missing: claim or intent")) }
}

/// The launcher's own message: the bytes whose digest the admission holds, signed by the key that was registered.
pub(super) fn launch(recorded: &[Recorded], chain: &Chain, launch: Option<&str>) -> Result<bool, Finding> {
    let Some(launch) = launch else { return Ok(false) };
    let first = chain.dispatch.as_ref().and_then(|d| begun(recorded, d));
    let Some((first, Some(LedgerEvent::Dispatch(DispatchEvent::Admitted(admitted))))) = first.map(|f| (f, &f.event))
    else {
        return Err(Finding { seq: 0, code: "UNRELATED", message: "a launch without its admission".into() });
    };
    if digest(launch.as_bytes()) != admitted.launch.digest {
        return Err(broken(first, "the launch in the bundle is not the one that was admitted"));
    }
    if admitted.signature == SignatureCheck::Absent {
        return Ok(false);
    }
    let key = launcher_key(recorded, first).flatten().unwrap_or_default();
    match serde_json::from_str(launch) {
        Ok(Value::Object(event)) if check_launch(&event, key) == LaunchSignature::Good => Ok(true),
        _ => Err(broken(first, "the launch is not signed by its launcher's registered key")),
    }
}
