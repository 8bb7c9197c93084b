//! What `tenancy.policy_sql()` prints of each system makes the catalog that protecting it made: in the
//! database that it was printed in, and in a copy that was never protected.

mod scenario_support;

use pgrx_test::catalog_dump::{self, difference};
use pgrx_test::fixture::ClientExt;
use pgrx_test::scenario::{AGENTS, INSIGHTS, OKR, STUDIO, Scenario};
use scenario_support::Stage;

fn printing_is_protecting(scenario: &'static Scenario, schemas: &[&str], tables: usize) {
    let stage = Stage::new(scenario);
    let dump = |stage: &Stage| stage.renamed(catalog_dump::of(&stage.database, schemas));
    let protected = dump(&stage);
    let printed = catalog_dump::printed(&stage.database);
    assert_eq!(printed.len(), tables, "every table is enforced and printed");
    let registered = "SELECT count(*) FROM tenancy.protected_tables";
    assert_eq!(stage.superuser().int(registered), tables as i64);
    for (table, script) in &printed {
        assert!(script.contains("CREATE POLICY"), "{table}");
    }

    let copy = Stage::as_found(scenario);
    copy.register_only();
    let unprotected = dump(&copy);
    catalog_dump::run_printed(&copy.database, &printed);
    same(&protected, &dump(&copy), "in a copy");

    // Requires what it runs to give the same catalog again.
    let between = catalog_dump::rebuilt_from_print(&stage.database, schemas);
    same(&unprotected, &stage.renamed(between), "taken back");
}

fn same(left: &str, right: &str, which: &str) {
    assert!(
        left == right,
        "another catalog {which}:\n{}",
        difference(left, right)
    );
}

#[test]
fn okr() {
    printing_is_protecting(&OKR, &["public", "neon_auth"], 7);
}

#[test]
fn insights() {
    printing_is_protecting(&INSIGHTS, &["public"], 5);
}

#[test]
fn studio() {
    printing_is_protecting(&STUDIO, &["platform"], 5);
}

#[test]
fn agents() {
    printing_is_protecting(&AGENTS, &["public"], 15);
}
