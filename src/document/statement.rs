//! The statement that reads the rows of one key.
//!
//! Owns its text, what may stand in it, and its kept plan. It runs as the owner of the tables, so
//! names in it are qualified, and rows of other tenants and users are set aside before anything that
//! somebody wrote is evaluated: neither an error nor a function sees them.

use std::cell::Cell;

use pgrx::prelude::*;
use pgrx::{PgList, is_a};

use super::analysis::analyze;
use super::definition::{Registration, Shape, TENANT, USER};
use crate::binding::authors::Authors;
use crate::binding::{Binding, expression, query};
use crate::catalog::{self, quote_identifier};
use crate::error::{Error, Kind, Result};
use crate::registry::ActingRole;

/// What a parameter of the statement stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    User,
    Tenant,
}

/// A statement with its parameters and its plan.
pub struct Statement {
    pub owner: pg_sys::Oid,
    pub parameters: Vec<(Meaning, pg_sys::Oid)>,
    /// Whether the rows alone decide what it returns.
    pub depends_only_on_its_rows: bool,
    /// Whether it runs nothing that whoever registered the key wrote.
    pub runs_only_columns: bool,
    /// Whose code it runs.
    pub authors: Authors,
    pub text: String,
    plan: Cell<pg_sys::SPIPlanPtr>,
}

impl Statement {
    /// Makes the statement of a key. Call with the search path pinned, as it is when it runs.
    pub fn new(
        key: &str,
        registration: &Registration,
        source: pg_sys::Oid,
        joined: Option<pg_sys::Oid>,
        binding: &Binding,
    ) -> Result<Self> {
        let owner = catalog::relation_owner(source)?;
        let mut parameters = Vec::new();
        let select = select(registration, source, joined, binding, &mut parameters)?;
        let facts = {
            let _role = ActingRole::new(owner);
            analyze(&select, &parameters, &registration.columns)?
        };
        let rows = facts.as_json(&select);
        let id_of = match key {
            USER => Some(Meaning::User),
            TENANT => Some(Meaning::Tenant),
            _ => None,
        };
        let id = match id_of {
            Some(meaning) => {
                parameters.push((meaning, pg_sys::TEXTOID));
                format!(
                    " OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('id', ${})",
                    parameters.len()
                )
            }
            None => String::new(),
        };
        let text = match registration.shape {
            // A second row is an error: no need to read on.
            Shape::Object => {
                format!("SELECT pg_catalog.to_jsonb(r.*){id} FROM ({rows}) AS r LIMIT 2")
            }
            Shape::Array => {
                format!("SELECT pg_catalog.jsonb_agg(pg_catalog.to_jsonb(r.*)) FROM ({rows}) AS r")
            }
        };
        Ok(Self {
            owner,
            parameters,
            depends_only_on_its_rows: facts.depends_only_on_its_rows,
            runs_only_columns: facts.only_columns
                && registration.joined_on.is_none()
                && registration.visible.is_none()
                && registration.order_by.is_none(),
            authors: facts.authors,
            text,
            plan: Cell::new(core::ptr::null_mut()),
        })
    }

    /// The kept plan; prepared on first use. Call with SPI connected and the owner acting.
    pub fn plan(&self) -> Result<pg_sys::SPIPlanPtr> {
        if !self.plan.get().is_null() {
            return Ok(self.plan.get());
        }
        let text = catalog::c_string(&self.text);
        let mut types: Vec<_> = self
            .parameters
            .iter()
            .map(|(_, type_oid)| *type_oid)
            .collect();
        // SAFETY: SPI is connected by the caller's promise. One plan serves all values, as for lookups.
        unsafe {
            let plan = pg_sys::SPI_prepare_cursor(
                text.as_ptr(),
                i32::try_from(types.len()).unwrap_or(0),
                types.as_mut_ptr(),
                pg_sys::CURSOR_OPT_GENERIC_PLAN as i32,
            );
            if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                return Err(Error::new(Kind::Internal, "a source cannot be read")
                    .detail(format!("SPI_prepare failed for: {}", self.text)));
            }
            self.plan.set(plan);
            Ok(plan)
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        let plan = self.plan.replace(core::ptr::null_mut());
        // SAFETY: a plan we kept, freed once, and not while the process ends.
        unsafe {
            if !plan.is_null() && !pg_sys::proc_exit_inprogress {
                pg_sys::SPI_freeplan(plan);
            }
        }
    }
}

