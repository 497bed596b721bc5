//! Pure: which runtime of the engine a box gets. A dispatch is content with its own class or a stronger one; where the
//! host has none, it is refused. Must never fall back to a weaker one.

use custody_contracts::isolation::Isolation;
use custody_ports::containers::EngineFacts;
use std::collections::BTreeMap;

/// Runtimes that give a class without being named by the operator, as their packages register them.
const KNOWN: [(Isolation, &[&str]); 2] =
    [(Isolation::Gvisor, &["runsc", "gvisor"]), (Isolation::Kata, &["kata", "kata-runtime", "io.containerd.kata.v2"])];
/// Starts boxes a little faster than the default, with the same controls. Its 1.8 refuses hybrid control groups.
const CRUN: &str = "crun";

/// What this host can do, and the least that its operator accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Classes {
    /// Class to the engine's runtime; `None` is the engine's own. Only what the engine has.
    pub present: BTreeMap<Isolation, Option<String>>,
    /// The least for every box of this installation.
    pub minimum: Isolation,
    /// Which control groups the engine uses: `1`, `2` or `unknown`.
    pub cgroup_version: String,
    /// Whether boxes have user ids of their own.
    pub userns: bool,
    /// What user 0 of a box is on this machine.
    pub uid_offset: u32,
}

/// The user of every box, as the box sees it.
const BOX_UID: u32 = 65_532;

/// The class of one box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// What stands around it.
    pub isolation: Isolation,
    /// The engine's runtime; `None` is its own.
    pub runtime: Option<String>,
}

/// No runtime of this host is strong enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ISOLATION_UNAVAILABLE: {wanted} or stronger is wanted and this host has {have}; custody doctor --sandbox")]
pub struct ClassMissing {
    /// What is wanted.
    pub wanted: &'static str,
    /// What there is.
    pub have: String,
}

impl Classes {
    /// What an engine has, with the operator's names for its runtimes. A name that the engine does not know gives nothing.
    pub fn detect(facts: &EngineFacts, configured: &BTreeMap<Isolation, String>, minimum: Isolation) -> Classes {
        let registered = |name: &str| facts.runtimes.iter().any(|known| known == name);
        let mut present = BTreeMap::new();
        let userns = facts.userns();
        let own = match configured.get(&Isolation::Standard) {
            Some(name) => registered(name).then(|| Some(name.clone())),
            None if facts.cgroup_version == "2" && registered(CRUN) => Some(Some(CRUN.to_owned())),
            None => Some(None),
        };
        if let Some(runtime) = own {
            present.insert(if userns { Isolation::Userns } else { Isolation::Standard }, runtime);
        }
        for (class, names) in KNOWN {
            let named = configured.get(&class).map(String::as_str);
            let found = match named {
                Some(name) => registered(name).then_some(name),
                None => names.iter().copied().find(|name| registered(name)),
            };
            if let Some(name) = found {
                present.insert(class, Some(name.to_owned()));
            }
        }
        Classes { present, minimum, cgroup_version: facts.cgroup_version.clone(), userns, uid_offset: facts.uid_offset }
    }

    /// The user of every box, as this machine sees it: who owns what a box may write.
    pub fn box_uid(&self) -> u32 {
        self.uid_offset.saturating_add(BOX_UID)
    }

