//! Whether anything that the role reads besides tables depends on rows of the other tenant.
//!
//! Each way is read, rows of the other tenant are taken away (or made, where there are none), and it is
//! read again in the same snapshot: what differs has shown something of them, a sum or a count included.

use super::prey::{self, Prey};
use super::run::{Answer, check_at_once, read_as_owner, read_as_role, set_the_scene, tried};
use super::run::{without_triggers, write_as_owner};
use super::tables::{Belonging, Target};
use super::verdict::{Attack, Finding, Verdict};
use super::ways::{Function, View};
use super::{Told, Work, attack::Met};
use crate::error::Result;
use crate::policy::subtransaction::{Failure, attempt_reading};
use crate::policy::{literal, quoted_list};

/// How many rows of a table are taken away.
const ROWS: usize = 1000;
/// Shorter identifiers turn up as other values.
const TELLING: usize = 8;

/// Something to read.
struct Way<'a> {
    told: Told,
    attack: &'static str,
    sql: String,
    /// Read as its owner: a materialized view shows what its query gave him.
    owner: Option<&'a View>,
    /// Reading it may write.
    writes: bool,
    /// A failure says nothing of the function's definer: it runs with the rights of its caller.
    harmless: bool,
}

/// What a way gave.
#[derive(PartialEq)]
struct Given {
    values: Vec<Option<String>>,
    /// Whether rows of the other tenant changed by it.
    wrote: bool,
}

type Seen = core::result::Result<Given, Failure>;

/// Attacks through views, materialized views and functions.
pub fn all(work: &Work<'_>, views: &[View], functions: &[Function]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut ways = Vec::new();
    for view in views {
        of_view(work, view, &mut ways, &mut findings)?;
    }
    for function in functions {
        of_function(work, function, &mut ways, &mut findings);
    }
    let compared = tried(|| {
        set_the_scene();
        work.cast.place(&work.cast.actor)?;
        check_at_once()?;
        compare(work, &ways)
    });
    match compared {
        Ok(found) => findings.extend(found),
        Err(failure) => {
            findings.extend(ways.iter().map(|way| way.told.failed(way.attack, &failure)))
        }
    }
    Ok(findings)
}

fn of_view<'a>(
    work: &Work<'_>,
    view: &'a View,
    ways: &mut Vec<Way<'a>>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let told = Told::new(&view.schema, &view.name);
    if view.kind == "f" {
        let detail = "its rows are on another server, where nothing is rolled back";
        findings.push(told.finding("all", Verdict::NotAttacked, Some(detail), None));
        return Ok(());
    }
    let touches = view.calls
        || view
            .tables
            .iter()
            .any(|oid| work.targets.iter().any(|target| target.table.oid == *oid));
    if !touches || view.readable.is_empty() {
        return Ok(());
    }
    if let Some(definition) = &view.definition {
        findings.push(contents(work, view, &told)?);
        ways.push(Way {
            told,
            attack: "select after refresh",
            sql: format!(
                "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(ROW(tenancy_result)::pg_catalog.text, 0)) FROM ({}) AS tenancy_result",
                definition.trim_end().trim_end_matches(';')
            ),
            owner: Some(view),
            writes: false,
            harmless: false,
        });
    } else {
        ways.push(Way {
            told,
            attack: "select",
            sql: view.digest(),
            owner: None,
            writes: false,
            harmless: false,
        });
    }
    Ok(())
}

/// Whether a materialized view holds the other tenant's identifier as it is now.
fn contents(work: &Work<'_>, view: &View, told: &Told) -> Result<Finding> {
    let other = &work.cast.other.tenant;
    if other.len() < TELLING {
        let detail = "the identifier of the other tenant is too short to be told from other values";
        return Ok(told.finding("select", Verdict::Nothing, Some(detail), None));
    }
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM (SELECT {} FROM {}) AS tenancy_result
         WHERE EXISTS (SELECT FROM pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(tenancy_result)) AS v WHERE v.value = {})",
        quoted_list(&view.readable),
        view.sql(),
        literal(other)
    );
    let met = match tried(|| {
        set_the_scene();
        work.cast.place(&work.cast.actor)?;
        Ok(read_as_role(work.role, &sql)?.text())
    }) {
        Ok(count) if count.as_deref() == Some("0") => Met::nothing(),
        Ok(_) => Met::leak("it holds rows of the other tenant".to_owned()),
        // Not populated: its query decides.
        Err(failure) if super::code(&failure) == "55000" => Met::nothing(),
        Err(failure) => Met::failed(Attack::Rows, &failure),
    };
    Ok(told.met("select", met))
}

