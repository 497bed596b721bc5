//! Proofs and trees as a stranger reads them: a verifier of other makers' parts (`ops/trust/verifier`) takes ours, and takes
//! nothing that was changed. `ops/trust/setup` builds it; without it these tests fail.

use crate::stack::{Ran, Stack, cache, ran};
use rstest::rstest;
use std::fs;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// A program that `ops/trust/setup` built.
pub(crate) fn tool(name: &str) -> PathBuf {
    let path = cache().join("tools/trust").join(name);
    assert!(path.is_file(), "{} is missing: run ops/trust/setup", path.display());
    path
}

pub(crate) async fn c2sp_verify(arguments: &[&str]) -> Ran {
    ran(Command::new(tool("c2sp-verify")).args(arguments)).await
}

/// An installation after two dispatches: its folder, a checkpoint kept after the first, the proofs of the second.
async fn evidence() -> (Stack, PathBuf, PathBuf) {
    let mut stack = Stack::start().await;
    stack.run(&["hello"]).await;
    stack.kept_checkpoint("older").await;
    let dispatch = stack.launch(&["hello again"]).await;
    stack.ended(&dispatch).await;
    let (proofs, tiles) = (stack.home().join("proofs"), stack.home().join("tiles"));
    stack.ok(&["audit", "prove", &dispatch, "--tlog", text(&proofs)]).await;
    stack.ok(&["audit", "export", "--tiles", text(&tiles)]).await;
    stack.stop().await;
    (stack, proofs, tiles)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn vkey(folder: &Path) -> String {
    fs::read_to_string(folder.join("log.vkey")).unwrap().trim().to_owned()
}

/// The proofs of a folder and the entries beside them.
fn proofs(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let files = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
    let mut found: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "tlog-proof")).collect();
    found.sort();
    found.into_iter().map(|proof| (proof.clone(), proof.with_extension("json"))).collect()
}

async fn proof(folder: &Path, proof: &str, entry: &[u8]) -> Ran {
    let (proof_file, entry_file) = (folder.join("changed.proof"), folder.join("changed.entry"));
    fs::write(&proof_file, proof).unwrap();
    fs::write(&entry_file, entry).unwrap();
    c2sp_verify(&["proof", "-log", &vkey(folder), text(&proof_file), text(&entry_file)]).await
}

/// Changes the last line but `back` of a text.
fn change_line(text: &str, line: usize) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let first = lines[line].remove(0);
    lines[line].insert(0, if first == 'A' { 'B' } else { 'A' });
    lines.join("\n") + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_verifier_takes_honest_proofs_and_no_changed_one() {
    let (_stack, folder, _) = evidence().await;
    let all = proofs(&folder);
    assert!(all.len() >= 8, "{} proofs", all.len());
    for (file, entry) in &all {
        let ran = c2sp_verify(&["proof", "-log", &vkey(&folder), text(file), text(entry)]).await;
        assert_eq!((ran.code, ran.out.trim()), (Some(0), "good"), "{ran:?}");
    }
    let (file, entry) = all.last().unwrap();
    let (honest, entry) = (fs::read_to_string(file).unwrap(), fs::read(entry).unwrap());
    proof(&folder, &honest, &entry).await.ended(0);
    let head = honest.lines().position(str::is_empty).unwrap();
    let index = honest.lines().nth(1).unwrap();
    let number: u64 = index.strip_prefix("index ").unwrap().parse().unwrap();
    let other = fs::read_to_string(&all[0].0).unwrap();
    let size = honest.lines().nth(head + 2).unwrap();
    for (what, changed) in [
        ("index", honest.replacen(index, &format!("index {}", number - 1), 1)),
        ("a hash", change_line(&honest, 2)),
        ("the last hash", change_line(&honest, head - 1)),
        ("a hash less", honest.lines().enumerate().filter(|(n, _)| *n != 2).map(|(_, l)| format!("{l}\n")).collect()),
        ("the size", honest.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size.parse::<u64>().unwrap() + 1), 1)),
        ("the root", change_line(&honest, head + 3)),
        ("the log", honest.replacen("custody.local", "custody.other", 1)),
        ("another's proof", other),
        ("no signature", honest.rsplit_once('\u{2014}').unwrap().0.to_owned()),
    ] {
        assert_ne!(changed, honest, "{what}");
        assert_eq!(proof(&folder, &changed, &entry).await.code, Some(1), "{what} was changed and taken");
    }
    let mut bytes = entry.clone();
    bytes[40] ^= 1;
    assert_eq!(proof(&folder, &honest, &bytes).await.code, Some(1), "the entry was changed and taken");
    let own = vkey(&folder);
    fs::write(folder.join("log.vkey"), "custody.local/ledger+a1f82e1d+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c")
        .unwrap();
    assert_eq!(proof(&folder, &honest, &entry).await.code, Some(1), "another key");
    fs::write(folder.join("log.vkey"), own).unwrap();
    proof(&folder, &honest, &entry).await.ended(0);
}

#[rstest]
#[case::an_entry("tile/entries", 60)]
#[case::a_hash("tile/0", 33)]
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_verifier_takes_the_exported_tree_and_no_changed_one(#[case] below: &str, #[case] at: usize) {
    let (stack, _, folder) = evidence().await;
    let (key, older) = (vkey(&folder), stack.home().join("older"));
    let tree = ["tree", "-log", &key, text(&folder)];
    let consistency = ["consistency", "-log", &key, text(&folder), text(&older)];
    c2sp_verify(&tree).await.ended(0);
    c2sp_verify(&consistency).await.ended(0);
    let kept = fs::read_to_string(&older).unwrap();
    fs::write(&older, change_line(&kept, 2)).unwrap();
    c2sp_verify(&consistency).await.ended(1);
    fs::write(&older, kept).unwrap();

    let tile = first_file(&folder.join(below));
    let mut bytes = fs::read(&tile).unwrap();
    bytes[at] ^= 1;
    fs::write(&tile, bytes).unwrap();
    c2sp_verify(&tree).await.ended(1);
}

fn first_file(folder: &Path) -> PathBuf {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    let first = entries.into_iter().next().unwrap();
    if first.is_dir() { first_file(&first) } else { first }
}
