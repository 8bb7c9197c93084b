//! Foreign keys between protected tables, which must carry the tenant.
//!
//! A plain key is checked without row security, so it lets a row point at another tenant's row.
//! Owns finding such keys and the statements for keys that carry the tenant. Must never drop a key
//! that the new one cannot stand for.

use std::collections::BTreeMap;

use pgrx::pg_sys;
use serde::Deserialize;

use super::model::ForeignKeys;
use super::names;
use super::plan::{Plan, Statement};
use super::render::{quoted, quoted_list};
use super::spi;
use super::store::MadeKey;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::ActingRole;

/// A foreign key as the catalog has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// The referencing table.
    pub child: u32,
    /// The referenced table.
    pub parent: u32,
    /// Referencing columns.
    pub columns: Vec<String>,
    /// Referenced columns.
    pub parent_columns: Vec<String>,
    /// `confmatchtype`.
    pub match_type: String,
    /// `confupdtype`.
    pub on_update: String,
    /// `confdeltype`.
    pub on_delete: String,
    /// `ON DELETE SET NULL (..)`.
    pub set_columns: Vec<String>,
    /// DEFERRABLE.
    pub deferrable: bool,
    /// INITIALLY DEFERRED.
    pub deferred: bool,
    /// Not NOT VALID.
    pub validated: bool,
    /// Temporal or not enforced: what cannot be carried over.
    pub special: bool,
    /// `pg_get_constraintdef`.
    pub definition: String,
}

/// One end of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// The table.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Its tenant column.
    pub column: String,
    /// What its `foreign_keys` option says.
    pub foreign_keys: ForeignKeys,
    /// Whether it is enforced (after the call), so that keys are made.
    pub enforced: bool,
    /// How many rows the planner expects.
    pub estimated_rows: f64,
    /// Whether row security is forced while the statements run.
    pub forced: bool,
}

impl End {
    fn qualified(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }
}

const KEYS: &str = "
SELECT pg_catalog.jsonb_build_object(
  'name', con.conname, 'child', con.conrelid::pg_catalog.int8, 'parent', con.confrelid::pg_catalog.int8,
  'columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.unnest(con.conkey) WITH ORDINALITY AS k(number, place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.number),
  'parent_columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.unnest(con.confkey) WITH ORDINALITY AS k(number, place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = con.confrelid AND a.attnum = k.number),
  'set_columns', (SELECT coalesce(pg_catalog.jsonb_agg(a.attname ORDER BY k.place), '[]')
     FROM pg_catalog.unnest(con.confdelsetcols) WITH ORDINALITY AS k(number, place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = con.conrelid AND a.attnum = k.number),
  'match_type', con.confmatchtype, 'on_update', con.confupdtype, 'on_delete', con.confdeltype,
  'deferrable', con.condeferrable, 'deferred', con.condeferred, 'validated', con.convalidated,
  -- Columns that only some versions have.
  'special', coalesce((pg_catalog.to_jsonb(con) ->> 'conperiod')::pg_catalog.bool, false)
     OR NOT coalesce((pg_catalog.to_jsonb(con) ->> 'conenforced')::pg_catalog.bool, true),
  'definition', pg_catalog.pg_get_constraintdef(con.oid))::pg_catalog.text
FROM pg_catalog.pg_constraint con
WHERE con.contype = 'f' AND con.conparentid = 0 AND (con.conrelid = $1 OR con.confrelid = $1)
ORDER BY con.conrelid, con.conname COLLATE \"C\"";

/// The keys from and to a table, partitions' copies left out.
pub fn of(relation: pg_sys::Oid) -> Result<Vec<Key>> {
    spi::rows(KEYS, &[relation.into()])
}

/// Whether some unique index of the parent is exactly over those columns, as a key needs it.
fn has_unique(parent: u32, columns: &[String], ignored: &[String]) -> Result<bool> {
    let mut sorted = columns.to_vec();
    sorted.sort();
    let found: Vec<(String, Vec<String>)> = spi::rows(
        "SELECT pg_catalog.jsonb_build_array(ic.relname, (
             SELECT pg_catalog.jsonb_agg(a.attname ORDER BY a.attname COLLATE \"C\")
             FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS k(place)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.place]
           ))::pg_catalog.text
         FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
         WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
           AND i.indpred IS NULL AND i.indexprs IS NULL",
        &[pg_sys::Oid::from(parent).into()],
    )?;
    Ok(found
        .iter()
        .any(|(name, columns)| *columns == sorted && !ignored.contains(name)))
}

/// Columns by which a partitioned parent is divided; a unique key must hold them all.
fn partition_columns(parent: u32) -> Result<Vec<String>> {
    let found: Option<Vec<String>> = spi::row(
        "SELECT (SELECT coalesce(pg_catalog.jsonb_agg(coalesce(a.attname, '')), '[]')
             FROM pg_catalog.unnest(p.partattrs) AS k(number)
             LEFT JOIN pg_catalog.pg_attribute a
               ON a.attrelid = p.partrelid AND a.attnum = k.number AND k.number > 0)::pg_catalog.text
         FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = $1",
        &[pg_sys::Oid::from(parent).into()],
    )?;
    Ok(found.unwrap_or_default())
}

