//! Streams become what the specs say, and never by force.

use crate::support::server;
use custody_nats::reconcile::{ReconcileError, apply, plan};
use custody_nats::server::PrivateServer;
use custody_streams::accounts::{ServiceUser, SyncInterval};
use custody_streams::spec::{StreamOptions, all, ledger};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_plan_makes_every_stream_and_the_second_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let private = PrivateServer::start(folder.path(), &[], SyncInterval::Always).await.unwrap();
    let admin = private.connect(ServiceUser::Admin).await.unwrap();
    let specs = all(&StreamOptions::one_machine());
    let planned = plan(&admin, &specs).await.unwrap();
    assert_eq!(planned.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), ["stream"; 6]);
    assert_eq!(apply(&admin, &specs).await.unwrap(), planned);
    assert_eq!(plan(&admin, &specs).await.unwrap(), []);
    assert_eq!(apply(&admin, &specs).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_limit_is_applied_and_a_smaller_one_refused() {
    let server = server().await;
    let admin = server.connect(ServiceUser::Admin).await;
    let base = StreamOptions::one_machine();
    let larger = ledger(&StreamOptions { ledger_bytes_max: base.ledger_bytes_max + 4096, ..base.clone() });
    let changed = apply(&admin, std::slice::from_ref(&larger)).await.unwrap();
    assert_eq!(changed.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), ["max_bytes"]);
    assert_eq!(plan(&admin, &[larger]).await.unwrap(), []);
    let refused = apply(&admin, &[ledger(&base)]).await;
    let Err(ReconcileError::Forbidden(changes)) = refused else { panic!("{refused:?}") };
    assert_eq!(changes.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), ["max_bytes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_role_but_the_administrator_can_apply() {
    let server = server().await;
    let operator = server.connect(ServiceUser::Operator).await;
    let base = StreamOptions::one_machine();
    let larger = ledger(&StreamOptions { ledger_bytes_max: base.ledger_bytes_max + 4096, ..base });
    let refused = apply(&operator, &[larger]).await;
    assert!(matches!(refused, Err(ReconcileError::Api { .. })), "{refused:?}");
}
