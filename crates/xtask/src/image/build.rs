//! Static binaries for images. Must never take flags or paths from the machine into what it builds.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the images are for. glibc and not musl: it comes with every toolchain, so nothing has to be fetched for it.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The profile in the root's Cargo.toml.
const PROFILE: &str = "image";

/// Builds one static binary for each package, named as the package, and says where they are.
///
/// # Errors
/// When this machine is of another kind, when cargo fails, or when a binary is not where it must be.
pub(crate) fn static_binaries(root: &Path, packages: &[String]) -> Result<BTreeMap<String, PathBuf>> {
    if packages.is_empty() {
        return Ok(BTreeMap::new());
    }
    if (std::env::consts::ARCH, std::env::consts::OS) != ("x86_64", "linux") {
        bail!("images are built on Linux x86_64; this is {} {}", std::env::consts::OS, std::env::consts::ARCH);
    }
    let target_folder = match std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty()) {
        Some(folder) => root.join(folder),
        None => root.join("target"),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--locked", "--quiet", "--profile", PROFILE, "--target", TARGET])
        .args(packages.iter().flat_map(|package| ["--package", package.as_str()]))
        .arg("--target-dir")
        .arg(&target_folder)
        .current_dir(root)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&renames(root)?))
        .env_remove("RUSTFLAGS")
        .stdout(Stdio::null()); // standard output is for the image's id
    let status = command.status().context("running cargo build")?;
    if !status.success() {
        bail!("cargo build of {} failed", packages.join(", "));
    }
    let folder = target_folder.join(TARGET).join(PROFILE);
    let found = packages.iter().map(|package| (package.clone(), folder.join(package)));
    found
        .map(|(package, path)| match path.is_file() {
            true => Ok((package, path)),
            false => bail!(
                "cargo built {package}, but {} is not there: its binary must have the package's name",
                path.display()
            ),
        })
        .collect()
}

/// Compiles each program of one C file statically, with the compiler that also links Rust, and says where they are.
///
/// # Errors
/// When there is no C compiler, or the program does not compile without a warning.
pub(crate) fn c_programs(root: &Path, sources: &[String], into: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    for (number, source) in sources.iter().enumerate() {
        let program = into.join(format!("program-{number}"));
        // No build id and no path: the same source and compiler give the same bytes.
        let output = Command::new("cc")
            .args(["-static", "-O2", "-Wall", "-Wextra", "-Werror", "-s", "-Wl,--build-id=none", "-o"])
            .arg(&program)
            .arg(source)
            .current_dir(root)
            .output()
            .context("running cc, the C compiler that links Rust programs")?;
        if !output.status.success() {
            bail!("cc {source}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        found.insert(source.clone(), program);
    }
    Ok(found)
}

/// What rustc must call a folder of this machine, so that panics in the binary do not name it and two machines build
/// the same bytes. Of several that match a path, rustc takes the last.
type Renames = Vec<(PathBuf, String)>;

fn renames(root: &Path) -> Result<Renames> {
    let mut all = vec![(root.to_owned(), "/custody".to_owned())];
    if let Some(home) = cargo_home() {
        let sources = home.join("registry/src");
        all.push((home, "/cargo".to_owned()));
        // Their names tell which registry or mirror the sources came from. Cargo has made them by now: it unpacked what
        // this program is built from.
        for entry in std::fs::read_dir(&sources).into_iter().flatten() {
            let folder = entry.with_context(|| format!("listing {}", sources.display()))?.path();
            all.push((folder, "/cargo/registry/src".to_owned()));
        }
    }
    // Where the component rust-src is installed, std's own paths lead there; elsewhere they look like this.
    let sysroot = rustc(root, &["--print", "sysroot"])?;
    let about = rustc(root, &["--version", "--verbose"])?;
    let commit = about.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
    all.push((Path::new(sysroot.trim()).join("lib/rustlib/src/rust"), format!("/rustc/{commit}")));
    Ok(all)
}

fn rustc(root: &Path, arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).args(arguments).current_dir(root).output().context("running rustc")?;
    if !output.status.success() {
        bail!("rustc {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("rustc did not answer in UTF-8")
}

/// Flags in cargo's form, separated by 0x1f, for a path may hold a space.
fn flags(renames: &Renames) -> String {
    let renamed = renames.iter().map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()));
    let all: Vec<String> = std::iter::once("-Ctarget-feature=+crt-static".to_owned()).chain(renamed).collect();
    all.join("\u{1f}")
}

fn cargo_home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("CARGO_HOME").or_else(|| set("HOME").map(|home| home.join(".cargo")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_make_it_static_and_rename_folders_with_spaces() {
        let text = flags(&vec![("/a b/custody".into(), "/custody".into()), ("/c".into(), "/cargo".into())]);
        let flags: Vec<&str> = text.split('\u{1f}').collect();
        let expected = [
            "-Ctarget-feature=+crt-static",
            "--remap-path-prefix=/a b/custody=/custody",
            "--remap-path-prefix=/c=/cargo",
        ];
        assert_eq!(flags, expected);
    }

    #[test]
    fn renames_cover_the_checkout_the_sources_and_the_standard_library() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let all = renames(root).unwrap();
        assert_eq!(all[0], (root.to_owned(), "/custody".to_owned()));
        assert!(
            all.iter().any(|(path, name)| path.parent().is_some_and(|p| p.ends_with("registry/src"))
                && name == "/cargo/registry/src"),
            "{all:?}"
        );
        assert!(
            all.last()
                .is_some_and(|(path, name)| path.ends_with("lib/rustlib/src/rust") && name.starts_with("/rustc/")),
            "{all:?}"
        );
    }

    #[test]
    fn a_program_in_c_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.c"), "int main(void) { return 0; }\n").unwrap();
        let build = |into: &str| {
            let into = folder.path().join(into);
            std::fs::create_dir(&into).unwrap();
            let built = c_programs(folder.path(), &["p.c".to_owned()], &into).unwrap();
            std::fs::read(&built["p.c"]).unwrap()
        };
        assert_eq!(build("a"), build("b"));
        std::fs::write(folder.path().join("p.c"), "int main(void) { int unused; return 0; }\n").unwrap();
        let why = c_programs(folder.path(), &["p.c".to_owned()], folder.path()).unwrap_err().to_string();
        assert!(why.contains("unused"), "{why}");
    }

    #[test]
    fn no_packages_need_no_cargo() {
        assert!(static_binaries(Path::new("/nowhere"), &[]).unwrap().is_empty());
    }
}
