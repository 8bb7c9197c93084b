//! `tenancy.bind` and `tenancy.unbind`.
//!
//! Owns the checks of their arguments. Nothing is written before everything was checked.

use std::ffi::{CStr, CString};

use pgrx::prelude::*;
use pgrx::{JsonB, Spi};

use super::definition::StoredRelation;
use super::{Definition, TenantType, expression, load, query, triggers};
use crate::catalog::{self, quote_identifier};
use crate::error::{Error, Kind, OrRaise, Result};
use crate::guard;
use crate::policy;
use crate::registry::{self, ActingRole, PinnedSearchPath};
use crate::text::Argument;

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn bind(
    tenant_type: Option<Argument>,
    user_setting: Option<Argument>,
    tenant_setting: Option<Argument>,
    claims_setting: Option<Argument>,
    user_claim: Option<Argument>,
    tenant_claim: Option<Argument>,
    membership: Option<pg_sys::Oid>,
    membership_user: Option<&CStr>,
    membership_tenant: Option<&CStr>,
    membership_role: Option<&CStr>,
    membership_active: Option<Argument>,
    role_table: Option<pg_sys::Oid>,
    role_user: Option<&CStr>,
    role_column: Option<&CStr>,
    tenants: Option<pg_sys::Oid>,
    tenants_id: Option<&CStr>,
    tenants_active: Option<Argument>,
    admin_roles: Option<Array<'_, Argument>>,
    super_admin_roles: Option<Array<'_, Argument>>,
    platform_tenant: Option<Argument>,
    identity_writers: Option<Vec<Option<CString>>>,
) {
    let text = |value: Option<Argument>| {
        let value = value.as_deref().filter(|text| !text.is_empty());
        value.map(str::to_owned)
    };
    let name = |value: Option<&CStr>, default: &str| {
        value.map_or(default.to_owned(), |name| {
            name.to_string_lossy().into_owned()
        })
    };
    let list = |value: Option<Array<'_, Argument>>| {
        let values = value.iter().flat_map(Array::iter).flatten();
        values
            .map(|value| value.to_owned())
            .collect::<Vec<String>>()
    };
    let checked = || -> Result<()> {
        let tenant_type_name = tenant_type.as_deref().unwrap_or("uuid");
        let tenant_type = TenantType::from_name(tenant_type_name).ok_or_else(|| {
            Error::new(
                Kind::InvalidParameterValue,
                format!("unknown tenant_type \"{tenant_type_name}\""),
            )
            .hint("Use uuid, text, bigint or integer.")
        })?;
        let definition = Definition {
            tenant_type,
            user_setting: text(user_setting).unwrap_or_else(|| "app.current_user_id".to_owned()),
            tenant_setting: text(tenant_setting),
            claims_setting: text(claims_setting),
            user_claim: text(user_claim).unwrap_or_else(|| "sub".to_owned()),
            tenant_claim: text(tenant_claim),
            membership: membership.map(stored).transpose()?,
            membership_user: name(membership_user, "user_id"),
            membership_tenant: name(membership_tenant, "tenant_id"),
            membership_role: membership_role.map(|role| role.to_string_lossy().into_owned()),
            membership_active: text(membership_active),
            role_table: role_table.map(stored).transpose()?,
            role_user: name(role_user, "id"),
            role_column: name(role_column, "role"),
            tenants: tenants.map(stored).transpose()?,
            tenants_id: name(tenants_id, "id"),
            tenants_active: text(tenants_active),
            admin_roles: list(admin_roles),
            super_admin_roles: list(super_admin_roles),
            platform_tenant: text(platform_tenant),
            identity_writers: identity_writers
                .unwrap_or_default()
                .into_iter()
                .flatten()
                .map(|name| name.to_string_lossy().into_owned())
                .collect(),
        };
        check_values(&definition)?;
        let relations: Vec<_> = [membership, role_table, tenants]
            .into_iter()
            .flatten()
            .collect();
        check_privilege(&relations)?;
        for relation in &relations {
            check_relation(*relation)?;
        }
        check_columns(&definition, membership, role_table, tenants)?;
        replace(&definition, &relations)
    };
    checked().or_raise();
}

#[pg_extern(sql = false)]
fn unbind(missing_ok: Option<bool>) {
    let checked = || -> Result<()> {
        // Also where a bound relation is gone and the binding cannot be used any more.
        let Some(earlier) = load::stored_definition()? else {
            if missing_ok == Some(true) {
                return Ok(());
            }
            return Err(
                Error::new(Kind::UndefinedObject, "nothing is bound in this database")
                    .hint("Pass missing_ok => true to ignore this."),
            );
        };
        let relations = bound_relations(&earlier);
        check_privilege(&relations)?;
        let tables = super::registry_tables();
        let rows = tables.map(|tables| registry::protection_rows(tables.protection));
        if rows.is_none_or(|rows| rows.iter().any(|row| row.mode != "permissive")) {
            return Err(Error::new(
                Kind::ObjectNotInPrerequisiteState,
                "tables are protected by this binding",
            )
            .hint("Run tenancy.unprotect_table, or tenancy.set_mode('permissive'), first."));
        }
        for relation in &relations {
            triggers::remove(*relation)?;
        }
        write("DELETE FROM tenancy.binding_definition", None)
    };
    checked().or_raise();
}