/// Whether `key` holds the pair of tenant columns.
fn carries(key: &Key, child: &End, parent: &End) -> bool {
    pairs(key).any(|(from, to)| *from == child.column && *to == parent.column)
}

/// Whether `wide` stands for `narrow`: the same ends, every pair of columns, and the tenant.
fn stands_for(wide: &Key, narrow: &Key, child: &End, parent: &End) -> bool {
    wide.child == narrow.child
        && wide.parent == narrow.parent
        && carries(wide, child, parent)
        && pairs(narrow).all(|pair| pairs(wide).any(|other| other == pair))
}

fn pairs(key: &Key) -> impl Iterator<Item = (&String, &String)> {
    key.columns.iter().zip(&key.parent_columns)
}

/// `REFERENCES ..` of the key that carries the tenant.
pub fn definition(key: &Key, child: &End, parent: &End) -> String {
    let mut columns = vec![child.column.clone()];
    columns.extend(key.columns.iter().cloned());
    let mut parent_columns = vec![parent.column.clone()];
    parent_columns.extend(key.parent_columns.iter().cloned());
    let mut sql = format!(
        "FOREIGN KEY ({}) REFERENCES {} ({})",
        quoted_list(&columns),
        parent.qualified(),
        quoted_list(&parent_columns)
    );
    // MATCH FULL of one column is MATCH SIMPLE, and of more it cannot include the tenant, which is
    // never null; the old key then stays and goes on checking it.
    sql.push_str(match key.on_update.as_str() {
        "c" => " ON UPDATE CASCADE",
        "r" => " ON UPDATE RESTRICT",
        // SET NULL and SET DEFAULT would take the tenant along; the old key stays and does it.
        _ => "",
    });
    let link = if key.set_columns.is_empty() {
        &key.columns
    } else {
        &key.set_columns
    };
    match key.on_delete.as_str() {
        "c" => sql.push_str(" ON DELETE CASCADE"),
        "r" => sql.push_str(" ON DELETE RESTRICT"),
        "n" => sql.push_str(&format!(" ON DELETE SET NULL ({})", quoted_list(link))),
        "d" => sql.push_str(&format!(" ON DELETE SET DEFAULT ({})", quoted_list(link))),
        _ => {}
    }
    if key.deferrable {
        sql.push_str(" DEFERRABLE");
        if key.deferred {
            sql.push_str(" INITIALLY DEFERRED");
        }
    }
    sql
}

/// Whether the old key does something that the new one cannot.
pub fn must_stay(key: &Key) -> bool {
    matches!(key.on_update.as_str(), "n" | "d") || (key.match_type == "f" && key.columns.len() > 1)
}

