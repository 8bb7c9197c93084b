//! The catalog as pg_dump shows it, on which `tenancy.protect_table()`, the statements that
//! `tenancy.policy_sql()` prints and `tenancy.unprotect_table()` have to agree.

use std::collections::HashSet;

use crate::fixture::{ClientExt, Database};

/// Definitions of all that is in the schemas.
pub fn of(database: &Database, schemas: &[&str]) -> String {
    let mut command = database.server().command("pg_dump");
    command.arg("--schema-only");
    command.args(schemas.iter().map(|schema| format!("--schema={schema}")));
    let output = command
        .arg(&database.name)
        .output()
        .expect("pg_dump starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // A random token of newer minor versions.
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The tables that are enforced by a registration of their own, each with the statements that
/// `policy_sql` prints for it, in the order in which they can run.
pub fn printed(database: &Database) -> Vec<(String, String)> {
    // Who is protected through another table comes after it, and so does what was made later.
    let rows = database.superuser().rows(
        "SELECT relation::text, tenancy.policy_sql(relation) FROM tenancy.protected_tables p
         WHERE mode = 'enforce' AND NOT EXISTS (
             SELECT FROM pg_inherits i JOIN tenancy.protected_tables above ON above.relation = i.inhparent
             WHERE i.inhrelid = p.relation)
         ORDER BY template = 'child', relation",
    );
    let table = |row: Vec<Option<String>>| {
        let mut columns = row.into_iter().map(|column| column.expect("a value"));
        Some((columns.next()?, columns.next()?))
    };
    rows.into_iter().filter_map(table).collect()
}

/// Runs what was printed.
pub fn run_printed(database: &Database, tables: &[(String, String)]) {
    let mut superuser = database.superuser();
    let mut added = HashSet::new();
    for (_, script) in tables {
        for statement in without_comments(script).split_terminator(";\n") {
            // A key is printed for the tables at both of its ends.
            if !statement.contains(" ADD CONSTRAINT ") || added.insert(statement) {
                superuser.ok(statement);
            }
        }
    }
}

/// The statements without the comments that they begin with.
fn without_comments(script: &str) -> &str {
    let mut rest = script;
    while rest.starts_with("--") {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest
}

/// Has `policy_sql` print every enforced table, takes the protection back, runs what was printed, and
/// requires the catalog of before. Returns the catalog in between, which is to be as it was found;
/// leaves the tables isolated by policies that no registration knows of.
pub fn rebuilt_from_print(database: &Database, schemas: &[&str]) -> String {
    let protected = of(database, schemas);
    let tables = printed(database);
    assert!(!tables.is_empty(), "nothing is enforced");
    let mut superuser = database.superuser();
    for (name, _) in tables.iter().rev() {
        superuser.ok(&format!("SELECT tenancy.unprotect_table('{name}')"));
    }
    let found = of(database, schemas);
    run_printed(database, &tables);
    assert!(
        of(database, schemas) == protected,
        "the printed statements give another catalog:\n{}",
        difference(&protected, &of(database, schemas))
    );
    found
}

/// The lines that only one of them has.
pub fn difference(before: &str, after: &str) -> String {
    let only = |sign: char, left: &str, right: &str| -> String {
        let there: HashSet<&str> = right.lines().collect();
        left.lines()
            .filter(|line| !there.contains(line))
            .map(|line| format!("{sign} {line}\n"))
            .collect()
    };
    only('-', before, after) + &only('+', after, before)
}
