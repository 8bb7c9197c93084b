//! Reading the registered keys from the registry into a session.
//!
//! Owns the decision whether documents may be kept. Must never let an expression run with rights
//! that its author lacks.

use pgrx::pg_sys;

use super::definition::Registration;
use super::statement::Statement;
use super::{Key, Keys, failure};
use crate::binding::{self, Binding, StoredRelation, triggers};
use crate::cache::generation;
use crate::catalog;
use crate::error::{Error, Kind, Result};
use crate::registry::{self, PinnedSearchPath};

/// A row of the registry.
pub struct Stored {
    pub name: String,
    pub registration: Registration,
    pub registered_by: String,
}

/// The registry's table, if the extension made it; watches it.
pub fn registry_table() -> Option<pg_sys::Oid> {
    binding::registry_tables()?;
    let table = catalog::relation_oid("tenancy", "context_registration")?;
    let sentinel = catalog::relation_oid("tenancy", "document_sentinel")?;
    generation::watch_registrations(sentinel, table);
    Some(table)
}

/// What the registry holds, in the order of the keys.
pub fn stored(table: pg_sys::Oid) -> Result<Vec<Stored>> {
    let mut rows = Vec::new();
    registry::scan(table, |row| {
        let text = |name| row.text(name).unwrap_or_default();
        rows.push((text(c"key"), text(c"definition"), text(c"registered_by")));
    });
    rows.sort();
    rows.into_iter()
        .map(|(name, definition, registered_by)| {
            let registration = serde_json::from_str(&definition).map_err(|fault| {
                Error::new(
                    Kind::Internal,
                    format!("key \"{name}\" cannot be understood"),
                )
                .detail(fault.to_string())
                .hint("Call tenancy.register_context() again.")
            })?;
            Ok(Stored {
                name,
                registration,
                registered_by,
            })
        })
        .collect()
}

/// Reads the keys.
pub fn load(binding: Option<&Binding>) -> Result<Keys> {
    let mut keys = Keys {
        keys: Vec::new(),
        cacheable: true,
    };
    let Some(table) = registry_table() else {
        // Ask again: nothing says when the extension comes.
        generation::mark_registrations_stale();
        keys.cacheable = false;
        return Ok(keys);
    };
    let mut unfinished = StaleUnlessDone(true);
    let stored = stored(table)?;
    let sources: Vec<_> = stored
        .iter()
        .flat_map(|stored| stored.registration.relations())
        .filter_map(binding::find)
        .flat_map(triggers::with_children)
        .collect();
    // Before their triggers are looked at: a change from then on is noticed.
    generation::watch_sources(sources.clone());
    keys.cacheable =
        triggers::all_announce_documents(&[table]) && triggers::all_announce_documents(&sources);
    for Stored {
        name,
        registration,
        registered_by,
    } in stored
    {
        let statement = match binding {
            Some(binding) => Some(failure::naming(|at| {
                let owner = binding::find(&registration.source)
                    .and_then(|source| catalog::relation_owner(source).ok());
                at.key(&name, owner);
                statement(&name, &registration, &registered_by, binding)
                    .map_err(|error| error.about_key(&name))
            })?),
            None => None,
        };
        keys.cacheable &= statement
            .as_ref()
            .is_none_or(|statement| statement.depends_only_on_its_rows);
        keys.keys.push(Key {
            name,
            registration,
            statement,
        });
    }
    unfinished.0 = false;
    Ok(keys)
}

struct StaleUnlessDone(bool);

impl Drop for StaleUnlessDone {
    fn drop(&mut self) {
        if self.0 {
            generation::mark_registrations_stale();
        }
    }
}

/// The statement of a key, as its author and the owner of its tables may have it.
pub fn statement(
    name: &str,
    registration: &Registration,
    author: &str,
    binding: &Binding,
) -> Result<Statement> {
    let _path = PinnedSearchPath::new();
    let source = find(&registration.source)?;
    let joined = registration.joined.as_ref().map(find).transpose()?;
    let owner = catalog::relation_owner(source)?;
    if let Some(joined) = joined
        && catalog::relation_owner(joined)? != owner
    {
        return Err(Error::new(
            Kind::InsufficientPrivilege,
            "the source and the joined table belong to different roles",
        )
        .hint("Give both tables the same owner, or register them under different keys."));
    }
    let statement = Statement::new(name, registration, source, joined, binding)?;
    if !statement.runs_only_columns {
        binding::require_trust(owner, author, Some(&registration.source.owner))?;
    }
    statement.authors.require_rights_of(owner)?;
    Ok(statement)
}

fn find(stored: &StoredRelation) -> Result<pg_sys::Oid> {
    binding::find(stored).ok_or_else(|| {
        Error::new(
            Kind::UndefinedTable,
            format!("relation {} does not exist", stored.relation_name()),
        )
        .detail("It was dropped, or another role made a relation of that name.")
    })
}
