//! Prints the words of a stream once, though a cut stream is asked for again. Must never print a word twice as long as
//! the model says the same again; when it says something else, that is told.

/// What is printed when a repeated answer differs from what was already printed.
pub const AGAIN: &str = "\n[the stream was cut and the answer begins again]\n";

/// The words already printed and those of the current attempt.
#[derive(Debug, Default)]
pub struct Replay {
    printed: String,
    attempt: String,
}

impl Replay {
    /// A new attempt begins at the answer's start.
    pub fn restart(&mut self) {
        self.attempt.clear();
    }

    /// The attempt says more; gives back what to print.
    pub fn more(&mut self, words: &str) -> String {
        self.attempt.push_str(words);
        if self.printed.starts_with(&self.attempt) {
            return String::new();
        }
        let new = match self.attempt.strip_prefix(self.printed.as_str()) {
            Some(new) => new.to_owned(),
            None => format!("{AGAIN}{}", self.attempt),
        };
        self.printed.clone_from(&self.attempt);
        new
    }

    /// The attempt is whole; gives back what to print when it is shorter than what was printed.
    pub fn end(&mut self) -> String {
        if self.attempt.len() >= self.printed.len() {
            return String::new();
        }
        self.printed.clone_from(&self.attempt);
        format!("{AGAIN}{}", self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Attempts are divided by `|`, the pieces of one by `,`.
    #[rstest]
    #[case::one_attempt("a,b", "ab")]
    #[case::the_same_again("a,b|ab,c", "abc")]
    #[case::cut_elsewhere("abcd|a,bcde,f", "abcdef")]
    #[case::nothing_printed_yet("|a", "a")]
    #[case::twice_cut("a|ab|abc", "abc")]
    #[case::another_answer("abc|ab,x,y", "abc[again]abxy")]
    #[case::a_shorter_answer("abc|ab", "abc[again]ab")]
    #[case::whole_characters("é|é,€", "é€")]
    fn prints_once(#[case] attempts: &str, #[case] expected: &str) {
        let mut replay = Replay::default();
        let mut printed = String::new();
        for attempt in attempts.split('|') {
            replay.restart();
            for words in attempt.split(',') {
                printed.push_str(&replay.more(words));
            }
        }
        printed.push_str(&replay.end());
        assert_eq!(printed, expected.replace("[again]", AGAIN));
    }
}
