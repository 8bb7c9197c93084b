//! Every rule: what it finds, what it leaves alone, and that its remediation ends it.
//!
//! One leaky database holds all cases at once, each in a schema of its own and beside one that looks
//! like it and is none.

mod validate_support;

use std::collections::BTreeSet;

use pgrx_test::fixture::{ClientExt, Database, Server};
use postgres::Client;
use validate_support::{Case, cases, filled, place};

struct Found {
    code: String,
    object: String,
    remediation: Option<String>,
}

fn validate(session: &mut Client) -> Vec<Found> {
    session
        .rows("SELECT code, object, remediation FROM tenancy.validate()")
        .into_iter()
        .map(|mut row| Found {
            remediation: row.remove(2),
            object: row.remove(1).expect("an object"),
            code: row.remove(0).expect("a code"),
        })
        .collect()
}

/// The findings of a code about something of that schema, or about that role.
fn about<'a>(found: &'a [Found], code: &str, names: &[&str]) -> Vec<&'a str> {
    found
        .iter()
        .filter(|finding| finding.code == code)
        .map(|finding| finding.object.as_str())
        .filter(|object| {
            names
                .iter()
                .any(|name| !name.is_empty() && is_named(object, name))
        })
        .collect()
}

/// Whether a name occurs, and not as a part of another.
fn is_named(text: &str, name: &str) -> bool {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|word| word == name || word == format!("pub_{name}") || word == format!("srv_{name}"))
}

struct Placed {
    case: &'static Case,
    object: String,
}

struct Leaky {
    database: Database,
    placed: Vec<Placed>,
    innocents: Vec<(&'static str, String, String)>,
}

fn leaky() -> Leaky {
    let database = Database::new(Server::preloaded());
    let app = database.role("app");
    let mut session = database.superuser();
    session.ok(
        "SELECT tenancy.bind(tenant_setting => 'app.current_tenant_id',
                platform_tenant => '00000000-0000-0000-0000-000000000001')",
    );
    let (mut placed, mut innocents) = (Vec::new(), Vec::new());
    for (number, case) in cases().enumerate() {
        for (kind, text) in [("g", case.guilty), ("i", case.innocent)] {
            let schema = format!("{kind}{number}");
            let other = place(&database, &mut session, &app, &schema, text);
            if kind == "g" {
                let object = filled(case.object, &schema, &app, &other);
                placed.push(Placed { case, object });
            } else {
                innocents.push((case.code, schema, other));
            }
        }
    }
    Leaky {
        database,
        placed,
        innocents,
    }
}

#[test]
fn every_hole_is_found_and_its_remediation_ends_it() {
    let leaky = leaky();
    let mut session = leaky.database.superuser();
    let found = validate(&mut session);
    let mut wrong = Vec::new();
    for failed in found.iter().filter(|finding| finding.code == "rule-failed") {
        wrong.push(format!("{} failed", failed.object));
    }
    for Placed { case, object } in &leaky.placed {
        match found
            .iter()
            .find(|f| f.code == case.code && f.object == *object)
        {
            None => wrong.push(format!("{} does not find {object}", case.code)),
            Some(finding) if finding.remediation.is_some() != case.mended => wrong.push(format!(
                "{} of {object} has the remediation {:?}",
                case.code, finding.remediation
            )),
            Some(_) => {}
        }
    }
    for (code, schema, other) in &leaky.innocents {
        for object in about(&found, code, &[schema, other]) {
            wrong.push(format!("{code} takes {object} for guilty"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut remediations = BTreeSet::new();
    for Placed { case, object } in &leaky.placed {
        let of_case = found
            .iter()
            .find(|f| f.code == case.code && f.object == *object);
        if let Some(remediation) = of_case.and_then(|finding| finding.remediation.clone())
            && remediations.insert(remediation.clone())
            && let Err(error) = session.batch_execute(&remediation)
        {
            wrong.push(format!(
                "{} of {object}: {}\n{remediation}",
                case.code,
                pgrx_test::fixture::describe(&error)
            ));
        }
    }
    let left = validate(&mut session);
    for Placed { case, object } in &leaky.placed {
        let stays = left
            .iter()
            .any(|f| f.code == case.code && f.object == *object);
        if case.mended && stays {
            wrong.push(format!(
                "{} of {object} is there after its remediation",
                case.code
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rules that have a test of their own in `validate.rs`.
const TRIED_ELSEWHERE: &[&str] = &[
    "binding-missing",
    "cache-off",
    "grant-maintain",
    "guard-off",
    "library-version",
    "not-preloaded",
    "not-seen",
    // In `validate_server.rs`.
    "server-version",
    "statistics-view",
    "subscription",
    // In `validate_data.rs`.
    "data-link-crosses",
    "data-tenant-null",
    "data-tenant-unknown",
    "data-tenant-without-users",
    "data-user-without-tenant",
];

#[test]
fn every_rule_is_tried_and_documented() {
    let database = Database::new(Server::preloaded());
    let rules: BTreeSet<String> = database
        .superuser()
        .texts("SELECT code FROM tenancy.rules")
        .into_iter()
        .collect();
    let tried: BTreeSet<String> = cases()
        .map(|case| case.code)
        .chain(TRIED_ELSEWHERE.iter().copied())
        .map(str::to_owned)
        .collect();
    assert_eq!(rules, tried);
    let documented: BTreeSet<String> = include_str!("../../docs/validator.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|code| !code.starts_with("tenancy."))
        .map(str::to_owned)
        .collect();
    assert_eq!(rules, documented);
}
