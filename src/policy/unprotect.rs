//! Taking protection back.
//!
//! Owns leaving a table exactly as it was found. Must never remove what the registry does not say
//! was made.

use pgrx::pg_sys;

use super::apply;
use super::gate;
use super::ground;
use super::inspect;
use super::link;
use super::made_key;
use super::members::{is_believed, make_room, registered_parent};
use super::plan::{Plan, Statement};
use super::render::{self, Target, quoted};
use super::spi;
use super::store::{self, Found, Made, MadeKey};
use super::unique_keys;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::require_administrator;

/// Unprotects a table and what was protected because of it.
pub fn unprotect(relation: pg_sys::Oid, missing_ok: bool) -> Result<bool> {
    apply::see_own_changes();
    let not_protected = || {
        if missing_ok {
            return Ok(false);
        }
        let name = catalog::relation_name(relation)
            .map(|n| n.to_string())
            .unwrap_or_default();
        Err(Error::new(
            Kind::UndefinedObject,
            format!("table {name} is not protected"),
        )
        .hint("See tenancy.protected_tables, or give missing_ok => true."))
    };
    let Some(row) = store::of(relation)? else {
        return not_protected();
    };
    require_administrator(relation)?;
    let facts = inspect::facts_without_size(relation, &row.tenant_column)?;
    if facts
        .as_ref()
        .is_some_and(|facts| !is_believed(&row, facts))
    {
        // Nothing was made on this table, which only has the name.
        let is_gone = catalog::relation_name(pg_sys::Oid::from(row.relation_oid)).is_none();
        make_room(&row)?;
        return if is_gone { Ok(true) } else { not_protected() };
    }
    if let Some(child) = link::children(relation)?.first() {
        let name = |oid| {
            catalog::relation_name(oid)
                .map(|name| name.to_string())
                .unwrap_or_default()
        };
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            format!(
                "table {} is protected through table {}",
                name(*child),
                name(relation)
            ),
        )
        .hint(format!("Unprotect {} first.", name(*child))));
    }
    let (parents, descendants) = facts
        .map(|facts| (facts.parents, facts.descendants))
        .unwrap_or_default();
    if row.made.by_parent
        && let Some(above) = registered_parent(&parents)?
    {
        return Err(Error::new(
            Kind::ObjectNotInPrerequisiteState,
            format!(
                "table {} is protected because its parent is",
                quoted(&row.table_name)
            ),
        )
        .hint(format!(
            "Unprotect {}.{}, or detach the table from it first.",
            quoted(&above.schema_name),
            quoted(&above.table_name)
        )));
    }
    undo(relation)?;
    for below in descendants {
        let below = pg_sys::Oid::from(below);
        if let Some(row) = store::of(below)?
            && row.made.by_parent
        {
            require_administrator(below)?;
            undo(below)?;
        }
    }
    Ok(true)
}

/// Undoes one table and forgets it.
pub fn undo(relation: pg_sys::Oid) -> Result<()> {
    apply::lock(relation, pg_sys::AccessExclusiveLock);
    // While it waited, the table may have got another owner, mode, or end.
    require_administrator(relation)?;
    let Some(row) = &store::of(relation)? else {
        return Ok(());
    };
    apply::forget_plans(relation);
    let column = row.column_today(relation);
    let facts = {
        inspect::facts(relation, &column)?
            .ok_or_else(|| Error::new(Kind::UndefinedTable, "the table does not exist any more"))?
    };
    if !is_believed(row, &facts) {
        return make_room(row);
    }
    let target = Target {
        schema: facts.schema.clone(),
        table: facts.name.clone(),
        column,
    };
    let mut made = row.made.clone();
    let mut found = row.found.clone();

    let mut plan = Plan::default();
    gate::open_gate(&facts, &target, &mut made, &found, &mut plan);
    apply::run(&plan)?;

    // First, since a foreign key that was replaced may need one as it was.
    unique_keys::restore(&facts, &target.column, &made)?;
    drop_keys(relation, &made)?;

    let mut plan = Plan::default();
    ground::restore_default(&facts, &target, &mut made, &mut found, &mut plan);
    if let Some(index) = &made.index {
        plan.now.push(Statement::owner(
            facts.oid,
            render::drop_index(&facts.schema, index),
        ));
    }
    let now_not_null = facts.column.as_ref().is_some_and(|column| column.not_null);
    if made.not_null && now_not_null && !is_needed_not_null(relation, &target.column)? {
        plan.now
            .push(Statement::owner(facts.oid, render::drop_not_null(&target)));
        if let Some(name) = &found.unchecked_not_null {
            plan.now.push(Statement::owner(
                facts.oid,
                render::add_unchecked_not_null(&target, name),
            ));
        }
    } else if found.not_null && facts.column.is_some() && !now_not_null {
        // Taking it from a parent took it from here as well.
        plan.now
            .push(Statement::owner(facts.oid, render::set_not_null(&target)));
    }
    apply::run(&plan)?;
    drop_partition_indexes(&made)?;
    restore_indexes(&facts, &found)?;
    store::delete(row)
}

/// Whether a primary key or a replica identity of later has the column, which may not be null in it.
fn is_needed_not_null(relation: pg_sys::Oid, column: &str) -> Result<bool> {
    let needed: Option<bool> = spi::row(
        "SELECT pg_catalog.to_json(EXISTS (SELECT FROM pg_catalog.pg_index i
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
             WHERE i.indrelid = $1 AND (i.indisprimary OR i.indisreplident) AND a.attname = $2))::pg_catalog.text",
        &[relation.into(), column.into()],
    )?;
    Ok(needed.unwrap_or(false))
}

