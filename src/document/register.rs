//! `tenancy.register_context` and `tenancy.unregister_context`.
//!
//! Owns who may call them, and what is written. Nothing is before everything was checked.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::{JsonB, Spi};

use super::arguments::{
    Rows, advise_index, all_columns, belongs_by, check_values, invalid, require_table,
};
use super::definition::{Registration, Shape};
use super::function;
use super::load::{self, Stored};
use crate::binding::{self, triggers};
use crate::cache::generation;
use crate::catalog;
use crate::error::{Error, Kind, OrRaise, Result};
use crate::registry::{self, ActingRole, PinnedSearchPath};

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn register_context(
    key: Option<&str>,
    source: Option<pg_sys::Oid>,
    shape: Option<&str>,
    order_by: Option<&str>,
    visible: Option<&str>,
    columns: Option<Vec<Option<String>>>,
    tenant_column: Option<&CStr>,
    user_column: Option<&CStr>,
    global: Option<bool>,
    joined: Option<pg_sys::Oid>,
    joined_on: Option<&str>,
    joined_tenant_column: Option<&CStr>,
    joined_user_column: Option<&CStr>,
    joined_global: Option<bool>,
    shown_to_admins: Option<bool>,
) {
    let text = |value: Option<&str>| value.filter(|text| !text.is_empty()).map(str::to_owned);
    let checked = || -> Result<()> {
        let (Some(key), Some(source)) = (key.filter(|key| !key.is_empty()), source) else {
            return invalid("key and source are needed", "Give a key and a table.");
        };
        let shape_name = shape.unwrap_or("object");
        let Some(shape) = Shape::from_name(shape_name) else {
            return invalid(
                &format!("unknown shape \"{shape_name}\""),
                "Use object or array.",
            );
        };
        let binding = binding::required()?;
        binding::require_binding_administrator()?;
        for relation in [Some(source), joined].into_iter().flatten() {
            registry::require_administrator(relation)?;
            require_table(relation)?;
        }
        let of_source = belongs_by(
            source,
            &Rows {
                prefix: "",
                tenant_column,
                user_column,
                global: global == Some(true),
            },
        )?;
        let of_joined = match joined {
            Some(joined) => belongs_by(
                joined,
                &Rows {
                    prefix: "joined_",
                    tenant_column: joined_tenant_column,
                    user_column: joined_user_column,
                    global: joined_global == Some(true),
                },
            )?,
            None => (None, None),
        };
        let registration = Registration {
            source: binding::stored(source)?,
            shape,
            order_by: text(order_by),
            visible: text(visible),
            columns: match columns {
                Some(columns) => columns.into_iter().flatten().collect(),
                None => all_columns(source),
            },
            tenant_column: of_source.0,
            user_column: of_source.1,
            global: global == Some(true),
            joined: joined.map(binding::stored).transpose()?,
            joined_on: text(joined_on),
            joined_tenant_column: of_joined.0,
            joined_user_column: of_joined.1,
            joined_global: joined_global == Some(true),
            shown_to_admins: shown_to_admins == Some(true),
        };
        check_values(key, &registration)?;
        let earlier = earlier(key)?;
        let statement =
            load::statement(key, &registration, &catalog::current_role_name(), &binding)?;
        if !statement.depends_only_on_its_rows {
            pgrx::ereport!(
                NOTICE,
                PgSqlErrorCode::ERRCODE_WARNING,
                format!(
                    "documents are not cached: key \"{key}\" depends on more than rows of its tables"
                ),
                "Every call reads them again."
            );
        }
        advise_index(
            source,
            &registration.tenant_column,
            &registration.user_column,
        );
        if let Some(joined) = joined {
            advise_index(
                joined,
                &registration.joined_tenant_column,
                &registration.joined_user_column,
            );
        }
        replace(key, &registration, earlier)
    };
    checked().or_raise();
}

#[pg_extern(sql = false)]
fn unregister_context(key: Option<&str>, missing_ok: Option<bool>) {
    let checked = || -> Result<()> {
        let key = key.unwrap_or_default();
        let Some(earlier) = earlier(key)? else {
            if missing_ok == Some(true) {
                return Ok(());
            }
            return Err(Error::new(
                Kind::UndefinedObject,
                format!("key \"{key}\" is not registered"),
            )
            .hint("See tenancy.registered_contexts, or pass missing_ok => true to ignore this."));
        };
        write(
            "DELETE FROM tenancy.context_registration WHERE key OPERATOR(pg_catalog.=) $1",
            key,
            None,
        )?;
        remove_unused_triggers(&earlier)
    };
    checked().or_raise();
}

/// What is registered under the key; the caller must administer its tables, and the binding.
fn earlier(key: &str) -> Result<Option<Registration>> {
    let Some(table) = load::registry_table() else {
        return Ok(None);
    };
    let found = load::stored(table)?;
    let Some(Stored { registration, .. }) = found.into_iter().find(|stored| stored.name == key)
    else {
        return Ok(None);
    };
    binding::require_binding_administrator()?;
    for relation in registration.relations().filter_map(binding::find) {
        registry::require_administrator(relation)?;
    }
    Ok(Some(registration))
}

fn replace(key: &str, registration: &Registration, earlier: Option<Registration>) -> Result<()> {
    for relation in registration.relations().filter_map(binding::find) {
        triggers::install_on_source(relation)?;
    }
    if let Some(table) = load::registry_table() {
        triggers::mend_registrations(table)?;
    }
    let document = serde_json::to_value(registration)
        .map_err(|fault| Error::new(Kind::Internal, fault.to_string()))?;
    write(
        "INSERT INTO tenancy.context_registration AS r (key, definition, registered_by) VALUES ($1, $2, $3::pg_catalog.name)
         ON CONFLICT (key) DO UPDATE
         SET definition = excluded.definition, registered_by = excluded.registered_by, registered_at = pg_catalog.now()",
        key,
        Some((document, catalog::current_role_name())),
    )?;
    match earlier {
        Some(earlier) => remove_unused_triggers(&earlier),
        None => Ok(()),
    }
}

/// Takes the triggers from tables of a former registration that no other one reads.
fn remove_unused_triggers(former: &Registration) -> Result<()> {
    let Some(table) = load::registry_table() else {
        return Ok(());
    };
    let used: Vec<_> = load::stored(table)?
        .iter()
        .flat_map(|stored| stored.registration.relations())
        .filter_map(binding::find)
        .collect();
    for relation in former.relations().filter_map(binding::find) {
        if !used.contains(&relation) {
            triggers::remove_from_source(relation)?;
        }
    }
    Ok(())
}

fn write(statement: &str, key: &str, row: Option<(serde_json::Value, String)>) -> Result<()> {
    let owner = registry::extension_owner()?;
    let _path = PinnedSearchPath::new();
    let _role = ActingRole::new(owner);
    Spi::connect_mut(|client| {
        let result = match row {
            Some((document, author)) => client
                .update(
                    statement,
                    None,
                    &[key.into(), JsonB(document).into(), author.into()],
                )
                .map(drop),
            None => client.update(statement, None, &[key.into()]).map(drop),
        };
        result.map_err(|fault| {
            Error::new(
                Kind::Internal,
                format!("the registry cannot be written: {fault}"),
            )
        })
    })?;
    // Whatever became of the registry's own trigger.
    generation::note_own_document_change();
    if let Some(table) = load::registry_table() {
        function::announce(table);
    }
    generation::mark_registrations_stale();
    Ok(())
}
