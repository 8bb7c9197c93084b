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

/// Has `policy_sql` print every enforced table, takes the protection back, runs what was printed, and
/// requires the catalog of before. Returns the catalog in between, which is to be as it was found;
/// leaves the tables isolated by policies that no registration knows of.
pub fn rebuilt_from_print(database: &Database, schemas: &[&str]) -> String {
    let mut superuser = database.superuser();
    let protected = of(database, schemas);
    // Who is protected through another table comes before it, and so does what was made later.
    let tables = superuser.rows(
        "SELECT relation::text, tenancy.policy_sql(relation) FROM tenancy.protected_tables p
         WHERE mode = 'enforce' AND NOT EXISTS (
             SELECT FROM pg_inherits i JOIN tenancy.protected_tables above ON above.relation = i.inhparent
             WHERE i.inhrelid = p.relation)
         ORDER BY template = 'child' DESC, relation DESC",
    );
    assert!(!tables.is_empty(), "nothing is enforced");
    for table in &tables {
        let name = table[0].as_deref().expect("a table");
        superuser.ok(&format!("SELECT tenancy.unprotect_table('{name}')"));
    }
    let found = of(database, schemas);
    let mut ran = HashSet::new();
    for script in tables.iter().rev().filter_map(|table| table[1].as_deref()) {
        // A key is printed for the tables at both of its ends.
        for statement in script.split_terminator(";\n") {
            if ran.insert(statement) {
                superuser.ok(statement);
            }
        }
    }
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
