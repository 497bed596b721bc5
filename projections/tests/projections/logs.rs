//! The logs of the goldens, made the same way each time.

use crate::fixtures::{Log, event};
use custody_contracts::events::{DispatchEvent, LedgerEvent};
use custody_ledger::Stored;
use serde_json::{Value, json};

pub(crate) type Make = fn() -> Vec<Stored>;

/// (name of the folder, what makes its log).
pub(crate) const CASES: &[(&str, Make)] = &[
    ("two-turns", two_turns),
    ("ends", ends),
    ("launchers-and-keys", launchers_and_keys),
    ("anomalies", anomalies),
    ("effects", effects),
    ("grants", grants),
    ("approvals", approvals),
    ("tokens", tokens),
    ("erased", erased),
];

fn hex(byte: &str) -> String {
    byte.repeat(32)
}

fn digest(byte: &str) -> String {
    format!("sha256:{}", hex(byte))
}

pub(crate) fn launcher() -> LedgerEvent {
    event("LauncherRegistered", &json!({}))
}

fn keys(log: &mut Log) {
    for role in ["authority", "runtime", "gateway"] {
        let kid = format!("k-{role}-1");
        log.say(&kid, &[event("KeyIntroduced", &json!({ "kid": kid, "role": role }))]);
    }
}

pub(crate) fn admitted(dispatch: &str, session: &str, start: &Value) -> LedgerEvent {
    let unit = json!({
        "identity": { "subject": "u_jane", "launcher": "integration:web-chat" },
        "runner": "claude-code",
        "workspaces": [{ "id": "notes", "mode": "rw" }, { "id": "plans", "mode": "ro" }],
        "trigger": "message",
        "start": start,
    });
    event("DispatchAdmitted", &json!({ "dispatch": dispatch, "session": session, "unit": unit }))
}

fn prompt(text: &str) -> Value {
    json!({ "entrypoint": { "inline": text } })
}

pub(crate) fn claimed(dispatch: &str, resume: Option<&str>) -> LedgerEvent {
    event("RunClaimed", &json!({ "dispatch": dispatch, "resume_digest": resume.map(digest) }))
}

pub(crate) fn started(dispatch: &str, container: &str) -> LedgerEvent {
    event(
        "RunStarted",
        &json!({ "dispatch": dispatch, "container": hex(container), "phases_ms": { "create": 80, "start": 120 } }),
    )
}

pub(crate) fn called(dispatch: &str, n: u32, outcome: &str) -> LedgerEvent {
    event("ModelCalled", &json!({ "dispatch": dispatch, "n": n, "outcome": outcome }))
}

pub(crate) fn finished(dispatch: &str, reason: &str, more: &Value) -> LedgerEvent {
    let output = json!({
        "subject": format!("unit.{dispatch}.out"), "frames": 7, "bytes": 512, "digest": digest("0f"), "truncated": false,
    });
    let mut changes = json!({ "dispatch": dispatch, "reason": reason, "output": output });
    changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event("RunFinished", &changes)
}

fn left(session: &str, file: &str, bytes: u64) -> Value {
    json!({
        "container": hex("c1"), "exit_code": 0, "started_at": 1_782_297_721_000_u64,
        "session": { "id": session, "digest": digest(file), "bytes": bytes },
        "usage": { "wall_ms": 41_000, "input_tokens": 1_204, "output_tokens": 388, "model_calls": 1 },
        "agent_session": "a-1",
    })
}

