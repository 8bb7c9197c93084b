//! Dependencies that are compiled once for all versions of Postgres.
//!
//! Each server tree has a target folder of its own, because the library's file has the same name for
//! all. What lies below it mostly does not depend on the server, so a new folder begins as a copy of
//! another's; cargo sees by itself what of it serves. Must never copy what is made of our own sources.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::exec;

/// Folders of a profile that dependencies are in.
const PARTS: [&str; 3] = ["build", "deps", ".fingerprint"];
/// How names of what is made of our own sources begin.
const OWN: [&str; 2] = ["pg_tenancy", "libpg_tenancy"];

/// Fills the folder of a profile (`release` or `debug`) below a target folder, if it is not there, from one beside
/// that target folder.
pub fn begin(target: &Path, profile: &str) -> Result<()> {
    let ours = target.join(profile);
    if ours.exists() {
        return Ok(());
    }
    let Some(from) = finished(target, profile)? else {
        return Ok(());
    };
    // Under its name only when it is whole.
    let partial = target.join(format!("{profile}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    for part in PARTS {
        let folder = partial.join(part);
        fs::create_dir_all(&folder)?;
        // With its times, by which cargo tells that nothing is newer.
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto", "-t"]).arg(&folder);
        copy.args(dependencies(&from.join(part))?);
        exec::run(&mut copy)?;
    }
    fs::rename(&partial, &ours)?;
    Ok(())
}

/// The folder of that profile of another version, whose library was made: so its dependencies are all there.
fn finished(target: &Path, profile: &str) -> Result<Option<PathBuf>> {
    let Some(targets) = target.parent() else {
        return Ok(None);
    };
    for entry in fs::read_dir(targets)? {
        let other = entry?.path();
        let is_of_version = other
            .file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|name| name.starts_with("pg"));
        let folder = other.join(profile);
        if is_of_version && other != target && folder.join("libpg_tenancy.so").exists() {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

fn dependencies(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !OWN.iter().any(|own| name.starts_with(own)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        for part in PARTS {
            fs::create_dir_all(folder.join("pg15/release").join(part)).expect("a folder is made");
        }
        for file in [
            "deps/libserde-1.rlib",
            "deps/libpg_tenancy.so",
            ".fingerprint/pg_tenancy-1",
            ".fingerprint/serde-1",
            "build/x",
        ] {
            fs::write(folder.join("pg15/release").join(file), "").expect("a file is written");
        }
        folder
    }

    #[test]
    fn a_new_folder_begins_with_the_dependencies_of_one_that_is_finished() {
        let targets = targets("finished");
        let new = targets.join("pg16");
        begin(&new, "release").expect("nothing to copy yet");
        assert!(!new.exists());
        fs::write(targets.join("pg15/release/libpg_tenancy.so"), "").expect("a file is written");
        fs::create_dir(&new).expect("a folder is made");
        begin(&new, "release").expect("copies");
        let there = |file: &str| new.join("release").join(file).exists();
        assert!(there("deps/libserde-1.rlib") && there("build/x"));
        assert!(!there("deps/libpg_tenancy.so") && !there(".fingerprint/pg_tenancy-1"));
        fs::remove_dir_all(&targets).expect("it is deleted");
    }

    #[test]
    fn what_is_there_stays() {
        let targets = targets("there");
        fs::write(targets.join("pg15/release/libpg_tenancy.so"), "").expect("a file is written");
        let new = targets.join("pg16");
        fs::create_dir_all(new.join("release")).expect("a folder is made");
        begin(&new, "release").expect("nothing is done");
        assert!(!new.join("release/deps").exists());
        fs::remove_dir_all(&targets).expect("it is deleted");
    }
}
