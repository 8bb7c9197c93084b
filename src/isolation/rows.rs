//! The rows that an attack needs: those of the other tenant, and one's own.
//!
//! Owns where they come from, and the cursor by which one is named. Must never attack rows that are not
//! there: whoever cannot be given any says so.

use core::ffi::CStr;

use pgrx::pg_sys;

use super::Work;
use super::partitions::{Partition, plain};
use super::prey::{self, Party, Prey};
use super::run::{read_as_owner, write_as_owner};
use super::tables::{Belonging, Column, Target};
use crate::error::Result;
use crate::policy::{literal, quoted};

/// Rows of the other tenant.
pub enum Found {
    /// These.
    Prey(Prey),
    /// The table cannot hold any: a partition of other tenants.
    CannotBe(String),
    /// There are none, and none could be made; why.
    None(String),
}

impl Prey {
    /// The rows of a tenant where a column says whose they are.
    pub fn of_tenant(column: &str, tenant: &str) -> Self {
        Self {
            condition: format!("t.{} = {}", quoted(column), literal(tenant)),
            marks: vec![(column.to_owned(), literal(tenant))],
        }
    }
}

/// Rows of the other tenant; of a third one where that one has none, and else made for it.
pub fn find(work: &Work<'_>, target: &Target) -> Result<Found> {
    if let Some(prey) = existing(work, target)? {
        return Ok(Found::Prey(prey));
    }
    match made(target, prey::prey(target, &work.cast.other, work.targets)?)? {
        Found::CannotBe(why) => of_another(work, target, why),
        found => Ok(found),
    }
}

/// How many made up tenants are tried in a partition that takes neither of the two.
const TENANTS: usize = 100;

/// A row of some tenant that the partition takes. Only where it lists nobody but the actor's own, and the platform,
/// there can be none.
fn of_another(work: &Work<'_>, target: &Target, why: String) -> Result<Found> {
    let partition = Partition::of(target)?;
    let own: Vec<String> = core::iter::once(&work.cast.actor.tenant)
        .chain(&work.cast.own)
        .chain(&work.cast.platform)
        .cloned()
        .collect();
    let unknown = "the partition takes no rows of that tenant, and it is not known whose it takes";
    let Belonging::Tenant(name) = &target.belonging else {
        return Ok(Found::None(unknown.to_owned()));
    };
    if partition.takes_only(name, &own) {
        return Ok(Found::CannotBe(why));
    }
    let mut values = partition.values_of(name);
    if let Some(fresh) = target.table.column(name).and_then(prey::fresh) {
        let sql = format!(
            "SELECT pg_catalog.quote_literal(({fresh})::pg_catalog.text) FROM pg_catalog.generate_series(1, {TENANTS})"
        );
        values.extend(read_as_owner(target.table.owner(), &sql)?.column());
    }
    for value in values {
        if own.contains(&plain(&value)) {
            continue;
        }
        let prey = Prey {
            condition: format!("t.{} = {value}", quoted(name)),
            marks: vec![(name.clone(), value)],
        };
        if let Found::Prey(prey) = made(target, Some(prey))? {
            return Ok(Found::Prey(prey));
        }
    }
    Ok(Found::None(unknown.to_owned()))
}

/// Rows of the other tenant that are there; of a third one where that one has none.
pub fn existing(work: &Work<'_>, target: &Target) -> Result<Option<Prey>> {
    if let Some(prey) = prey::prey(target, &work.cast.other, work.targets)?
        && prey::fingerprint(target, &prey.condition)?.0 > 0
    {
        return Ok(Some(prey));
    }
    match anybody_else(work, target)? {
        Some(party) => prey::prey(target, &party, work.targets),
        None => Ok(None),
    }
}

fn made(target: &Target, planned: Option<Prey>) -> Result<Found> {
    let Some(prey) = planned else {
        return Ok(Found::None(
            "it is not known which rows would belong to that user".to_owned(),
        ));
    };
    if matches!(target.belonging, Belonging::Parent(_)) && prey.marks.is_empty() {
        return Ok(Found::None(
            "the tenant has no row that such a row could belong to".to_owned(),
        ));
    }
    match prey::make(target, &prey)? {
        Ok(()) if prey::fingerprint(target, &prey.condition)?.0 > 0 => Ok(Found::Prey(prey)),
        Ok(()) => Ok(Found::None(
            "a row that was made for the tenant did not become its own".to_owned(),
        )),
        Err(why)
            if why.contains(prey::DOES_NOT_FIT) && Partition::of(target)?.is_decided_by(&prey) =>
        {
            Ok(Found::CannotBe(
                "the partition takes no rows of that tenant".to_owned(),
            ))
        }
        Err(why) => Ok(Found::None(why)),
    }
}

