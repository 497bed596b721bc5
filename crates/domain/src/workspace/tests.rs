//! Tables: what may be commanded, who may mount what, and what becomes of a run's changes.

use super::landing::{Already, Facts, MergeFound, Step, TRIES_MAX, effect_id, message, step};
use super::{
    OPEN_PROPOSALS_MAX, ProposalState, WorkspaceCommand, WorkspaceRefusal, WorkspaceState, Workspaces, system,
};
use crate::events::OfWorkspace;
use crate::tests::{check, given, golden};
use custody_contracts::events::{LedgerEvent, StopReason};
use custody_contracts::ids::{DispatchId, LauncherId, SessionId, Subject, WorkspaceId};
use custody_contracts::unit::{InputTrust, Mode};
use custody_contracts::workspace::WorkspaceEvent;
use custody_ledger::Decider;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

fn event(shape: &str, changes: &[(&str, Value)]) -> OfWorkspace {
    match golden(shape, changes) {
        LedgerEvent::Workspace(event) => OfWorkspace(event),
        other => panic!("{other:?} is no event of a workspace"),
    }
}

fn to(event: OfWorkspace) -> WorkspaceCommand {
    match event.0 {
        WorkspaceEvent::Registered(e) => WorkspaceCommand::Register(e),
        WorkspaceEvent::KeyRotated(e) => WorkspaceCommand::RotateKey(e),
        WorkspaceEvent::Imported(e) => WorkspaceCommand::Import(e),
        WorkspaceEvent::ProposalOpened(e) => WorkspaceCommand::OpenProposal(e),
        WorkspaceEvent::ProposalAccepted(e) => WorkspaceCommand::AcceptProposal(e),
        WorkspaceEvent::ProposalLanded(e) => WorkspaceCommand::LandProposal(e),
        WorkspaceEvent::ProposalRejected(e) => WorkspaceCommand::RejectProposal(e),
    }
}

const KEY: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

fn document(changes: &[(&str, Value)]) -> Value {
    let mut value = json!({ "id": "notes", "bucket": "file:///b", "mode": "rw", "encryption": { "scheme": "none" }, "purpose": "p", "trunk": "main" });
    changes.iter().for_each(|(field, to)| value[*field] = to.clone());
    value
}

fn registered(changes: &[(&str, Value)]) -> OfWorkspace {
    event("WorkspaceRegistered", &[("workspace", document(changes))])
}
fn sealed() -> OfWorkspace {
    registered(&[("encryption", json!({ "scheme": "age", "recipients": [KEY] }))])
}
fn by(shape: &str, by: &str) -> OfWorkspace {
    event(shape, &[("by", json!(by))])
}
fn opened() -> OfWorkspace {
    event("WorkspaceProposalOpened", &[])
}
fn accepted() -> OfWorkspace {
    event("WorkspaceProposalAccepted", &[])
}
fn landed() -> OfWorkspace {
    event("WorkspaceProposalLanded", &[])
}
fn rejected() -> OfWorkspace {
    event("WorkspaceProposalRejected", &[])
}
fn proposal() -> DispatchId {
    DispatchId::parse("d-7f3a").unwrap()
}
fn not_owner() -> Result<Vec<OfWorkspace>, WorkspaceRefusal> {
    Err(WorkspaceRefusal::NotOwner { id: "notes".into(), owner: "u_jane".into(), by: "u_omar".into() })
}
fn fixed(what: &'static str) -> Result<Vec<OfWorkspace>, WorkspaceRefusal> {
    Err(WorkspaceRefusal::Fixed { id: "notes".into(), what })
}