/// The visible rows with their columns.
fn select(
    registration: &Registration,
    source: pg_sys::Oid,
    joined: Option<pg_sys::Oid>,
    binding: &Binding,
    parameters: &mut Vec<(Meaning, pg_sys::Oid)>,
) -> Result<String> {
    let mut items = Vec::new();
    for item in &registration.columns {
        require_single_item(item)?;
        items.push(format!("{item}\n"));
    }
    let mut text = format!(
        "SELECT {} FROM {} AS source",
        items.join(", "),
        rows(
            source,
            registration.tenant_column.as_deref(),
            registration.user_column.as_deref(),
            binding,
            parameters
        )?
    );
    if let Some(joined) = joined {
        let on = registration.joined_on.as_deref().unwrap_or("true");
        expression::parse(on)?;
        let rows = rows(
            joined,
            registration.joined_tenant_column.as_deref(),
            registration.joined_user_column.as_deref(),
            binding,
            parameters,
        )?;
        text.push_str(&format!(" LEFT JOIN {rows} AS joined ON ({on}\n)"));
    }
    if let Some(visible) = &registration.visible {
        expression::parse(visible)?;
        text.push_str(&format!(" WHERE ({visible}\n)"));
    }
    if let Some(order_by) = &registration.order_by {
        let order = format!("ORDER BY {order_by}\n");
        let is_list = expression::select(&format!("SELECT 1 {order}"))
            // SAFETY: a parse tree that the parser just made.
            .is_some_and(|select| unsafe { !(*select).sortClause.is_null() });
        if !is_list {
            return Err(Error::new(
                Kind::InvalidParameterValue,
                "order_by is not a list of sort expressions",
            )
            .hint("Give it as it stands after ORDER BY, such as 'display_order, name DESC'."));
        }
        text.push_str(&format!(" {order}"));
    }
    Ok(text)
}

/// The rows of a table that belong to the context. `OFFSET 0` keeps the planner from evaluating other
/// conditions first.
fn rows(
    relation: pg_sys::Oid,
    tenant_column: Option<&str>,
    user_column: Option<&str>,
    binding: &Binding,
    parameters: &mut Vec<(Meaning, pg_sys::Oid)>,
) -> Result<String> {
    let name = catalog::relation_name(relation)
        .ok_or_else(|| Error::new(Kind::UndefinedTable, "the source does not exist"))?;
    let mut conditions = Vec::new();
    for (column_name, meaning) in [
        (tenant_column, Meaning::Tenant),
        (user_column, Meaning::User),
    ] {
        let Some(column_name) = column_name else {
            continue;
        };
        let column = query::column(relation, column_name)?;
        if meaning == Meaning::Tenant {
            query::require_tenant_type(&column, binding, column_name)?;
        }
        let (equality, type_oid) = query::equality(&column)?;
        parameters.push((meaning, type_oid));
        conditions.push(format!(
            "{} {equality} ${}",
            quote_identifier(column_name),
            parameters.len()
        ));
    }
    if conditions.is_empty() {
        return Ok(format!("(SELECT * FROM {name})"));
    }
    let conditions = conditions.join(" AND ");
    Ok(format!(
        "(SELECT * FROM {name} WHERE {conditions} OFFSET 0)"
    ))
}

/// Refuses what is not one item of a select list.
fn require_single_item(item: &str) -> Result<()> {
    let refuse = || {
        Error::new(
            Kind::InvalidParameterValue,
            format!("not a single column or expression: {item}"),
        )
        .hint("Give each column as it stands in a select list, such as 'name' or 'lower(name) AS slug'.")
    };
    let select = expression::select(&format!("SELECT {item}\n")).ok_or_else(refuse)?;
    // SAFETY: a parse tree that the parser just made; tags are checked before nodes are read.
    unsafe {
        let targets = PgList::<pg_sys::ResTarget>::from_pg((*select).targetList);
        let target = targets
            .get_ptr(0)
            .filter(|_| targets.len() == 1 && (*select).sortClause.is_null())
            .ok_or_else(refuse)?;
        if !is_a((*target).val, pg_sys::NodeTag::T_ColumnRef) {
            return Ok(());
        }
        let column = &*(*target).val.cast::<pg_sys::ColumnRef>();
        let parts = PgList::<pg_sys::Node>::from_pg(column.fields);
        if parts
            .iter_ptr()
            .any(|part| is_a(part, pg_sys::NodeTag::T_A_Star))
        {
            return Err(refuse());
        }
        Ok(())
    }
}
