//! The database drivers of other languages, for tests that run an application's code.
//!
//! Owns `<cache>/drivers`: a Python environment and a Node.js package folder. Must never install into
//! a Python or a Node.js of the system.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::provision::{Need, ensure_packages};
use crate::{exec, paths};

/// A Python that has psycopg 3.
pub fn python() -> Result<PathBuf> {
    let folder = folder()?;
    let _lock = lock("python")?;
    let environment = folder.join("python");
    let python = environment.join("bin/python");
    let works = exec::run(Command::new(&python).args(["-c", "import psycopg"])).is_ok();
    if !works {
        ensure_packages(Need::Drivers)?;
        exec::run(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&environment),
        )?;
        exec::run(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "psycopg[binary]>=3.2,<4",
        ]))
        .context("psycopg does not install")?;
    }
    Ok(python)
}

/// A folder in which Node.js finds node-postgres.
pub fn node() -> Result<PathBuf> {
    let folder = folder()?.join("node");
    let _lock = lock("node")?;
    if !folder.join("node_modules/pg/package.json").exists() {
        if exec::run(Command::new("npm").arg("--version")).is_err() {
            ensure_packages(Need::Drivers)?;
        }
        fs::create_dir_all(&folder)?;
        fs::write(
            folder.join("package.json"),
            r#"{"private": true, "type": "module"}"#,
        )?;
        exec::run(Command::new("npm").current_dir(&folder).args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "pg@8",
        ]))
        .context("node-postgres does not install")?;
    }
    Ok(folder)
}

fn folder() -> Result<PathBuf> {
    let folder = paths::cache()?.join("drivers");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Held while something is installed: versions are tested side by side.
fn lock(name: &str) -> Result<File> {
    let lock = File::create(folder()?.join(format!("{name}.lock")))?;
    lock.lock()?;
    Ok(lock)
}
