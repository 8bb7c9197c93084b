//! Building the extension, in release mode unless told otherwise, and putting it into a server
//! tree.
//!
//! Owns cargo-pgrx in the cache, pgrx's configuration and the extension's build products. What is
//! up to date is left to cargo. Files are put in place by renaming: a server that has the old
//! library mapped keeps it, instead of crashing over a file that changes under it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::progress::step;
use crate::provision::{Need, Tree, ensure_packages};
use crate::{build_products, exec, paths, toolchain};

/// Must be the version of pgrx that the extension is built with.
const CARGO_PGRX: &str = "0.19.3";

/// How to compile the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    Release,
    /// Compiles in seconds and checks for overflows; for the one who is changing the extension.
    Debug,
}

impl Profile {
    /// Of its build products, in a target folder.
    fn folder(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Debug => "debug",
        }
    }
}

/// Builds the extension for the server of `pristine` and installs it into `copy`.
pub fn build_and_install(
    pristine: &Tree,
    copy: &Tree,
    scratch: &Path,
    profile: Profile,
) -> Result<()> {
    let staged = build(pristine, scratch, profile)?;
    install(&staged, pristine, copy)?;
    fs::remove_dir_all(&staged)?;
    Ok(())
}

/// Builds the extension and returns the folder with the files to install, which are laid out
/// under the paths of the pristine tree.
fn build(tree: &Tree, scratch: &Path, profile: Profile) -> Result<PathBuf> {
    ensure_packages(Need::BuildExtension)?;
    let path = path_with(&cargo_pgrx()?);
    let staged = scratch.join(format!("staged-{}", tree.name));
    let target = paths::target(&tree.name)?;
    // One at a time: cargo takes all cores by itself, and the second has the dependencies of the first.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    build_products::begin(&target, profile.folder())?;
    let mut package = toolchain::cargo()?;
    package
        .current_dir(paths::workspace())
        .env("PATH", path)
        .env("PGRX_HOME", pgrx_home(tree)?)
        .env("CARGO_TARGET_DIR", target)
        .args([
            "pgrx",
            "package",
            "--package",
            "pg_tenancy",
            "--no-default-features",
        ])
        .args(["--features", &format!("pg{}", tree.version)])
        .arg("--pg-config")
        .arg(tree.pg_config())
        .arg("--out-dir")
        .arg(&staged);
    if profile == Profile::Debug {
        package.arg("--debug");
    }
    exec::run(&mut package).context("the extension does not build")?;
    Ok(staged)
}

/// A cargo command that can check, lint or test the extension with the headers of a server.
pub fn extension_cargo(tree: &Tree) -> Result<Command> {
    ensure_packages(Need::BuildExtension)?;
    let mut cargo = toolchain::cargo()?;
    cargo
        .current_dir(paths::workspace())
        .env("PGRX_HOME", pgrx_home(tree)?)
        .env("PGRX_PG_CONFIG_PATH", tree.pg_config())
        .env(
            "CARGO_TARGET_DIR",
            paths::target(&format!("check-{}", tree.name))?,
        );
    Ok(cargo)
}

fn install(staged: &Path, pristine: &Tree, copy: &Tree) -> Result<()> {
    let source = staged.join(pristine.root.strip_prefix("/").unwrap_or(&pristine.root));
    let count = install_folder(&source, &copy.root)?;
    ensure!(
        count >= 3,
        "cargo pgrx packaged {count} files: library, control file and script were expected"
    );
    Ok(())
}

fn install_folder(source: &Path, destination: &Path) -> Result<usize> {
    fs::create_dir_all(destination)?;
    let mut count = 0;
    for entry in fs::read_dir(source)
        .with_context(|| format!("nothing was packaged in {}", source.display()))?
    {
        let entry = entry?;
        let target = destination.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            count += install_folder(&entry.path(), &target)?;
        } else {
            let mut new = target.clone().into_os_string();
            new.push(".new");
            fs::copy(entry.path(), &new)?;
            fs::rename(&new, &target)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The folder of cargo-pgrx, installed now if it is missing or of another version.
fn cargo_pgrx() -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().expect("installing does not panic");
    let tools = paths::tools()?;
    let bin = tools.join("bin");
    let version = exec::run(Command::new(bin.join("cargo-pgrx")).args(["pgrx", "--version"]));
    if version.is_ok_and(|v| v.trim().ends_with(&format!(" {CARGO_PGRX}"))) {
        return Ok(bin);
    }
    step(
        "tools",
        format!("installing cargo-pgrx {CARGO_PGRX} (some minutes)"),
    );
    let target = paths::target("tools")?;
    let mut install = toolchain::cargo()?;
    install
        .env("CARGO_TARGET_DIR", &target)
        // It only drives cargo: compiling it well takes longer than it will ever run.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .args([
            "install",
            "--locked",
            "--force",
            "cargo-pgrx",
            "--version",
            &format!("={CARGO_PGRX}"),
            "--root",
        ])
        .arg(&tools);
    exec::run(&mut install).context("cargo-pgrx does not install")?;
    fs::remove_dir_all(&target)?;
    Ok(bin)
}

/// pgrx's configuration for this server. Written only when it changes: a newer file makes cargo
/// build pgrx again.
fn pgrx_home(tree: &Tree) -> Result<PathBuf> {
    let home = paths::pgrx_home(&tree.name)?;
    let file = home.join("config.toml");
    let config = format!(
        "[configs]\npg{} = \"{}\"\n",
        tree.version,
        tree.pg_config().display()
    );
    if fs::read_to_string(&file).ok().as_deref() != Some(&config) {
        fs::write(&file, config)?;
    }
    Ok(home)
}

fn path_with(bin: &Path) -> OsString {
    let mut path = bin.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}
