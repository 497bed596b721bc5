//! The look at the host before a folder of it is mounted. Must never follow a symbolic link below a mount root: what
//! lies there was written by agents, and the engine would follow the link as root.

use crate::check::below_root;
use crate::spec::Profile;
use custody_ports::containers::{BoxError, BoxSpec};
use std::path::Path;

/// Every source is there, and is itself and not a link to another place. The root may be reached through links: it
/// is the operator's.
pub(crate) async fn sources_are_real(spec: &BoxSpec, profile: &Profile) -> Result<(), BoxError> {
    let (spec, profile) = (spec.clone(), profile.clone());
    // One hop beside the loop for all of them.
    let looked = tokio::task::spawn_blocking(move || look(&spec, &profile)).await;
    looked.unwrap_or_else(|error| Err(BoxError::Refused(format!("mount sources were not looked at: {error}"))))
}

fn look(spec: &BoxSpec, profile: &Profile) -> Result<(), BoxError> {
    for mount in &spec.mounts {
        let Some((root, rest)) = below_root(mount, profile) else {
            return Err(BoxError::Refused(format!(
                "mount source {} is not below a mount root",
                mount.source.display()
            )));
        };
        let wanted = canonical(root)?.join(rest);
        let found = canonical(&mount.source)?;
        if found != wanted {
            let source = mount.source.display();
            return Err(BoxError::Refused(format!("mount source {source} is a link to {}", found.display())));
        }
    }
    Ok(())
}

fn canonical(path: &Path) -> Result<std::path::PathBuf, BoxError> {
    path.canonicalize().map_err(|error| BoxError::Refused(format!("mount source {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use custody_ports::containers::BoxMount;
    use rstest::rstest;
    use std::os::unix::fs::symlink;

    #[rstest]
    #[case::a_folder("ws/jane", None)]
    #[case::missing("ws/john", Some("No such file"))]
    #[case::a_link("ws/link", Some("is a link to"))]
    #[case::below_a_link("ws/link/inner", Some("is a link to"))]
    #[case::a_link_to_a_neighbour("ws/twin", Some("is a link to"))]
    #[tokio::test]
    async fn sources(#[case] place: &str, #[case] refusal: Option<&str>) {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host.path().join("real/ws/jane")).unwrap();
        std::fs::create_dir_all(host.path().join("etc/inner")).unwrap();
        symlink(host.path().join("etc"), host.path().join("real/ws/link")).unwrap();
        symlink("jane", host.path().join("real/ws/twin")).unwrap();
        // The operator's own link to the root is not the agents'.
        symlink(host.path().join("real"), host.path().join("root")).unwrap();
        let root = host.path().join("root");
        let mount = BoxMount { source: root.join(place), target: "/workspace".to_owned(), read_only: false };
        let spec = BoxSpec { mounts: vec![mount], ..crate::spec::tests::sample() };
        let profile = Profile { mount_roots: vec![root], runtime: None };
        match (sources_are_real(&spec, &profile).await, refusal) {
            (Ok(()), None) => {}
            (Err(BoxError::Refused(why)), Some(words)) => assert!(why.contains(words), "{why}"),
            (other, _) => panic!("{other:?}"),
        }
    }
}
