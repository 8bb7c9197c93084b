//! The folder of one run: private server trees, data directories, sockets, logs.
//!
//! Owns everything that a run starts: servers and poolers keep their pid files below this folder,
//! and whatever still runs when it is removed is stopped by that pid, after checking that the
//! process is the one that the file speaks of. Data directories may lie in memory, in a folder of
//! that file system that the run's folder points to. Must never touch a process that no pid file of
//! a run names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

use crate::{paths, user};

/// Tells test executables in which folder their own clusters go.
pub const RUN_DIR_ENV: &str = "PG_TENANCY_TEST_RUN_DIR";
const OWNER_FILE: &str = "owner.pid";
const KEEP_FILE: &str = "keep";
/// Points to the run's folder in memory.
const MEMORY_LINK: &str = "memory";
const MEMORY_ROOT: &str = "/dev/shm";
const MEMORY_PREFIX: &str = "pg_tenancy-";
/// What the clusters of two versions at once take, twice over, in bytes.
const MEMORY_NEEDED: u64 = 12 << 30;

/// Runs of this process that a signal has to clean up.
static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A run's folder; dropping it stops what runs in it and deletes it.
pub struct RunDir {
    path: PathBuf,
    keep: bool,
}

impl RunDir {
    /// Makes a new one, and clears away those of runs that were killed.
    pub fn create() -> Result<RunDir> {
        let runs = paths::runs()?;
        clear_abandoned(&runs)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)?
            .subsec_millis();
        // Short, because a socket's whole path must fit into 107 bytes.
        let path = runs.join(format!("{}-{now}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        user::give_to_server_user(&path)?;
        fs::write(path.join(OWNER_FILE), std::process::id().to_string())?;
        LIVE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path.clone());
        Ok(RunDir { path, keep: false })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts data directories into memory from here on, where there is plenty of it: a database for each test means
    /// hundreds of thousands of files, made and deleted within seconds, which file systems on disks are slow at.
    pub fn data_in_memory(&self) -> Result<()> {
        if memory_available() < MEMORY_NEEDED {
            return Ok(());
        }
        let name = self.path.file_name().unwrap_or_default();
        let folder =
            Path::new(MEMORY_ROOT).join(format!("{MEMORY_PREFIX}{}", name.to_string_lossy()));
        // A leftover of that name is somebody else's.
        if fs::create_dir(&folder).is_err() {
            return Ok(());
        }
        std::os::unix::fs::symlink(&folder, self.path.join(MEMORY_LINK))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        user::give_to_server_user(&folder)
    }

    /// Leaves the folder, and the servers in it, when the run ends.
    pub fn keep(&mut self) -> Result<()> {
        fs::write(self.path.join(KEEP_FILE), "")?;
        self.keep = true;
        LIVE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|p| *p != self.path);
        Ok(())
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !self.keep {
            remove(&self.path);
            LIVE.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|p| *p != self.path);
        }
    }
}

/// The folder for the data of the clusters of a run, if that is in memory.
pub fn memory(run: &Path) -> Option<PathBuf> {
    let folder = fs::read_link(run.join(MEMORY_LINK)).ok()?;
    let name = folder.strip_prefix(MEMORY_ROOT).ok()?.to_str()?;
    name.starts_with(MEMORY_PREFIX).then_some(folder)
}

/// Bytes that files in memory may take; 0 where there is no such file system.
fn memory_available() -> u64 {
    let Ok(room) = statvfs(MEMORY_ROOT) else {
        return 0;
    };
    let room = room.blocks_available() * room.fragment_size();
    let free = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = free
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.strip_suffix(" kB"))
        .and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024);
    room.min(free)
}

/// Stops what runs in the folder of a kept run, and deletes it.
pub fn stop_kept(path: &Path) -> Result<()> {
    ensure!(
        path.parent() == Some(&paths::runs()?) && path.join(KEEP_FILE).exists(),
        "{} is not the folder of a run that was kept",
        path.display()
    );
    remove(path);
    Ok(())
}

/// From here on Ctrl-C, SIGTERM and SIGHUP stop the servers of this process before it ends.
pub fn clean_up_on_signals() -> Result<()> {
    ctrlc::set_handler(|| {
        eprintln!("interrupted: stopping servers");
        for path in LIVE.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            remove(path);
        }
        std::process::exit(130);
    })
    .context("cannot handle signals")
}

/// Stops what runs below a folder and deletes it. Best effort: it is called while other things
/// fail, and what it leaves the next run clears away.
fn remove(path: &Path) {
    for pid_file in pid_files(path) {
        if let Err(error) = stop_by_pid_file(&pid_file) {
            eprintln!("{}: {error:#}", pid_file.display());
        }
    }
    for folder in memory(path).as_deref().into_iter().chain([path]) {
        if let Err(error) = fs::remove_dir_all(folder) {
            eprintln!("cannot delete {}: {error}", folder.display());
        }
    }
}

/// Runs whose harness is gone without having cleaned up. Kept ones stay for as long as something
/// runs in them.
fn clear_abandoned(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs)? {
        let path = entry?.path();
        let Ok(owner) = fs::read_to_string(path.join(OWNER_FILE)) else {
            continue; // being made right now
        };
        let owner_lives = owner.trim().parse().is_ok_and(process_lives);
        let in_use = path.join(KEEP_FILE).exists()
            && pid_files(&path).iter().any(|f| named_process(f).is_some());
        if !owner_lives && !in_use {
            remove(&path);
        }
    }
    Ok(())
}

fn pid_files(run: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(run) else {
        return Vec::new();
    };
    entries
        .flatten()
        .flat_map(|e| {
            [
                e.path().join("data/postmaster.pid"),
                e.path().join("pgbouncer.pid"),
            ]
        })
        .filter(|path| path.exists())
        .collect()
}

/// The live process a pid file names, provided that its command line mentions the folder of the
/// file: the number may meanwhile belong to somebody else.
fn named_process(pid_file: &Path) -> Option<Pid> {
    let text = fs::read_to_string(pid_file).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let folder = pid_file.parent()?.to_str()?;
    String::from_utf8_lossy(&command_line)
        .contains(folder)
        .then(|| Pid::from_raw(pid))
}

fn stop_by_pid_file(pid_file: &Path) -> Result<()> {
    // Immediate shutdown: the data is about to be deleted.
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        let Some(pid) = named_process(pid_file) else {
            return Ok(());
        };
        kill(pid, signal)?;
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(10) {
            if named_process(pid_file).is_none() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    bail!("the process does not end")
}

fn process_lives(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