/// Grants asked for, given, derived and taken back; and what was admitted under one, under none, and after the end of one.
fn grants() -> Vec<Stored> {
    let mut log = Log::default();
    keys(&mut log);
    let text = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../contracts/grant.v1/golden/Grant.minimal.json"
    ));
    let golden: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let terms = |id: &str| {
        let mut terms = golden.clone();
        let map = terms.as_object_mut().unwrap();
        map.remove("consent");
        map.remove("redelegation_depth");
        map.insert("id".into(), json!(id));
        terms
    };
    let issued = |id: &str, parent: Option<&str>| {
        let mut grant = golden.clone();
        grant["id"] = json!(id);
        let mut changes = json!({ "grant": grant });
        if let Some(parent) = parent {
            changes["parent"] = json!(parent);
        }
        event("GrantIssued", &changes)
    };
    let under = |dispatch: &str, id: &str, seq: u64| {
        let LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) = admitted(dispatch, "s-1", &prompt("Hello.")) else {
            unreachable!("an admission")
        };
        let mut value = serde_json::to_value(&e).unwrap();
        value["grant"] = json!({ "checked": { "id": id, "seq": seq } });
        LedgerEvent::Dispatch(DispatchEvent::Admitted(serde_json::from_value(value).unwrap()))
    };
    log.say("web-chat", &[launcher()])
        .say("g-1", &[event("GrantRequested", &json!({ "wanted": terms("g-1"), "why": "the brief" }))])
        .say("g-1", &[issued("g-1", None)])
        .say("g-2", &[issued("g-2", Some("g-1"))])
        .say("g-3", &[event("GrantRefused", &json!({ "wanted": terms("g-3"), "reason": "GRANT_WIDER" }))])
        .say("d-1", &[under("d-1", "g-1", 6)])
        .say("d-2", &[under("d-2", "g-2", 7)])
        .say("d-3", &[admitted("d-3", "s-3", &prompt("Without."))])
        .say("d-4", &[under("d-4", "g-9", 9)])
        .say("g-1", &[event("GrantRevoked", &json!({ "grant": "g-1", "why": "the phone was lost" }))])
        .say("d-5", &[under("d-5", "g-1", 6)])
        .say("g-4", &[event("GrantRequested", &json!({ "wanted": terms("g-4"), "why": "" }))]);
    log.messages
}

fn checkpoint(size: u64) -> LedgerEvent {
    event("CheckpointSigned", &json!({ "size": size }))
}

/// A session of two turns, each in a container of its own; the second resumes from the file that the first left.
fn two_turns() -> Vec<Stored> {
    let mut log = Log::default();
    keys(&mut log);
    log.say("web-chat", &[launcher()])
        .say("d-1", &[admitted("d-1", "s-1", &prompt("Summarise\nmy open tasks.\u{7}"))])
        .say("d-1", &[claimed("d-1", None)])
        .say("d-1", &[started("d-1", "c1")])
        .say("d-1-m1", &[called("d-1", 1, "succeeded")])
        .say("log", &[checkpoint(8)])
        .say("d-1", &[finished("d-1", "completed", &left("s-1", "f1", 900))])
        .say("d-2", &[admitted("d-2", "s-1", &json!({ "session": { "ref": "s-1", "inline": "And then?" } }))])
        .say("d-2", &[claimed("d-2", Some("f1"))])
        .say("d-2", &[started("d-2", "c2")])
        .say("d-2", &[finished("d-2", "completed", &left("s-1", "f2", 1_800))])
        .say("log", &[checkpoint(15)]);
    log.messages
}

