//! What differs between two commits, file by file: git's own listing and git's own patch, put together, bounded, and made
//! safe to show. Nothing of the content is run: no textconv, no external diff. Must never give a byte that moves text or
//! a terminal.

use crate::git::failed;
use crate::heads::is_commit;
use crate::names::shown;
use crate::repository::{EMPTY_TREE, Repository};
use custody_ports::compared::{ChangedFile, Compared, ComparedMax, FileChange};
use custody_ports::workspaces::WorkspaceError;

/// What a file's part of a patch begins with. Within a hunk no line begins so: each has a sign first.
const FILE: &[u8] = b"diff --git ";
const DOING: &str = "comparing";

/// What differs between two commits, or between nothing and one.
pub(crate) fn compare(
    repository: &Repository,
    from: Option<&str>,
    to: &str,
    most: &ComparedMax,
) -> Result<Compared, WorkspaceError> {
    let from = from.unwrap_or(EMPTY_TREE);
    for commit in [from, to] {
        if !is_commit(commit) {
            return Err(WorkspaceError::Missing(format!("commit {}", shown(commit.as_bytes()))));
        }
    }
    let call = |more: &[&str]| {
        let same = ["diff-tree", "-r", "-M", "--no-color", "--no-ext-diff", "--no-textconv"];
        let args = [&same[..], more, &[from, to]].concat();
        repository.git.beginning(DOING, &args, most.read_bytes)
    };
    let (listing, longer) = call(&["--raw", "--numstat", "-z"])?;
    if longer {
        return Err(WorkspaceError::TooLarge {
            code: "DIFF_TOO_LARGE",
            why: format!("its list of files has more than {} bytes", most.read_bytes),
        });
    }
    let listed = read_listing(&listing).ok_or_else(|| failed(DOING, "git's list of files is of no known form"))?;
    let (patch, longer) = call(&["-p", "--unified=3"])?;
    Ok(put_together(listed, &patch, longer, most))
}

/// One file as git lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    path: Vec<u8>,
    before: Option<Vec<u8>>,
    change: FileChange,
    /// Lines added and removed; none for what is not text.
    lines: Option<(u64, u64)>,
}

/// Reads `--raw --numstat -z`: first every file with its change, then, in the same order, every file with its lines.
/// Source: git-diff(1), "RAW OUTPUT FORMAT" and `--numstat`.
fn read_listing(bytes: &[u8]) -> Option<Vec<Listed>> {
    let mut parts = bytes.split(|b| *b == 0).filter(|p| !p.is_empty()).peekable();
    let mut files = Vec::new();
    while let Some(facts) = parts.next_if(|p| p.starts_with(b":")) {
        let status = facts.rsplit(|b| *b == b' ').next()?.first()?;
        let first = parts.next()?.to_vec();
        let (before, path, change) = match status {
            b'A' => (None, first, FileChange::Added),
            b'D' => (None, first, FileChange::Deleted),
            b'M' => (None, first, FileChange::Modified),
            b'T' => (None, first, FileChange::Retyped),
            b'R' => (Some(first), parts.next()?.to_vec(), FileChange::Renamed),
            _ => return None,
        };
        files.push(Listed { path, before, change, lines: None });
    }
    for file in &mut files {
        let mut columns = parts.next()?.splitn(3, |b| *b == b'\t');
        let (added, removed, path) = (columns.next()?, columns.next()?, columns.next()?);
        if path.is_empty() {
            // A rename: the two paths follow on their own.
            parts.next()?;
            parts.next()?;
        }
        file.lines = number(added).zip(number(removed));
    }
    parts.next().is_none().then_some(files)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A patch, cut where each file's part begins.
fn parts_of(patch: &[u8]) -> Vec<&[u8]> {
    let mut starts: Vec<usize> = Vec::new();
    let mut at = 0;
    for line in patch.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(FILE) {
            starts.push(at);
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).copied().chain([patch.len()]);
    starts.iter().copied().zip(ends).filter_map(|(from, to)| patch.get(from..to)).collect()
}

/// From the first hunk on; what stands before it is in the listing.
fn hunks(part: &[u8]) -> &[u8] {
    let mut at = 0;
    for line in part.split_inclusive(|b| *b == b'\n') {
        if line.starts_with(b"@@ ") {
            return part.get(at..).unwrap_or_default();
        }
        at += line.len();
    }
    &[]
}

fn put_together(listed: Vec<Listed>, patch: &[u8], longer: bool, most: &ComparedMax) -> Compared {
    let parts = parts_of(patch);
    let total = listed.len();
    let mut next = 0;
    let mut room = most.bytes;
    let mut files = Vec::new();
    for file in listed.into_iter().take(most.files) {
        // What changed its type is told as one that goes and one that comes.
        let own = if file.change == FileChange::Retyped { 2 } else { 1 };
        let found = parts.get(next..(next + own).min(parts.len())).unwrap_or_default();
        next += own;
        // The last part that was read may end anywhere.
        let whole = found.len() == own && !(longer && next >= parts.len());
        let text: String = found.iter().map(|part| safe(hunks(part))).collect();
        let (patch, cut) = fitting(text, most.patch_bytes.min(room));
        room -= patch.len();
        let (added, removed) = file.lines.unwrap_or_default();
        files.push(ChangedFile {
            path: shown_path(&file.path),
            before: file.before.as_deref().map(shown_path),
            change: file.change,
            added,
            removed,
            binary: file.lines.is_none(),
            patch,
            cut: cut || !whole,
        });
    }
    let cut = files.len() < total || files.iter().any(|f| f.cut);
    Compared { files, total: u64::try_from(total).unwrap_or(u64::MAX), cut }
}

/// As many whole lines as fit; whether some did not.
fn fitting(text: String, most: usize) -> (String, bool) {
    if text.len() <= most {
        return (text, false);
    }
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if at + line.len() > most {
            break;
        }
        at += line.len();
    }
    (text.get(..at).unwrap_or_default().to_owned(), true)
}

fn shown_path(path: &[u8]) -> String {
    safe(path).replace(['\n', '\t'], "\u{fffd}")
}

/// Text of an agent as it may be shown: control characters become their pictures (U+2400 and following), and what would
/// turn the direction of text around becomes U+FFFD. Source: CVE-2021-42574.
fn safe(bytes: &[u8]) -> String {
    let picture = |c: char| match c {
        '\n' | '\t' => c,
        '\u{7f}' => '\u{2421}',
        c if u32::from(c) < 0x20 => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        c if c.is_control() => '\u{fffd}',
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '\u{fffd}',
        c => c,
    };
    String::from_utf8_lossy(bytes).chars().map(picture).collect()
}

#[cfg(test)]
mod tests;
