//! Unique keys without the tenant: an error tells that a value exists, whoever's it is.
//!
//! Owns which are only reported, which are rewritten with option `unique_keys`, and taking that back. Must
//! never rewrite a primary key, nor one that a foreign key or a replica identity needs.

use pgrx::{PgSqlErrorCode, pg_sys};

use super::apply;
use super::inspect::Facts;
use super::key_catalog;
use super::members::Member;
use super::model::{Mode, Template};
use super::names;
use super::options::UniqueKeys;
use super::plan::{Plan, Statement};
use super::render::quoted;
use super::store::{self, Made, MadeKey};
use super::subtransaction::attempt;
use super::unique_catalog::{self, IndexText, UniqueKey};
use crate::catalog;
use crate::error::Result;

/// Reports or rewrites the unique keys of the tables of a call.
pub fn complete(members: &mut [Member], mode: Mode, template: Template, limit: f64) -> Result<()> {
    if !template_divides(template) {
        return Ok(());
    }
    for member in members {
        let mut plan = Plan {
            checks_data: member.plan.checks_data,
            as_found: member.plan.as_found,
            ..Plan::default()
        };
        let rewrite =
            mode == Mode::Enforce && member.rule.options.unique_keys == UniqueKeys::Replace;
        let (facts, made) = (&member.facts, &mut member.row.made);
        let column = &member.row.tenant_column;
        for key in unique_catalog::of(pg_sys::Oid::from(facts.oid))? {
            let ours = made.rewritten_keys.contains(&key.name) && key.leads(column);
            // A plan that is printed starts from the key as it was found.
            let open = if plan.as_found && ours {
                true
            } else {
                !key.carries(column)
            };
            if !open || key.inherited || !key.valid || key.says_nothing && key.kind == "p" {
                continue;
            }
            if !rewrite {
                plan.plain_unique_keys.push(key.name.clone());
                continue;
            }
            let table = Table {
                facts,
                column,
                own_keys: &made.foreign_keys,
            };
            match table.statements(&key, facts.estimated_rows > limit)? {
                Ok((now, mut script)) => {
                    plan.now.extend(now);
                    plan.script.append(&mut script);
                    if !made.rewritten_keys.contains(&key.name) {
                        made.rewritten_keys.push(key.name.clone());
                    }
                }
                Err(why) => plan.notes.push(format!(
                    "unique key {} does not carry the tenant and stays: {why}",
                    quoted(&key.name)
                )),
            }
        }
        if plan.checks_data {
            if !plan.now.is_empty() {
                let relation = pg_sys::Oid::from(facts.oid);
                apply::lock(relation, pg_sys::AccessExclusiveLock);
            }
            apply::run(&plan)?;
        }
        member.plan.now.append(&mut plan.now);
        member.plan.script.append(&mut plan.script);
        member.plan.notes.append(&mut plan.notes);
        member.plan.plain_unique_keys = plan.plain_unique_keys;
    }
    Ok(())
}

/// Whether a table of the template holds many rows of many tenants, each with a value of its own.
fn template_divides(template: Template) -> bool {
    matches!(
        template,
        Template::Tenant
            | Template::SharedRead
            | Template::TenantReadAdminWrite
            | Template::MemberRead
    )
}

/// Statements to run now, or a script.
type Rewriting = (Vec<Statement>, Vec<String>);

/// A table whose keys are rewritten.
struct Table<'a> {
    facts: &'a Facts,
    column: &'a str,
    /// Its foreign keys that were made, those of this call as well.
    own_keys: &'a [MadeKey],
}

