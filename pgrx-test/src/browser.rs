//! A browser without a window, for pages that the extension makes.
//!
//! Owns how it is started: a profile of its own, nothing of it kept, and no name resolved, so that a page
//! that asks for anything from outside gets nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::exec;
use crate::provision::{Need, ensure_packages};

/// What the system calls it.
const PROGRAM: &str = "chromium-headless-shell";

/// A browser that looks at files below one folder.
pub struct Browser {
    folder: PathBuf,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub width: u32,
    pub height: u32,
    /// What `prefers-color-scheme` says.
    pub dark: bool,
}

impl Browser {
    /// Installs it where it is missing.
    pub fn new(folder: &Path) -> Result<Browser> {
        ensure_packages(Need::Browser)?;
        fs::create_dir_all(folder)?;
        Ok(Browser {
            folder: folder.to_owned(),
        })
    }

    /// A picture of the page, as a PNG file of that name.
    pub fn picture(&self, page: &str, window: Window, name: &str) -> Result<PathBuf> {
        let picture = self.folder.join(name);
        self.open(page, window, &format!("--screenshot={}", picture.display()))?;
        Ok(picture)
    }

    /// What the page's document is once its scripts have run.
    pub fn document(&self, page: &str, window: Window) -> Result<String> {
        self.open(page, window, "--dump-dom")
    }

    fn open(&self, page: &str, window: Window, wanted: &str) -> Result<String> {
        let file = self.folder.join("page.html");
        let profile = self.folder.join("profile");
        fs::write(&file, page)?;
        let scheme = if window.dark { 0 } else { 1 };
        let told = exec::run(Command::new(PROGRAM).args([
            // Root has no user namespace to build a sandbox in, and the page is ours.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--virtual-time-budget=2000",
            &format!("--blink-settings=preferredColorScheme={scheme}"),
            &format!("--window-size={},{}", window.width, window.height),
            &format!("--user-data-dir={}", profile.display()),
            wanted,
            &format!("file://{}", file.display()),
        ]))
        .context("the browser failed");
        let _ = fs::remove_dir_all(profile);
        told
    }
}