/// A relation as the registry stores it.
pub fn stored(relation: pg_sys::Oid) -> Result<StoredRelation> {
    let name = catalog::relation_name(relation).ok_or_else(|| {
        Error::new(
            Kind::UndefinedTable,
            format!("relation with OID {} does not exist", relation.to_u32()),
        )
        .hint("Name an existing table.")
    })?;
    Ok(StoredRelation {
        schema: name.schema,
        name: name.name,
        relation_oid: relation.to_u32(),
        database_identity: catalog::database_identity().to_u32(),
        owner: catalog::role_name(catalog::relation_owner(relation)?),
    })
}

fn check_values(definition: &Definition) -> Result<()> {
    let invalid = |message: &str, hint: &str| {
        Err(Error::new(Kind::InvalidParameterValue, message).hint(hint))
    };
    if definition.membership.is_none()
        && definition.tenant_setting.is_none()
        && definition.tenant_claim.is_none()
    {
        return invalid(
            "nothing says which tenant is current",
            "Give a tenant_setting, a tenant_claim, or a membership table.",
        );
    }
    if definition.tenant_claim.is_some() && definition.claims_setting.is_none() {
        return invalid(
            "a tenant_claim needs a claims_setting",
            "Give claims_setting too.",
        );
    }
    let names = definition.setting_names();
    for (position, name) in names.iter().enumerate() {
        let well_formed = name.split('.').count() >= 2
            && name.split('.').all(|part| {
                part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && part
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$')
            });
        let is_ours = ["pg_tenancy.", "tenancy."]
            .iter()
            .any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
        if !well_formed || is_ours {
            return invalid(
                &format!("invalid setting name \"{name}\""),
                "Use two identifiers joined by a dot, such as app.current_user_id.",
            );
        }
        if names[..position]
            .iter()
            .any(|earlier| earlier.eq_ignore_ascii_case(name))
        {
            return invalid(
                &format!("setting \"{name}\" is given twice"),
                "Use another setting for each part of the context.",
            );
        }
    }
    if let Some(platform) = &definition.platform_tenant
        && definition.tenant_type.parse(platform).is_err()
    {
        return Err(Error::new(
            Kind::InvalidTextRepresentation,
            format!(
                "platform_tenant is not a well-formed {}",
                definition.tenant_type.name()
            ),
        )
        .hint("Give the tenant's id as it stands in the tenants table."));
    }
    for writer in &definition.identity_writers {
        if catalog::role_oid(writer).is_none() {
            return Err(Error::new(
                Kind::UndefinedObject,
                format!("role {} does not exist", quote_identifier(writer)),
            )
            .hint("Name existing roles in identity_writers."));
        }
    }
    Ok(())
}

/// The caller must decide over who everybody is as it is bound now.
pub fn require_binding_administrator() -> Result<()> {
    let earlier = load::stored_definition().ok().flatten();
    check_privilege(&earlier.map_or_else(Vec::new, |earlier| bound_relations(&earlier)))
}

/// The caller must administer every table concerned, those of an earlier binding included: whoever
/// binds decides who everybody is. Where no table is concerned, the database is.
fn check_privilege(relations: &[pg_sys::Oid]) -> Result<()> {
    for relation in relations {
        registry::require_administrator(*relation)?;
    }
    let mut is_somebodys = !relations.is_empty();
    match load::stored_definition() {
        Ok(Some(earlier)) => {
            let found = bound_relations(&earlier);
            for relation in &found {
                registry::require_administrator(*relation)?;
            }
            // Whose the missing ones were is not known.
            is_somebodys &= !found.is_empty() && found.len() == earlier.relations().count();
        }
        Ok(None) => {}
        Err(_) => is_somebodys = false,
    }
    if is_somebodys {
        Ok(())
    } else {
        registry::require_database_owner("The binding decides the tenant of every session.")
    }
}

fn check_relation(relation: pg_sys::Oid) -> Result<()> {
    let name = catalog::relation_name(relation)
        .map(|name| name.to_string())
        .unwrap_or_default();
    let kind = catalog::relation_kind(relation).unwrap_or_default();
    // SAFETY: a catalog lookup by oid.
    let persistence = unsafe { pg_sys::get_rel_persistence(relation) } as u8;
    if !matches!(
        kind,
        pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE
    ) || persistence == pg_sys::RELPERSISTENCE_TEMP
        || relation.to_u32() < pg_sys::FirstNormalObjectId
        || name.starts_with("tenancy.")
    {
        return Err(Error::new(
            Kind::WrongObjectType,
            format!("relation {name} cannot be bound"),
        )
        .detail("Views, foreign tables, temporary tables and system catalogs cannot announce their changes, and the registry holds no identities.")
        .hint("Bind an ordinary or a partitioned table."));
    }
    Ok(())
}