/// The keys as they would be without those that were made: a plan that is printed starts from there.
fn without_made(
    all: Vec<Key>,
    ends: &BTreeMap<u32, End>,
    known: &BTreeMap<u32, Vec<MadeKey>>,
) -> Vec<Key> {
    let names: Vec<(u32, String)> = all
        .iter()
        .map(|key| (key.child, key.name.clone()))
        .collect();
    let mut kept: Vec<Key> = all
        .into_iter()
        .filter_map(|mut key| {
            let made = known
                .get(&key.child)
                .and_then(|keys| keys.iter().find(|made| made.name == key.name));
            let Some(made) = made else { return Some(key) };
            if names.contains(&(key.child, made.original.clone())) {
                return None;
            }
            let tenants = (ends.get(&key.child)?, ends.get(&key.parent)?);
            let link: Vec<(String, String)> = pairs(&key)
                .filter(|(from, to)| **from != tenants.0.column || **to != tenants.1.column)
                .map(|(from, to)| (from.clone(), to.clone()))
                .collect();
            (key.columns, key.parent_columns) = link.into_iter().unzip();
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

/// Completes the keys from and to `relation` among the registered tables `ends`; statements, script
/// and notes go into `plan`. `known` are the keys that were made before, by child.
pub fn complete(
    relation: pg_sys::Oid,
    ends: &BTreeMap<u32, End>,
    known: &BTreeMap<u32, Vec<MadeKey>>,
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
        all = without_made(all, ends, known);
    }
    let made_unique: Vec<String> = if !plan.as_found {
        Vec::new()
    } else {
        known
            .values()
            .flatten()
            .filter_map(|made| made.unique_key.clone())
            .collect()
    };
    for key in &all {
        let (Some(child), Some(parent)) = (ends.get(&key.child), ends.get(&key.parent)) else {
            continue;
        };
        if carries(key, child, parent) {
            continue;
        }
        let wanted = child.foreign_keys.max(parent.foreign_keys);
        let label = format!("foreign key {} of {}", quoted(&key.name), child.qualified());
        let standing = all.iter().find(|wide| stands_for(wide, key, child, parent));
        if let Some(standing) = standing {
            let ours = known
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
                plan.notes.push(format!(
                    "{label} to {} does not carry the tenant (option foreign_keys: \"add\" or \"replace\")",
                    parent.qualified()
                ));
            }
            continue;
        }
        if key.special {
            plan.notes.push(format!(
                "{label} is temporal or not enforced: a key that carries the tenant has to be made by hand"
            ));
            continue;
        }
        add(
            key,
            child,
            parent,
            wanted,
            limit,
            &made_unique,
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
        // With row_security off, a role that policies bind gets an error instead of a validation
        // that passed over rows.
        later.push("SET row_security = off".to_owned());
        later.push(format!(
            "ALTER TABLE {table} VALIDATE CONSTRAINT {}",
            quoted(&name)
        ));
        later.push("RESET row_security".to_owned());
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

fn unique_name(parent: &End, key: &Key) -> String {
    names::unique_key(&parent.table, &key.parent_columns)
}

fn drop_key(child: &End, name: &str) -> String {
    format!(
        "ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}",
        child.qualified(),
        quoted(name)
    )
}

/// Says how many rows cross tenants before Postgres fails on the first. Where the tables have
/// different owners neither sees both, and Postgres's own validation has to do.
fn refuse_crossing_rows(key: &Key, child: &End, parent: &End) -> Result<()> {
    let (child_oid, parent_oid) = (pg_sys::Oid::from(child.oid), pg_sys::Oid::from(parent.oid));
    let owner = catalog::relation_owner(child_oid)?;
    if !key.validated || catalog::relation_owner(parent_oid)? != owner {
        return Ok(());
    }
    let filter = format!(
        "FROM {} c WHERE {} AND NOT EXISTS (SELECT FROM {} p WHERE {} AND p.{} = c.{})",
        child.qualified(),
        key.columns
            .iter()
            .map(|column| format!("c.{} IS NOT NULL", quoted(column)))
            .collect::<Vec<_>>()
            .join(" AND "),
        parent.qualified(),
        pairs(key)
            .map(|(from, to)| format!("p.{} = c.{}", quoted(to), quoted(from)))
            .collect::<Vec<_>>()
            .join(" AND "),
        quoted(&parent.column),
        quoted(&child.column),
    );
    let count: Option<u64> = {
        let _role = ActingRole::new(owner);
        spi::row(
            &format!("SELECT pg_catalog.count(*)::pg_catalog.text {filter}"),
            &[],
        )?
    };
    match count {
        None | Some(0) => Ok(()),
        Some(count) => Err(Error::new(
            Kind::ForeignKeyViolation,
            format!(
                "{count} rows of {} point at rows of another tenant in {}",
                child.qualified(),
                parent.qualified()
            ),
        )
        .detail(format!(
            "Foreign key {} does not carry the tenant.",
            quoted(&key.name)
        ))
        .hint(format!(
            "Mend the rows that this shows: SELECT c.* {filter}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(oid: u32, table: &str) -> End {
        End {
            oid,
            schema: "app".into(),
            table: table.into(),
            column: "tenant_id".into(),
            foreign_keys: ForeignKeys::Add,
            enforced: true,
            estimated_rows: 0.0,
            forced: false,
        }
    }

    fn key() -> Key {
        Key {
            name: "snapshots_connector_id_fkey".into(),
            child: 2,
            parent: 1,
            columns: vec!["connector_id".into()],
            parent_columns: vec!["id".into()],
            match_type: "s".into(),
            on_update: "c".into(),
            on_delete: "n".into(),
            set_columns: vec![],
            deferrable: true,
            deferred: true,
            validated: true,
            special: false,
            definition: String::new(),
        }
    }

    #[test]
    fn deleting_nulls_only_the_link() {
        assert_eq!(
            definition(&key(), &end(2, "snapshots"), &end(1, "connectors")),
            "FOREIGN KEY (\"tenant_id\", \"connector_id\") REFERENCES \"app\".\"connectors\" (\"tenant_id\", \"id\") \
             ON UPDATE CASCADE ON DELETE SET NULL (\"connector_id\") DEFERRABLE INITIALLY DEFERRED"
        );
    }

    #[test]
    fn a_key_that_carries_the_tenant_stands_for_one_that_does_not() {
        let (child, parent) = (end(2, "snapshots"), end(1, "connectors"));
        let mut wide = key();
        wide.columns.insert(0, "tenant_id".into());
        wide.parent_columns.insert(0, "tenant_id".into());
        assert!(stands_for(&wide, &key(), &child, &parent));
        assert!(!stands_for(&key(), &key(), &child, &parent));
    }

    #[test]
    fn what_the_new_key_cannot_do_keeps_the_old_one() {
        let mut narrow = key();
        assert!(!must_stay(&narrow));
        narrow.on_update = "n".into();
        assert!(must_stay(&narrow));
        let mut full = key();
        full.match_type = "f".into();
        assert!(
            !must_stay(&full),
            "MATCH FULL of one column is MATCH SIMPLE"
        );
        full.columns.push("other".into());
        assert!(must_stay(&full));
    }
}