/// Calls that wait for a person: approved and made, edited first, rejected, deferred and expired, refused at the end.
fn approvals() -> Vec<Stored> {
    let mut log = Log::default();
    let of = |shape: &str, n: u32, more: Value| {
        let mut changes = json!({ "dispatch": "d-1" });
        let card = shape.starts_with("Approval");
        changes.as_object_mut().unwrap().extend(match card {
            true => json!({ "card": format!("d-1-t{n}") }).as_object().unwrap().clone(),
            false => json!({ "n": n }).as_object().unwrap().clone(),
        });
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event(shape, &changes)
    };
    let by = |seq: u64, version: u32| json!({ "approval": { "seq": seq, "version": version, "by": "u_jane" } });
    let said = |decision: &str, more: Value| {
        // The golden is an approval: what does not belong to another decision is taken away.
        let mut changes = json!({ "decision": decision, "args_digest": null });
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        changes
    };
    log.say("web-chat", &[launcher()])
        .say("d-1", &[admitted("d-1", "s-1", &prompt("Write to Bob."))])
        .say("d-1", &[claimed("d-1", None)])
        .say("d-1-t1", &[of("ToolAwaiting", 1, json!({}))])
        .say("d-1-t1", &[of("ApprovalDecided", 1, json!({}))])
        .say("d-1-t1", &[of("ToolIntended", 1, by(5, 1))])
        .say("d-1-t1", &[of("ToolFinished", 1, json!({}))])
        .say("d-1-t2", &[of("ToolAwaiting", 2, json!({}))])
        .say("d-1-t2", &[of("ApprovalDecided", 2, json!({ "decision": "edit", "args_digest": digest("ab") }))])
        .say("d-1-t2", &[of("ApprovalDecided", 2, json!({ "version": 2, "args_digest": digest("ab") }))])
        .say("d-1-t2", &[of("ToolIntended", 2, by(10, 2))])
        .say("d-1-t2", &[of("ToolFinished", 2, json!({ "phase": "in_doubt", "reason": "GATEWAY_RESTARTED" }))])
        .say("d-1-t3", &[of("ToolAwaiting", 3, json!({}))])
        .say("d-1-t3", &[of("ApprovalDecided", 3, said("reject", json!({ "reason": "Wrong addressee." })))])
        .say("d-1-t3", &[of("ToolRefused", 3, json!({ "reason": "APPROVAL_REJECTED" }))])
        .say("d-1-t4", &[of("ToolAwaiting", 4, json!({}))])
        .say("d-1-t4", &[of("ApprovalDecided", 4, said("defer", json!({ "until": 1_789_000_000_000_u64 })))])
        .say("d-1-t4", &[of("ApprovalExpired", 4, json!({}))])
        .say("d-1-t4", &[of("ToolRefused", 4, json!({ "reason": "APPROVAL_EXPIRED" }))])
        .say("d-1-t5", &[of("ToolAwaiting", 5, json!({}))])
        .say("d-1-t5", &[of("ApprovalDecided", 5, json!({}))])
        .say("d-1-t5", &[of("ToolRefused", 5, json!({ "reason": "POLICY_FORBIDS" }))])
        .say("d-1-t6", &[of("ToolAwaiting", 6, json!({}))]);
    log.messages
}

/// Keys for tokens from their making to their end, tokens of a dispatch and of a call, and refusals with and without one.
fn tokens() -> Vec<Stored> {
    let mut log = Log::default();
    keys(&mut log);
    let key = |kid: &str, state: &str| event("TokenKeyChanged", &json!({ "kid": kid, "state": state }));
    let issued = |jti: &str, kid: &str, more: Value| {
        let mut changes = json!({ "jti": jti, "kid": kid, "dispatch": "d-1" });
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event("TokenIssued", &changes)
    };
    let of_call = json!({
        "typ": "at+jwt", "aud": "https://mail.test/mcp", "scope": "tool:mail__send", "from": "tk-of-the-dispatch-1", "txn": "d-1-t1",
    });
    let (first, second) = ("token-0123456789abcdef", "token-fedcba9876543210");
    log.say(first, &[key(first, "next")])
        .say(first, &[key(first, "active")])
        .say("web-chat", &[launcher()])
        .say("d-1", &[admitted("d-1", "s-1", &prompt("Write to Bob."))])
        .say("d-1", &[claimed("d-1", None)])
        .say("tk-of-the-dispatch-1", &[issued("tk-of-the-dispatch-1", first, json!({}))])
        .say("tk-of-the-first-call", &[issued("tk-of-the-first-call", first, of_call)])
        .say(
            "tr-a-tool-it-has-not",
            &[event(
                "TokenRefused",
                &json!({ "id": "tr-a-tool-it-has-not", "dispatch": "d-1", "reason": "TOKEN_SCOPE" }),
            )],
        )
        .say(second, &[key(second, "next")])
        .say(second, &[key(second, "active")])
        .say(first, &[key(first, "retiring")])
        .say("tr-nobody-knows-whose", &[event("TokenRefused", &json!({ "id": "tr-nobody-knows-whose", "count": 41 }))])
        .say("d-1", &[finished("d-1", "completed", &left("s-1", "f1", 900))])
        .say(first, &[key(first, "retired")]);
    log.messages
}

