//! Writes logs as the roles would: same envelopes, same signatures, same checkpoints, with fixed times and test keys.
//! Launches are judged by the real rules; everything else is written as it is told, so that a mutant can lie.

use custody_contracts::canonical::{canonical, derived_id, digest};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{
    CheckpointEvent, CheckpointSigned, DispatchAdmitted, DispatchEvent, DispatchRefused, DispatchStopRequested,
    EffectEvent, EffectOutcome, FollowUpAccepted, KeyEvent, KeyIntroduced, Kind, LauncherDisabled, LauncherEvent,
    LauncherRegistered, LauncherRotated, LedgerEvent, ModelCalled, OutputRef, Role, RunClaimed, RunEvent, RunFinished,
    RunStarted, RunnerRef, SessionFile, SignatureCheck, SignatureRule, StopReason, Usage,
};
use custody_contracts::grant::{Consent, GrantEvent, GrantIssued, GrantRefused, GrantRevoked, GrantTerms};
use custody_contracts::ids::{DispatchId, GrantId, LauncherId, RunnerName, UnixMillis};
use custody_contracts::launch::{FollowUp, unsigned_say};
use custody_contracts::token::{TokenEvent, TokenIssued, TokenKeyChanged, TokenKeyState, TokenRefused, TokenType};
use custody_contracts::workspace::{RunCommit, WorkspaceEvent};
use custody_domain::admission::{self, Grants, Installed, Mounts, RunnerEntry};
use custody_domain::grant::{Book as GrantBook, Facts, any_consent, may_issue, statement};
use custody_domain::launcher::LauncherState;
use custody_domain::run::container_name;
use custody_domain::tool::Tools;
use custody_domain::workspace::WorkspaceState;
use custody_evals::LaunchLine;
use custody_evals::slice::{LedgerLine, Line, Slice};
use custody_ledger::merkle::{Frontier, leaf};
use custody_ledger::recorded::encode;
use custody_ledger::{Entity, Seq, Sign, Stored};
use custody_trust::grant::mint;
use custody_trust::{RoleKey, note};
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// When every written log begins: 2026-09-21T14:13:20Z.
pub(crate) const BEGIN: u64 = 1_790_000_000_000;
/// What one append takes.
const APPEND_MS: u64 = 25;
/// The one runner.
pub(crate) const RUNNER: &str = "custody-agent";
/// The one runtime.
pub(crate) const RUNTIME: &str = "runtime-1";

/// Seed of a role's test key; stands in every written `eval.toml` as well.
pub(crate) fn seed(role: Role) -> [u8; 32] {
    match role {
        Role::Authority => [0xa1; 32],
        Role::Runtime => [0xb2; 32],
        Role::Gateway => [0xc3; 32],
        Role::Api | Role::Scheduler | Role::Projector => [0xd4; 32],
    }
}

pub(crate) fn launcher_key(n: u8) -> KeyPair {
    KeyPair::new_from_raw(KeyPairType::User, [n; 32]).expect("32 bytes")
}

pub(crate) fn sha(text: &str) -> String {
    digest(text.as_bytes())
}

/// A container id as an engine gives it.
pub(crate) fn container(name: &str) -> String {
    sha(name).trim_start_matches("sha256:").to_owned()
}

pub(crate) fn image() -> String {
    sha("the image of custody-agent")
}

/// What an admission left to do.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub dispatch: DispatchId,
    pub admitted: Option<DispatchAdmitted>,
    pub launch_seq: u64,
    pub seq: u64,
}

impl Ticket {
    pub(crate) fn admitted(&self) -> &DispatchAdmitted {
        self.admitted.as_ref().expect("was admitted")
    }
}

/// How a run ended, for [`Book::finish`].
#[derive(Clone)]
pub(crate) struct Ending {
    pub reason: StopReason,
    pub detail: Option<String>,
    pub container: Option<String>,
    pub exit_code: Option<i64>,
    pub session: Option<String>,
    pub frames: u64,
    pub calls: u64,
    /// Sent and received; without it each call counts alike.
    pub tokens: Option<(u64, u64)>,
    pub attempt: u32,
}

