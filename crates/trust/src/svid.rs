//! Who gets which certificate, for how long, and which authority signs it. Pure; times are seconds since the epoch. Must
//! never give one user of the system two identities, nor a certificate that outlives its authority.
//!
//! Source: SPIFFE X509-SVID and SPIFFE Workload API standards; the numbers are our own.

use custody_contracts::spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
use std::collections::BTreeMap;

/// The life of a workload's certificate.
pub const SVID_SECS: u64 = 3_600;
/// The life of an authority.
pub const AUTHORITY_SECS: u64 = 30 * 86_400;
/// How long an authority is published before it signs, so that everybody who verifies has it by then: a day is 48 times
/// the longest wait between two answers of the Workload API.
pub const PUBLISHED_SECS: u64 = 86_400;
/// How far the clock of who verifies may be behind.
pub const SKEW_SECS: u64 = 60;
/// The most registered workloads besides the gateway.
pub const WORKLOADS_MAX: usize = 64;

/// From when and until when something is good, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// First second.
    pub not_before: u64,
    /// Last second.
    pub not_after: u64,
}

impl Window {
    /// Of an authority that is made now.
    pub fn of_authority(now: u64) -> Window {
        Window { not_before: now.saturating_sub(SKEW_SECS), not_after: now.saturating_add(AUTHORITY_SECS) }
    }

    /// Of a certificate with a life of `life` seconds that an authority signs now; `None` where the authority does not
    /// reach a second further.
    pub fn of_svid(authority: Window, now: u64, life: u64) -> Option<Window> {
        let not_after = now.saturating_add(life).min(authority.not_after);
        let not_before = now.saturating_sub(SKEW_SECS).max(authority.not_before);
        (not_before <= now && now < not_after).then_some(Window { not_before, not_after })
    }

    /// Whether a moment lies in it.
    pub fn holds(self, now: u64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// When a certificate of now is renewed: at half of what is left.
pub fn renew_at(now: u64, svid: Window) -> u64 {
    now.saturating_add(svid.not_after.saturating_sub(now).div_ceil(2))
}

/// Which of several authorities signs now, by its place: the newest that was published long enough, else the oldest that
/// is good. `None` when none is.
pub fn signer(authorities: &[Window], now: u64) -> Option<usize> {
    let good = || authorities.iter().enumerate().filter(|(_, window)| window.holds(now));
    let known = |window: &Window| window.not_before.saturating_add(SKEW_SECS + PUBLISHED_SECS) <= now;
    let newest = good().filter(|(_, window)| known(window)).max_by_key(|(_, window)| window.not_before);
    newest.or_else(|| good().min_by_key(|(_, window)| window.not_before)).map(|(place, _)| place)
}

/// Whether another authority must be made now: the newest has passed half of its life, or none is good.
pub fn wants_next(authorities: &[Window], now: u64) -> bool {
    let newest = authorities.iter().filter(|window| window.holds(now)).map(|window| window.not_after).max();
    newest.is_none_or(|not_after| not_after.saturating_sub(now) <= AUTHORITY_SECS / 2)
}

/// Why a table of workloads cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name makes no id.
    #[error("workload {name:?}: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong.
        why: SpiffeIdError,
    },
    /// Two identities for one user.
    #[error("workload {0:?} has the user id of the gateway or of another workload: one user is one identity")]
    SameUser(String),
    /// Too many.
    #[error("{WORKLOADS_MAX} workloads are the most")]
    TooMany,
}

/// Who is who on this machine: user ids of the system, and the identity of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Register {
    trust_domain: TrustDomain,
    by_user: BTreeMap<u32, SpiffeId>,
}

