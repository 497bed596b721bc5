//! Files that a workspace should not be trusted with: links out of it, setuid bits, huge and very many ones. Must never
//! write anywhere but into the first workspace.

use crate::behave::{done, failed};
use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

const WORKSPACE: &str = "/workspace";
const MANY_MAX: usize = 1_000_000;

/// Links to places outside, by absolute and by relative paths, as files and as folders.
pub(crate) fn links() -> u8 {
    let targets =
        [("passwd", "/etc/passwd"), ("etc", "/etc"), ("up", "../../../../etc"), ("root", "/"), ("loop", "loop")];
    let made = targets.iter().filter(|(name, target)| {
        let path = Path::new(WORKSPACE).join(name);
        let _ = fs::remove_file(&path);
        symlink(target, path).is_ok()
    });
    done(&format!("made {} links", made.count()))
}

/// A program with the setuid and setgid bits, and one that everybody may write.
pub(crate) fn setuid() -> u8 {
    let path = Path::new(WORKSPACE).join("setuid");
    let made = File::create(&path)
        .and_then(|mut file| file.write_all(b"#!/bin/sh\nid\n"))
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o6755)));
    match made {
        Ok(()) => done("left a setuid file"),
        Err(error) => failed("the setuid file", &error),
    }
}

/// One file of so many bytes that takes no room.
pub(crate) fn big(bytes: usize) -> u8 {
    let sized = File::create(Path::new(WORKSPACE).join("big")).and_then(|file| file.set_len(bytes as u64));
    match sized {
        Ok(()) => done(&format!("left a file of {bytes} bytes")),
        Err(error) => done(&format!("no such file: errno {}", error.raw_os_error().unwrap_or(0))),
    }
}

/// So many empty files.
pub(crate) fn many(count: usize) -> u8 {
    let folder = Path::new(WORKSPACE).join("many");
    let made = fs::create_dir_all(&folder)
        .and_then(|()| (0..count.min(MANY_MAX)).try_for_each(|n| File::create(folder.join(n.to_string())).map(drop)));
    match made {
        Ok(()) => done(&format!("left {count} files")),
        Err(error) => failed("the files", &error),
    }
}
