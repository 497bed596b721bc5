//! Says where the built UI is. Must never run npm: what is not built is replaced by a plain page.

use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dist = root.join("ui/dist");
    let built = dist.join("index.html").is_file();
    // A folder is watched with all that is in it: once there is a built UI, its sources and packages change nothing here.
    let watched = if built { &dist } else { &root.join("ui") };
    println!("cargo::rerun-if-changed={}", watched.display());
    let embedded = if built { dist } else { empty() };
    println!("cargo::rustc-env=CUSTODY_UI_DIST={}", embedded.display());
}

/// An empty folder: the binary then says that its UI was not built.
fn empty() -> PathBuf {
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("no-ui");
    if let Err(error) = std::fs::create_dir_all(&folder) {
        println!("cargo::warning=no folder for a missing UI: {error}");
    }
    folder
}
