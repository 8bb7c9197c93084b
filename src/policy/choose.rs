//! Which template fits a table that nobody has named one for.
//!
//! Owns the choice by the table's shape, in words. Must never guess: what has no clear shape is left,
//! with the reason.

use std::collections::VecDeque;

use pgrx::pg_sys;

use super::inspect::Listed;
use super::link;
use super::model::{Options, Template};
use super::protect::Request;
use super::render::quoted;
use super::store;
use crate::binding;
use crate::error::Result;

/// What to do with a table.
pub enum Choice {
    /// Protect it so; and why, where that is more than the tenant column or what is registered.
    Protect(Request, Option<String>),
    /// Leave it, and why.
    Leave(String),
}

/// The tables of a schema, a child after the table that it belongs to.
pub struct Queue<'a> {
    tables: VecDeque<&'a Listed>,
    request: &'a Request,
    exclude: &'a [pg_sys::Oid],
    /// How many at the end were looked at since the last one that was chosen.
    waiting: usize,
}

impl<'a> Queue<'a> {
    /// What `request` says of tenant column, mode and options holds for all of them.
    pub fn new(listed: &'a [Listed], request: &'a Request, exclude: &'a [pg_sys::Oid]) -> Self {
        Self {
            tables: listed
                .iter()
                .filter(|table| !table.follows_parent)
                .collect(),
            request,
            exclude,
            waiting: 0,
        }
    }

    /// The next table, and what to do with it.
    pub fn next(&mut self) -> Result<Option<(&'a Listed, Choice)>> {
        while let Some(table) = self.tables.pop_front() {
            if self.exclude.contains(&pg_sys::Oid::from(table.oid)) {
                return Ok(Some((table, Choice::Leave("excluded".to_owned()))));
            }
            if table.kind == "f" {
                let why = "it is a foreign table".to_owned();
                return Ok(Some((table, Choice::Leave(why))));
            }
            let choice = choose(table, self.request)?;
            if matches!(choice, Choice::Protect(..)) {
                self.waiting = 0;
                return Ok(Some((table, choice)));
            }
            // It may belong to one that is protected after it.
            if self.waiting > self.tables.len() {
                return Ok(Some((table, choice)));
            }
            self.waiting += 1;
            self.tables.push_back(table);
        }
        Ok(None)
    }
}

/// The template for a table, where `request` names tenant column, mode and options.
pub fn choose(table: &Listed, request: &Request) -> Result<Choice> {
    let relation = pg_sys::Oid::from(table.oid);
    if let Some(row) = store::of(relation)? {
        let (template, registered) = link::terms(&row)?;
        return Ok(Choice::Protect(
            Request {
                template,
                column: row.column_today(relation),
                mode: request.mode,
                options: request
                    .options
                    .as_ref()
                    .map(|options| registered.with_common(options).only_for(template)),
                may_leave: request.may_leave,
            },
            None,
        ));
    }
    let with = |template, column: &str, options: Option<Options>, why: String| {
        let request = Request {
            template,
            column: column.to_owned(),
            mode: request.mode,
            options: options.or_else(|| request.options.clone()),
            may_leave: request.may_leave,
        };
        Choice::Protect(request, Some(why))
    };
    let binding = binding::required()?;
    let is = |bound: &Option<binding::BoundTable>| {
        bound
            .as_ref()
            .is_some_and(|bound| bound.relation == relation)
    };
    if is(&binding.tenants) {
        return Ok(with(
            Template::OwnTenant,
            &binding.tenants_id,
            None,
            "it is the bound table of tenants".to_owned(),
        ));
    }
    if is(&binding.membership) {
        return Ok(with(
            Template::MemberRead,
            &binding.membership_tenant,
            None,
            "it is the bound membership table".to_owned(),
        ));
    }
    let column = quoted(&request.column);
    if table.has_column {
        return Ok(if table.nullable && binding.platform_tenant.is_some() {
            with(
                Template::SharedRead,
                &request.column,
                None,
                format!("column {column} may be null, and a platform tenant is bound"),
            )
        } else {
            Choice::Protect(
                Request {
                    template: Template::Tenant,
                    ..request.clone()
                },
                None,
            )
        });
    }
    if is(&binding.role_table) {
        return Ok(with(
            Template::SelfRow,
            "",
            Some(Options {
                user_column: binding.role_user.clone(),
                ..request.options.clone().unwrap_or_default()
            }),
            "it is the bound table of roles".to_owned(),
        ));
    }
    let links = link::all(relation)?;
    Ok(match links.as_slice() {
        [] => Choice::Leave(format!(
            "no column {column}, and no foreign key to a protected table"
        )),
        [only] => {
            let why = format!(
                "foreign key {} leads to {}.{}",
                quoted(&only.constraint),
                quoted(&only.parent_schema),
                quoted(&only.parent_table)
            );
            with(Template::Child, "", None, why)
        }
        several => Choice::Leave(format!(
            "no column {column}, and several foreign keys lead to protected tables: {}; protect it \
             with template \"child\" and option foreign_key",
            link::list(several)
        )),
    })
}
