//! Tiers `core-regress` and `core-isolation`: Postgres's own test suites on a server that preloads
//! the extension, in a database where it is created and shadow mode is on for another table.
//!
//! They show that the hooks change nothing for those who do not ask for it. Differences that the
//! mere presence of the extension's objects makes are listed in `tests/core_suites`, one file a
//! test, with the reason; must never let through any other, nor one that is no more.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use postgres::NoTls;

use crate::cluster::Cluster;
use crate::fixture::Server;
use crate::provision::Tree;
use crate::report::{Failure, Outcome};
use crate::{exec, paths, user};

/// One of the two suites.
pub struct Suite {
    /// Of the folder in the tree, and in `tests/core_suites`.
    name: &'static str,
    schedule: &'static str,
    /// The driver, below pgxs.
    driver: &'static str,
    /// Tests print its name.
    database: &'static str,
}

pub const REGRESS: Suite = Suite {
    name: "regress",
    schedule: "parallel_schedule",
    driver: "src/test/regress/pg_regress",
    database: "regression",
};

pub const ISOLATION: Suite = Suite {
    name: "isolation",
    schedule: "isolation_schedule",
    driver: "src/test/isolation/pg_isolation_regress",
    database: "isolation_regression",
};

/// Postgres's defaults, which the expected output presumes, where the harness has others.
const SETTINGS: [(&str, &str); 8] = [
    ("shared_preload_libraries", "pg_tenancy"),
    ("autovacuum", "on"),
    ("log_lock_waits", "off"),
    ("max_connections", "100"),
    ("max_parallel_workers", "8"),
    ("max_worker_processes", "8"),
    ("shared_buffers", "128MB"),
    ("wal_level", "replica"),
];

/// As pg_regress sets up a database that it makes itself.
const DATABASE_SETTINGS: [(&str, &str); 6] = [
    ("lc_messages", "C"),
    ("lc_monetary", "C"),
    ("lc_numeric", "C"),
    ("lc_time", "C"),
    ("bytea_output", "hex"),
    ("timezone_abbreviations", "Default"),
];

/// The extension and a shadowed table, out of the way of names that tests look at.
const SHADOWED: &str = "
    CREATE SCHEMA elsewhere;
    CREATE EXTENSION pg_tenancy SCHEMA elsewhere;
    SELECT tenancy.bind(tenant_type => 'integer', tenant_setting => 'elsewhere.tenant');
    CREATE TABLE elsewhere.items (id int PRIMARY KEY, tenant_id int);
    INSERT INTO elsewhere.items VALUES (1, 1), (2, 1), (3, 2);
    SELECT tenancy.protect_table('elsewhere.items', mode => 'shadow');
    CREATE ROLE elsewhere_reader LOGIN;
    GRANT USAGE ON SCHEMA elsewhere TO elsewhere_reader;
    GRANT SELECT ON elsewhere.items TO elsewhere_reader";

/// A cluster for one suite, which leaves roles and tablespaces behind.
pub fn cluster(run: &Path, tree: &Tree, suite: &Suite) -> Result<Cluster> {
    let label = format!("{}-{}", tree.name, suite.name);
    let mut spec = Cluster::create(run, &tree.bin_dir(), &label);
    for (name, value) in SETTINGS {
        spec = spec.set(name, value);
    }
    spec.start()
}

impl Suite {
    pub fn run(&self, tree: &Tree, server: &Server, scratch: &Path) -> Result<Outcome> {
        let output = scratch.join(format!("core-{}", self.name));
        fs::create_dir_all(&output)?;
        user::give_to_server_user(&output)?;
        let known = known_differences(&self.known_folder())?;
        self.create_database(server)?;
        let recorded = self.read_as_other_tenant(server)?;
        ensure!(recorded == 1, "shadow mode is off: {recorded} recorded");

        let input = tree.suite(self.name);
        let mut driver = server.environment(Command::new(tree.pgxs(self.driver)?));
        driver
            .arg("--use-existing")
            .arg(format!("--dbname={}", self.database))
            .arg(format!("--host={}", server.socket_dir.display()))
            .arg(format!("--port={}", server.port))
            .arg(format!("--user={}", server.superuser))
            .arg(format!("--bindir={}", server.bin_dir.display()))
            .arg(format!("--inputdir={}", input.display()))
            .arg(format!("--expecteddir={}", input.display()))
            .arg(format!("--dlpath={}", input.display()))
            .arg(format!("--outputdir={}", output.display()))
            .arg(format!(
                "--schedule={}",
                input.join(self.schedule).display()
            ))
            .arg("--max-concurrent-tests=20");
        // The server writes beside the driver's files.
        let finished = exec::finish(user::as_server_user(&mut driver)?)?;
        let differences = fs::read_to_string(output.join("regression.diffs")).unwrap_or_default();
        let mut outcome = judge(&finished.stdout, &differences, &known);
        if announced(&finished.stdout).is_none() {
            outcome.add(Outcome::fail("the driver itself", finished.tail()));
        }
        match self.read_as_other_tenant(server) {
            Ok(2) => {}
            other => outcome.add(Outcome::fail(
                "shadow mode at the end",
                format!("2 statements were to be recorded: {other:?}"),
            )),
        }
        Ok(outcome)
    }

