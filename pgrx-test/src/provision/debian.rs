//! Servers from the distribution's packages, laid out as `/usr/lib/postgresql/NN`.
//!
//! Copies what the packages installed and must never write there: the copy keeps the folders'
//! positions relative to each other, by which Postgres finds its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::packages;
use crate::exec;

/// Whether the server and its headers are installed.
pub fn installed(version: u32) -> bool {
    let bin = bin(version);
    ["postgres", "initdb", "pg_config"]
        .iter()
        .all(|p| Path::new("/").join(&bin).join(p).exists())
        && Path::new("/").join(headers(version)).exists()
}

/// Whether apt has a package of that version to install.
pub fn offered(version: u32) -> Result<bool> {
    let package = format!("postgresql-{version}");
    if candidate(&package)? {
        return Ok(true);
    }
    // A fresh machine may not have any lists yet.
    let mut lists = Command::new("apt-get");
    let known = exec::run(lists.args([
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    if known.trim().is_empty() {
        packages::update()?;
        return candidate(&package);
    }
    Ok(false)
}

/// Installs the packages if need be and copies their trees.
pub fn copy(version: u32, partial: &Path) -> Result<(PathBuf, String)> {
    if !installed(version) {
        packages::install(&[
            &format!("postgresql-{version}"),
            &format!("postgresql-server-dev-{version}"),
        ])?;
    }
    let folders = [
        PathBuf::from(format!("usr/lib/postgresql/{version}")),
        PathBuf::from(format!("usr/share/postgresql/{version}")),
        PathBuf::from("usr/include/postgresql"),
    ];
    for folder in folders {
        let destination = partial.join(&folder);
        fs::create_dir_all(destination.parent().unwrap_or(partial))?;
        exec::run(
            Command::new("cp")
                .arg("-a")
                .arg(Path::new("/").join(&folder))
                .arg(&destination),
        )?;
    }
    Ok((bin(version), "distribution package".to_owned()))
}

fn candidate(package: &str) -> Result<bool> {
    let policy = exec::run(
        Command::new("apt-cache")
            .env("LC_ALL", "C")
            .args(["policy", package]),
    )?;
    Ok(policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate:"))
        .any(|version| version.trim() != "(none)"))
}

fn bin(version: u32) -> PathBuf {
    PathBuf::from(format!("usr/lib/postgresql/{version}/bin"))
}

fn headers(version: u32) -> PathBuf {
    PathBuf::from(format!(
        "usr/include/postgresql/{version}/server/postgres.h"
    ))
}
