//! Every runner's documents describe an image that can be built: nothing runs as root, every file has a source.

use super::Outcome;
use crate::image;
use crate::tree::Tree;

/// `image.json`, `layer.toml` and `runner.json` of every runner.
pub(crate) fn documents(tree: &Tree) -> Outcome {
    let mut outcome = Outcome::new("runner-images");
    for folder in image::runners(tree) {
        outcome.checked += 1;
        let readme = format!("{}{folder}/README.md", image::FOLDER);
        if tree.text(&readme).is_none_or(|text| text.trim().is_empty()) {
            outcome.fail(readme, "is missing or empty: what it is, its licence, what is in the image");
        }
        if let Some(why) = image::problems(tree, &folder) {
            outcome.fail(format!("{}{folder}/", image::FOLDER), why);
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::complete("words", "0755", true)]
    #[case::no_words("", "0755", false)]
    #[case::wrong_document("words", "4755", false)]
    fn documents_are_complete_and_right(#[case] readme: &str, #[case] mode: &str, #[case] passes: bool) {
        let layer = format!("[[file]]\ndest = \"/worker\"\nmode = \"{mode}\"\nbinary = \"custody-worker\"\n");
        let outcome = documents(&Tree::of(&[
            ("runner-images/a/README.md", readme),
            ("runner-images/a/image.json", r#"{"User":"1:1","Entrypoint":["/worker"],"WorkingDir":"/"}"#),
            ("runner-images/a/layer.toml", &layer),
            ("runner-images/a/runner.json", r#"{"name":"a","version":"1","image":"@image"}"#),
            ("runner-images/worker/Cargo.toml", ""),
        ]));
        assert_eq!((outcome.checked, outcome.passed()), (1, passes), "{:?}", outcome.failures);
    }
}
