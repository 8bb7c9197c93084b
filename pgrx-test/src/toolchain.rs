//! Which Rust builds the extension.
//!
//! Owns the choice only. The harness itself builds with an older compiler, and the choice must
//! never leak into anything but builds of the extension.

use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, bail};

use crate::exec;

/// What pgrx needs.
const MINIMUM: (u32, u32) = (1, 96);

/// Value for RUSTUP_TOOLCHAIN in builds of the extension: None where the active one will do.
pub fn for_extension() -> Result<Option<String>> {
    static CHOICE: OnceLock<Option<String>> = OnceLock::new();
    if let Some(choice) = CHOICE.get() {
        return Ok(choice.clone());
    }
    let choice = choose()?;
    Ok(CHOICE.get_or_init(|| choice).clone())
}

/// A cargo command that builds with that toolchain. The variables of a cargo that runs us
/// describe our own build, and would be taken for the other one's.
pub fn cargo() -> Result<Command> {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let describes_us = text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
            || [
                "CARGO",
                "RUSTC",
                "RUSTDOC",
                "RUSTFLAGS",
                "CARGO_ENCODED_RUSTFLAGS",
            ]
            .contains(&&*text);
        if describes_us {
            command.env_remove(name);
        }
    }
    if let Some(toolchain) = for_extension()? {
        command.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    // The workspace's own linker is there for machines without cc, and cc is there by now. Its path
    // is the checkout's: with it, each new checkout would build everything anew.
    let target = std::env::consts::ARCH.to_uppercase();
    command.env(
        format!("CARGO_TARGET_{target}_UNKNOWN_LINUX_GNU_LINKER"),
        "cc",
    );
    Ok(command)
}

fn choose() -> Result<Option<String>> {
    if let Some(version) = version(None)
        && version >= MINIMUM
    {
        return Ok(None);
    }
    let listed = exec::run(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let mut usable: Vec<(bool, (u32, u32), String)> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|name| {
            let version = version(Some(name))?;
            (version >= MINIMUM).then(|| (is_stable(name), version, name.to_owned()))
        })
        .collect();
    // The newest stable one, else the newest of the others.
    usable.sort();
    match usable.pop() {
        Some((_, _, name)) => Ok(Some(name)),
        None => bail!(
            "the extension needs rustc {}.{} or newer and none is installed: \
             run `rustup toolchain install stable` (or `nightly`)",
            MINIMUM.0,
            MINIMUM.1
        ),
    }
}

fn is_stable(toolchain: &str) -> bool {
    toolchain.starts_with("stable") || toolchain.starts_with(|c: char| c.is_ascii_digit())
}

fn version(toolchain: Option<&str>) -> Option<(u32, u32)> {
    let mut rustc = Command::new("rustc");
    if let Some(toolchain) = toolchain {
        rustc.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    parse_version(&exec::run(rustc.arg("--version")).ok()?)
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("rustc ")?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_rustc_prints() {
        assert_eq!(
            parse_version("rustc 1.95.0 (59807616e 2026-04-14)\n"),
            Some((1, 95))
        );
        assert_eq!(
            parse_version("rustc 1.99.0-nightly (abc 2026-07-01)\n"),
            Some((1, 99))
        );
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn numbered_toolchains_are_stable_ones() {
        assert!(is_stable("1.96.0-x86_64-unknown-linux-gnu"));
        assert!(is_stable("stable-x86_64-unknown-linux-gnu"));
        assert!(!is_stable("nightly-x86_64-unknown-linux-gnu"));
    }
}
