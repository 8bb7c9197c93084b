//! Which foreign keys between protected tables need a companion that carries the tenant.
//!
//! A plain key is checked without row security, so it lets a row point at another tenant's row.
//! Owns the statements for keys that carry the tenant. Must never drop a key that the new one cannot
//! stand for.

use std::collections::BTreeMap;

use pgrx::pg_sys;

use super::bad_rows::refuse_crossing_rows;
use super::key_catalog::{Key, has_policies, has_unique, of, partition_columns};
use super::key_definition::{
    End, carries, definition, drop_key, link_of, must_stay, stands_for, unique_name,
    validate_seeing_all,
};
use super::key_sight;
use super::model::ForeignKeys;
use super::names;
use super::plan::{Plan, Statement};
use super::render::{quoted, quoted_list};
use super::store::MadeKey;
use crate::binding::tenant_type;
use crate::error::Result;

/// The registered tables at the ends of some keys, and what was made for those keys.
pub struct Ends {
    /// The tables.
    pub tables: BTreeMap<u32, End>,
    /// The keys that were made, by child.
    pub keys: BTreeMap<u32, Vec<MadeKey>>,
    /// Names of the unique keys that were made for them: another child's key may have been the first
    /// to need one.
    pub unique_keys: Vec<String>,
}

/// The keys as they would be without those that were made: a plan that is printed starts from there.
fn without_made(all: Vec<Key>, ends: &Ends) -> Vec<Key> {
    let names: Vec<(u32, String)> = all
        .iter()
        .map(|key| (key.child, key.name.clone()))
        .collect();
    let mut kept: Vec<Key> = all
        .into_iter()
        .filter_map(|mut key| {
            let made = ends
                .keys
                .get(&key.child)
                .and_then(|keys| keys.iter().find(|made| made.name == key.name));
            let Some(made) = made else { return Some(key) };
            if names.contains(&(key.child, made.original.clone())) {
                return None;
            }
            let tenants = (ends.tables.get(&key.child)?, ends.tables.get(&key.parent)?);
            key = link_of(key, tenants.0, tenants.1);
            key.name = made.original.clone();
            key.definition = made.original_definition.clone();
            Some(key)
        })
        .collect();
    kept.sort_by(|a, b| (a.child, &a.name).cmp(&(b.child, &b.name)));
    kept
}

/// What completing the keys of one table asks for.
pub struct Completion {
    /// Keys made, on the child's registration.
    pub made: Vec<(u32, MadeKey)>,
    /// Keys whose original was dropped or made again, by child and name, and which.
    pub replaced: Vec<(u32, String, bool)>,
    /// Unique keys made, on the parent's registration.
    pub unique_keys: Vec<(u32, String)>,
}

/// Completes the keys from and to `relation` among the registered tables; statements, script and notes
/// go into `plan`.
pub fn complete(
    relation: pg_sys::Oid,
    ends: &Ends,
    limit: f64,
    plan: &mut Plan,
) -> Result<Completion> {
    let mut completion = Completion {
        made: Vec::new(),
        replaced: Vec::new(),
        unique_keys: Vec::new(),
    };
    let mut all = of(relation)?;
    if plan.as_found {
        all = without_made(all, ends);
    }
    for key in &all {
        let (Some(child), Some(parent)) =
            (ends.tables.get(&key.child), ends.tables.get(&key.parent))
        else {
            continue;
        };
        if carries(key, child, parent) {
            continue;
        }
        let wanted = child.foreign_keys.max(parent.foreign_keys);
        let label = format!("foreign key {} of {}", quoted(&key.name), child.qualified());
        let standing = all.iter().find(|wide| stands_for(wide, key, child, parent));
        if let Some(standing) = standing {
            let ours = ends
                .keys
                .get(&key.child)
                .and_then(|keys| keys.iter().find(|made| made.name == standing.name));
            if let Some(ours) = ours
                && !ours.replaced
                && wanted == ForeignKeys::Replace
                && standing.validated
                && child.enforced
                && !must_stay(key)
            {
                plan.now
                    .push(Statement::owner(key.child, drop_key(child, &key.name)));
                completion
                    .replaced
                    .push((key.child, standing.name.clone(), true));
            }
            continue;
        }
        if !(child.enforced && parent.enforced) || wanted == ForeignKeys::Report {
            if relation.to_u32() == key.child || wanted == ForeignKeys::Report {
                plan.plain_keys.push(if relation.to_u32() == key.child {
                    key.name.clone()
                } else {
                    format!("{} of {}", key.name, child.table)
                });
            }
            continue;
        }
        if key.special {
            plan.notes.push(format!(
                "{label} is temporal or not enforced: a key that carries the tenant has to be made by hand"
            ));
            continue;
        }
        if parent.shared.is_some() {
            let policies = key_sight::policies(key, child, parent, tenant_type()?);
            let names = policies.iter().map(|(name, _)| name.clone()).collect();
            if !has_policies(key.child, names)? {
                plan.notes
                    .push(key_sight::note(key, child, parent, &policies));
            }
            continue;
        }
        add(
            key,
            child,
            parent,
            wanted,
            limit,
            if plan.as_found {
                &ends.unique_keys
            } else {
                &[]
            },
            plan,
            &mut completion,
        )?;
    }
    Ok(completion)
}

