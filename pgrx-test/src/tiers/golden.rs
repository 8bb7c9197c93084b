//! Tiers `regress` and `isolation`: Postgres's own test drivers against files of expected output.
//!
//! Each file runs in a database of its own, on the preloaded cluster, with the extension created.
//! The drivers are those of the server's own installation, so that psql prints what its version
//! prints; `name_1.out` and so on are alternatives, as the drivers have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use postgres::NoTls;

use crate::fixture::{Server, quote_ident};
use crate::progress::step;
use crate::provision::Tree;
use crate::report::Outcome;
use crate::{exec, paths};

/// One of the two kinds.
pub struct Golden {
    /// Folder in `tests`.
    folder: &'static str,
    /// Folder in that one, and ending, of what is run.
    input: (&'static str, &'static str),
    /// The driver, below pgxs.
    driver: &'static str,
}

pub const REGRESS: Golden = Golden {
    folder: "pg_regress",
    input: ("sql", "sql"),
    driver: "src/test/regress/pg_regress",
};

pub const ISOLATION: Golden = Golden {
    folder: "isolation",
    input: ("specs", "spec"),
    driver: "src/test/isolation/pg_isolation_regress",
};

impl Golden {
    pub fn run(
        &self,
        tree: &Tree,
        server: &Server,
        filter: Option<&str>,
        scratch: &Path,
    ) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for name in self
            .names()?
            .iter()
            .filter(|name| filter.is_none_or(|f| name.contains(f)))
        {
            outcome.add(
                self.run_one(tree, server, name, scratch)
                    .with_context(|| name.clone())?,
            );
        }
        Ok(outcome)
    }

    fn directory(&self) -> PathBuf {
        paths::workspace().join("tests").join(self.folder)
    }

    /// In alphabetical order; none if the folder does not exist.
    fn names(&self) -> Result<Vec<String>> {
        let folder = self.directory().join(self.input.0);
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == self.input.1) {
                names.extend(
                    path.file_stem()
                        .map(|stem| stem.to_string_lossy().into_owned()),
                );
            }
        }
        names.sort();
        Ok(names)
    }

    fn run_one(&self, tree: &Tree, server: &Server, name: &str, scratch: &Path) -> Result<Outcome> {
        let database = format!("{}_{name}", self.folder);
        let output = scratch.join(&database);
        fs::create_dir_all(&output)?;
        create_database(server, &database)?;
        let driver = tree.pgxs(self.driver)?;
        let mut command = server.environment(Command::new(driver));
        command
            .arg("--use-existing")
            .arg(format!("--dbname={database}"))
            .arg(format!("--host={}", server.socket_dir.display()))
            .arg(format!("--port={}", server.port))
            .arg(format!("--user={}", server.superuser))
            .arg(format!("--bindir={}", server.bin_dir.display()))
            .arg(format!("--inputdir={}", self.directory().display()))
            .arg(format!("--outputdir={}", output.display()))
            .arg(name)
            .current_dir(&output);
        let finished = exec::finish(&mut command)?;
        if finished.status.success() {
            drop_database(server, &database)?;
            return Ok(Outcome::pass());
        }
        step(&tree.name, format!("{} {name} failed", self.folder));
        let differences = fs::read_to_string(output.join("regression.diffs")).unwrap_or_default();
        drop_database(server, &database)?;
        Ok(Outcome::fail(
            name,
            if differences.is_empty() {
                finished.tail()
            } else {
                differences
            },
        ))
    }
}

fn create_database(server: &Server, database: &str) -> Result<()> {
    let name = quote_ident(database);
    let mut admin = server
        .config("postgres", &server.superuser)
        .connect(NoTls)?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
    admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))?;
    let mut session = server.config(database, &server.superuser).connect(NoTls)?;
    session.batch_execute("CREATE EXTENSION pg_tenancy")?;
    Ok(())
}

fn drop_database(server: &Server, database: &str) -> Result<()> {
    let mut admin = server
        .config("postgres", &server.superuser)
        .connect(NoTls)?;
    admin.batch_execute(&format!(
        "DROP DATABASE {} WITH (FORCE)",
        quote_ident(database)
    ))?;
    Ok(())
}