    fn known_folder(&self) -> PathBuf {
        paths::workspace().join("tests/core_suites").join(self.name)
    }

    fn create_database(&self, server: &Server) -> Result<()> {
        let mut admin = server
            .config("postgres", &server.superuser)
            .connect(NoTls)?;
        let name = self.database;
        admin.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))?;
        for (setting, value) in DATABASE_SETTINGS {
            admin.batch_execute(&format!("ALTER DATABASE {name} SET {setting} TO '{value}'"))?;
        }
        let mut session = server.config(name, &server.superuser).connect(NoTls)?;
        Ok(session.batch_execute(SHADOWED)?)
    }

    /// Returns how many statements on the shadowed table have been recorded, this one included.
    fn read_as_other_tenant(&self, server: &Server) -> Result<i64> {
        let mut reader = server
            .config(self.database, "elsewhere_reader")
            .options("-c elsewhere.tenant=2")
            .connect(NoTls)?;
        let seen = reader.query("SELECT id FROM elsewhere.items", &[])?.len();
        ensure!(seen == 3, "the tenant sees {seen} rows of 3");
        drop(reader);
        let row = server
            .config(self.database, &server.superuser)
            .connect(NoTls)?
            .query_one(
                "SELECT coalesce(sum(statements), 0)::bigint FROM tenancy.shadow_report() WHERE relation = 'elsewhere.items'::regclass",
                &[],
            )?;
        Ok(row.try_get(0)?)
    }
}

/// A test that prints exactly its known difference counts as passed.
fn judge(stdout: &str, differences: &str, known: &BTreeMap<String, String>) -> Outcome {
    let found = sections(differences);
    let results = results(stdout);
    let mut outcome = Outcome::default();
    for (name, passed) in &results {
        let problem = match (passed, known.get(*name)) {
            (true, None) => None,
            (true, Some(_)) => Some("its known difference is no more".to_owned()),
            (false, expected) => match found.get(*name) {
                Some(difference) if Some(difference) == expected => None,
                Some(difference) => Some(difference.clone()),
                None => Some("failed without a difference".to_owned()),
            },
        };
        match problem {
            None => outcome.passed += 1,
            Some(output) => outcome.failures.push(Failure {
                name: (*name).to_owned(),
                output,
            }),
        }
    }
    for name in known.keys() {
        if !results.iter().any(|(ran, _)| ran == name) {
            let output = "has a known difference and did not run";
            outcome.add(Outcome::fail(name, output));
        }
    }
    if announced(stdout).is_some_and(|count| count != results.len()) {
        outcome.add(Outcome::fail("the driver's output", exec::tail(stdout, 80)));
    }
    outcome
}

/// Reads `ok 1         + boolean      100 ms` and `not ok 2     - char       90 ms`.
fn results(stdout: &str) -> Vec<(&str, bool)> {
    let parse = |line| -> Option<(&str, bool)> {
        let (rest, passed) = match str::strip_prefix(line, "not ok ") {
            Some(rest) => (rest, false),
            None => (line.strip_prefix("ok ")?, true),
        };
        Some((rest.split_whitespace().nth(2)?, passed))
    };
    stdout.lines().filter_map(parse).collect()
}

/// The number in the plan, `1..222`, which the driver prints at the end.
fn announced(stdout: &str) -> Option<usize> {
    stdout
        .lines()
        .find_map(|line| line.strip_prefix("1.."))?
        .trim()
        .parse()
        .ok()
}