    /// The weakest class that is strong enough for what is asked and for the operator.
    ///
    /// # Errors
    /// [`ClassMissing`] when there is none.
    pub fn choose(&self, asked: Option<Isolation>) -> Result<Class, ClassMissing> {
        let wanted = asked.unwrap_or_default().max(self.minimum);
        match self.present.range(wanted..).next() {
            Some((isolation, runtime)) => Ok(Class { isolation: *isolation, runtime: runtime.clone() }),
            None => {
                let have: Vec<&str> = self.present.keys().map(|class| class.as_str()).collect();
                let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
                Err(ClassMissing { wanted: wanted.as_str(), have })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn facts(security: &[&str], runtimes: &[&str], cgroup: &str) -> EngineFacts {
        EngineFacts {
            version: "20.10.24".into(),
            api_version: "1.41".into(),
            cgroup_version: cgroup.into(),
            live_restore: true,
            security: security.iter().map(|s| (*s).to_owned()).collect(),
            runtimes: runtimes.iter().map(|s| (*s).to_owned()).collect(),
            default_runtime: "runc".into(),
            uid_offset: 0,
        }
    }

    const PLAIN: &[&str] = &["name=seccomp,profile=default"];
    const REMAPPED: &[&str] = &["name=seccomp,profile=default", "name=userns"];

    #[rstest]
    #[case::the_engines_own(PLAIN, &["runc"], "1", &[], Isolation::Standard, Ok((Isolation::Standard, None)))]
    #[case::remapped_is_stronger(REMAPPED, &["runc"], "1", &[], Isolation::Standard, Ok((Isolation::Userns, None)))]
    #[case::userns_asked(REMAPPED, &["runc"], "1", &[], Isolation::Userns, Ok((Isolation::Userns, None)))]
    #[case::userns_missing(PLAIN, &["runc"], "1", &[], Isolation::Userns, Err("standard"))]
    #[case::a_stronger_one_will_do(PLAIN, &["runc", "runsc"], "1", &[], Isolation::Userns, Ok((Isolation::Gvisor, Some("runsc"))))]
    #[case::standard_stays_standard(PLAIN, &["runc", "runsc"], "1", &[], Isolation::Standard, Ok((Isolation::Standard, None)))]
    #[case::gvisor_missing(PLAIN, &["runc"], "1", &[], Isolation::Gvisor, Err("standard"))]
    #[case::kata_for_gvisor(PLAIN, &["kata"], "1", &[], Isolation::Gvisor, Ok((Isolation::Kata, Some("kata"))))]
    #[case::gvisor_is_not_kata(PLAIN, &["runsc"], "1", &[], Isolation::Kata, Err("standard, gvisor"))]
    #[case::named_by_the_operator(PLAIN, &["runc", "g"], "1", &[(Isolation::Gvisor, "g")], Isolation::Gvisor, Ok((Isolation::Gvisor, Some("g"))))]
    #[case::named_but_not_there(PLAIN, &["runc", "runsc"], "1", &[(Isolation::Gvisor, "g")], Isolation::Gvisor, Err("standard"))]
    #[case::standard_named_but_not_there(PLAIN, &["runc"], "1", &[(Isolation::Standard, "crun")], Isolation::Standard, Err("none"))]
    #[case::crun_on_v2(PLAIN, &["crun", "runc"], "2", &[], Isolation::Standard, Ok((Isolation::Standard, Some("crun"))))]
    #[case::no_crun_on_v1(PLAIN, &["crun", "runc"], "1", &[], Isolation::Standard, Ok((Isolation::Standard, None)))]
    #[case::crun_where_named(PLAIN, &["crun", "runc"], "1", &[(Isolation::Standard, "crun")], Isolation::Standard, Ok((Isolation::Standard, Some("crun"))))]
    fn a_dispatch_gets_what_it_asks_for_or_better(
        #[case] security: &[&str],
        #[case] runtimes: &[&str],
        #[case] cgroup: &str,
        #[case] configured: &[(Isolation, &str)],
        #[case] asked: Isolation,
        #[case] expected: Result<(Isolation, Option<&str>), &str>,
    ) {
        let configured = configured.iter().map(|(class, name)| (*class, (*name).to_owned())).collect();
        let facts = facts(security, runtimes, cgroup);
        // Who asks does not matter: the runner's document or the operator.
        let of_the_runner = Classes::detect(&facts, &configured, Isolation::Standard).choose(Some(asked));
        let of_the_operator = Classes::detect(&facts, &configured, asked).choose(None);
        assert_eq!(of_the_runner, of_the_operator);
        match (of_the_runner, expected) {
            (Ok(class), Ok((isolation, runtime))) => {
                assert_eq!((class.isolation, class.runtime.as_deref()), (isolation, runtime));
            }
            (Err(missing), Err(have)) => assert_eq!((missing.wanted, missing.have.as_str()), (asked.as_str(), have)),
            (found, wanted) => panic!("{found:?} against {wanted:?}"),
        }
    }
}