#[rstest]
#[case::register(&[], registered(&[]), Ok(vec![registered(&[])]))]
#[case::register_again(&[registered(&[])], registered(&[]), Ok(vec![]))]
#[case::another_purpose(&[registered(&[])], registered(&[("purpose", json!("q"))]), Ok(vec![registered(&[("purpose", json!("q"))])]))]
#[case::a_lower_mode(&[registered(&[])], registered(&[("mode", json!("ro"))]), Ok(vec![registered(&[("mode", json!("ro"))])]))]
#[case::another_bucket(&[registered(&[])], registered(&[("bucket", json!("file:///c"))]), fixed("bucket"))]
#[case::another_trunk(&[registered(&[])], registered(&[("trunk", json!("next"))]), fixed("trunk"))]
#[case::encrypted_later(&[registered(&[])], sealed(), fixed("encryption"))]
#[case::plain_later(&[sealed()], registered(&[]), fixed("encryption"))]
#[case::taken_by_a_stranger(&[registered(&[])], by("WorkspaceRegistered", "u_omar"), not_owner())]
#[case::import(&[registered(&[])], by("WorkspaceImported", "u_jane"), Ok(vec![by("WorkspaceImported", "u_jane")]))]
#[case::import_by_a_stranger(&[registered(&[])], by("WorkspaceImported", "u_omar"), not_owner())]
#[case::import_into_nothing(&[], by("WorkspaceImported", "u_jane"), Err(WorkspaceRefusal::Unknown("notes".into())))]
#[case::rotate_what_has_no_key(&[registered(&[])], event("WorkspaceKeyRotated", &[]), Err(WorkspaceRefusal::NotEncrypted("notes".into())))]
#[case::rotate_to_the_same(&[sealed()], event("WorkspaceKeyRotated", &[]), Ok(vec![]))]
#[case::rotate_by_a_stranger(&[sealed()], by("WorkspaceKeyRotated", "u_omar"), not_owner())]
#[case::propose(&[registered(&[])], opened(), Ok(vec![opened()]))]
#[case::propose_again(&[registered(&[]), opened()], opened(), Ok(vec![]))]
#[case::propose_again_after_it_landed(&[registered(&[]), opened(), accepted(), landed()], opened(), Ok(vec![]))]
#[case::propose_to_nothing(&[], opened(), Err(WorkspaceRefusal::Unknown("notes".into())))]
#[case::accept(&[registered(&[]), opened()], accepted(), Ok(vec![accepted()]))]
#[case::accept_again(&[registered(&[]), opened(), accepted()], accepted(), Ok(vec![]))]
#[case::accept_by_a_stranger(&[registered(&[]), opened()], by("WorkspaceProposalAccepted", "u_omar"), not_owner())]
#[case::accept_nothing(&[registered(&[])], accepted(), Err(WorkspaceRefusal::NoProposal(proposal())))]
#[case::accept_what_was_rejected(&[registered(&[]), opened(), rejected()], accepted(), Err(WorkspaceRefusal::Decided(proposal(), "rejected")))]
#[case::land(&[registered(&[]), opened(), accepted()], landed(), Ok(vec![landed()]))]
#[case::land_again(&[registered(&[]), opened(), accepted(), landed()], landed(), Ok(vec![]))]
#[case::land_without_a_yes(&[registered(&[]), opened()], landed(), Err(WorkspaceRefusal::NotAccepted(proposal())))]
#[case::land_what_was_rejected(&[registered(&[]), opened(), rejected()], landed(), Err(WorkspaceRefusal::Decided(proposal(), "rejected")))]
#[case::reject(&[registered(&[]), opened()], rejected(), Ok(vec![rejected()]))]
#[case::reject_after_a_yes_that_found_a_conflict(&[registered(&[]), opened(), accepted()], rejected(), Ok(vec![rejected()]))]
#[case::reject_again(&[registered(&[]), opened(), rejected()], rejected(), Ok(vec![]))]
#[case::reject_by_a_stranger(&[registered(&[]), opened()], by("WorkspaceProposalRejected", "u_omar"), not_owner())]
#[case::reject_what_landed(&[registered(&[]), opened(), accepted(), landed()], rejected(), Err(WorkspaceRefusal::Decided(proposal(), "landed")))]
fn decide(
    #[case] history: &[OfWorkspace],
    #[case] command: OfWorkspace,
    #[case] expected: Result<Vec<OfWorkspace>, WorkspaceRefusal>,
) {
    check::<Workspaces>(history, to(command), expected);
}

#[rstest]
#[case::a_system_name(&[("id", json!("sys-u_jane"))], "system workspace")]
#[case::a_bucket_of_the_web(&[("bucket", json!("https://example.org"))], "bucket")]
#[case::a_secret_as_recipient(&[("encryption", json!({ "scheme": "age", "recipients": [format!("AGE-SECRET-KEY-1{}", "Q".repeat(58))] }))], "recipients")]
#[case::encrypted_for_nobody(&[("encryption", json!({ "scheme": "age" }))], "recipients")]
fn a_document_that_breaks_its_contract_is_refused(#[case] changes: &[(&str, Value)], #[case] says: &str) {
    let refusal = Workspaces::decide(&WorkspaceState::default(), to(registered(changes))).unwrap_err();
    assert!(refusal.to_string().contains(says), "{refusal}");
}

