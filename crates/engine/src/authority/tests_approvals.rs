//! What the authority makes of decisions about calls that wait, and of those that nobody makes in time.

use super::approvals::Approvals;
use crate::runtime::tests::put_as;
use custody_contracts::approval::{ApprovalEvent, ToolAwaiting};
use custody_contracts::canonical::{canonical, digest};
use custody_contracts::envelope::Meta;
use custody_contracts::events::{EffectEvent, LedgerEvent, Role};
use custody_ledger::{MemoryLog, Recorded};
use custody_ports::blobs::Blobs;
use custody_testkit::fakes::{ManualClock, MemoryBlobs};
use custody_trust::RoleKey;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

struct Stand {
    log: MemoryLog,
    clock: Arc<ManualClock>,
    blobs: Arc<MemoryBlobs>,
    approvals: Approvals,
    awaiting: ToolAwaiting,
}

async fn stand() -> Stand {
    let golden = include_str!("../../../../contracts/ledger.v2/golden/ToolAwaiting.minimal.json");
    let awaiting: ToolAwaiting = serde_json::from_str(golden).unwrap();
    let log = MemoryLog::new();
    let event = LedgerEvent::Effect(EffectEvent::ToolAwaiting(Box::new(awaiting.clone())));
    let of_jane = Meta { subject: Some("u_jane".into()), ..Meta::default() };
    put_as(&log, event, &awaiting.card(), &of_jane).await;
    let clock = Arc::new(ManualClock::at(awaiting.expires_at.0 - 60_000));
    let blobs = Arc::new(MemoryBlobs::default());
    let approvals = Approvals {
        log: Arc::new(log.clone()),
        signer: Arc::new(RoleKey::from_seed(Role::Authority, &[1; 32])),
        clock: clock.clone(),
        blobs: blobs.clone(),
    };
    Stand { log, clock, blobs, approvals, awaiting }
}

impl Stand {
    async fn ask(&self, more: Value) -> Result<Value, String> {
        let mut body = json!({ "card": self.awaiting.card(), "version": 1, "by": "u_jane" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let asked = serde_json::from_value(body).map_err(|e| e.to_string())?;
        self.approvals.decide(asked).await.map(|ok| ok["changed"].clone()).map_err(|e| e.code)
    }

    fn decided(&self) -> Vec<ApprovalEvent> {
        let messages = self.log.messages();
        let read = messages.iter().flat_map(|stored| Recorded::read(stored).unwrap());
        read.filter_map(|recorded| match recorded.event {
            Some(LedgerEvent::Approval(e)) => Some(e),
            _ => None,
        })
        .collect()
    }
}

#[tokio::test]
async fn a_decision_is_of_what_was_shown_by_somebody_who_may_and_is_taken_once() {
    let stand = stand().await;
    let shown = stand.awaiting.args_digest.clone();
    let approve = |digest: &str| json!({ "decision": "approve", "args_digest": digest });
    let mut by_eve = approve(&shown);
    by_eve["by"] = json!("u_eve");
    assert_eq!(stand.ask(by_eve).await, Err("APPROVAL_NOT_YOURS".into()));
    assert_eq!(stand.ask(approve(&digest(b"other"))).await, Err("APPROVAL_STALE".into()));
    assert_eq!(stand.ask(json!({ "decision": "approve" })).await, Err("APPROVAL_REFUSED".into()));
    let other = json!({ "card": "d-nobody-t1", "decision": "approve", "args_digest": shown });
    assert_eq!(stand.ask(other).await, Err("NOT_FOUND".into()));
    assert_eq!(stand.ask(approve(&shown)).await, Ok(json!(true)));
    assert_eq!(stand.ask(approve(&shown)).await, Ok(json!(false)), "the same decision again");
    assert_eq!(stand.ask(json!({ "decision": "reject", "reason": "No." })).await, Err("APPROVAL_DECIDED".into()));
    assert_eq!(stand.decided().len(), 1);
}

#[tokio::test]
async fn an_edit_is_kept_by_its_digest_and_waits_as_the_next_version() {
    let stand = stand().await;
    let args = json!({ "to": "bob@acme.test", "text": "4.3 M" });
    let own = digest(canonical(&args).as_bytes());
    assert_eq!(stand.ask(json!({ "decision": "edit", "args": args })).await, Ok(json!(true)));
    assert_eq!(stand.blobs.get(&own).await.unwrap(), canonical(&args).into_bytes());
    let old = json!({ "decision": "approve", "args_digest": stand.awaiting.args_digest });
    assert_eq!(stand.ask(old).await, Err("APPROVAL_STALE".into()));
    let new = json!({ "decision": "approve", "args_digest": own, "version": 2 });
    assert_eq!(stand.ask(new).await, Ok(json!(true)));
    let large = json!({ "decision": "edit", "args": { "text": "x".repeat(40_000) } });
    assert_eq!(stand.ask(large).await, Err("COMMAND_INVALID".into()));
}

#[tokio::test]
async fn what_nobody_decides_in_time_is_ended_once() {
    let stand = stand().await;
    let cancel = CancellationToken::new();
    tokio::spawn(stand.approvals.clone().run(cancel.clone()));
    stand.clock.advance(60_001);
    let ended = async {
        while stand.decided().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
    let late = json!({ "decision": "approve", "args_digest": stand.awaiting.args_digest });
    assert_eq!(stand.ask(late).await, Err("APPROVAL_EXPIRED".into()));
    assert!(matches!(&stand.decided()[..], [ApprovalEvent::Expired(e)] if e.card == stand.awaiting.card()));
    cancel.cancel();
}

/// T44: a card that has ended is not opened again by a clock that is moved to before its end.
#[tokio::test]
async fn t44_a_clock_that_is_moved_back_keeps_no_card_open() {
    for (passed, wanted) in [(59_000, Ok(json!(true))), (60_001, Err("APPROVAL_EXPIRED".to_owned()))] {
        let stand = stand().await;
        stand.clock.advance(passed);
        stand.clock.move_back(50_000);
        let approve = json!({ "decision": "approve", "args_digest": stand.awaiting.args_digest });
        assert_eq!(stand.ask(approve).await, wanted, "after {passed} ms");
    }
}