fn of_function(
    work: &Work<'_>,
    function: &Function,
    ways: &mut Vec<Way<'_>>,
    findings: &mut Vec<Finding>,
) {
    let told = Told::named(&function.shown);
    if function.volatile && !work.volatile_functions {
        let detail = "it is VOLATILE: name volatile_functions => true to call it";
        findings.push(told.finding("call", Verdict::NotAttacked, Some(detail), None));
        return;
    }
    match function.digests(&work.cast.other) {
        Some(calls) => ways.extend(calls.into_iter().map(|sql| Way {
            told: told.clone(),
            attack: "call",
            sql,
            owner: None,
            writes: function.volatile,
            harmless: !function.definer,
        })),
        None if function.definer => {
            let detail = "it is SECURITY DEFINER, and nothing is known to give as its arguments";
            findings.push(told.finding("call", Verdict::NotAttacked, Some(detail), None));
        }
        None => {}
    }
}

fn compare(work: &Work<'_>, ways: &[Way<'_>]) -> Result<Vec<Finding>> {
    let read = |way: &Way<'_>| -> Seen {
        tried(|| {
            let before = way.writes.then(|| everything(work)).transpose()?;
            let Answer { rows, .. } = match way.owner {
                Some(view) => read_as_owner(view.owner(), &way.sql)?,
                None => read_as_role(work.role, &way.sql)?,
            };
            let after = way.writes.then(|| everything(work)).transpose()?;
            Ok(Given {
                values: rows.into_iter().flatten().collect(),
                wrote: before != after,
            })
        })
    };
    let first: Vec<Seen> = ways.iter().map(read).collect();
    let again: Vec<Seen> = ways.iter().map(read).collect();
    if ways.is_empty() {
        return Ok(Vec::new());
    }
    let changed = disturb(work)?;
    let after: Vec<Seen> = ways.iter().map(read).collect();
    let mut findings = Vec::new();
    for (place, way) in ways.iter().enumerate() {
        let met = match (&first[place], &again[place], &after[place]) {
            (Ok(first), ..) if first.wrote => {
                Met::leak("rows of the other tenant were changed".to_owned())
            }
            (Ok(first), Ok(again), _) if first != again => {
                Met::not_attacked("it gives another result each time")
            }
            (Ok(first), _, Ok(after)) if first != after => {
                Met::leak("its result depends on rows of the other tenant".to_owned())
            }
            (Ok(_), _, Ok(_)) if !changed => {
                Met::not_attacked("the other tenant has no rows whose absence could show")
            }
            (Ok(_), _, Ok(_)) => Met::nothing(),
            (Ok(_), _, Err(_)) => {
                Met::leak("whether it fails depends on rows of the other tenant".to_owned())
            }
            (Err(failure), ..) => {
                let met = Met::failed(Attack::Rows, failure);
                if way.harmless && met.verdict == Verdict::NotAttacked {
                    Met {
                        verdict: Verdict::Refused,
                        ..met
                    }
                } else {
                    met
                }
            }
        };
        findings.push(way.told.met(way.attack, met));
    }
    Ok(findings)
}

/// All that the other tenant has, in numbers.
fn everything(work: &Work<'_>) -> Result<Vec<(u64, String)>> {
    let mut all = Vec::new();
    for target in work.targets {
        if let Some(prey) = prey::prey(target, &work.cast.other, work.targets)? {
            all.push(prey::fingerprint(target, &prey.condition)?);
        }
    }
    Ok(all)
}

/// Changes what the other tenant has, in every table; whether anything changed.
fn disturb(work: &Work<'_>) -> Result<bool> {
    let mut changed = false;
    for target in work.targets {
        if matches!(target.belonging, Belonging::Nobody { .. }) {
            continue;
        }
        let Some(prey) = prey::prey(target, &work.cast.other, work.targets)? else {
            continue;
        };
        // What cannot be changed there is changed elsewhere, or told.
        let here = match attempt_reading(|| take_away(target, &prey)) {
            Ok(0) => prey::make(target, &prey)?.is_ok(),
            Ok(_) => true,
            Err(_) => false,
        };
        changed |= here;
    }
    Ok(changed)
}

fn take_away(target: &Target, prey: &Prey) -> Result<u64> {
    let table = target.table.sql();
    let sql = format!(
        "DELETE FROM {table} AS x WHERE (x.tableoid, x.ctid) IN (
             SELECT s.tableoid, s.ctid FROM (
                 SELECT t.tableoid, t.ctid FROM {table} AS t WHERE {} LIMIT {ROWS} FOR UPDATE OF t SKIP LOCKED) AS s)",
        prey.condition
    );
    without_triggers(|| Ok(write_as_owner(target.table.owner(), &sql)?.count))
}
