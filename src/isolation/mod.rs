//! `tenancy.test_isolation()`: does it hold? One tenant attacks another, as the role of the application.
//!
//! | question | file |
//! |---|---|
//! | what SQL calls | `entry` |
//! | who may ask, which roles are not worth asking about | `rights` |
//! | who attacks whom | `tenants` |
//! | which tables, which ways besides | `tables`, `ways` |
//! | what functions are called with | `calls` |
//! | which tables hold rows of tenants, and say not whose | `hanging` |
//! | which rows, where they come from, whether they changed | `prey`, `rows`, `partitions` |
//! | the attacks: on a table, by reading, along keys, through views | `attack`, `reading`, `links`, `views` |
//! | whether anything else depends on the other tenant's rows, and what is no proof of it | `through`, `absence`, `stored` |
//! | what a materialized view holds | `contents` |
//! | how statements run, and are undone | `run` |
//! | what is not undone | `effects` |
//! | what an attack met | `verdict` |
//! | what can never be tried, and was accepted | `accepted` |
//! | the result as TAP | `tap` |
//!
//! Owns the order of things. Must never leave anything behind, and never pass for want of an attack: what
//! could not be tried is told, and no policy or function of the extension decides which rows are whose.

mod absence;
mod accepted;
mod attack;
mod calls;
mod contents;
mod effects;
mod entry;
mod foreign_code;
mod hanging;
mod links;
mod partitions;
mod prey;
mod reading;
mod rights;
mod rows;
mod run;
mod stored;
mod tables;
mod tap;
mod tenants;
mod through;
mod verdict;
mod views;
mod ways;

use pgrx::pg_sys;

use self::attack::Met;
use self::effects::Kept;
use self::hanging::Hanging;
use self::tables::Target;
use self::tenants::Cast;
use self::verdict::{Attack, Finding, Verdict};
use crate::binding;
use crate::catalog::quote_identifier;
use crate::error::{Error, Kind, Result};
use crate::policy::apply;
use crate::policy::subtransaction::{Failure, sqlstate};
use crate::shadow::Unrecorded;
pub use accepted::CODE as NOT_ATTACKED;

/// What is asked.
pub struct Question {
    /// The role that attacks.
    pub role: String,
    /// The tenant that it attacks as; found where it is left out.
    pub tenant: Option<String>,
    /// The tenant that is attacked; likewise.
    pub other: Option<String>,
    /// Whether VOLATILE functions are called.
    pub volatile_functions: bool,
}

/// What all attacks share.
struct Work<'a> {
    role: pg_sys::Oid,
    cast: &'a Cast,
    targets: &'a [Target],
    hanging: &'a [Hanging],
    volatile_functions: bool,
}

/// Attacks everything and says what came of it, and what of it somebody accepted.
pub fn test(question: &Question) -> Result<Vec<Finding>> {
    let mut findings = attack(question)?;
    accepted::mark(&question.role, &mut findings)?;
    Ok(findings)
}

fn attack(question: &Question) -> Result<Vec<Finding>> {
    let role = rights::role(&question.role)?;
    let binding = binding::required()?;
    let bound_column = binding
        .membership
        .as_ref()
        .map(|_| binding.membership_tenant.as_str());
    let targets = tables::targets(role, bound_column)?;
    if targets.is_empty() {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            "there is nothing to attack: no table is protected, and none has a tenant column",
        )
        .hint("Protect tables with tenancy.protect_table() or tenancy.protect_schema()."));
    }
    rights::require_tables(&targets)?;
    rights::require_bound(role, &targets)?;
    foreign_code::refuse(&targets)?;
    let _unrecorded = Unrecorded::begin();
    let chosen = run::tried(|| {
        let (tenant, other) = (question.tenant.as_deref(), question.other.as_deref());
        Ok(tenants::cast(tenant, other, &targets))
    });
    let mut cast = match chosen {
        Ok(cast) => cast?,
        Err(failure) => return Ok(vec![Told::named("tenants").failed("all", &failure)]),
    };
    cast.settings = rights::settings(role)?;
    let hanging = hanging::all(role, &cast, &targets)?;
    let work = Work {
        role,
        cast: &cast,
        targets: &targets,
        hanging: &hanging,
        volatile_functions: question.volatile_functions,
    };
    let kept = Kept::now()?;
    let mut findings = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let name = Told::new(&target.table.schema, &target.table.name).relation;
        apply::notice(
            &format!(
                "attacking table {name} ({} of {})",
                number + 1,
                targets.len()
            ),
            None,
        );
        findings.extend(attack::table(&work, target));
    }
    if findings
        .iter()
        .all(|finding| finding.verdict == Verdict::Refused && finding.attack == "all")
    {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            format!(
                "there is nothing to attack: role {} has no privilege on any table of tenants",
                quote_identifier(&question.role)
            ),
        )
        .hint("Test the role that the application connects as."));
    }
    findings.extend(hanging.iter().filter_map(Hanging::finding));
    apply::notice("attacking through views and functions", None);
    // The catalog cannot be asked of relations whose wrapper is gone.
    let views = run::tried(|| ways::views(role, &targets)).unwrap_or_else(|failure| {
        findings.push(Told::named("views").failed("all", &failure));
        Vec::new()
    });
    for view in &views {
        findings.extend(views::writes(&work, view));
    }
    findings.extend(through::all(&work, &views, &ways::functions(role)?)?);
    for other in rights::others(role)? {
        let detail = "the role can become it: test it, too";
        findings.push(
            Told::named(&format!("role {other}"))
                .finding("SET ROLE", Verdict::NotAttacked, Some(detail), None)
                .acceptable(),
        );
    }
    if rights::grants_itself_any(role)? {
        let detail = "the role has CREATEROLE: on this server it makes itself a member of any role that is no superuser";
        findings.push(
            Told::named(&format!("role {}", quote_identifier(&question.role)))
                .finding("CREATEROLE", Verdict::NotAttacked, Some(detail), None)
                .acceptable(),
        );
    }
    findings.extend(kept.changed()?);
    findings.extend(effects::outside(&targets)?);
    Ok(findings)
}

/// The five characters of a failure.
fn code(failure: &Failure) -> String {
    sqlstate(failure.code)
}

/// What findings are about.
#[derive(Debug, Clone)]
struct Told {
    relation: String,
}

impl Told {
    fn new(schema: &str, name: &str) -> Self {
        Self {
            relation: format!("{}.{}", quote_identifier(schema), quote_identifier(name)),
        }
    }

    fn named(shown: &str) -> Self {
        Self {
            relation: shown.to_owned(),
        }
    }

    fn finding(
        &self,
        attack: &str,
        verdict: Verdict,
        detail: Option<&str>,
        code: Option<&str>,
    ) -> Finding {
        Finding {
            relation: self.relation.clone(),
            attack: attack.to_owned(),
            verdict,
            detail: detail.map(str::to_owned),
            sqlstate: code.map(str::to_owned),
            acceptable: false,
            accepted: None,
        }
    }

    fn met(&self, attack: &str, met: Met) -> Finding {
        self.finding(
            attack,
            met.verdict,
            met.detail.as_deref(),
            met.sqlstate.as_deref(),
        )
    }

    /// For what failed before there was an attack.
    fn failed(&self, attack: &str, failure: &Failure) -> Finding {
        let met = Met::failed(Attack::Rows, failure);
        let verdict = Verdict::NotAttacked;
        self.met(attack, Met { verdict, ..met })
    }
}
