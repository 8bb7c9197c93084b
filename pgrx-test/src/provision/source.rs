//! Servers compiled from Debian's source packages.
//!
//! Fetches with an apt configuration and state of its own, so that the machine's package sources
//! stay as they are. The archive is the one from which the machine gets Debian already, found
//! by asking apt; must never name an archive itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::{self, Need};
use crate::progress::step;
use crate::{exec, paths};

/// Last part of the prefix. It has to contain "pgsql": where it does not, Debian's patches turn the
/// folder of the libraries into a fixed one of the system, and the tree cannot be moved.
const PREFIX: &str = "pgsql";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Folder of Postgres's own test suites in a tree that has them.
pub const SUITES: &str = "suites";

/// How to compile Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As packages are.
    Ordinary,
    /// With assertions, and with the test suites.
    Assertions,
}

/// Fetches `postgresql-NN` of a Debian suite and installs it, contrib included, so that it may be
/// moved from `partial` to `root`.
pub fn build(
    suite: &str,
    version: u32,
    root: &Path,
    partial: &Path,
    kind: Kind,
) -> Result<(PathBuf, String)> {
    packages::ensure(Need::BuildPostgres)?;
    let who = root
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let work = paths::work(&format!("source-{who}-{}", std::process::id()))?;
    let source = fetch(suite, version, &work)?;
    step(&who, "compiling Postgres (some minutes)");
    let jobs = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .to_string();
    let configure = ["--with-icu", "--with-openssl", "CFLAGS=-O2 -pipe"];
    exec::run(
        Command::new("./configure")
            .current_dir(&source)
            .arg(format!("--prefix={}", root.join(PREFIX).display()))
            .args(configure)
            .args((kind == Kind::Assertions).then_some("--enable-cassert")),
    )?;
    let make = || {
        let mut command = Command::new("make");
        command.current_dir(&source).arg("--silent");
        // Left by a make or cargo that runs us, these would be taken for settings of this build.
        for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
            command.env_remove(variable);
        }
        command
    };
    let destination = work.join("install");
    let folders: &[&str] = match kind {
        Kind::Ordinary => &[".", "contrib"],
        Kind::Assertions => &[".", "contrib", "src/test/regress", "src/test/isolation"],
    };
    for folder in folders {
        exec::run(make().args(["-C", folder, "-j", &jobs]))?;
        exec::run(
            make()
                .args(["-C", folder, "install"])
                .arg(format!("DESTDIR={}", destination.display())),
        )?;
    }
    let installed = destination.join(root.strip_prefix("/").unwrap_or(root));
    // The cache and the serve root may be different file systems, which a rename does not cross.
    exec::run(Command::new("cp").arg("-a").arg(&installed).arg(partial))?;
    if kind == Kind::Assertions {
        keep_suites(&source, &partial.join(SUITES))?;
    }
    fs::remove_dir_all(&work)?;
    Ok((
        Path::new(PREFIX).join("bin"),
        format!("compiled from the source package of {suite}"),
    ))
}

/// Copies what the drivers of Postgres's test suites read out of a source tree that was built.
fn keep_suites(source: &Path, suites: &Path) -> Result<()> {
    for (from, names) in SUITE_FILES {
        let folder = suites.join(Path::new(from).file_name().unwrap_or_default());
        fs::create_dir_all(&folder)?;
        let mut copy = Command::new("cp");
        copy.arg("-a")
            .args(names.iter().map(|name| source.join(from).join(name)))
            .arg(&folder);
        exec::run(&mut copy)?;
    }
    // Functions that the regression tests load from beside its own library.
    let mut copy = Command::new("cp");
    copy.arg("-a")
        .args(["autoinc.so", "refint.so"].map(|name| source.join("contrib/spi").join(name)))
        .arg(suites.join("regress"));
    exec::run(&mut copy).map(drop)
}

const SUITE_FILES: [(&str, &[&str]); 2] = [
    (
        "src/test/regress",
        &[
            "sql",
            "expected",
            "data",
            "parallel_schedule",
            "resultmap",
            "regress.so",
        ],
    ),
    (
        "src/test/isolation",
        &["specs", "expected", "isolation_schedule"],
    ),
];

/// Unpacks the source package and returns its folder.
fn fetch(suite: &str, version: u32, work: &Path) -> Result<PathBuf> {
    step(
        format!("pg{version}"),
        format!("fetching the source package of {suite}"),
    );
    let archive = archive()?;
    for folder in ["lists/partial", "cache/archives/partial", "parts", "source"] {
        fs::create_dir_all(work.join(folder))?;
    }
    let options = if Path::new(KEYRING).exists() {
        format!("[signed-by={KEYRING}] ")
    } else {
        String::new()
    };
    fs::write(
        work.join("sources.list"),
        format!("deb-src {options}{archive} {suite} main\n"),
    )?;
    let place = |folder: &str| work.join(folder).display().to_string();
    let config = [
        format!("Dir::Etc::sourcelist \"{}\";", place("sources.list")),
        format!("Dir::Etc::sourceparts \"{}\";", place("parts")),
        format!("Dir::State::lists \"{}\";", place("lists")),
        format!("Dir::Cache \"{}\";", place("cache")),
        // The user to whom apt hands downloads cannot enter a home that is closed.
        "APT::Sandbox::User \"root\";".to_owned(),
    ];
    let config_file = work.join("apt.conf");
    fs::write(&config_file, config.join("\n"))?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command
            .env("APT_CONFIG", &config_file)
            .current_dir(work.join("source"));
        command
    };
    exec::run(apt().arg("update"))?;
    exec::run(apt().args(["source", &format!("postgresql-{version}")]))?;
    fs::read_dir(work.join("source"))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.join("configure").exists())
        .context("the source package has no configure script")
}

/// The archive that serves the machine's own Debian.
fn archive() -> Result<String> {
    let format = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(CODENAME)|$(REPO_URI)";
    let list = || {
        exec::run(Command::new("apt-get").args([
            "indextargets",
            "--format",
            format,
            "Created-By: Packages",
        ]))
    };
    let found = main_archive(&list()?);
    if let Some(uri) = found {
        return Ok(uri);
    }
    packages::update()?;
    main_archive(&list()?).context(
        "apt knows no Debian archive on this machine, so there is nowhere to get the source package from",
    )
}

fn main_archive(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let fields: Vec<&str> = line.split('|').collect();
        match fields[..] {
            ["Debian", "Debian", "main", codename, uri] if !codename.contains('-') => {
                Some(uri.to_owned())
            }
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::main_archive;

    #[test]
    fn the_main_archive_is_neither_security_nor_updates_nor_foreign() {
        let targets = "Debian|Debian-Security|main|bookworm-security|http://a/security/\n\
                       Debian|Debian|main|bookworm-updates|http://a/updates/\n\
                       Other|Other|main|bookworm|http://b/\n\
                       Debian|Debian|main|bookworm|http://a/debian/\n";
        assert_eq!(main_archive(targets).as_deref(), Some("http://a/debian/"));
        assert_eq!(main_archive("Other|Other|main|bookworm|http://b/\n"), None);
    }
}
