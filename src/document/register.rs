//! `tenancy.register_context` and `tenancy.unregister_context`.
//!
//! Owns the checks of their arguments. Nothing is written before everything was checked.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::{JsonB, Spi};

use super::definition::{RESERVED, Registration, Shape, TENANT, USER};
use super::function;
use super::load::{self, Stored};
use crate::binding::{self, query, triggers};
use crate::cache::generation;
use crate::catalog::{self, quote_identifier};
use crate::error::{Error, Kind, OrRaise, Result};
use crate::registry::{self, ActingRole, PinnedSearchPath};

/// The arguments of `tenancy.register_context` about one of its tables.
struct Rows<'a> {
    /// What the arguments are called: `""` or `"joined_"`.
    prefix: &'a str,
    tenant_column: Option<&'a CStr>,
    user_column: Option<&'a CStr>,
    global: bool,
}

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
        let statement = load::statement(key, &registration, &caller(), &binding)?;
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

fn invalid<T>(message: &str, hint: &str) -> Result<T> {
    Err(Error::new(Kind::InvalidParameterValue, message).hint(hint))
}

/// The columns by which rows belong to a context. Rows are everybody's only if that is said.
fn belongs_by(relation: pg_sys::Oid, rows: &Rows<'_>) -> Result<(Option<String>, Option<String>)> {
    let prefix = rows.prefix;
    let name = |name: Option<&CStr>| name.map(|name| name.to_string_lossy().into_owned());
    let (tenant, user) = (name(rows.tenant_column), name(rows.user_column));
    if rows.global && (tenant.is_some() || user.is_some()) {
        return invalid(
            &format!("{prefix}global contradicts {prefix}tenant_column and {prefix}user_column"),
            "Name the columns by which rows belong to a tenant or a user, or say that they are everybody's.",
        );
    }
    if rows.global || tenant.is_some() || user.is_some() {
        return Ok((tenant, user));
    }
    let default = "tenant_id";
    if query::column(relation, default).is_err() {
        return invalid(
            &format!(
                "nothing says whose the rows of {} are",
                catalog::relation_name(relation)
                    .map(|name| name.to_string())
                    .unwrap_or_default()
            ),
            &format!(
                "Give {prefix}tenant_column or {prefix}user_column, or {prefix}global => true where everybody may see all rows."
            ),
        );
    }
    Ok((Some(default.to_owned()), None))
}

/// The columns there are now: those that are added later are shown only when the key is registered
/// again.
fn all_columns(relation: pg_sys::Oid) -> Vec<String> {
    let mut names = Vec::new();
    // SAFETY: the relation is open while its description is read.
    unsafe {
        let open = pg_sys::table_open(relation, pg_sys::AccessShareLock as i32);
        let description = (*open).rd_att;
        for index in 0..usize::try_from((*description).natts).unwrap_or(0) {
            let attribute = pg_sys::get_attname(relation, index as i16 + 1, true);
            // Null for a column that was dropped.
            if let Some(name) = catalog::string_from(attribute) {
                names.push(format!("source.{}", quote_identifier(&name)));
            }
        }
        pg_sys::table_close(open, pg_sys::NoLock as i32);
    }
    names
}

fn check_values(key: &str, registration: &Registration) -> Result<()> {
    if key.len() > 63 || RESERVED.contains(&key) {
        return invalid(
            "the key is reserved or longer than 63 bytes",
            "Give another key.",
        );
    }
    if registration.columns.is_empty() {
        return invalid("no columns are given", "Give at least one column.");
    }
    let belongs = match key {
        USER => registration.user_column.is_some(),
        TENANT => registration.tenant_column.is_some(),
        _ => return check_joined(registration),
    };
    if registration.shape != Shape::Object || !belongs {
        return invalid(
            &format!("key \"{key}\" is the {key} itself"),
            &format!("Register it as an object, with a {key}_column."),
        );
    }
    check_joined(registration)
}

fn check_joined(registration: &Registration) -> Result<()> {
    if registration.joined.is_some() != registration.joined_on.is_some() {
        return invalid(
            "joined and joined_on belong together",
            "Give both, such as joined_on => 'joined.flag_id = source.id'.",
        );
    }
    let of_joined = registration.joined_tenant_column.is_some()
        || registration.joined_user_column.is_some()
        || registration.joined_global;
    if registration.joined.is_none() && of_joined {
        return invalid("nothing is joined", "Give joined and joined_on.");
    }
    Ok(())
}

fn require_table(relation: pg_sys::Oid) -> Result<()> {
    let name = catalog::relation_name(relation);
    // SAFETY: a catalog lookup by oid.
    let persistence = unsafe { pg_sys::get_rel_persistence(relation) } as u8;
    if matches!(
        catalog::relation_kind(relation),
        Some(pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE)
    ) && persistence != pg_sys::RELPERSISTENCE_TEMP
        && relation.to_u32() >= pg_sys::FirstNormalObjectId
        && name.as_ref().is_some_and(|name| name.schema != "tenancy")
    {
        return Ok(());
    }
    let name = name.map(|name| name.to_string()).unwrap_or_default();
    Err(Error::new(
        Kind::WrongObjectType,
        format!("relation {name} cannot be a source of the document"),
    )
    .detail("Views, foreign tables, temporary tables and system catalogs cannot announce their changes.")
    .hint("Register an ordinary or a partitioned table."))
}

fn advise_index(relation: pg_sys::Oid, tenant: &Option<String>, user: &Option<String>) {
    let columns: Vec<_> = user.iter().chain(tenant).collect();
    let is_indexed = columns.iter().any(|column| {
        query::column(relation, column)
            .is_ok_and(|column| binding::leads_an_index(relation, column.number))
    });
    if !columns.is_empty() && !is_indexed {
        let name = catalog::relation_name(relation)
            .map(|name| name.to_string())
            .unwrap_or_default();
        pgrx::notice!(
            "no index of {name} starts with column {}: every new document scans the table",
            quote_identifier(columns[0])
        );
    }
}

fn caller() -> String {
    // SAFETY: a plain read of the backend's state.
    catalog::role_name(unsafe { pg_sys::GetUserId() })
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
        Some((document, caller())),
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
