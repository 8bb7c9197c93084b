//! The tables in shadow mode, as this session knows them.
//!
//! Owns the list and when it is read again. Must never read anything where no table is in shadow mode:
//! every statement of every session asks.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use pgrx::pg_sys;
use serde_json::Value;

use super::functions::Functions;
use super::policies::Policies;
use super::store;
use crate::cache::generation;
use crate::catalog::{self, RelationName};
use crate::policy::{CommandNeeds, Options, Template};
use crate::registry::{self, ProtectionRow};
use crate::{binding, gucs};

/// A table in shadow mode.
pub struct Table {
    pub relation: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// Whether enforcement would bind the owner too.
    pub force: bool,
    /// The tenant column; 0 where the template has none.
    pub column: i16,
    /// `None` for a registration of a later version.
    pub template: Option<Template>,
    pub options: Options,
    /// The foreign key by which a `child` table belongs to its parent.
    pub link: Option<String>,
    /// What commands need of the context.
    pub needs: CommandNeeds,
    policies: OnceCell<Option<Policies>>,
}

impl Table {
    /// The policies that enforcement would put to work; `None` where it would fail.
    pub fn policies(&self, functions: &Functions) -> Option<&Policies> {
        self.policies
            .get_or_init(|| Policies::read(self, functions))
            .as_ref()
    }
}

/// All of them, and what it takes to record.
pub struct Known {
    /// Sorted by oid.
    tables: Vec<Table>,
    pub functions: Functions,
}

impl Known {
    /// All of them.
    pub fn relations(&self) -> impl Iterator<Item = pg_sys::Oid> {
        self.tables.iter().map(|table| table.relation)
    }

    /// The table of that oid.
    pub fn table(&self, relation: pg_sys::Oid) -> Option<&Table> {
        self.tables
            .binary_search_by_key(&relation.to_u32(), |table| table.relation.to_u32())
            .ok()
            .map(|index| &self.tables[index])
    }
}

thread_local! {
    static KNOWN: RefCell<Option<Rc<Known>>> = const { RefCell::new(None) };
}

/// What is in shadow mode; `None` where nothing is. Call inside a transaction.
pub fn known() -> Option<Rc<Known>> {
    if generation::take_shadow_stale() {
        let mut unfinished = StaleUnlessDone(true);
        let old = KNOWN.replace(None);
        if let Some(old) = old.and_then(Rc::into_inner) {
            for table in old.tables {
                if let Some(Some(policies)) = table.policies.into_inner() {
                    policies.free();
                }
            }
        }
        if gucs::is_preloaded()
            && let Some(tables) = binding::registry_tables()
        {
            KNOWN.replace(read(tables.protection).map(Rc::new));
            unfinished.0 = false;
        } else if gucs::is_preloaded() {
            // Not installed here, or not yet: ask again.
        } else {
            unfinished.0 = false;
        }
    }
    KNOWN.with_borrow(Clone::clone)
}

struct StaleUnlessDone(bool);

impl Drop for StaleUnlessDone {
    fn drop(&mut self) {
        if self.0 {
            generation::mark_shadow_stale();
        }
    }
}

fn read(registry: pg_sys::Oid) -> Option<Known> {
    let mut tables: Vec<Table> = registry::protection_rows(registry)
        .into_iter()
        .filter(|row| row.mode == "shadow")
        .filter_map(|row| {
            let name = RelationName {
                schema: row.schema.clone(),
                name: row.name.clone(),
            };
            let relation = catalog::registered_relation(&name, row.relation, row.database)?;
            table(relation, &row)
        })
        .collect();
    generation::watch_shadowed(tables.iter().map(|table| table.relation).collect());
    if tables.is_empty() {
        return None;
    }
    if store::attach() {
        store::seen::register_session();
    }
    tables.sort_by_key(|table| table.relation.to_u32());
    tables.dedup_by_key(|table| table.relation.to_u32());
    Some(Known {
        tables,
        functions: Functions::find()?,
    })
}

fn table(relation: pg_sys::Oid, row: &ProtectionRow) -> Option<Table> {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let (found, made) = (json(&row.found), json(&row.made));
    let options = Options::parse(&json(&row.options));
    let template = Template::parse(&row.template).ok();
    let number = found["column_number"]
        .as_i64()
        .and_then(|number| i16::try_from(number).ok())
        .unwrap_or_default();
    let name = catalog::c_string(&row.tenant_column);
    // SAFETY: catalog lookups.
    let by_name = unsafe { pg_sys::get_attnum(relation, name.as_ptr()) };
    Some(Table {
        relation,
        owner: catalog::relation_owner(relation).ok()?,
        force: options.as_ref().map_or(true, |options| options.force) || found["forced"] == true,
        column: if by_name > 0 { by_name } else { number },
        template: template.filter(|_| options.is_ok()),
        options: options.unwrap_or_default(),
        link: made["link"].as_str().map(str::to_owned),
        needs: CommandNeeds::of_row(&row.template, &row.options),
        policies: OnceCell::new(),
    })
}