impl Register {
    /// The gateway is `/gateway`; a workload is `/workload/NAME`, so no name can be the gateway's or a dispatch's.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn new(
        trust_domain: TrustDomain,
        gateway: u32,
        workloads: &BTreeMap<String, u32>,
    ) -> Result<Register, RegisterError> {
        let named = |name: &str, path: String| {
            trust_domain.workload(&path).map_err(|why| RegisterError::Name { name: name.to_owned(), why })
        };
        if workloads.len() > WORKLOADS_MAX {
            return Err(RegisterError::TooMany);
        }
        let mut by_user = BTreeMap::from([(gateway, named("gateway", "/gateway".to_owned())?)]);
        for (name, user) in workloads {
            if name.contains('/') {
                return Err(RegisterError::Name { name: name.clone(), why: SpiffeIdError::Path });
            }
            if by_user.insert(*user, named(name, ["/workload/", name].concat())?).is_some() {
                return Err(RegisterError::SameUser(name.clone()));
            }
        }
        Ok(Register { trust_domain, by_user })
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Who a user of the system is.
    pub fn identity(&self, user: u32) -> Option<&SpiffeId> {
        self.by_user.get(&user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: u64 = 1_795_381_200;
    const DAY: u64 = 86_400;

    fn authority(made: u64) -> Window {
        Window::of_authority(made)
    }

    #[rstest]
    #[case::ordinary(NOW, NOW, 3_600, Some((NOW - 60, NOW + 3_600)))]
    #[case::the_authority_ends_first(NOW - 30 * DAY + 100, NOW, 3_600, Some((NOW - 60, NOW + 100)))]
    #[case::its_last_second(NOW - 30 * DAY, NOW, 3_600, None)]
    #[case::it_has_ended(NOW - 31 * DAY, NOW, 3_600, None)]
    #[case::it_is_not_yet_good(NOW + 61, NOW, 3_600, None)]
    #[case::at_the_end_of_time(u64::MAX - 100, u64::MAX - 50, u64::MAX, Some((u64::MAX - 110, u64::MAX)))]
    fn a_certificate_lies_within_its_authority(
        #[case] made: u64,
        #[case] now: u64,
        #[case] life: u64,
        #[case] wanted: Option<(u64, u64)>,
    ) {
        let found = Window::of_svid(authority(made), now, life);
        assert_eq!(found.map(|window| (window.not_before, window.not_after)), wanted);
    }

    #[rstest]
    #[case::an_hour(3_600, 1_800)]
    #[case::odd(3, 2)]
    #[case::one_second(1, 1)]
    #[case::over(0, 0)]
    fn it_is_renewed_at_half_of_what_is_left(#[case] left: u64, #[case] after: u64) {
        assert_eq!(renew_at(NOW, Window { not_before: NOW - 60, not_after: NOW + left }), NOW + after);
    }

    /// Ages of the authorities in seconds, which one signs, and whether another is made.
    #[rstest]
    #[case::none(&[], None, true)]
    #[case::the_first_signs_at_once(&[0], Some(0), false)]
    #[case::young(&[DAY], Some(0), false)]
    #[case::just_before_half(&[15 * DAY - 1], Some(0), false)]
    #[case::half(&[15 * DAY], Some(0), true)]
    #[case::the_next_is_published_only(&[15 * DAY, 0], Some(0), false)]
    #[case::a_second_before_it_signs(&[16 * DAY, DAY - 1], Some(0), false)]
    #[case::the_next_signs(&[16 * DAY, DAY], Some(1), false)]
    #[case::in_another_order(&[DAY, 16 * DAY], Some(0), false)]
    #[case::the_old_one_ended_while_nothing_ran(&[31 * DAY, 10], Some(1), false)]
    #[case::all_ended(&[40 * DAY, 31 * DAY], None, true)]
    fn authorities_follow_each_other_with_an_overlap(
        #[case] ages: &[u64],
        #[case] signs: Option<usize>,
        #[case] another: bool,
    ) {
        let windows: Vec<Window> = ages.iter().map(|age| authority(NOW - age)).collect();
        assert_eq!((signer(&windows, NOW), wants_next(&windows, NOW)), (signs, another));
    }

    fn workloads(of: &[(&str, u32)]) -> BTreeMap<String, u32> {
        of.iter().map(|(name, user)| ((*name).to_owned(), *user)).collect()
    }

    fn domain() -> TrustDomain {
        TrustDomain::parse("custody.local").unwrap()
    }

    #[test]
    fn a_user_of_the_system_has_one_identity_or_none() {
        let register = Register::new(domain(), 1_000, &workloads(&[("files", 1_001), ("mail.v2", 1_002)])).unwrap();
        let told = |user| register.identity(user).map(SpiffeId::as_str);
        assert_eq!(told(1_000), Some("spiffe://custody.local/gateway"));
        assert_eq!(told(1_001), Some("spiffe://custody.local/workload/files"));
        assert_eq!(told(1_002), Some("spiffe://custody.local/workload/mail.v2"));
        assert_eq!((told(0), told(65_532)), (None, None), "neither root nor a box, unless registered");
    }

    #[rstest]
    #[case::the_gateways_user(&[("files", 1_000)], RegisterError::SameUser("files".into()))]
    #[case::two_of_one_user(&[("a", 7), ("b", 7)], RegisterError::SameUser("b".into()))]
    #[case::a_deeper_path(&[("a/b", 7)], RegisterError::Name { name: "a/b".into(), why: SpiffeIdError::Path })]
    #[case::out_of_its_folder(&[("..", 7)], RegisterError::Name { name: "..".into(), why: SpiffeIdError::Path })]
    #[case::nothing(&[("", 7)], RegisterError::Name { name: String::new(), why: SpiffeIdError::Path })]
    fn a_table_that_is_not_clear_is_refused(#[case] of: &[(&str, u32)], #[case] why: RegisterError) {
        assert_eq!(Register::new(domain(), 1_000, &workloads(of)), Err(why));
    }

    #[test]
    fn there_are_so_many_workloads_and_no_more() {
        let of = |count: u32| (0..count).map(|n| (format!("w{n}"), 2_000 + n)).collect();
        assert!(Register::new(domain(), 1_000, &of(64)).is_ok());
        assert_eq!(Register::new(domain(), 1_000, &of(65)), Err(RegisterError::TooMany));
    }
}