impl Ending {
    pub(crate) fn completed(container: &str, session: &str, calls: u64) -> Ending {
        Ending {
            reason: StopReason::Completed,
            detail: None,
            container: Some(container.to_owned()),
            exit_code: Some(0),
            session: Some(session.to_owned()),
            frames: 12,
            calls,
            tokens: None,
            attempt: 1,
        }
    }

    pub(crate) fn without_box(reason: StopReason, detail: &str) -> Ending {
        Ending {
            reason,
            detail: Some(detail.to_owned()),
            container: None,
            exit_code: None,
            session: None,
            frames: 0,
            calls: 0,
            tokens: None,
            attempt: 1,
        }
    }
}

/// A log under construction.
pub(crate) struct Book {
    keys: BTreeMap<Role, RoleKey>,
    lines: Vec<Line>,
    seq: u64,
    launch_seq: u64,
    now: u64,
    tree: Frontier,
    launchers: BTreeMap<String, LauncherState>,
    workspaces: BTreeMap<String, WorkspaceState>,
    grants: GrantBook,
}

impl Book {
    /// A log with the keys of authority, runtime and gateway.
    pub(crate) fn new() -> Book {
        let keys = [Role::Authority, Role::Runtime, Role::Gateway];
        let keys = keys.into_iter().map(|role| (role, RoleKey::from_seed(role, &seed(role)))).collect();
        let mut book = Book {
            keys,
            lines: Vec::new(),
            seq: 0,
            launch_seq: 40,
            now: BEGIN,
            tree: Frontier::default(),
            launchers: BTreeMap::new(),
            workspaces: BTreeMap::new(),
            grants: GrantBook::default(),
        };
        for role in [Role::Authority, Role::Runtime, Role::Gateway] {
            let key = &book.keys[&role];
            let event = KeyIntroduced {
                kid: key.kid().to_owned(),
                role,
                public_key: key.public_hex(),
                instance: format!("{}-1", role.as_str()),
            };
            let kid = event.kid.clone();
            book.append(Kind::Key, &kid, LedgerEvent::Key(KeyEvent::Introduced(event)), Meta::default());
        }
        book
    }

    pub(crate) fn text(&self) -> String {
        Slice::write(&self.lines).expect("canonical lines")
    }

    pub(crate) fn messages(&self) -> Vec<Stored> {
        let ledger = |l: &Line| match l {
            Line::Ledger(l) => Some(l.stored.clone()),
            Line::Launch(_) => None,
        };
        self.lines.iter().filter_map(ledger).collect()
    }

    pub(crate) fn launches(&self) -> Vec<LaunchLine> {
        let launch = |l: &Line| match l {
            Line::Launch(l) => Some(l.clone()),
            Line::Ledger(_) => None,
        };
        self.lines.iter().filter_map(launch).collect()
    }

