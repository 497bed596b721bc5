//! Rows by key: what changed, what is read back, what is found by the beginning of its key.

use custody_projections::Table;
use custody_projections::dispatches::DispatchRow;

fn table() -> Table<DispatchRow> {
    let mut table: Table<DispatchRow> = Table::default();
    for key in ["d-2", "d-1", "d-10", "e-1"] {
        table.edit(key).dispatch = key.to_owned();
    }
    table
}

#[test]
fn rows_are_in_the_order_of_their_keys_and_found_by_their_beginning() {
    let table = table();
    assert_eq!(table.iter().map(|(k, _)| k).collect::<Vec<_>>(), ["d-1", "d-10", "d-2", "e-1"]);
    assert_eq!(table.with_prefix("d-1").map(|(k, _)| k).collect::<Vec<_>>(), ["d-1", "d-10"]);
    assert_eq!(table.with_prefix("").count(), 4);
    assert_eq!(table.with_prefix("f").count(), 0);
    assert_eq!((table.len(), table.is_empty(), Table::<DispatchRow>::default().is_empty()), (4, false, true));
    assert!(table.get("d-3").is_none());
}

#[test]
fn a_change_is_told_once() {
    let mut table = table();
    assert_eq!(table.take_changes().len(), 4);
    assert!(table.take_changes().is_empty());
    table.edit("d-1").attempt = 2;
    table.edit("d-1").attempt = 3;
    let changes = table.take_changes();
    assert_eq!(changes.len(), 1);
    let row: DispatchRow = serde_json::from_slice(changes[0].1.as_ref().unwrap()).unwrap();
    assert_eq!((changes[0].0.as_str(), row.attempt), ("d-1", 3));
}

#[test]
fn what_cannot_be_read_back_is_rebuilt_and_not_guessed() {
    assert!(Table::<DispatchRow>::restore(vec![("d-1".into(), b"{}".to_vec())]).is_some());
    for bytes in [b"".as_slice(), b"{", b"7", b"\"x\"", br#"{"attempt":"one"}"#] {
        assert!(Table::<DispatchRow>::restore(vec![("d-1".into(), bytes.to_vec())]).is_none(), "{bytes:?}");
    }
}
