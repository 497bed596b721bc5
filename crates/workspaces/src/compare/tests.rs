//! Listings and patches as git gives them, and what is made of them.

use super::*;
use rstest::rstest;

const ID: &str = "0000000000000000000000000000000000000000";

fn raw(status: &str, paths: &[&str]) -> String {
    format!(":100644 100644 {ID} {ID} {status}\0{}\0", paths.join("\0"))
}

fn most(files: usize, patch_bytes: usize, bytes: usize) -> ComparedMax {
    ComparedMax { files, patch_bytes, bytes, read_bytes: 1 << 20 }
}

fn listed(path: &str) -> Listed {
    Listed { path: path.into(), before: None, change: FileChange::Modified, lines: Some((1, 1)) }
}

#[test]
fn a_listing_is_read_with_renames_and_what_is_no_text() {
    let bytes = [
        raw("M", &["a"]),
        raw("R087", &["d e/old", "d e/new"]),
        raw("A", &["q\"uo"]),
        "2\t1\ta\0".to_owned(),
        "0\t0\t\0d e/old\0d e/new\0".to_owned(),
        "-\t-\tq\"uo\0".to_owned(),
    ]
    .concat();
    let files = read_listing(bytes.as_bytes()).unwrap();
    let told: Vec<_> = files.iter().map(|f| (f.path.as_slice(), f.before.as_deref(), f.change, f.lines)).collect();
    assert_eq!(
        told,
        [
            (&b"a"[..], None, FileChange::Modified, Some((2, 1))),
            (b"d e/new", Some(&b"d e/old"[..]), FileChange::Renamed, Some((0, 0))),
            (b"q\"uo", None, FileChange::Added, None),
        ]
    );
    assert_eq!(read_listing(b"").unwrap(), []);
}

#[rstest]
#[case::unknown_status(raw("X", &["a"]) + "1\t1\ta\0")]
#[case::no_lines(raw("M", &["a"]))]
#[case::more_lines(raw("M", &["a"]) + "1\t1\ta\0" + "1\t1\tb\0")]
#[case::no_path(":100644".to_owned())]
fn a_listing_of_another_form_is_refused(#[case] listing: String) {
    assert_eq!(read_listing(listing.as_bytes()), None);
}

const TWO: &str = "diff --git a/a b/a\nindex 1..2 100644\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n+diff --git y\n\
                   diff --git a/b b/b\nindex 1..2 100644\n--- a/b\n+++ b/b\n@@ -1 +1 @@\n-p\n+q\n";

#[test]
fn each_file_gets_its_own_hunks_also_when_a_line_looks_like_a_file() {
    let made = put_together(vec![listed("a"), listed("b")], TWO.as_bytes(), false, &most(9, 1_000, 1_000));
    let told: Vec<_> = made.files.iter().map(|f| (f.path.as_str(), f.patch.as_str(), f.cut)).collect();
    assert_eq!(told, [("a", "@@ -1 +1 @@\n-x\n+diff --git y\n", false), ("b", "@@ -1 +1 @@\n-p\n+q\n", false)]);
    assert!(!made.cut && made.total == 2);
}

#[test]
fn what_changed_its_type_has_two_parts() {
    let patch = "diff --git a/t b/t\ndeleted file mode 100644\n@@ -1 +0,0 @@\n-x\ndiff --git a/t b/t\nnew file mode \
                 120000\n@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\ndiff --git a/z b/z\n@@ -1 +1 @@\n-p\n+q\n";
    let files = vec![Listed { change: FileChange::Retyped, ..listed("t") }, listed("z")];
    let made = put_together(files, patch.as_bytes(), false, &most(9, 1_000, 1_000));
    assert_eq!(made.files[0].patch, "@@ -1 +0,0 @@\n-x\n@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n");
    assert_eq!(made.files[1].patch, "@@ -1 +1 @@\n-p\n+q\n");
}

#[rstest]
#[case::one_file(most(1, 1_000, 1_000), &["@@ -1 +1 @@\n-x\n+diff --git y\n"], 1)]
#[case::small_patches(most(9, 15, 1_000), &["@@ -1 +1 @@\n-x\n", "@@ -1 +1 @@\n-p\n"], 2)]
#[case::small_in_all(most(9, 1_000, 40), &["@@ -1 +1 @@\n-x\n+diff --git y\n", ""], 1)]
#[case::nothing(most(9, 1_000, 0), &["", ""], 2)]
fn what_is_beyond_a_bound_is_cut_at_a_line_and_said(
    #[case] most: ComparedMax,
    #[case] patches: &[&str],
    #[case] files_cut_or_gone: usize,
) {
    let made = put_together(vec![listed("a"), listed("b")], TWO.as_bytes(), false, &most);
    assert_eq!(made.files.iter().map(|f| f.patch.as_str()).collect::<Vec<_>>(), patches);
    let gone = usize::try_from(made.total).unwrap() - made.files.len();
    assert_eq!(made.files.iter().filter(|f| f.cut).count() + gone, files_cut_or_gone);
    assert!(made.cut);
}

#[test]
fn a_patch_whose_end_was_not_read_says_so() {
    let made = put_together(vec![listed("a"), listed("b"), listed("c")], TWO.as_bytes(), true, &most(9, 1_000, 1_000));
    let told: Vec<_> = made.files.iter().map(|f| (f.patch.is_empty(), f.cut)).collect();
    assert_eq!(told, [(false, false), (false, true), (true, true)]);
}

#[test]
fn nothing_that_is_shown_moves_text() {
    let said = safe(b"a\x1b[2Jb\r\n\tc\xff\xe2\x80\xae\x7f");
    assert_eq!(said, "a\u{241b}[2Jb\u{240d}\n\tc\u{fffd}\u{fffd}\u{2421}");
    assert_eq!(shown_path("a\n\u{202e}b".as_bytes()), "a\u{fffd}\u{fffd}b");
}