#[test]
fn everybodys_workspace_has_no_stranger_and_a_rotation_changes_only_the_recipients() {
    let open = event("WorkspaceRegistered", &[("workspace", document(&[])), ("owner", json!("*"))]);
    check::<Workspaces>(
        &[open, opened()],
        to(by("WorkspaceProposalAccepted", "u_omar")),
        Ok(vec![by("WorkspaceProposalAccepted", "u_omar")]),
    );
    let other = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
    let rotated = event("WorkspaceKeyRotated", &[("recipients", json!([other]))]);
    let state = given::<Workspaces>(&[sealed(), rotated]);
    assert_eq!(state.registered().unwrap().workspace.encryption.recipients, [other]);
    // And registering anew with the recipients of today changes nothing of them.
    let twice = event(
        "WorkspaceRegistered",
        &[("workspace", document(&[])), ("members", json!([{ "subject": "u_jane", "mode": "ro" }]))],
    );
    let refusal = Workspaces::decide(&WorkspaceState::default(), to(twice)).unwrap_err();
    assert!(refusal.to_string().contains("named twice"), "{refusal}");
}

#[test]
fn only_so_many_proposals_wait() {
    let mut state = given::<Workspaces>(&[registered(&[])]);
    let numbered = |n: usize| event("WorkspaceProposalOpened", &[("proposal", json!(format!("d-{n}")))]);
    for n in 0..OPEN_PROPOSALS_MAX {
        state = Workspaces::evolve(state, &numbered(n));
    }
    assert_eq!(state.waiting(), OPEN_PROPOSALS_MAX);
    let refusal = Workspaces::decide(&state, to(numbered(OPEN_PROPOSALS_MAX))).unwrap_err();
    assert_eq!(refusal, WorkspaceRefusal::TooMany("notes".into()));
    state = Workspaces::evolve(state, &event("WorkspaceProposalRejected", &[("proposal", json!("d-3"))]));
    assert_eq!(state.proposals()["d-3"].state, ProposalState::Rejected);
    assert!(Workspaces::decide(&state, to(numbered(OPEN_PROPOSALS_MAX))).is_ok());
}

fn facts() -> Facts {
    Facts {
        mode: Mode::Rw,
        trust: InputTrust::Trusted,
        ended: StopReason::Completed,
        unchanged: false,
        left_out: Vec::new(),
        trunk_is_base: true,
        already: None,
        tries: 0,
        merge: None,
    }
}
fn moved(merge: Option<MergeFound>) -> Facts {
    Facts { trunk_is_base: false, merge, ..facts() }
}
fn dirty(unchanged: bool) -> Facts {
    Facts { unchanged, left_out: vec!["BLOB_TOO_LARGE: huge, 2 GB".into()], ..facts() }
}
const LARGE: &str = "BLOB_TOO_LARGE: huge, 2 GB";

fn proposed(why: &str) -> Step {
    Step::Propose((!why.is_empty()).then(|| why.to_owned()))
}

#[rstest]
#[case::nothing_changed(Facts { unchanged: true, ..facts() }, Step::Unchanged)]
#[case::nothing_changed_though_others_landed(Facts { unchanged: true, ..moved(None) }, Step::Unchanged)]
#[case::changed(facts(), Step::Land)]
#[case::changed_in_an_idle_session(Facts { ended: StopReason::IdleTimeout, ..facts() }, Step::Land)]
#[case::others_landed_first(moved(None), Step::Merge)]
#[case::and_it_merges(moved(Some(MergeFound::Clean)), Step::LandMerged)]
#[case::and_it_does_not(moved(Some(MergeFound::Conflicts(vec!["a.md".into(), "b.md".into()]))), proposed("MERGE_CONFLICT: a.md, b.md changed since the run began"))]
#[case::others_always_land_first(Facts { tries: TRIES_MAX, ..moved(None) }, proposed("BUSY: others landed first 16 times"))]
#[case::meant_as_a_proposal(Facts { mode: Mode::Propose, ..facts() }, proposed(""))]
#[case::meant_as_a_proposal_and_others_landed(Facts { mode: Mode::Propose, ..moved(None) }, proposed(""))]
#[case::a_read_only_mount_that_changed_lands_nothing(Facts { mode: Mode::Ro, ..facts() }, proposed(""))]
#[case::set_off_from_outside(Facts { trust: InputTrust::Untrusted, ..facts() }, proposed("UNTRUSTED_INPUT: what set it off came from outside, so it may only propose"))]
#[case::failed(Facts { ended: StopReason::Failed, ..facts() }, proposed("NOT_COMPLETED: the run ended as failed"))]
#[case::stopped(Facts { ended: StopReason::Stopped, ..moved(None) }, proposed("NOT_COMPLETED: the run ended as stopped"))]
#[case::something_cannot_be_kept(dirty(false), proposed(LARGE))]
#[case::nothing_but_what_cannot_be_kept(dirty(true), Step::Refuse(LARGE.into()))]
#[case::landed_in_an_earlier_life(Facts { already: Some(Already::Merged("c".into())), ..moved(None) }, Step::Already(Already::Merged("c".into()), None))]
#[case::proposed_in_an_earlier_life(Facts { already: Some(Already::Proposed("c".into())), ..dirty(false) }, Step::Already(Already::Proposed("c".into()), Some(LARGE.into())))]
fn what_becomes_of_changes(#[case] facts: Facts, #[case] expected: Step) {
    assert_eq!(step(&facts), expected);
}

