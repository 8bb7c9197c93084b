//! Where things are kept.
//!
//! Two roots. The *cache* (`$PG_TENANCY_CACHE`, else `~/.cache/pg_tenancy`) holds tools, build
//! products and downloads. The *serve root* holds what a server process must reach: server trees,
//! data directories, sockets. It lies inside the cache, except where root runs the harness and
//! keeps its home closed (mode 0700, as on most machines): there the user `postgres`, as whom
//! servers then run, could not enter it, so it is `/var/cache/pg_tenancy`.
//!
//! Must never point into an installation of the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::user;

/// The checkout that cargo runs this harness from. It need not be the one that it was built from: checkouts
/// that share a target folder share what is built in it.
pub fn workspace() -> &'static Path {
    static WORKSPACE: OnceLock<PathBuf> = OnceLock::new();
    WORKSPACE.get_or_init(|| {
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
        package
            .parent()
            .expect("the crate is a folder of the workspace")
            .to_owned()
    })
}

pub fn cache() -> Result<PathBuf> {
    let path = match std::env::var_os("PG_TENANCY_CACHE") {
        Some(path) => std::path::absolute(path)?,
        None => {
            let home = std::env::home_dir().context("neither PG_TENANCY_CACHE nor HOME is set")?;
            home.join(".cache/pg_tenancy")
        }
    };
    make(path)
}

/// Holds server trees and runs; the server user can enter it.
pub fn serve() -> Result<PathBuf> {
    static SERVE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = SERVE.get() {
        return Ok(path.clone());
    }
    let inside = make(cache()?.join("serve"))?;
    let path = if user::server_user_can_enter(&inside)? {
        inside
    } else {
        make(PathBuf::from("/var/cache/pg_tenancy"))?
    };
    Ok(SERVE.get_or_init(|| path).clone())
}

/// Pristine server trees, which runs copy.
pub fn servers() -> Result<PathBuf> {
    make(serve()?.join("servers"))
}

/// Folders of runs in progress.
pub fn runs() -> Result<PathBuf> {
    make(serve()?.join("run"))
}

/// cargo-pgrx and its like.
pub fn tools() -> Result<PathBuf> {
    make(cache()?.join("tools"))
}

/// Build products of the extension for one server tree.
pub fn target(name: &str) -> Result<PathBuf> {
    make(cache()?.join("target").join(name))
}

/// The folder in which pgrx expects its config, one a server tree because building for one must
/// not make cargo rebuild another.
pub fn pgrx_home(name: &str) -> Result<PathBuf> {
    make(cache()?.join("pgrx").join(name))
}

/// Downloads and build trees that are deleted once used.
pub fn work(name: &str) -> Result<PathBuf> {
    make(cache()?.join("work").join(name))
}

fn make(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
    Ok(path)
}