#[expect(clippy::too_many_arguments, reason = "one key and all it touches")]
fn add(
    key: &Key,
    child: &End,
    parent: &End,
    wanted: ForeignKeys,
    limit: f64,
    ignored: &[String],
    plan: &mut Plan,
    completion: &mut Completion,
) -> Result<()> {
    let mut unique_columns = vec![parent.column.clone()];
    unique_columns.extend(key.parent_columns.iter().cloned());
    if let Some(missing) = partition_columns(key.parent)?
        .iter()
        .find(|column| !unique_columns.contains(column))
    {
        plan.notes.push(format!(
            "foreign key {} of {} cannot carry the tenant: {} is partitioned by {}, which a unique key would have to include",
            quoted(&key.name),
            child.qualified(),
            parent.qualified(),
            if missing.is_empty() { "an expression".to_owned() } else { quoted(missing) }
        ));
        return Ok(());
    }
    let parent_is_large = parent.estimated_rows > limit;
    let child_is_large = child.estimated_rows > limit;
    let mut made_unique = None;
    let mut wait_for_unique = false;
    if !has_unique(key.parent, &unique_columns, ignored)?
        && !completion
            .unique_keys
            .iter()
            .any(|(oid, name)| *oid == key.parent && *name == unique_name(parent, key))
    {
        let name = unique_name(parent, key);
        let (table, columns) = (parent.qualified(), quoted_list(&unique_columns));
        if parent_is_large {
            wait_for_unique = true;
            plan.script.push(format!(
                "CREATE UNIQUE INDEX CONCURRENTLY {} ON {table} ({columns})",
                quoted(&name)
            ));
            plan.script.push(format!(
                "ALTER TABLE {table} ADD CONSTRAINT {0} UNIQUE USING INDEX {0}",
                quoted(&name)
            ));
        } else {
            plan.now.push(Statement::index(
                key.parent,
                format!(
                    "ALTER TABLE {table} ADD CONSTRAINT {} UNIQUE ({columns})",
                    quoted(&name)
                ),
            ));
        }
        completion.unique_keys.push((key.parent, name.clone()));
        made_unique = Some(name);
    } else if completion
        .unique_keys
        .iter()
        .any(|(oid, name)| *oid == key.parent && *name == unique_name(parent, key))
    {
        made_unique = Some(unique_name(parent, key));
        wait_for_unique = parent_is_large;
    }

    if plan.checks_data && !child_is_large {
        refuse_crossing_rows(key, child, parent)?;
    }
    let name = names::foreign_key(&key.name);
    let table = child.qualified();
    let add = format!(
        "ALTER TABLE {table} ADD CONSTRAINT {} {}",
        quoted(&name),
        definition(key, child, parent)
    );
    let validate = !child_is_large && key.validated;
    let add = if validate {
        add
    } else {
        format!("{add} NOT VALID")
    };
    let replaces = wanted == ForeignKeys::Replace && !must_stay(key);
    if wanted == ForeignKeys::Replace && must_stay(key) {
        plan.notes.push(format!(
            "foreign key {} of {table} stays: the new key cannot do all it does",
            quoted(&key.name)
        ));
    }
    let mut later = Vec::new();
    if wait_for_unique {
        later.push(add);
    } else {
        // Validating under forced row security would pass over rows that the owner does not see.
        let suspended: Vec<&End> = if child.oid == parent.oid {
            vec![child]
        } else {
            vec![child, parent]
        }
        .into_iter()
        .filter(|end| end.forced)
        .collect();
        for end in &suspended {
            plan.now.push(Statement::owner(
                end.oid,
                format!(
                    "ALTER TABLE {} NO FORCE ROW LEVEL SECURITY",
                    end.qualified()
                ),
            ));
        }
        plan.now.push(Statement::owner(key.child, add));
        for end in &suspended {
            plan.now.push(Statement::owner(
                end.oid,
                format!("ALTER TABLE {} FORCE ROW LEVEL SECURITY", end.qualified()),
            ));
        }
    }
    if !validate && key.validated {
        later.push(validate_seeing_all(&table, &name));
    }
    let drop_now = replaces && later.is_empty();
    if drop_now {
        plan.now
            .push(Statement::owner(key.child, drop_key(child, &key.name)));
    }
    plan.script.append(&mut later);
    if replaces && !drop_now {
        plan.script.push(drop_key(child, &key.name));
    }
    completion.made.push((
        key.child,
        MadeKey {
            name,
            original: key.name.clone(),
            original_definition: key.definition.clone(),
            replaced: replaces,
            parent_schema: parent.schema.clone(),
            parent_table: parent.table.clone(),
            unique_key: made_unique,
        },
    ));
    Ok(())
}