/// The differences of each test, without the lines that name files and times.
fn sections(differences: &str) -> BTreeMap<String, String> {
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    let mut current = None;
    let differences = without_oids(differences);
    for line in differences.lines() {
        if let Some(files) = line.strip_prefix("diff -") {
            let result = files.rsplit(['/', ' ']).next().unwrap_or(files);
            current = Some(result.trim_end_matches(".out").to_owned());
        } else if let Some(name) = &current {
            let section = sections.entry(name.clone()).or_default();
            // Only the two lines at the head of a section name files.
            let is_head =
                section.is_empty() && (line.starts_with("--- ") || line.starts_with("+++ "));
            if !is_head {
                section.push_str(line);
                section.push('\n');
            }
        }
    }
    sections
}

/// Blots out numbers of five and more digits: oids of objects that users made begin there, and
/// which one an object of the extension gets is nobody's business.
fn without_oids(text: &str) -> String {
    let mut blotted = String::with_capacity(text.len());
    for run in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = run.bytes().take_while(u8::is_ascii_digit).count();
        if digits >= 5 {
            blotted.extend(std::iter::repeat_n('#', digits));
            blotted.push_str(&run[digits..]);
        } else {
            blotted.push_str(run);
        }
    }
    blotted
}

/// Reads `NAME.diff`: the reason in lines that begin with `#`, then the difference.
fn known_differences(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut known = BTreeMap::new();
    if !folder.exists() {
        return Ok(known);
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let name = path.file_stem().context("a file without a name")?;
        let name = name.to_string_lossy().into_owned();
        ensure!(text.starts_with("# "), "{} gives no reason", path.display());
        let lines = text.lines().skip_while(|line| line.starts_with('#'));
        known.insert(name, lines.map(|line| format!("{line}\n")).collect());
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STDOUT: &str = "# using postmaster on /tmp, port 20001\n\
        ok 1         - test_setup        264 ms\n\
        # parallel group (2 tests):  char boolean\n\
        not ok 2     + boolean           100 ms\n\
        # (test process exited with exit code 2)\n\
        ok 3         + char               90 ms\n\
        1..3\n\
        # 1 of 3 tests failed.\n";
    const DIFFERENCES: &str = "diff -U3 /s/expected/boolean.out /o/results/boolean.out\n\
        --- /s/expected/boolean.out\t2026-01-01\n\
        +++ /o/results/boolean.out\t2026-01-02\n\
        @@ -1,2 +1,2 @@\n one\n-two\n+2\n";
    const DIFFERENCE: &str = "@@ -1,2 +1,2 @@\n one\n-two\n+2\n";

    fn judged(known: &[(&str, &str)]) -> (usize, Vec<String>) {
        let known = known
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect();
        let outcome = judge(STDOUT, DIFFERENCES, &known);
        let failed = outcome.failures.into_iter().map(|f| f.name).collect();
        (outcome.passed, failed)
    }

    #[test]
    fn every_test_counts_by_its_line() {
        assert_eq!(
            results(STDOUT),
            [("test_setup", true), ("boolean", false), ("char", true)]
        );
        assert_eq!(announced(STDOUT), Some(3));
        assert_eq!(judged(&[]), (2, vec!["boolean".to_owned()]));
    }

    #[test]
    fn only_exactly_the_known_difference_passes() {
        assert_eq!(judged(&[("boolean", DIFFERENCE)]), (3, vec![]));
        let more = format!("{DIFFERENCE}+3\n");
        assert_eq!(
            judged(&[("boolean", &more)]),
            (2, vec!["boolean".to_owned()])
        );
    }

    #[test]
    fn oids_do_not_count_as_a_difference() {
        assert_eq!(
            without_oids("@@ -65,9 +1024,10 @@\n+ 16510 | f1\n+12345"),
            "@@ -65,9 +1024,10 @@\n+ ##### | f1\n+#####"
        );
    }

    #[test]
    fn a_known_difference_that_is_gone_fails() {
        let known = [("boolean", DIFFERENCE), ("char", "+1\n"), ("never", "+1\n")];
        assert_eq!(
            judged(&known),
            (2, vec!["char".to_owned(), "never".to_owned()])
        );
    }

    #[test]
    fn a_driver_that_loses_a_test_fails() {
        let shorter = STDOUT.replace("ok 3         + char               90 ms\n", "");
        let outcome = judge(&shorter, DIFFERENCES, &BTreeMap::new());
        assert!(
            outcome
                .failures
                .iter()
                .any(|f| f.name == "the driver's output")
        );
    }
}