/// Drops what a script made for partitions and the index of the parent has not taken along.
fn drop_partition_indexes(made: &Made) -> Result<()> {
    let mut plan = Plan::default();
    for (schema, name) in &made.partition_indexes {
        let index = catalog::relation_oid(schema, name)
            .filter(|oid| catalog::relation_kind(*oid) == Some(b'i'));
        if let Some(index) = index {
            require_administrator(index)?;
            plan.now.push(Statement::owner(
                index.to_u32(),
                render::drop_index(schema, name),
            ));
        }
    }
    apply::run(&plan)
}

/// Makes a partition's own indexes again that the dropped index of its parent had adopted.
fn restore_indexes(facts: &inspect::Facts, found: &Found) -> Result<()> {
    let mut plan = Plan::default();
    for (name, definition) in &found.indexes {
        if !inspect::name_is_taken(&facts.schema, name) {
            plan.now
                .push(Statement::index(facts.oid, definition.clone()));
        }
    }
    apply::run(&plan)
}

/// Drops the keys that were made from and to the table and puts back those that they replaced.
fn drop_keys(relation: pg_sys::Oid, made: &Made) -> Result<()> {
    for key in &made.foreign_keys {
        let parent = made_key::parent(relation, key)?;
        drop_key(relation, key, parent)?;
        drop_unused_unique(key, parent)?;
    }
    // Keys of other tables that point here through a unique key made for them.
    let Some(here) = catalog::relation_name(relation) else {
        return Ok(());
    };
    let pointing_here = made_key::pointing_at(relation)?;
    for (child, row) in store::all()? {
        if child == relation {
            continue;
        }
        let (mut pointing, mut others) = (Vec::new(), Vec::new());
        for key in &row.made.foreign_keys {
            let noted = (&key.parent_schema, &key.parent_table) == (&here.schema, &here.name);
            if pointing_here.contains(&(child.to_u32(), key.name.clone()))
                || (noted && made_key::parent(child, key)? == Some(relation))
            {
                pointing.push(key);
            } else {
                others.push(key.clone());
            }
        }
        if pointing.is_empty() {
            continue;
        }
        require_administrator(child)?;
        for key in pointing {
            drop_key(child, key, Some(relation))?;
        }
        let mut changed = row.clone();
        changed.made.foreign_keys = others;
        store::save(&changed, Some(&row))?;
    }
    for name in &made.unique_keys {
        drop_constraint(relation, name)?;
    }
    Ok(())
}

fn drop_key(child: pg_sys::Oid, key: &MadeKey, parent: Option<pg_sys::Oid>) -> Result<()> {
    drop_constraint(child, &key.name)?;
    let Some(table) = catalog::relation_name(child) else {
        return Ok(());
    };
    if key.replaced && !has_constraint(child, &key.original)? {
        let sql = format!(
            "ALTER TABLE {}.{} ADD CONSTRAINT {} {}",
            quoted(&table.schema),
            quoted(&table.name),
            quoted(&key.original),
            made_key::original(key, parent)
        );
        apply::run(&Plan {
            now: vec![Statement::owner(child.to_u32(), sql)],
            ..Plan::default()
        })?;
    }
    Ok(())
}

/// Drops the parent's unique key that was made for `key`, when no other key needs it.
fn drop_unused_unique(key: &MadeKey, parent: Option<pg_sys::Oid>) -> Result<()> {
    let Some(name) = &key.unique_key else {
        return Ok(());
    };
    let Some(parent) = parent else {
        return Ok(());
    };
    let used: Option<bool> = spi::row(
        "SELECT pg_catalog.to_json(EXISTS (SELECT FROM pg_catalog.pg_constraint f
             JOIN pg_catalog.pg_constraint u ON u.conindid = f.conindid AND u.contype = 'u'
             WHERE f.contype = 'f' AND u.conrelid = $1 AND u.conname = $2))::pg_catalog.text",
        &[parent.into(), name.as_str().into()],
    )?;
    if used.unwrap_or(false) {
        return Ok(());
    }
    if let Some(row) = store::of(parent)?
        && row.made.unique_keys.contains(name)
    {
        require_administrator(parent)?;
        drop_constraint(parent, name)?;
        let mut changed = row.clone();
        changed.made.unique_keys.retain(|unique| unique != name);
        store::save(&changed, Some(&row))?;
    }
    Ok(())
}

fn has_constraint(table: pg_sys::Oid, name: &str) -> Result<bool> {
    let there: Option<bool> = spi::row(
        "SELECT pg_catalog.to_json(EXISTS (SELECT FROM pg_catalog.pg_constraint
             WHERE conrelid = $1 AND conname = $2))::pg_catalog.text",
        &[table.into(), name.into()],
    )?;
    Ok(there.unwrap_or(false))
}

fn drop_constraint(table: pg_sys::Oid, name: &str) -> Result<()> {
    let Some(relation) = catalog::relation_name(table) else {
        return Ok(());
    };
    let sql = format!(
        "ALTER TABLE {}.{} DROP CONSTRAINT IF EXISTS {}",
        quoted(&relation.schema),
        quoted(&relation.name),
        quoted(name)
    );
    // IF EXISTS would raise a NOTICE about what was never run from a script.
    if has_constraint(table, name)? {
        apply::run(&Plan {
            now: vec![Statement::owner(table.to_u32(), sql)],
            ..Plan::default()
        })?;
    }
    Ok(())
}