/// A person whose words were opened before they were erased, and after; one who is taken in again; and one who never was.
fn erased() -> Vec<Stored> {
    let mut log = Log::default();
    let of = |dispatch: &str, subject: &str, sealed: bool| {
        let LedgerEvent::Dispatch(DispatchEvent::Admitted(e)) = admitted(dispatch, "s-1", &prompt("Their words."))
        else {
            unreachable!("an admission")
        };
        let mut value = serde_json::to_value(&e).unwrap();
        value["unit"]["identity"]["subject"] = json!(subject);
        if sealed {
            value["unit"]["start"] = prompt("(sealed)");
            value["sealed"] =
                json!({ "key": "sk-0123456789abcdef", "alg": "XChaCha20-Poly1305", "text": "q8".repeat(30) });
        }
        LedgerEvent::Dispatch(DispatchEvent::Admitted(serde_json::from_value(value).unwrap()))
    };
    let person = |state: &str| event("SubjectKeyChanged", &json!({ "subject": "u_jane", "state": state }));
    log.say("web-chat", &[launcher()])
        .say("d-1", &[of("d-1", "u_jane", false)])
        .say("d-2", &[of("d-2", "u_omar", false)])
        .say("d-3", &[of("d-3", "u_jane", true)])
        .say("person-of-jane", &[person("erasing")])
        .say("d-4", &[of("d-4", "u_jane", false)])
        .say("person-of-jane", &[person("erased")])
        .say("person-of-jane", &[person("active")])
        .say("d-5", &[of("d-5", "u_jane", false)]);
    log.messages
}

/// Model calls with and without a price, tools, and budgets that run low and out, over two days.
fn effects() -> Vec<Stored> {
    let mut log = Log::default();
    let priced = |dispatch: &str, n: u32, more: Value| {
        let mut changes =
            json!({ "dispatch": dispatch, "n": n, "input_tokens": 100, "output_tokens": 20, "attempts": 1 });
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event("ModelCalled", &changes)
    };
    let of = |shape: &str, dispatch: &str, more: Value| {
        let mut changes = json!({ "dispatch": dispatch });
        changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event(shape, &changes)
    };
    log.say("web-chat", &[launcher()])
        .say("d-1", &[admitted("d-1", "s-1", &prompt("Spend."))])
        .say("d-1", &[claimed("d-1", None)])
        .say("d-1-m1", &[priced("d-1", 1, json!({ "cost_micros": 900, "cached_tokens": 60 }))])
        .say("d-1-t1", &[of("ToolIntended", "d-1", json!({ "n": 1 }))])
        .say("d-1-t1", &[of("ToolFinished", "d-1", json!({ "n": 1 }))])
        .say("d-1-t2", &[of("ToolRefused", "d-1", json!({ "n": 2, "count": 40 }))])
        .say("d-1-budget", &[of("BudgetWarned", "d-1", json!({}))])
        .say("d-1-m2", &[priced("d-1", 2, json!({ "outcome": "failed", "cost_micros": 100 }))])
        .say("d-1-budget", &[of("BudgetExhausted", "d-1", json!({}))])
        .say("d-2", &[admitted("d-2", "s-2", &prompt("Spend elsewhere."))])
        .say("d-2", &[claimed("d-2", None)])
        .say("d-2-m1", &[priced("d-2", 1, json!({ "model": "other", "upstream": "far" }))])
        .say(
            "d-2-m2",
            &[priced("d-2", 2, json!({ "upstream": "replay", "attempts": 0, "input_tokens": 0, "output_tokens": 0 }))],
        );
    log.messages
}

/// Every way for a dispatch to stand or end.
fn ends() -> Vec<Stored> {
    let mut log = Log::default();
    log.say("web-chat", &[launcher()]);
    for (n, reason) in ["stopped", "idle_timeout", "failed", "oom", "start_failed", "max_lifetime", "revoked", "budget"]
        .iter()
        .enumerate()
    {
        let dispatch = format!("d-{n}");
        log.say(&dispatch, &[admitted(&dispatch, &format!("s-{n}"), &prompt("Go."))]);
        log.say(&dispatch, &[claimed(&dispatch, None)]);
        if *reason == "stopped" {
            log.say(&dispatch, &[event("DispatchStopRequested", &json!({ "dispatch": dispatch }))]);
        }
        if *reason != "start_failed" {
            log.say(&dispatch, &[started(&dispatch, &format!("c{n}"))]);
        }
        let more = json!({ "exit_code": 137, "detail": format!("it was {reason}") });
        log.say(&dispatch, &[finished(&dispatch, reason, &more)]);
    }
    log.say("d-refused", &[event("DispatchRefused", &json!({ "dispatch": "d-refused" }))])
        .say("d-queued", &[admitted("d-queued", "s-q", &json!({ "entrypoint": { "path": "plans/week.md" } }))])
        .say("d-starting", &[admitted("d-starting", "s-q", &prompt("x"))])
        .say("d-starting", &[claimed("d-starting", None)])
        .say("d-running", &[admitted("d-running", "s-q", &prompt("y"))])
        .say("d-running", &[claimed("d-running", None)])
        .say("d-running", &[started("d-running", "ab")])
        .say("d-running-m1", &[called("d-running", 1, "failed")])
        .say("d-stopping", &[admitted("d-stopping", "s-q", &prompt("z"))])
        .say("d-stopping", &[event("DispatchStopRequested", &json!({ "dispatch": "d-stopping" }))]);
    log.messages
}