fn check_columns(
    definition: &Definition,
    membership: Option<pg_sys::Oid>,
    role_table: Option<pg_sys::Oid>,
    tenants: Option<pg_sys::Oid>,
) -> Result<()> {
    let _path = PinnedSearchPath::with_spelling();
    let check = |relation: Option<pg_sys::Oid>,
                 columns: &[Option<&String>],
                 tenant: Option<&String>|
     -> Result<()> {
        let Some(relation) = relation else {
            return Ok(());
        };
        for column in columns.iter().copied().flatten() {
            query::column(relation, column)?;
        }
        if let Some(column) = tenant {
            query::require_tenant_type(&query::column(relation, column)?, definition, column)?;
        }
        Ok(())
    };
    check(
        membership,
        &[
            Some(&definition.membership_user),
            definition.membership_role.as_ref(),
        ],
        Some(&definition.membership_tenant),
    )?;
    check(
        role_table,
        &[Some(&definition.role_user), Some(&definition.role_column)],
        None,
    )?;
    check(tenants, &[], Some(&definition.tenants_id))?;
    for (relation, column) in [
        (membership, &definition.membership_user),
        (role_table, &definition.role_user),
    ] {
        if let Some(relation) = relation {
            query::require_comparable(&query::column(relation, column)?)?;
        }
    }
    for (relation, active) in [
        (membership, &definition.membership_active),
        (tenants, &definition.tenants_active),
    ] {
        if let (Some(relation), Some(active)) = (relation, active) {
            load::require_trust(
                catalog::relation_owner(relation)?,
                &catalog::current_role_name(),
                None,
            )?;
            let facts = expression::analyze(relation, active)?;
            facts
                .authors
                .require_rights_of(catalog::relation_owner(relation)?)?;
            if !facts.depends_only_on_its_row {
                pgrx::ereport!(
                    NOTICE,
                    PgSqlErrorCode::ERRCODE_WARNING,
                    format!(
                        "contexts are not cached: the expression {active} depends on more than its row"
                    ),
                    "Every statement looks the context up again."
                );
            }
        }
    }
    let indexed = [
        (membership, &definition.membership_user),
        (role_table, &definition.role_user),
        (tenants, &definition.tenants_id),
    ];
    for (relation, column) in indexed {
        if let Some(relation) = relation
            && !leads_an_index(relation, query::column(relation, column)?.number)
        {
            let name = catalog::relation_name(relation)
                .map(|n| n.to_string())
                .unwrap_or_default();
            pgrx::notice!(
                "no index of {name} starts with column {}: every new context scans the table",
                quote_identifier(column)
            );
        }
    }
    Ok(())
}

/// Whether a valid index starts with the column.
pub fn leads_an_index(relation: pg_sys::Oid, column: i16) -> bool {
    // SAFETY: the relation is open while its list of indexes is read; index tuples are released.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let open = pg_sys::table_open(relation, lock);
        let indexes = pgrx::PgList::<pg_sys::Oid>::from_pg(pg_sys::RelationGetIndexList(open));
        let leads = indexes.iter_oid().any(|index| {
            let index = pg_sys::index_open(index, lock);
            let form = (*index).rd_index;
            let first = *(*form).indkey.values.as_ptr();
            let leads = (*form).indisvalid && first == column;
            pg_sys::index_close(index, lock);
            leads
        });
        pg_sys::table_close(open, pg_sys::NoLock as i32);
        leads
    }
}

fn bound_relations(definition: &Definition) -> Vec<pg_sys::Oid> {
    definition.relations().filter_map(load::find).collect()
}

fn replace(definition: &Definition, relations: &[pg_sys::Oid]) -> Result<()> {
    if let Ok(Some(earlier)) = load::stored_definition() {
        for relation in bound_relations(&earlier) {
            if !relations.contains(&relation) {
                triggers::remove(relation)?;
            }
        }
    }
    for relation in relations {
        triggers::install(*relation)?;
    }
    if let Some(tables) = super::registry_tables() {
        triggers::mend_registry(&tables)?;
        policy::mend_auto_protect()?;
    }
    let document = serde_json::to_value(definition)
        .map_err(|fault| Error::new(Kind::Internal, fault.to_string()))?;
    write(
        "INSERT INTO tenancy.binding_definition AS b (definition, bound_by) VALUES ($1, $2::pg_catalog.name)
         ON CONFLICT (singleton) DO UPDATE
         SET definition = excluded.definition, bound_by = excluded.bound_by, bound_at = pg_catalog.now()",
        Some((document, catalog::current_role_name())),
    )
}

fn write(statement: &str, row: Option<(serde_json::Value, String)>) -> Result<()> {
    let owner = registry::extension_owner()?;
    let _path = PinnedSearchPath::new();
    let _role = ActingRole::new(owner);
    Spi::connect_mut(|client| {
        let result = match row {
            Some((document, bound_by)) => client
                .update(statement, None, &[JsonB(document).into(), bound_by.into()])
                .map(drop),
            None => client.update(statement, None, &[]).map(drop),
        };
        result.map_err(|fault| {
            Error::new(
                Kind::Internal,
                format!("the registry cannot be written: {fault}"),
            )
        })
    })?;
    guard::announce();
    Ok(())
}
