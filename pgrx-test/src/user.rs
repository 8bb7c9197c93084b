//! Who runs what: Postgres refuses to run as root, so root hands servers to the user `postgres`.
//!
//! Owns that user's creation and the switch to it. Everybody else runs servers as themselves and
//! reaches for root only through sudo, to install system packages.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{Uid, User};

use crate::exec;

/// The user for whom root runs servers, as Debian's packages name it.
const SERVER_USER: &str = "postgres";

pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The user that servers run as: None means the current one.
pub fn server_user() -> Result<Option<User>> {
    if !is_root() {
        return Ok(None);
    }
    if let Some(user) = User::from_name(SERVER_USER)? {
        return Ok(Some(user));
    }
    exec::run(Command::new("useradd").args([
        "--system",
        "--user-group",
        "--no-create-home",
        SERVER_USER,
    ]))?;
    let user = User::from_name(SERVER_USER)?.context("useradd made no user postgres")?;
    Ok(Some(user))
}

/// Makes a command run as the server user. Its working directory becomes one that this user can
/// enter, whereas ours may be closed to it.
pub fn as_server_user(command: &mut Command) -> Result<&mut Command> {
    if let Some(user) = server_user()? {
        command
            .uid(user.uid.as_raw())
            .gid(user.gid.as_raw())
            .env("HOME", "/nonexistent")
            .env("USER", SERVER_USER);
    }
    Ok(command.current_dir("/"))
}

/// Gives a file or folder to the server user.
pub fn give_to_server_user(path: &Path) -> Result<()> {
    if let Some(user) = server_user()? {
        nix::unistd::chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("cannot give {} to {SERVER_USER}", path.display()))?;
    }
    Ok(())
}

/// Whether the server user can enter a folder.
pub fn server_user_can_enter(path: &Path) -> Result<bool> {
    let mut test = Command::new("test");
    test.arg("-x").arg(path);
    Ok(exec::finish(as_server_user(&mut test)?)?.status.success())
}

/// A command that runs as root: directly, or through sudo that must not ask for a password.
pub fn as_root(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    // env: sudo drops the caller's environment, DEBIAN_FRONTEND with it.
    command.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", program]);
    command
}
