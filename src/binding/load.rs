//! Reading the binding from the registry into a session.
//!
//! Owns the check that the registry is the extension's own, and the decision whether lookups may be
//! cached. Uses catalog scans and no SPI: it runs inside check hooks, where taking the transaction's
//! snapshot would break a later SET TRANSACTION ISOLATION LEVEL.

use pgrx::pg_sys;

use super::definition::StoredRelation;
use super::{Binding, BoundTable, Definition, Query, Settings, expression, query, triggers};
use crate::cache::generation;
use crate::catalog::{self, quote_identifier};
use crate::context::identity::UserType;
use crate::error::{Error, Kind, Result};
use crate::registry::{self, PinnedSearchPath};

/// What was found.
pub struct Loaded {
    /// Whether the extension is installed in this database: where it is not, ask again.
    pub installed: bool,
    pub binding: Option<Binding>,
}

/// Reads the binding.
pub fn load() -> Result<Loaded> {
    let Some(registry) = registry_tables() else {
        return Ok(Loaded {
            installed: false,
            binding: None,
        });
    };
    let Some(stored) = read(registry.binding)? else {
        generation::watch_bound(Vec::new());
        return Ok(Loaded {
            installed: true,
            binding: None,
        });
    };
    let mut binding = build(stored)?;
    binding.cacheable &= triggers::all_announce(&[registry.binding]);
    Ok(Loaded {
        installed: true,
        binding: Some(binding),
    })
}

/// The extension's own tables.
pub struct RegistryTables {
    pub binding: pg_sys::Oid,
    pub protection: pg_sys::Oid,
}

/// The registry's tables, if the extension made them.
pub fn registry_tables() -> Option<RegistryTables> {
    let binding = catalog::own_relation("binding_definition")?;
    let sentinel = catalog::relation_oid("tenancy", "cache_sentinel")?;
    let protection = catalog::own_relation("protection")?;
    generation::watch_registry(sentinel, binding, protection);
    Some(RegistryTables {
        binding,
        protection,
    })
}

/// A row of the registry.
struct Stored {
    definition: Definition,
    bound_by: String,
}

fn read(table: pg_sys::Oid) -> Result<Option<Stored>> {
    let mut row = None;
    registry::scan(table, |found| {
        row = Some((found.text(c"definition"), found.text(c"bound_by")));
    });
    let Some((definition, bound_by)) = row else {
        return Ok(None);
    };
    let definition = serde_json::from_str(&definition.unwrap_or_default()).map_err(|fault| {
        Error::new(
            Kind::Internal,
            "the binding of this database cannot be read",
        )
        .detail(fault.to_string())
        .hint("Call tenancy.bind() again.")
    })?;
    Ok(Some(Stored {
        definition,
        bound_by: bound_by.unwrap_or_default(),
    }))
}

fn build(stored: Stored) -> Result<Binding> {
    let Stored {
        definition,
        bound_by,
    } = stored;
    let _path = PinnedSearchPath::with_spelling();
    let mut watched = Vec::new();
    let mut cacheable = true;
    let mut guarded = true;
    let mut table = |stored: &Option<StoredRelation>,
                     columns: &[Option<&String>],
                     active: Option<&String>|
     -> Result<Option<BoundTable>> {
        let Some(stored) = stored else {
            return Ok(None);
        };
        let relation = resolve(stored)?;
        let owner = catalog::relation_owner(relation)?;
        let mut identity_columns = Vec::new();
        let mut reads_settings = false;
        for name in columns.iter().copied().flatten() {
            identity_columns.push(query::column(relation, name)?.number);
        }
        if let Some(active) = active {
            require_trust(owner, &bound_by, Some(&stored.owner))?;
            let facts = expression::analyze(relation, active)?;
            facts.authors.require_rights_of(owner)?;
            cacheable &= facts.depends_only_on_its_row;
            reads_settings = facts.may_read_settings;
            identity_columns.extend(facts.columns);
        }
        let family = triggers::with_children(relation);
        cacheable &= triggers::all_announce(&family);
        guarded &= triggers::all_guard(&family);
        watched.extend(family);
        Ok(Some(BoundTable {
            relation,
            owner,
            identity_columns,
            reads_settings,
        }))
    };

    let membership = table(
        &definition.membership,
        &[
            Some(&definition.membership_user),
            Some(&definition.membership_tenant),
            definition.membership_role.as_ref(),
        ],
        definition.membership_active.as_ref(),
    )?;
    let role_table = table(
        &definition.role_table,
        &[Some(&definition.role_user), Some(&definition.role_column)],
        None,
    )?;
    let tenants = table(
        &definition.tenants,
        &[Some(&definition.tenants_id)],
        definition.tenants_active.as_ref(),
    )?;
    generation::watch_bound(watched);

    let user_type = match (&membership, &role_table) {
        (Some(table), _) => query::column(table.relation, &definition.membership_user)?.user_type(),
        (None, Some(table)) => query::column(table.relation, &definition.role_user)?.user_type(),
        (None, None) => UserType::Text,
    };
    let membership_query = membership
        .as_ref()
        .map(|table| Query::memberships(table, &definition))
        .transpose()?;
    let all_memberships_query = membership
        .as_ref()
        .filter(|_| definition.membership_active.is_some())
        .map(|table| Query::all_memberships(table, &definition))
        .transpose()?;
    let role_query = role_table
        .as_ref()
        .map(|table| Query::role(table, &definition))
        .transpose()?;
    let tenants_query = tenants
        .as_ref()
        .map(|table| Query::tenants(table, &definition))
        .transpose()?;
    Ok(Binding {
        settings: Settings::of(&definition),
        definition,
        membership,
        role_table,
        tenants,
        membership_query,
        all_memberships_query,
        role_query,
        tenants_query,
        user_type,
        cacheable,
        guarded,
    })
}

