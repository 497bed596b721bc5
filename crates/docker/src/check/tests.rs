//! Which specs become a request.

use super::*;
use crate::spec::tests::{profile, sample};
use rstest::rstest;

type Change = fn(&mut BoxSpec);

#[rstest]
#[case::sample(|_: &mut BoxSpec| {})]
#[case::no_mount(|s: &mut BoxSpec| s.mounts.clear())]
#[case::least_memory(|s: &mut BoxSpec| s.memory_bytes = MEMORY_MIN)]
#[case::most_memory(|s: &mut BoxSpec| s.memory_bytes = i64::MAX as u64)]
#[case::empty_value(|s: &mut BoxSpec| { s.env.insert("EMPTY".into(), String::new()); })]
#[case::most_variables(|s: &mut BoxSpec| s.env = (0..PAIRS_MAX).map(|n| (format!("V{n}"), String::new())).collect())]
#[case::longest_name(|s: &mut BoxSpec| s.name = "n".repeat(NAME_MAX))]
#[case::one_letter_beyond_hex(|s: &mut BoxSpec| s.name = "abcdefg".into())]
fn accepted(#[case] change: Change) {
    let mut spec = sample();
    change(&mut spec);
    assert_eq!(check(&spec, &profile()), Ok(()));
}

#[rstest]
#[case::name_empty(|s: &mut BoxSpec| s.name.clear(), "container name")]
#[case::name_one_too_long(|s: &mut BoxSpec| s.name = "n".repeat(NAME_MAX + 1), "container name")]
#[case::name_with_a_slash(|s: &mut BoxSpec| s.name = "d-1/../x".into(), "container name")]
#[case::name_with_a_question_mark(|s: &mut BoxSpec| s.name = "d-1?force=1".into(), "container name")]
#[case::name_that_is_the_start_of_an_id(|s: &mut BoxSpec| s.name = "deadbeef01".into(), "container name")]
#[case::image_by_tag(|s: &mut BoxSpec| s.image = "custody/pi:1".into(), "image")]
#[case::image_short(|s: &mut BoxSpec| s.image = "sha256:abc".into(), "image")]
#[case::image_upper_case(|s: &mut BoxSpec| s.image = format!("sha256:{}", "A".repeat(64)), "image")]
#[case::memory_without_limit(|s: &mut BoxSpec| s.memory_bytes = 0, "limit memory_bytes")]
#[case::memory_below_the_least(|s: &mut BoxSpec| s.memory_bytes = MEMORY_MIN - 1, "limit memory_bytes")]
#[case::memory_negative_in_the_engine(|s: &mut BoxSpec| s.memory_bytes = u64::MAX, "limit memory_bytes")]
#[case::cpu_without_limit(|s: &mut BoxSpec| s.nano_cpus = 0, "limit nano_cpus")]
#[case::pids_without_limit(|s: &mut BoxSpec| s.pids = 0, "limit pids")]
#[case::pids_negative_in_the_engine(|s: &mut BoxSpec| s.pids = u64::MAX, "limit pids")]
#[case::variable_with_equals(|s: &mut BoxSpec| { s.env.insert("PATH=/x:".into(), "y".into()); }, "variable")]
#[case::variable_without_name(|s: &mut BoxSpec| { s.env.insert(String::new(), "y".into()); }, "variable")]
#[case::variable_with_nul(|s: &mut BoxSpec| { s.env.insert("A".into(), "b\0c".into()); }, "variable")]
#[case::variable_too_long(|s: &mut BoxSpec| { s.env.insert("A".into(), "x".repeat(PAIR_BYTES_MAX)); }, "variable")]
#[case::label_without_name(|s: &mut BoxSpec| { s.labels.insert(String::new(), "y".into()); }, "label")]
#[case::variables_too_many(|s: &mut BoxSpec| s.env = (0..=PAIRS_MAX).map(|n| (format!("V{n}"), String::new())).collect(), "variable: 65")]
#[case::mounts_too_many(|s: &mut BoxSpec| s.mounts = vec![s.mounts[0].clone(); MOUNTS_MAX + 1], "mount: 33")]
#[case::target_twice(|s: &mut BoxSpec| { let m = s.mounts[0].clone(); s.mounts.push(m); }, "mount target")]
#[case::target_root(|s: &mut BoxSpec| s.mounts[0].target = "/".into(), "mount target")]
#[case::target_relative(|s: &mut BoxSpec| s.mounts[0].target = "workspace".into(), "mount target")]
#[case::target_climbs(|s: &mut BoxSpec| s.mounts[0].target = "/workspace/../etc".into(), "mount target")]
#[case::target_trailing_slash(|s: &mut BoxSpec| s.mounts[0].target = "/workspace/".into(), "mount target")]
#[case::target_proc(|s: &mut BoxSpec| s.mounts[0].target = "/proc".into(), "mount target")]
#[case::target_in_dev(|s: &mut BoxSpec| s.mounts[0].target = "/dev/shm".into(), "mount target")]
#[case::target_over_scratch(|s: &mut BoxSpec| s.mounts[0].target = "/tmp/x".into(), "mount target")]
#[case::target_above_home(|s: &mut BoxSpec| s.mounts[0].target = "/home".into(), "mount target")]
#[case::source_outside(|s: &mut BoxSpec| s.mounts[0].source = "/etc".into(), "mount source")]
#[case::source_is_the_root(|s: &mut BoxSpec| s.mounts[0].source = "/srv/custody".into(), "mount source")]
#[case::source_beside_the_root(|s: &mut BoxSpec| s.mounts[0].source = "/srv/custody-other/ws".into(), "mount source")]
#[case::source_climbs(|s: &mut BoxSpec| s.mounts[0].source = "/srv/custody/ws/../../../etc".into(), "mount source")]
#[case::source_relative(|s: &mut BoxSpec| s.mounts[0].source = "srv/custody/ws".into(), "mount source")]
#[case::source_engine_socket(|s: &mut BoxSpec| s.mounts[0].source = "/var/run/docker.sock".into(), "mount source")]
fn refused(#[case] change: Change, #[case] says: &str) {
    let mut spec = sample();
    change(&mut spec);
    let why = check(&spec, &profile()).unwrap_err().to_string();
    assert!(why.starts_with(says), "{why}");
}

#[test]
fn without_a_root_nothing_can_be_mounted() {
    let none = Profile { mount_roots: Vec::new(), runtime: None };
    assert!(matches!(check(&sample(), &none), Err(BadSpec::Source(_))));
    let relative = Profile { mount_roots: vec!["".into()], runtime: None };
    assert!(matches!(check(&sample(), &relative), Err(BadSpec::Source(_))));
}

#[rstest]
#[case("custody/pi:1", true)]
#[case("registry.example:5000/a/b@sha256:00", true)]
#[case("sha256:00ff", true)]
#[case("", false)]
#[case("../containers/x", false)]
#[case("a/../b", false)]
#[case("a//b", false)]
#[case("a?x=1", false)]
#[case("a b", false)]
#[case("a%2e", false)]
fn image_names(#[case] name: &str, #[case] ok: bool) {
    assert_eq!(is_image_name(name), ok);
}
