//! Sign-ins that were begun at an identity provider and have not come back. Pure: time and randomness come in. Must never
//! give one out twice, to another browser than the one that began it, or hold more than its maximum.

use std::collections::BTreeMap;

/// The most at once. The oldest makes room: whoever floods ends others' sign-ins at the provider, and nobody's key.
pub const PENDING_MAX: usize = 4_096;
/// How long somebody may take at the provider, in milliseconds: ten minutes.
pub const LIFE_MS: u64 = 600_000;

/// One sign-in.
pub struct Pending {
    /// When it began, milliseconds since the epoch.
    pub began_at: u64,
    /// What the cookie of its browser hashes to.
    pub browser: String,
    /// What the ID token must repeat.
    pub nonce: String,
    /// What the challenge was made of.
    pub verifier: String,
    /// Where the provider was told to send the browser.
    pub redirect_uri: String,
    /// Where the person was going.
    pub to: String,
}

/// All of them, by what their state hashes to.
#[derive(Default)]
pub struct SignIns {
    pending: BTreeMap<String, Pending>,
}

impl SignIns {
    /// Adds one; what has ended goes, and the oldest beyond the maximum.
    pub fn add(&mut self, state: String, pending: Pending) {
        let now = pending.began_at;
        self.pending.retain(|_, one| lives(one, now));
        if self.pending.len() >= PENDING_MAX {
            let oldest = self.pending.iter().min_by_key(|(_, one)| one.began_at).map(|(state, _)| state.clone());
            oldest.and_then(|state| self.pending.remove(&state));
        }
        self.pending.insert(state, pending);
    }

    /// Takes one out, whatever comes of it: a state is good once.
    pub fn take(&mut self, state: &str, browser: Option<&str>, now: u64) -> Option<Pending> {
        let one = self.pending.remove(state)?;
        (lives(&one, now) && browser.is_some_and(|browser| super::same(browser, &one.browser))).then_some(one)
    }
}

fn lives(one: &Pending, now: u64) -> bool {
    now.saturating_sub(one.began_at) < LIFE_MS
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn pending(began_at: u64) -> Pending {
        Pending {
            began_at,
            browser: "jane".into(),
            nonce: String::new(),
            verifier: String::new(),
            redirect_uri: String::new(),
            to: "/".into(),
        }
    }

    #[rstest]
    #[case::honest("s-1", Some("jane"), LIFE_MS - 1, true)]
    #[case::another_state("s-2", Some("jane"), 0, false)]
    #[case::another_browser("s-1", Some("omar"), 0, false)]
    #[case::no_browser("s-1", None, 0, false)]
    #[case::too_late("s-1", Some("jane"), LIFE_MS, false)]
    fn a_sign_in_is_its_own_browsers_once(
        #[case] state: &str,
        #[case] browser: Option<&str>,
        #[case] now: u64,
        #[case] good: bool,
    ) {
        let mut all = SignIns::default();
        all.add("s-1".into(), pending(0));
        assert_eq!(all.take(state, browser, now).is_some(), good);
        assert_eq!(all.take("s-1", Some("jane"), 0).is_some(), state != "s-1", "what was shown is used up");
    }

    #[test]
    fn there_is_a_most_and_the_oldest_makes_room() {
        let mut all = SignIns::default();
        for n in 0..u64::try_from(PENDING_MAX).unwrap() {
            all.add(format!("s-{n}"), pending(n));
        }
        assert_eq!(all.pending.len(), PENDING_MAX);
        all.add("one-more".into(), pending(9_000));
        assert_eq!(all.pending.len(), PENDING_MAX);
        assert!(all.take("s-0", Some("jane"), 9_000).is_none() && all.take("s-1", Some("jane"), 9_000).is_some());
        // What has ended is gone before anything makes room.
        all.add("much-later".into(), pending(LIFE_MS + 8_999));
        assert_eq!(all.pending.len(), 2);
    }
}