/// Somebody else who has rows there.
fn anybody_else(work: &Work<'_>, target: &Target) -> Result<Option<Party>> {
    let cast = work.cast;
    match &target.belonging {
        Belonging::Tenant(_) => {
            let tenant = prey::anybody_else(target, &cast.own, cast.platform.as_deref())?;
            Ok(tenant.map(|tenant| Party { tenant, user: None }))
        }
        Belonging::User { user, tenant } => {
            let (Some(own), column) = (&cast.actor.user, quoted(user)) else {
                return Ok(None);
            };
            let mut sql = format!(
                "SELECT t.{column} FROM {} AS t WHERE t.{column} <> {}",
                target.table.sql(),
                literal(own)
            );
            if let Some(tenant) = tenant {
                sql.push_str(&format!(
                    " AND t.{} = {}",
                    quoted(tenant),
                    literal(&cast.other.tenant)
                ));
            }
            sql.push_str(" LIMIT 1");
            let user = read_as_owner(target.table.owner(), &sql)?.text();
            Ok(user.map(|user| Party {
                tenant: cast.other.tenant.clone(),
                user: Some(user),
            }))
        }
        Belonging::Parent(_) | Belonging::Nobody { .. } => Ok(None),
    }
}

/// Rows of the acting party, found or made.
pub fn own(work: &Work<'_>, target: &Target, party: &Party) -> Result<Found> {
    let planned = prey::prey(target, party, work.targets)?;
    match planned {
        Some(own) if prey::fingerprint(target, &own.condition)?.0 > 0 => Ok(Found::Prey(own)),
        planned => made(target, planned),
    }
}

/// The values that the role may give; all where it may give none, so that it is told so.
pub fn insertable(target: &Target, values: Vec<(String, String)>) -> Vec<(String, String)> {
    those(target, values, |column| column.may_insert)
}

/// The values that the role may change, likewise.
pub fn updatable(target: &Target, values: Vec<(String, String)>) -> Vec<(String, String)> {
    those(target, values, |column| column.may_update)
}

fn those(
    target: &Target,
    values: Vec<(String, String)>,
    may: impl Fn(&Column) -> bool,
) -> Vec<(String, String)> {
    let may = |name: &str| target.table.column(name).is_some_and(&may);
    if values.iter().any(|(name, _)| may(name)) {
        values.into_iter().filter(|(name, _)| may(name)).collect()
    } else {
        values
    }
}

/// A cursor of the table's owner, which locks the rows it comes to.
pub struct Cursor<'a> {
    target: &'a Target,
}

const NAME: &CStr = c"pg_tenancy_isolation";

fn name() -> std::borrow::Cow<'static, str> {
    NAME.to_string_lossy()
}

impl<'a> Cursor<'a> {
    /// Opens it before the first row. Rows that others have locked are passed over.
    pub fn open(target: &'a Target, condition: &str) -> Result<Self> {
        let sql = format!(
            "DECLARE {} NO SCROLL CURSOR FOR SELECT 1 FROM {} AS t WHERE {condition} FOR UPDATE OF t SKIP LOCKED",
            name(),
            target.table.sql()
        );
        write_as_owner(target.table.owner(), &sql)?;
        Ok(Self { target })
    }

    /// Goes to the next row; whether there is one.
    pub fn next(&self) -> Result<bool> {
        let sql = format!("FETCH NEXT FROM {}", name());
        Ok(!write_as_owner(self.target.table.owner(), &sql)?
            .rows
            .is_empty())
    }

    /// What names the row in a statement.
    pub fn condition(&self) -> String {
        format!("WHERE CURRENT OF {}", name())
    }

    /// Closes it.
    pub fn close(self) -> Result<()> {
        // Past CLOSE, which restricted operations do not allow.
        // SAFETY: null, or a portal that was opened here and is not running.
        unsafe {
            let portal = pg_sys::GetPortalByName(NAME.as_ptr());
            if !portal.is_null() {
                pg_sys::PortalDrop(portal, false);
            }
        }
        Ok(())
    }
}