#[test]
fn a_reason_is_short_however_much_was_left_out() {
    let sentences: Vec<String> = (0..100).map(|n| format!("PATH_NOT_ALLOWED: {n} {}", "x".repeat(400))).collect();
    let Step::Propose(Some(reason)) = step(&Facts { left_out: sentences, ..facts() }) else { panic!("not proposed") };
    assert_eq!(reason.chars().count(), 1_000);
    let few: Vec<String> = (0..7).map(|n| format!("X: {n}")).collect();
    let Step::Refuse(reason) = step(&Facts { left_out: few, ..dirty(true) }) else { panic!("not refused") };
    assert_eq!(reason, "X: 0; X: 1; X: 2; X: 3; X: 4; and 2 more");
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let merge =
        prop_oneof![Just(None), Just(Some(MergeFound::Clean)), Just(Some(MergeFound::Conflicts(vec!["a".into()])))];
    let mode = prop_oneof![Just(Mode::Ro), Just(Mode::Rw), Just(Mode::Propose)];
    let ended = prop_oneof![Just(StopReason::Completed), Just(StopReason::Failed), Just(StopReason::Oom)];
    (mode, any::<[bool; 4]>(), ended, 0u32..40, merge).prop_map(
        |(mode, [trusted, unchanged, at_base, clean], ended, tries, merge)| Facts {
            mode,
            trust: if trusted { InputTrust::Trusted } else { InputTrust::Untrusted },
            ended,
            unchanged,
            left_out: if clean { Vec::new() } else { vec!["X: y".into()] },
            trunk_is_base: at_base,
            already: None,
            tries,
            merge,
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_lost_and_the_trunk_moves_only_for_a_clean_trusted_completed_write(facts in any_facts()) {
        let step = step(&facts);
        // A change is somewhere afterwards: in the trunk or with the owner.
        if !facts.unchanged {
            prop_assert!(!matches!(step, Step::Unchanged | Step::Refuse(_)), "{step:?}");
        }
        if matches!(step, Step::Land | Step::LandMerged | Step::Merge) {
            prop_assert_eq!((facts.mode, facts.trust, facts.ended), (Mode::Rw, InputTrust::Trusted, StopReason::Completed));
            prop_assert!(facts.left_out.is_empty() && !facts.unchanged);
        }
        // Only what stands on the trunk lands without a merge.
        prop_assert!(step != Step::Land || facts.trunk_is_base);
        prop_assert!(step != Step::LandMerged || facts.merge == Some(MergeFound::Clean));
    }

    #[test]
    fn a_system_workspace_has_one_person(one in "[A-Za-z0-9][A-Za-z0-9_.:-]{0,100}", two in "[A-Za-z0-9][A-Za-z0-9_.:-]{0,100}") {
        let id = |text: &str| system::of(&Subject::parse(text).unwrap());
        prop_assert!(system::is_system(id(&one).as_str()));
        prop_assert_eq!(id(&one) == id(&two), one == two);
    }
}

#[test]
fn names_of_system_workspaces_can_be_read_where_they_can_be_told_apart() {
    let id = |text: &str| system::of(&Subject::parse(text).unwrap()).to_string();
    assert_eq!(id("u_jane"), "sys-u_jane");
    assert!(id("U_Jane").starts_with("sys-x-") && id(&"u".repeat(100)).starts_with("sys-x-"));
    assert!(id("x-fake").starts_with("sys-x-") && id("x-fake") != "sys-x-fake");
    assert_eq!(system::session_path(&SessionId::parse("s-1").unwrap()), "sessions/s-1.jsonl");
}

#[test]
fn a_commit_says_which_dispatch_and_which_effect_it_is() {
    let (dispatch, notes) = (proposal(), WorkspaceId::parse("notes").unwrap());
    let (jane, web) = (Subject::parse("u_jane").unwrap(), LauncherId::parse("web").unwrap());
    let effect = effect_id(&dispatch, &notes);
    assert_ne!(effect, effect_id(&dispatch, &WorkspaceId::parse("org").unwrap()));
    let text = message(&dispatch, &notes, &jane, &web);
    assert_eq!(
        text,
        format!("Changes of d-7f3a\n\nMade for u_jane, launched by web.\n\nDispatch-Id: d-7f3a\nEffect-Id: {effect}\n")
    );
}
