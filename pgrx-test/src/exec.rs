//! Running other programs: output captured, and shown when they fail.
//!
//! Must never let a program read our standard input (a prompt would hang a CI run), and must
//! never hide why one failed.

use std::ffi::OsStr;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

/// How much of a failed program's output is worth showing.
const SHOWN_LINES: usize = 80;

/// What a finished program left behind.
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The end of everything it printed.
    pub fn tail(&self) -> String {
        tail(&format!("{}\n{}", self.stdout, self.stderr), SHOWN_LINES)
    }
}

/// Runs a program to its end, whatever its exit status.
pub fn finish(command: &mut Command) -> Result<Finished> {
    let output = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot run {}", show(command)))?;
    Ok(Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program that must succeed and returns what it printed on stdout.
pub fn run(command: &mut Command) -> Result<String> {
    let finished = finish(command)?;
    if !finished.status.success() {
        bail!(
            "{} failed ({}):\n{}",
            show(command),
            finished.status,
            finished.tail()
        );
    }
    Ok(finished.stdout)
}

/// The command as one would type it.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