/// Launchers that come, change, go and come back; a key that is replaced in one message.
fn launchers_and_keys() -> Vec<Stored> {
    let mut log = Log::default();
    keys(&mut log);
    let mail = |changes: Value| {
        let mut all =
            json!({ "launcher": "mail", "name": "Mail", "signature": "optional", "subjects": ["u_jane", "u_john"] });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        event("LauncherRegistered", &all)
    };
    let other_key = "UCATS5YOVB6ROX2WUNKGNQ2MP3GMXDMKSG2O4N5CLX3A6W4PZGZZJPJO";
    log.say("web-chat", &[launcher()])
        .say("mail", &[mail(json!({}))])
        .say("web-chat", &[event("LauncherRotated", &json!({ "public_key": other_key }))])
        .say("mail", &[event("LauncherDisabled", &json!({ "launcher": "mail", "why": "lost its key" }))])
        .say("d-1", &[event("DispatchRefused", &json!({ "dispatch": "d-1" }))])
        .say("d-2", &[admitted("d-2", "s-2", &prompt("Hello."))])
        .say("mail", &[mail(json!({ "subjects": ["u_jane"] }))])
        .say(
            "k-gateway-1",
            &[
                event("KeyRetired", &json!({ "kid": "k-gateway-1", "why": "rotated" })),
                event("KeyIntroduced", &json!({ "kid": "k-gateway-2", "role": "gateway" })),
            ],
        );
    log.messages
}

/// Everything that cannot follow, and what cannot be read: each is noted where it can be, and the folds go on.
fn anomalies() -> Vec<Stored> {
    let mut log = Log::default();
    log.say("web-chat", &[launcher()])
        .say("d-1", &[admitted("d-1", "s-1", &prompt("One."))])
        .say("d-1", &[admitted("d-1", "s-1", &prompt("Twice."))])
        .say("d-1", &[claimed("d-1", None)])
        .say("d-1", &[claimed("d-1", None)])
        .say("d-1", &[started("d-1", "c1")])
        .say("d-1", &[finished("d-1", "completed", &json!({}))])
        .say("d-1", &[finished("d-1", "failed", &json!({}))])
        .say("d-1", &[started("d-1", "c9")])
        .say("d-ghost", &[claimed("d-ghost", None)])
        .say("d-unclaimed", &[admitted("d-unclaimed", "s-2", &prompt("Two."))])
        .say("d-unclaimed", &[started("d-unclaimed", "c2")])
        .say("d-unclaimed-m1", &[called("d-unclaimed", 1, "succeeded")])
        .say("d-unclaimed", &[finished("d-unclaimed", "completed", &json!({}))])
        .say("d-nothing", &[finished("d-nothing", "completed", &json!({}))])
        .say("log", &[checkpoint(9)])
        .say("log", &[checkpoint(9)])
        .say_on("ledger.effect.d-1-m1", &[launcher()]);
    let stranger = json!({ "stream_seq": 4, "launcher": "stranger", "event_id": null, "digest": digest("aa") });
    log.say("d-stranger", &[event("DispatchAdmitted", &json!({ "dispatch": "d-stranger", "launch": stranger }))]);
    let later = String::from_utf8(log.messages[1].bytes.clone()).unwrap();
    log.put(
        "ledger.dispatch.d-1",
        later.replace("custody.dispatch.admitted.v1", "custody.dispatch.paused.v1").into_bytes(),
    )
    .put("ledger.dispatch.d-1", b"not an event".to_vec())
    .put("ledger.session.s-1", later.into_bytes())
    .say("d-3", &[admitted("d-3", "s-3", &prompt("It goes on."))]);
    log.messages
}
