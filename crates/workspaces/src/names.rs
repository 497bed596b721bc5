//! Names inside a repository. Pure. A tree of git can name anything; a folder of ours only what is one plain name below
//! another. Must never let a name through that a person's git would act on.

use std::fmt::Write as _;

/// Bytes of one path.
pub(crate) const PATH_BYTES_MAX: usize = 1_024;
/// Folders in one another.
pub(crate) const DEPTH_MAX: usize = 32;
/// Bytes of one name. Source: NAME_MAX of Linux.
const NAME_BYTES_MAX: usize = 255;

/// Why a name may not be in a workspace.
pub(crate) fn bad_name(name: &[u8]) -> Option<&'static str> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Some("it is no plain name");
    }
    if name.len() > NAME_BYTES_MAX {
        return Some("it is longer than 255 bytes");
    }
    if name.iter().any(|b| *b < 0x20 || *b == 0x7f) {
        return Some("it holds a control character");
    }
    if std::str::from_utf8(name).is_err() {
        return Some("it is not UTF-8");
    }
    if is_git(name) {
        return Some("git keeps its own files under such a name");
    }
    None
}

/// `.git` as any file system may spell it. Source: git's fsck, `hasDotgit`.
fn is_git(name: &[u8]) -> bool {
    // HFS+ ignores these code points; NTFS ignores trailing dots and spaces and what follows a colon.
    let ignored =
        |c: char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let text: String = String::from_utf8_lossy(name).chars().filter(|c| !ignored(*c)).collect();
    let text = text.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']).to_ascii_lowercase();
    text == ".git" || text == "git~1"
}

/// Why a path may not be in a workspace.
pub(crate) fn bad_path(path: &[u8]) -> Option<&'static str> {
    if path.len() > PATH_BYTES_MAX {
        return Some("its path is longer than 1024 bytes");
    }
    let names: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    if names.len() > DEPTH_MAX {
        return Some("it lies more than 32 folders deep");
    }
    names.into_iter().find_map(bad_name)
}

/// Whether a link that stands at `path` stays inside the workspace.
pub(crate) fn link_stays_inside(path: &[u8], target: &[u8]) -> bool {
    if target.is_empty() || target.starts_with(b"/") || target.len() > PATH_BYTES_MAX || target.contains(&0) {
        return false;
    }
    let depth = path.iter().filter(|b| **b == b'/').count();
    let (mut up, mut down) = (0, false);
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            // After a name that may itself be a link, `..` leads nobody knows where.
            b".." if down => return false,
            b".." => up += 1,
            _ => down = true,
        }
    }
    up <= depth
}

/// A path as it may be shown: control characters escaped, cut to 200 characters.
pub(crate) fn shown(path: &[u8]) -> String {
    let mut out = String::new();
    for c in String::from_utf8_lossy(path).chars().take(200) {
        if c.is_control() {
            let _written = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// A path in the quoting of `git fast-import`.
pub(crate) fn quoted(path: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for b in path {
        match b {
            b'"' | b'\\' => out.extend([b'\\', *b]),
            0x20..=0x7e => out.push(*b),
            other => out.extend(format!("\\{other:03o}").into_bytes()),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain(b"notes/plan.md", None)]
    #[case::spaces(b"a b/c d.txt", None)]
    #[case::unicode("gr\u{fc}n/\u{1f98a}.md".as_bytes(), None)]
    #[case::dotted(b"a/.gitignore", None)]
    #[case::git_in_a_name(b"a/x.git", None)]
    #[case::up(b"../secret", Some("plain name"))]
    #[case::up_inside(b"a/../../b", Some("plain name"))]
    #[case::absolute(b"/etc/passwd", Some("plain name"))]
    #[case::empty(b"", Some("plain name"))]
    #[case::doubled(b"a//b", Some("plain name"))]
    #[case::git(b".git/config", Some("git keeps"))]
    #[case::git_below(b"a/.git", Some("git keeps"))]
    #[case::git_in_capitals(b".GiT/hooks/post-checkout", Some("git keeps"))]
    #[case::git_on_ntfs(b"GIT~1/config", Some("git keeps"))]
    #[case::git_with_a_dot(b".git./config", Some("git keeps"))]
    #[case::git_with_a_stream(b".git::$INDEX_ALLOCATION/config", Some("git keeps"))]
    #[case::git_with_invisible(".g\u{200c}it".as_bytes(), Some("git keeps"))]
    #[case::newline(b"a\nb", Some("control"))]
    #[case::escape(b"\x1b[2Jx", Some("control"))]
    #[case::not_utf8(b"a\xff", Some("UTF-8"))]
    fn a_path_is_plain_or_refused(#[case] path: &[u8], #[case] expected: Option<&str>) {
        match (bad_path(path), expected) {
            (None, None) => {}
            (Some(why), Some(part)) => assert!(why.contains(part), "{why}"),
            (found, wanted) => panic!("{found:?} against {wanted:?}"),
        }
    }

    #[test]
    fn a_path_has_a_most() {
        assert!(bad_path(&vec![b'a'; 256]).is_some());
        assert!(bad_path(&["a"; 32].join("/").into_bytes()).is_none());
        assert!(bad_path(&["a"; 33].join("/").into_bytes()).is_some());
        assert!(bad_path(&["a".repeat(200).as_str(); 6].join("/").into_bytes()).is_some());
    }

    #[rstest]
    #[case::beside(b"a", b"b", true)]
    #[case::below(b"a", b"x/y", true)]
    #[case::up_and_down(b"d/a", b"../e/b", true)]
    #[case::root_itself(b"d/a", b"..", true)]
    #[case::absolute(b"a", b"/etc/passwd", false)]
    #[case::out(b"a", b"../x", false)]
    #[case::up_after_a_name(b"d/a", b"x/../b", false)]
    #[case::empty(b"a", b"", false)]
    fn a_link_stays_inside_or_is_refused(#[case] path: &[u8], #[case] target: &[u8], #[case] expected: bool) {
        assert_eq!(link_stays_inside(path, target), expected);
    }

    #[test]
    fn names_are_shown_and_quoted_without_harm() {
        assert_eq!(shown(b"a\x1b[2J\n"), "a\\u{1b}[2J\\u{a}");
        assert_eq!(quoted(b"a \"b\"\\\xc3\xbc"), b"\"a \\\"b\\\"\\\\\\303\\274\"");
    }
}