/// What the registry holds, whether or not its relations can be found; `None` without a binding.
pub fn stored_definition() -> Result<Option<Definition>> {
    let Some(registry) = registry_tables() else {
        return Ok(None);
    };
    Ok(read(registry.binding)?.map(|stored| stored.definition))
}

fn resolve(stored: &StoredRelation) -> Result<pg_sys::Oid> {
    find(stored).ok_or_else(|| {
        let name = stored.relation_name();
        Error::new(
            Kind::UndefinedTable,
            format!("bound relation {name} does not exist"),
        )
        .detail("It was dropped, or another role made a relation of that name.")
        .hint("Call tenancy.bind() again with the relation that took its place.")
    })
}

/// The relation that the binding means. The very table that was bound is known by its oid, in the
/// database that wrote it. Anything else counts only if it belongs to who owned the table, or to
/// somebody who decides over the whole database: else any role that may create tables in the schema
/// could say who everybody is as soon as the name is free.
pub fn find(stored: &StoredRelation) -> Option<pg_sys::Oid> {
    // What became a view would have its owner's functions called by a lookup.
    let by_name = catalog::relation_oid(&stored.schema, &stored.name).filter(is_table);
    let here = catalog::database_identity().to_u32() == stored.database_identity;
    let by_oid = here
        .then(|| pg_sys::Oid::from(stored.relation_oid))
        .filter(is_table);
    if by_name.is_some() && by_name == by_oid {
        return by_name;
    }
    // An oid alone may be another table's, should two databases ever be known by the same.
    let is_owners = |owner: pg_sys::Oid| catalog::role_name(owner) == stored.owner;
    let decides = |owner: pg_sys::Oid| {
        // SAFETY: a catalog lookup by oid.
        let is_superuser = unsafe { pg_sys::superuser_arg(owner) };
        is_superuser || catalog::database_owner() == Some(owner)
    };
    let owned = |relation: &pg_sys::Oid, trusted: &dyn Fn(pg_sys::Oid) -> bool| {
        catalog::relation_owner(*relation).is_ok_and(trusted)
    };
    by_name
        .filter(|relation| owned(relation, &|owner| is_owners(owner) || decides(owner)))
        .or_else(|| by_oid.filter(|relation| owned(relation, &is_owners)))
}

fn is_table(relation: &pg_sys::Oid) -> bool {
    matches!(
        catalog::relation_kind(*relation),
        Some(pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE)
    )
}

/// An expression is run as the table's owner, whoever that is by then: whoever wrote it must have
/// that role's rights, or he would run code with rights that he lacks. Of an author who is gone, as
/// after a restore without his role, no more is known than that he had those of `owner_then`, where
/// that was noted.
pub fn require_trust(owner: pg_sys::Oid, bound_by: &str, owner_then: Option<&str>) -> Result<()> {
    let trusted = match catalog::role_oid(bound_by) {
        // SAFETY: catalog lookups by oid.
        Some(author) => unsafe { pg_sys::has_privs_of_role(author, owner) },
        // SAFETY: a catalog lookup by oid.
        None => unsafe {
            !pg_sys::superuser_arg(owner)
                && owner_then.is_none_or(|then| catalog::role_name(owner) == then)
        },
    };
    if trusted {
        return Ok(());
    }
    Err(Error::new(
        Kind::InsufficientPrivilege,
        "an expression of the binding would run with rights that its author lacks",
    )
    .detail(format!(
        "It was bound by {}, and the bound table belongs to {}.",
        quote_identifier(bound_by),
        quote_identifier(&catalog::role_name(owner))
    ))
    .hint("Have the owner of the table, or a superuser, call tenancy.bind()."))
}
