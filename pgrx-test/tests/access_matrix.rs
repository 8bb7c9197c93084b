//! `tenancy.access_matrix()` against what really happens: every cell of it is tried as the role.

mod access_support;
mod policy_support;
mod template_support;

use std::collections::BTreeSet;

use access_support::{Place, TABLES, reached};
use pgrx_test::fixture::ClientExt;
use policy_support::B;
use template_support::P;

#[test]
fn every_cell_is_what_happens() {
    let place = Place::new();
    let mut wrong = Vec::new();
    let mut tried_words = BTreeSet::new();
    for role in place.roles.keys() {
        let mut session = place.as_user(role, "two", B);
        let cells = place.matrix(role);
        let tables: BTreeSet<_> = cells.iter().map(|cell| cell[0].clone()).collect();
        assert_eq!(tables.len(), 9 + TABLES.len(), "{role}");
        for table in tables {
            let table = table.trim_start_matches("app.");
            for command in ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"] {
                // Triggers guard what is written to the first, and the policies of the last need
                // privileges on the parent: both are more than a matrix says.
                if (["members", "tenants"].contains(&table) && command != "SELECT")
                    || (["flags", "profiles", "lines", "words"].contains(&table)
                        && command == "UPDATE")
                    || (["lines", "words"].contains(&table)
                        && ["reader", "writes_all"].contains(role))
                {
                    continue;
                }
                let said = cells
                    .iter()
                    .find(|cell| cell[0] == format!("app.{table}") && cell[1] == command)
                    .map_or("none", |cell| cell[2].split(',').next().unwrap_or_default());
                let words = reached(&mut session, table, command);
                tried_words.insert(said.to_owned());
                if !words.contains(&said) {
                    wrong.push(format!(
                        "{role} {command} {table}: said {said}, is {words:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all = [
        "all tenants",
        "none",
        "own rows",
        "own tenant",
        "own tenants",
        "shared rows",
    ];
    assert!(tried_words.iter().eq(all), "{tried_words:?}");
}

#[test]
fn what_grants_and_what_bounds_is_named() {
    let place = Place::new();
    let own = "notes_tenant_isolation_select (restrictive), notes_tenant_access";
    for (role, table, command, reach, granted_by, bounded_by) in [
        ("app", "notes", "SELECT", "own tenant", "direct grant", own),
        (
            "member",
            "notes",
            "SELECT",
            "own tenant",
            "member of {app}",
            own,
        ),
        (
            "reader",
            "notes",
            "SELECT",
            "own tenant",
            "direct grant on columns body",
            own,
        ),
        ("reader", "notes", "DELETE", "none", "", ""),
        ("sleeper", "notes", "SELECT", "none", "", ""),
        (
            "owner",
            "notes",
            "SELECT",
            "own tenant",
            "owner",
            &format!("{own}; the owner can switch row security off"),
        ),
        (
            "heir",
            "unforced",
            "SELECT",
            "all tenants",
            "member of {owner}, the owner",
            "nothing: row security is not forced on the owner",
        ),
        (
            "reads_all",
            "notes",
            "SELECT",
            "own tenant",
            "pg_read_all_data",
            own,
        ),
        (
            "writes_all",
            "notes",
            "DELETE",
            "own tenant",
            "pg_write_all_data",
            "notes_tenant_isolation_delete (restrictive), notes_tenant_access",
        ),
        (
            "bypass",
            "notes",
            "UPDATE",
            "all tenants",
            "direct grant",
            "nothing: BYPASSRLS",
        ),
        (
            "bypass",
            "wild",
            "TRUNCATE",
            "all tenants",
            "direct grant",
            "nothing: row security does not bind TRUNCATE",
        ),
        (
            "superuser",
            "notes",
            "INSERT",
            "all tenants",
            "superuser",
            "nothing: superuser",
        ),
        (
            "app",
            "drafts",
            "SELECT",
            "all tenants",
            "direct grant",
            "nothing: row security is off, mode shadow",
        ),
        (
            "app",
            "wild",
            "SELECT",
            "all tenants",
            "direct grant",
            "nothing: row security is off",
        ),
        (
            "app",
            "closed",
            "SELECT",
            "none",
            "direct grant",
            "no permissive policy applies",
        ),
        (
            "app",
            "mine",
            "DELETE",
            "own tenant",
            "PUBLIC; direct grant",
            "p",
        ),
        (
            "stranger",
            "mine",
            "DELETE",
            "none",
            "PUBLIC",
            "no USAGE on schema app",
        ),
        (
            "outside",
            "wild",
            "SELECT",
            "none",
            "direct grant",
            "no USAGE on schema app",
        ),
        (
            "reader",
            "for_reader",
            "SELECT",
            "all tenants",
            "direct grant",
            "p",
        ),
        (
            "app",
            "for_reader",
            "SELECT",
            "own tenant",
            "direct grant",
            "q",
        ),
        (
            "app",
            "pierced",
            "SELECT",
            "all tenants",
            "direct grant",
            "p, pierced_tenant_access",
        ),
        (
            "app",
            "tenants",
            "SELECT",
            "own tenant, all tenants for super admins",
            "direct grant",
            "tenants_tenant_isolation_select (restrictive), tenants_tenant_access_select",
        ),
        (
            "app",
            "flags",
            "INSERT",
            "none, shared rows for super admins",
            "direct grant",
            "flags_tenant_isolation_insert (restrictive), flags_tenant_access_insert",
        ),
    ] {
        assert_eq!(
            place.cell(role, table, command)[..3],
            [reach, &place.filled(granted_by), bounded_by],
            "{role} {command} {table}"
        );
    }
    // A super admin of the application is one: he reaches what is said for him.
    let mut root = place.as_user("app", "sup", P);
    assert_eq!(root.int("SELECT count(*) FROM app.tenants"), 3);
    root.ok("INSERT INTO app.flags (id) VALUES (9)");
    assert_eq!(place.cell("app", "moving", "TRUNCATE")[0], "all tenants");
    assert!(place.cell("app", "notes", "TRUNCATE").is_empty());
}