impl Table<'_> {
    fn qualified(&self) -> String {
        format!(
            "{}.{}",
            quoted(&self.facts.schema),
            quoted(&self.facts.name)
        )
    }

    /// What has the key carry the tenant, or why nothing may.
    fn statements(
        &self,
        key: &UniqueKey,
        large: bool,
    ) -> Result<core::result::Result<Rewriting, String>> {
        if let Some(why) = self.must_stay(key)? {
            return Ok(Err(why));
        }
        if !large {
            let now = self.in_place(key, true);
            return Ok(now.map(|now| (now, Vec::new())).ok_or_else(by_hand));
        }
        if self.facts.kind == "p" {
            return Ok(Err(
                "the table is large and partitioned, where no index is built concurrently"
                    .to_owned(),
            ));
        }
        Ok(self
            .concurrently(key)
            .map(|script| (Vec::new(), script))
            .ok_or_else(by_hand))
    }

    fn must_stay(&self, key: &UniqueKey) -> Result<Option<String>> {
        if key.kind == "p" {
            return Ok(Some("primary keys are not rewritten".to_owned()));
        }
        if key.kind == "x" || key.temporal {
            return Ok(Some(by_hand()));
        }
        if let Some(needed) = key.referenced_by.first() {
            return Ok(Some(format!("foreign key {} needs it", quoted(needed))));
        }
        if key.replica_identity {
            return Ok(Some("it is the replica identity".to_owned()));
        }
        Ok(self
            .was_needed_by(key)?
            .map(|name| format!("foreign key {} needs it", quoted(&name))))
    }

    /// The foreign key that was replaced and had needed the key: taking that back wants it.
    fn was_needed_by(&self, key: &UniqueKey) -> Result<Option<String>> {
        let mut columns: Vec<&String> = key.columns.iter().flatten().collect();
        columns.sort();
        for wide in key_catalog::of(pg_sys::Oid::from(self.facts.oid))? {
            let mut linked: Vec<&String> = wide
                .parent_columns
                .iter()
                .filter(|name| *name != self.column)
                .collect();
            linked.sort();
            if wide.parent != self.facts.oid || linked != columns {
                continue;
            }
            let known = if wide.child == self.facts.oid {
                self.own_keys.to_vec()
            } else {
                store::of(pg_sys::Oid::from(wide.child))?
                    .map(|row| row.made.foreign_keys)
                    .unwrap_or_default()
            };
            if let Some(made) = known
                .into_iter()
                .find(|made| made.name == wide.name && made.replaced)
            {
                return Ok(Some(made.original));
            }
        }
        Ok(None)
    }

    /// The key made anew under its name, with the tenant or without.
    fn in_place(&self, key: &UniqueKey, carries: bool) -> Option<Vec<Statement>> {
        let (table, name) = (self.qualified(), quoted(&key.name));
        let mut now = Vec::new();
        if key.is_constraint() {
            now.push(Statement::index(
                self.facts.oid,
                format!(
                    "ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {}",
                    key.constraint(self.column, carries)
                ),
            ));
        } else {
            let create = key.index(&self.text(&key.name, carries, false))?;
            now.push(Statement::owner(
                self.facts.oid,
                format!("DROP INDEX {}.{name}", quoted(&self.facts.schema)),
            ));
            now.push(Statement::index(self.facts.oid, create));
        }
        now.extend(
            self.marks(key)
                .into_iter()
                .map(|sql| Statement::owner(self.facts.oid, sql)),
        );
        Some(now)
    }

    /// The same without keeping writers away: another index, which takes the place of the first.
    fn concurrently(&self, key: &UniqueKey) -> Option<Vec<String>> {
        let (table, schema) = (self.qualified(), quoted(&self.facts.schema));
        let (name, new_name) = (quoted(&key.name), names::rewritten(&key.name));
        let new = quoted(&new_name);
        let mut script = Vec::new();
        let there = catalog::relation_oid(&self.facts.schema, &new_name);
        if there.is_some() {
            // Left behind by a script that was broken off, and perhaps not valid.
            script.push(format!("DROP INDEX CONCURRENTLY {schema}.{new}"));
        }
        script.push(key.index(&self.text(&new_name, true, true))?);
        if key.is_constraint() {
            script.push(format!(
                "ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} UNIQUE USING INDEX {new}{}",
                key.timing()
            ));
        } else {
            script.push(format!("DROP INDEX CONCURRENTLY {schema}.{name}"));
            script.push(format!("ALTER INDEX {schema}.{new} RENAME TO {name}"));
        }
        script.extend(self.marks(key));
        Some(script)
    }

    /// What is said of the key and is lost with it.
    fn marks(&self, key: &UniqueKey) -> Vec<String> {
        let (table, name) = (self.qualified(), quoted(&key.name));
        let mut marks = Vec::new();
        if key.clustered {
            marks.push(format!("ALTER TABLE {table} CLUSTER ON {name}"));
        }
        if let Some(comment) = &key.comment {
            marks.push(if key.is_constraint() {
                format!("COMMENT ON CONSTRAINT {name} ON {table} IS {comment}")
            } else {
                format!(
                    "COMMENT ON INDEX {}.{name} IS {comment}",
                    quoted(&self.facts.schema)
                )
            });
        }
        marks
    }

    fn text<'a>(&'a self, name: &'a str, carries: bool, concurrently: bool) -> IndexText<'a> {
        IndexText {
            schema: &self.facts.schema,
            table: &self.facts.name,
            column: self.column,
            name,
            carries,
            concurrently,
        }
    }
}

fn by_hand() -> String {
    "one that carries the tenant has to be made by hand".to_owned()
}

/// Takes the tenant out of the keys that were rewritten, as far as they still carry it. Where tenants have
/// the same values by now, the key stays as it is, and a WARNING says so.
pub fn restore(facts: &Facts, column: &str, made: &Made) -> Result<()> {
    if made.rewritten_keys.is_empty() {
        return Ok(());
    }
    let table = Table {
        facts,
        column,
        own_keys: &made.foreign_keys,
    };
    for key in unique_catalog::of(pg_sys::Oid::from(facts.oid))? {
        if !made.rewritten_keys.contains(&key.name) || !key.leads(column) || key.inherited {
            continue;
        }
        let Some(now) = table.in_place(&key, false) else {
            continue;
        };
        let plan = Plan {
            now,
            ..Plan::default()
        };
        match attempt(|| apply::run(&plan)) {
            Ok(()) => {}
            Err(failure) if failure.code == PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION => {
                apply::warning(
                    &format!(
                        "unique key {} of {} keeps the tenant",
                        quoted(&key.name),
                        table.qualified()
                    ),
                    Some("Several tenants have the same value by now."),
                    None,
                )
            }
            Err(failure) => failure.raise("The unique key was to be as it was found."),
        }
    }
    // What a script has begun.
    for name in &made.rewritten_keys {
        let left = names::rewritten(name);
        if catalog::relation_oid(&facts.schema, &left)
            .is_some_and(|oid| catalog::relation_kind(oid) == Some(b'i'))
            && unique_catalog::of(pg_sys::Oid::from(facts.oid))?
                .iter()
                .any(|key| key.name == left && key.kind == "i")
        {
            apply::run(&Plan {
                now: vec![Statement::owner(
                    facts.oid,
                    format!("DROP INDEX {}.{}", quoted(&facts.schema), quoted(&left)),
                )],
                ..Plan::default()
            })?;
        }
    }
    Ok(())
}