    /// Now, in milliseconds since the Unix epoch.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn tick(&mut self, ms: u64) -> u64 {
        self.now += ms;
        self.now
    }

    /// Signs and appends an event as the role that writes its kind.
    pub(crate) fn append(&mut self, kind: Kind, id: &str, event: LedgerEvent, mut meta: Meta) -> u64 {
        self.tick(APPEND_MS);
        self.seq += 1;
        meta.time = UnixMillis(self.now).rfc3339();
        meta.correlation.get_or_insert_with(|| id.to_owned());
        self.grants.take_in(self.seq, UnixMillis(self.now), &event);
        let entity = Entity::new(kind, id).expect("an entity id");
        let command = derived_id("cmd-", &[id.as_bytes(), &self.seq.to_be_bytes()]);
        let bytes = encode(&self.keys[&kind.writer()], &command, &[event], &meta).expect("an event");
        let log_subject = entity.log_subject();
        let message_id = derived_id("m-", &[log_subject.as_bytes(), command.as_bytes()]);
        self.tree.push(leaf(&bytes));
        let stored = Stored { seq: Seq(self.seq), log_subject, message_id: Some(message_id), bytes };
        self.lines.push(Line::Ledger(LedgerLine { stored, stored_at: Some(UnixMillis(self.now)) }));
        self.seq
    }

    pub(crate) fn checkpoint(&mut self) {
        let (size, root) = (self.tree.size(), self.tree.root());
        let note = note::sign(&self.keys[&Role::Authority], "custody.example/ledger", size, &root);
        let root = note.lines().nth(2).expect("a root").to_owned();
        let signed = CheckpointSigned { origin: "custody.example/ledger".into(), size, root, note };
        self.append(Kind::Checkpoint, "log", LedgerEvent::Checkpoint(CheckpointEvent::Signed(signed)), Meta::default());
    }

    fn launcher(&mut self, event: LauncherEvent, id: &str) {
        let before = self.launchers.remove(id).unwrap_or_default();
        self.launchers.insert(id.to_owned(), before.after(&event));
        self.append(Kind::Launcher, id, LedgerEvent::Launcher(event), Meta::default());
    }

    pub(crate) fn register(&mut self, id: &str, key: u8, signature: SignatureRule, subjects: &[&str]) {
        let event = LauncherRegistered {
            launcher: LauncherId::parse(id).expect("an id"),
            public_key: launcher_key(key).public_key(),
            name: format!("Launcher {id}"),
            signature,
            subjects: subjects.iter().map(|s| (*s).to_owned()).collect(),
            by: "operator:cli".into(),
        };
        self.launcher(LauncherEvent::Registered(event), id);
    }

    pub(crate) fn workspace(&mut self, event: WorkspaceEvent) {
        let id = event.workspace().to_string();
        let before = self.workspaces.remove(&id).unwrap_or_default();
        self.workspaces.insert(id.clone(), before.after(&event));
        self.append(Kind::Workspace, &id, LedgerEvent::Workspace(event), Meta::default());
    }

    /// Jane's or Omar's terms for a launcher: their own workspace, by messages.
    pub(crate) fn terms(&self, id: &str, launcher: &str, key: u8, subject: &str) -> GrantTerms {
        let value = json!({
            "id": id, "subject": subject, "launcher": format!("integration:{launcher}"),
            "launcher_key": launcher_key(key).public_key(), "tools": ["workspace_read", "workspace_write"],
            "workspaces": [{ "id": subject, "mode": "rw" }], "trigger": { "on": ["message"] }, "constraints": [],
            "limits": { "dispatches": 10, "window_ms": 3_600_000 }, "approval": { "rule": "gated" },
            "not_before": UnixMillis(self.now).rfc3339(), "expires": UnixMillis(self.now + 86_400_000).rfc3339(),
        });
        serde_json::from_value(value).expect("terms")
    }

    /// A grant by the rules: issued, or refused on the record.
    pub(crate) fn grant(&mut self, terms: GrantTerms, parent: Option<&str>) {
        let consent = self.consent(&terms, parent);
        let id = parent.map(|id| GrantId::parse(id).expect("an id"));
        let own = terms.launcher.as_str().split_once(':').map_or("", |(_, own)| own);
        let launcher = self.launchers.get(own).cloned().unwrap_or_default();
        let now = UnixMillis(self.now + APPEND_MS);
        let facts = Facts { launcher: &launcher, workspaces: &self.workspaces, grants: &self.grants, now };
        match may_issue(&terms, &consent, id.as_ref(), facts) {
            Ok(()) => self.grant_anyway(terms, parent),
            Err(no) => self.refuse_grant(terms, parent, [no.code, &no.detail, &no.hint]),
        }
    }

    fn consent(&self, terms: &GrantTerms, parent: Option<&str>) -> Consent {
        let held = parent.and_then(|id| self.grants.document(id));
        held.map_or_else(|| any_consent(terms), |grant| grant.consent.clone())
    }

    /// Issues a grant, whatever the rules say.
    pub(crate) fn grant_anyway(&mut self, terms: GrantTerms, parent: Option<&str>) {
        let grant = terms.clone().agreed(self.consent(&terms, parent));
        let token = mint(&self.keys[&Role::Authority], &grant, "https://custody.example", UnixMillis(self.now));
        let statement = match parent.and_then(|id| self.grants.get(id)) {
            Some(held) => held.issued.statement.clone(),
            None => statement(&terms),
        };
        let issued = GrantIssued {
            token: token.expect("a token").into_text(),
            statement,
            parent: parent.map(|id| GrantId::parse(id).expect("an id")),
            by: terms.subject.to_string(),
            grant,
        };
        self.grant_event(terms.id.as_str(), GrantEvent::Issued(Box::new(issued)));
    }

    /// Refuses a grant in words that are given.
    pub(crate) fn refuse_grant(&mut self, terms: GrantTerms, parent: Option<&str>, said: [&str; 3]) {
        let [reason, detail, hint] = said.map(str::to_owned);
        let id = terms.id.to_string();
        let parent = parent.map(|id| GrantId::parse(id).expect("an id"));
        let by = terms.subject.to_string();
        let refused = GrantRefused { wanted: terms, parent, reason, detail, hint, by };
        self.grant_event(&id, GrantEvent::Refused(Box::new(refused)));
    }

    pub(crate) fn revoke(&mut self, id: &str) {
        let grant = GrantId::parse(id).expect("an id");
        let revoked = GrantRevoked { grant, by: "u_jane".into(), why: "the phone was lost".into() };
        self.grant_event(id, GrantEvent::Revoked(revoked));
    }

    /// Brings a key for tokens, made of one byte, into a state.
    pub(crate) fn token_key(&mut self, n: u8, state: TokenKeyState) -> String {
        let key = RoleKey::for_tokens(&[n; 32]);
        let kid = key.kid().to_owned();
        let changed = TokenKeyChanged {
            kid: kid.clone(),
            state,
            public_key: key.public_hex(),
            by: "operator:cli".into(),
            why: "monthly".into(),
        };
        self.append(Kind::Key, &kid, LedgerEvent::Key(KeyEvent::TokenKey(changed)), Meta::default());
        kid
    }

    /// A token for a dispatch that lives so many seconds from the moment of its record, with changes.
    pub(crate) fn token(
        &mut self,
        ticket: &Ticket,
        [kid, jti]: [&str; 2],
        life_secs: u64,
        change: impl FnOnce(&mut TokenIssued),
    ) {
        let admitted = ticket.admitted();
        let tools = admitted.unit.tools.iter().map(|tool| format!(" tool:{tool}")).collect::<String>();
        let mounts = admitted.unit.workspaces.iter().map(|m| format!(" ws:{}:{}", m.id, m.mode.as_str()));
        let mut token = TokenIssued {
            jti: jti.into(),
            typ: TokenType::Dispatch,
            kid: kid.into(),
            dispatch: ticket.dispatch.clone(),
            grant: admitted.grant.id().expect("under a grant").clone(),
            aud: "https://custody.example/gateway".into(),
            scope: format!("agent:run{}{tools}", mounts.collect::<String>()),
            claims_digest: sha(jti),
            expires_at: UnixMillis(((self.now + APPEND_MS) / 1_000 + life_secs) * 1_000),
            actor: self.keys[&Role::Gateway].kid().to_owned(),
            from: None,
            txn: None,
        };
        change(&mut token);
        self.token_event(TokenEvent::Issued(Box::new(token)), ticket);
    }

    /// A refusal, as a gateway that asks for more gets it.
    pub(crate) fn refuse_token(&mut self, ticket: &Ticket, id: &str, reason: &str) {
        let refused = TokenRefused {
            id: id.into(),
            dispatch: Some(ticket.dispatch.clone()),
            aud: Some("https://mail.example/mcp".into()),
            reason: reason.into(),
            detail: "it is not in the scope of the dispatch".into(),
            actor: Some(self.keys[&Role::Gateway].kid().to_owned()),
            count: 1,
        };
        self.token_event(TokenEvent::Refused(refused), ticket);
    }

    fn token_event(&mut self, event: TokenEvent, ticket: &Ticket) {
        let id = event.id().to_owned();
        let meta = Meta { correlation: Some(ticket.dispatch.to_string()), ..Meta::default() };
        self.append(Kind::Token, &id, LedgerEvent::Token(event), meta);
    }

    fn grant_event(&mut self, id: &str, event: GrantEvent) {
        self.append(Kind::Grant, id, LedgerEvent::Grant(event), Meta::default());
    }

    pub(crate) fn rotate(&mut self, id: &str, key: u8) {
        let launcher = LauncherId::parse(id).expect("an id");
        let public_key = launcher_key(key).public_key();
        self.launcher(LauncherEvent::Rotated(LauncherRotated { launcher, public_key, by: "operator:cli".into() }), id);
    }

    pub(crate) fn disable(&mut self, id: &str, why: &str) {
        let launcher = LauncherId::parse(id).expect("an id");
        let event = LauncherDisabled { launcher, by: "operator:cli".into(), why: why.into() };
        self.launcher(LauncherEvent::Disabled(event), id);
    }

    /// A launch's CloudEvent, unsigned.
    pub(crate) fn ask(&self, launcher: &str, id: &str, subject: &str, start: Value) -> Map<String, Value> {
        let event = json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("launcher/{launcher}"),
            "type": "custody.launch.dispatch.v1",
            "time": UnixMillis(self.now).rfc3339(),
            "datacontenttype": "application/json",
            "dataschema": "custody:unit.v1#/$defs/Invocation",
            "data": {
                "identity": { "subject": subject, "launcher": format!("integration:{launcher}") },
                "runner": RUNNER,
                "workspaces": [{ "id": subject, "mode": "rw" }],
                "tools": [],
                "trigger": "message",
                "start": start,
            },
        });
        match event {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    /// Publishes bytes on `launch.<launcher>.<verb>`.
    pub(crate) fn publish(&mut self, launcher: &str, verb: &str, bytes: Vec<u8>) -> LaunchLine {
        self.tick(475);
        self.launch_seq += 1;
        let line = LaunchLine {
            seq: self.launch_seq,
            subject: format!("launch.{launcher}.{verb}"),
            stored_at: UnixMillis(self.now),
            bytes,
        };
        self.lines.push(Line::Launch(line.clone()));
        line
    }

    /// Signs with a key and publishes.
    pub(crate) fn launch(&mut self, launcher: &str, mut event: Map<String, Value>, key: u8) -> LaunchLine {
        custody_trust::launch::sign(&mut event, &launcher_key(key)).expect("a key with a seed");
        self.publish(launcher, "dispatch", canonical(&Value::Object(event)).into_bytes())
    }

    fn meta(&self, launch: &LaunchLine, launcher: &LauncherId, dispatch: &DispatchId, subject: Option<String>) -> Meta {
        Meta {
            subject,
            causation: Some(format!("launch/{}", launch.seq)),
            correlation: Some(dispatch.to_string()),
            launcher: Some(launcher.to_string()),
            ..Meta::default()
        }
    }

    /// Decides a launch by the rules and appends what came out.
    pub(crate) fn decide(&mut self, launch: &LaunchLine) -> Ticket {
        let launcher = launch.subject.split('.').nth(1).expect("a launcher");
        let launcher = LauncherId::parse(launcher).expect("an id");
        let event_id = admission::event_id(&launch.bytes);
        let dispatch = admission::dispatch_id(&launcher, event_id.as_deref(), &launch.bytes);
        let origin = admission::launch_ref(launch.seq, &launcher, event_id.as_deref(), &launch.bytes);
        let mut subject = None;
        let state = self.launchers.get(launcher.as_str()).cloned().unwrap_or_default();
        let judged = admission::read(&launch.bytes).and_then(|asked| {
            subject = Some(asked.unit.identity.subject.to_string());
            let runner = RunnerRef::plain(RunnerName::parse(RUNNER).expect("a name"), "1.0.0", image());
            let none = self.workspaces.is_empty();
            let mounts = if none { Mounts::Before } else { Mounts::Registered(&self.workspaces) };
            let entry = (asked.unit.runner.as_str() == RUNNER).then_some(RunnerEntry { runner });
            let (dispatch, origin) = (dispatch.clone(), origin.clone());
            // Its record is stamped when it is appended.
            let now = UnixMillis(self.now + APPEND_MS);
            let grants = if self.grants.begun() { Grants::Given(&self.grants, now) } else { Grants::Before };
            // The tools of the gateway itself, and what these stories need of an upstream.
            let own = Tools::builtin();
            let tools = own.names().chain(["mail__send"]).map(str::to_owned).collect();
            let installed = Installed { mounts, grants, tools: &tools, runner: entry.as_ref() };
            admission::judge(dispatch, origin, launch.stored_at, asked, &state, installed)
        });
        let meta = self.meta(launch, &launcher, &dispatch, subject);
        match judged {
            Ok(permit) => self.admit(permit.into_event(), meta),
            Err(refusal) => {
                let refused = DispatchRefused {
                    dispatch,
                    launch: origin,
                    reason: refusal.code.into(),
                    detail: refusal.detail,
                    hint: refusal.hint,
                };
                self.refuse(refused, meta)
            }
        }
    }

    pub(crate) fn admit(&mut self, admitted: DispatchAdmitted, meta: Meta) -> Ticket {
        let (dispatch, launch_seq) = (admitted.dispatch.clone(), admitted.launch.stream_seq);
        let event = LedgerEvent::Dispatch(DispatchEvent::Admitted(Box::new(admitted.clone())));
        let seq = self.append(Kind::Dispatch, dispatch.as_str(), event, meta);
        Ticket { dispatch, admitted: Some(admitted), launch_seq, seq }
    }

    pub(crate) fn refuse(&mut self, refused: DispatchRefused, meta: Meta) -> Ticket {
        let (dispatch, launch_seq) = (refused.dispatch.clone(), refused.launch.stream_seq);
        let event = LedgerEvent::Dispatch(DispatchEvent::Refused(refused));
        let seq = self.append(Kind::Dispatch, dispatch.as_str(), event, meta);
        Ticket { dispatch, admitted: None, launch_seq, seq }
    }

    /// Lies: admits what the rules would refuse, in the form that an admission has.
    pub(crate) fn admit_anyway(&mut self, launch: &LaunchLine) -> Ticket {
        let launcher = LauncherId::parse(launch.subject.split('.').nth(1).expect("a launcher")).expect("an id");
        let asked = admission::read(&launch.bytes).expect("a readable launch");
        let dispatch = admission::dispatch_id(&launcher, Some(&asked.event_id), &launch.bytes);
        let subject = Some(asked.unit.identity.subject.to_string());
        let admitted: DispatchAdmitted = serde_json::from_value(json!({
            "dispatch": dispatch,
            "session": dispatch.as_str().replacen("d-", "s-", 1),
            "unit": asked.unit,
            "launch": admission::launch_ref(launch.seq, &launcher, Some(&asked.event_id), &launch.bytes),
            "runner": { "name": RUNNER, "version": "1.0.0", "image": image() },
            "grant": "not_checked",
            "signature": "verified",
        }))
        .expect("an admission");
        let meta = self.meta(launch, &launcher, &dispatch, subject);
        self.admit(admitted, meta)
    }

    /// Admits a launch under a grant, whatever the rules say; under none for the empty id.
    pub(crate) fn admit_under(&mut self, launch: &LaunchLine, grant: &str) -> Ticket {
        let launcher = LauncherId::parse(launch.subject.split('.').nth(1).expect("a launcher")).expect("an id");
        let asked = admission::read(&launch.bytes).expect("a readable launch");
        let dispatch = admission::dispatch_id(&launcher, Some(&asked.event_id), &launch.bytes);
        let subject = Some(asked.unit.identity.subject.to_string());
        let used = match self.grants.get(grant) {
            Some(held) => json!({ "checked": { "id": grant, "seq": held.seq } }),
            None => json!("not_checked"),
        };
        let admitted = json!({
            "dispatch": dispatch, "session": dispatch.as_str().replacen("d-", "s-", 1), "unit": asked.unit,
            "launch": admission::launch_ref(launch.seq, &launcher, Some(&asked.event_id), &launch.bytes),
            "runner": { "name": RUNNER, "version": "1.0.0", "image": image() }, "grant": used, "signature": "verified",
        });
        let meta = self.meta(launch, &launcher, &dispatch, subject);
        self.admit(serde_json::from_value(admitted).expect("an admission"), meta)
    }

    /// Asks for a stop as the authority does when a grant was revoked.
    pub(crate) fn stop_revoked(&mut self, ticket: &Ticket, grant: &str) {
        let event = DispatchStopRequested {
            dispatch: ticket.dispatch.clone(),
            by: format!("grant:{grant}/GRANT_REVOKED"),
            grace_ms: 2_000,
            reason: Some(StopReason::Revoked),
        };
        let event = LedgerEvent::Dispatch(DispatchEvent::StopRequested(event));
        self.append(Kind::Dispatch, ticket.dispatch.as_str(), event, Meta::default());
    }

    pub(crate) fn of_run(&self, ticket: &Ticket) -> Meta {
        let admitted = ticket.admitted.as_ref();
        Meta {
            subject: admitted.map(|a| a.unit.identity.subject.to_string()),
            causation: Some(format!("ledger/{}", ticket.seq)),
            correlation: Some(ticket.dispatch.to_string()),
            launcher: admitted.map(|a| a.launch.launcher.to_string()),
            grant: admitted.and_then(|a| a.grant.id()).map(ToString::to_string),
            ..Meta::default()
        }
    }

    pub(crate) fn stop(&mut self, ticket: &Ticket) {
        let event = DispatchStopRequested {
            dispatch: ticket.dispatch.clone(),
            by: "operator:cli".into(),
            grace_ms: 5_000,
            reason: None,
        };
        let event = LedgerEvent::Dispatch(DispatchEvent::StopRequested(event));
        self.append(Kind::Dispatch, ticket.dispatch.as_str(), event, Meta::default());
    }

    /// Says more to a dispatch and accepts it as number `n`, whatever the rules say. `other` accepts words that nobody said.
    pub(crate) fn say(&mut self, ticket: &Ticket, n: u32, sender: (&str, u8), id: &str, text: &str, other: bool) {
        let (launcher, key) = sender;
        let follow_up = FollowUp { dispatch: ticket.dispatch.clone(), text: text.to_owned() };
        let time = UnixMillis(self.now).rfc3339();
        let mut event = unsigned_say(id, launcher, &time, &follow_up).expect("an event");
        custody_trust::launch::sign(&mut event, &launcher_key(key)).expect("a key with a seed");
        let line = self.publish(launcher, "say", canonical(&Value::Object(event)).into_bytes());
        let launcher = LauncherId::parse(launcher).expect("an id");
        let accepted = FollowUpAccepted {
            dispatch: ticket.dispatch.clone(),
            n,
            by: launcher.to_string(),
            launch: Some(admission::launch_ref(line.seq, &launcher, Some(id), &line.bytes)),
            signature: Some(SignatureCheck::Verified),
            digest: if other { sha("other words") } else { sha(text) },
            bytes: text.len() as u64,
            input_seq: u64::from(n),
        };
        let mut meta = self.of_run(ticket);
        meta.causation = Some(format!("launch/{}", line.seq));
        let event = LedgerEvent::Dispatch(DispatchEvent::FollowUpAccepted(accepted));
        self.append(Kind::Dispatch, ticket.dispatch.as_str(), event, meta);
    }

    pub(crate) fn claim(&mut self, ticket: &Ticket, resume: Option<String>) {
        self.claim_with(ticket, resume, |_| {});
    }

    /// Claims, after a change to what an honest runtime would write.
    pub(crate) fn claim_with(&mut self, ticket: &Ticket, resume: Option<String>, change: impl FnOnce(&mut RunClaimed)) {
        let admitted = ticket.admitted();
        let mut claim = RunClaimed {
            dispatch: ticket.dispatch.clone(),
            attempt: 1,
            runtime: RUNTIME.into(),
            image: admitted.runner.image.clone(),
            container_name: container_name(ticket.dispatch.as_str(), 1),
            spec_digest: sha("the create options"),
            session: admitted.session.clone(),
            resume_digest: resume,
            deadline_at: UnixMillis(self.now + 600_000),
            warm: None,
            mounts: Vec::new(),
        };
        change(&mut claim);
        let meta = self.of_run(ticket);
        let event = LedgerEvent::Run(RunEvent::Claimed(claim));
        self.append(Kind::Run, ticket.dispatch.as_str(), event, meta);
    }

    pub(crate) fn start(&mut self, ticket: &Ticket, container: &str) {
        let event = RunStarted {
            dispatch: ticket.dispatch.clone(),
            attempt: 1,
            container: container.to_owned(),
            started_at: UnixMillis(self.now + 180),
            phases_ms: [("create", 60), ("start", 120)].into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            in_force: None,
        };
        let meta = self.of_run(ticket);
        self.append(Kind::Run, ticket.dispatch.as_str(), LedgerEvent::Run(RunEvent::Started(event)), meta);
    }

    pub(crate) fn call(&mut self, ticket: &Ticket, n: u32) {
        self.tick(900);
        let event = ModelCalled {
            dispatch: ticket.dispatch.clone(),
            n,
            api: "openai-chat".into(),
            upstream: "local".into(),
            model: "small-1".into(),
            request_digest: sha(&format!("request {} {n}", ticket.dispatch)),
            response_digest: sha(&format!("response {} {n}", ticket.dispatch)),
            status: 200,
            outcome: EffectOutcome::Succeeded,
            detail: None,
            input_tokens: 100,
            output_tokens: 20,
            duration_ms: 850,
            cached_tokens: None,
            cost_micros: None,
            attempts: None,
            provider: None,
            response_model: None,
        };
        let id = format!("{}-m{n}", ticket.dispatch);
        let meta = self.of_run(ticket);
        self.append(Kind::Effect, &id, LedgerEvent::Effect(EffectEvent::ModelCalled(event)), meta);
    }

    pub(crate) fn finish(&mut self, ticket: &Ticket, ending: Ending) {
        self.finish_with(ticket, ending, Vec::new());
    }

    /// Finishes, and says what became of the run's changes.
    pub(crate) fn finish_with(&mut self, ticket: &Ticket, ending: Ending, commits: Vec<RunCommit>) {
        self.tick(1_500);
        let output = OutputRef {
            subject: format!("unit.{}.out", ticket.dispatch),
            frames: ending.frames,
            bytes: ending.frames * 64,
            digest: sha(&format!("output {} {}", ticket.dispatch, ending.frames)),
            truncated: false,
        };
        let (input_tokens, output_tokens) = ending.tokens.unwrap_or((ending.calls * 100, ending.calls * 20));
        let usage = Usage {
            wall_ms: if ending.container.is_some() { 1_500 } else { 0 },
            input_tokens,
            output_tokens,
            model_calls: ending.calls,
        };
        let session = ending.session.map(|text| SessionFile {
            id: ticket.admitted().session.clone(),
            digest: sha(&text),
            bytes: text.len() as u64,
        });
        let event = RunFinished {
            dispatch: ticket.dispatch.clone(),
            attempt: ending.attempt,
            started_at: ending.container.is_some().then(|| UnixMillis(self.now - 1_500)),
            container: ending.container,
            exit_code: ending.exit_code,
            reason: ending.reason,
            detail: ending.detail,
            finished_at: UnixMillis(self.now),
            session,
            output,
            usage,
            agent_session: None,
            phases_ms: std::collections::BTreeMap::new(),
            commits,
            parked: false,
            turns: None,
        };
        let meta = self.of_run(ticket);
        let event = LedgerEvent::Run(RunEvent::Finished(Box::new(event)));
        self.append(Kind::Run, ticket.dispatch.as_str(), event, meta);
    }
}
