//! `@path` in a prompt: the file's text is put before the words, so that a model without tools can work on files. Must
//! never attach what the workspace refuses.

use crate::{tools::excerpt, workspace::Workspace};

/// All attached text of one prompt, in bytes.
const ATTACHED_BYTES_MAX: usize = 16 * 1024;
/// The most files attached to one prompt.
const FILES_MAX: usize = 8;

/// The prompt with its attachments. A word that names no readable file stays as it is.
pub fn attach(prompt: &str, workspace: Option<&Workspace>) -> String {
    let Some(workspace) = workspace else { return prompt.to_owned() };
    let mut attached: Vec<(&str, String)> = Vec::new();
    let mut left = ATTACHED_BYTES_MAX;
    let mut words = prompt.to_owned();
    for word in prompt.split_whitespace() {
        let Some(path) = word.strip_prefix('@') else { continue };
        let path = path.trim_end_matches(['.', ',', ';', ':', '!', '?', ')', '\'', '"']);
        if path.is_empty() || attached.len() >= FILES_MAX || attached.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let Ok(text) = workspace.read(path) else { continue };
        let text = excerpt(&text, 0, left);
        left = left.saturating_sub(text.len());
        attached.push((path, text));
    }
    // Longer names first, so that `@a.txt.bak` is not taken for `@a.txt`.
    let mut names: Vec<_> = attached.iter().map(|(path, _)| *path).collect();
    names.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in names {
        words = words.replace(&format!("@{path}"), path);
    }
    let files: String = attached.iter().map(|(path, text)| format!("File {path}:\n```\n{text}\n```\n\n")).collect();
    format!("{files}{words}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::fs;

    #[rstest]
    #[case::none("say hi", "say hi")]
    #[case::one("sum up @a.txt", "File a.txt:\n```\nalpha\n```\n\nsum up a.txt")]
    #[case::punctuation("is @a.txt, right?", "File a.txt:\n```\nalpha\n```\n\nis a.txt, right?")]
    #[case::two("@a.txt @d/b.md", "File a.txt:\n```\nalpha\n```\n\nFile d/b.md:\n```\nbeta\n```\n\na.txt d/b.md")]
    #[case::twice("@a.txt and @a.txt", "File a.txt:\n```\nalpha\n```\n\na.txt and a.txt")]
    #[case::missing("ask @somebody about @a.txt", "File a.txt:\n```\nalpha\n```\n\nask @somebody about a.txt")]
    #[case::mail("write to x@a.txt", "write to x@a.txt")]
    #[case::outside("read @../secret and @/etc/passwd", "read @../secret and @/etc/passwd")]
    #[case::alone("@ a", "@ a")]
    fn attaches(#[case] prompt: &str, #[case] expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("ws/d")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        fs::write(dir.path().join("ws/a.txt"), "alpha").unwrap();
        fs::write(dir.path().join("ws/d/b.md"), "beta").unwrap();
        let workspace = Workspace::open(&dir.path().join("ws")).unwrap();
        assert_eq!(attach(prompt, Some(&workspace)), expected);
        assert_eq!(attach(prompt, None), prompt);
    }

    #[test]
    fn is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..12 {
            fs::write(dir.path().join(format!("f{name}")), "x".repeat(10_000)).unwrap();
        }
        let workspace = Workspace::open(dir.path()).unwrap();
        let prompt: String = (0..12).map(|name| format!("@f{name} ")).collect();
        let attached = attach(&prompt, Some(&workspace));
        assert!(attached.len() < ATTACHED_BYTES_MAX + 1024, "{}", attached.len());
        assert_eq!(attached.matches("File f").count(), FILES_MAX);
    }
}
