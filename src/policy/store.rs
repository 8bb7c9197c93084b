//! The registry of protected tables.
//!
//! Owns reading and writing `tenancy.protection`, as the owner of the extension. Must never run a
//! statement that names anything but that table and Postgres's catalogs.

use std::collections::BTreeMap;

use pgrx::{JsonB, pg_sys};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::seen::Seen;
use super::spi;
use crate::catalog::{self, RelationName};
use crate::error::Result;
use crate::registry::{ActingRole, extension_owner};

/// What protecting a table made, which unprotecting removes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Made {
    /// Names of policies.
    pub policies: Vec<String>,
    /// The index, in the table's schema.
    pub index: Option<String>,
    /// Indexes of partitions that a script makes for the index to adopt, by schema and name.
    pub partition_indexes: Vec<(String, String)>,
    /// The trigger.
    pub trigger: Option<String>,
    /// NOT NULL of the tenant column.
    pub not_null: bool,
    /// DEFAULT of the tenant column, as the server shows it.
    pub default: Option<String>,
    /// Unique keys that foreign keys of other tables needed.
    pub unique_keys: Vec<String>,
    /// Unique keys of the table that did not carry the tenant and were rewritten.
    pub rewritten_keys: Vec<String>,
    /// Foreign keys that carry the tenant.
    pub foreign_keys: Vec<MadeKey>,
    /// The foreign key by which a `child` table belongs to its parent.
    pub link: Option<String>,
    /// Protected because a parent was, and so unprotected with it.
    pub by_parent: bool,
    /// By which it is known again without opening the table.
    pub seen: Seen,
}

/// A foreign key that carries the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeKey {
    /// Its name.
    pub name: String,
    /// The key that did not carry it.
    pub original: String,
    /// What that key was, to make it again.
    pub original_definition: String,
    /// Whether that key was dropped.
    pub replaced: bool,
    /// The parent's schema.
    pub parent_schema: String,
    /// The parent's name.
    pub parent_table: String,
    /// The parent's unique key, where it was made for this one.
    pub unique_key: Option<String>,
}

/// What a table was before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// ENABLE ROW LEVEL SECURITY.
    pub rls: bool,
    /// FORCE ROW LEVEL SECURITY.
    pub forced: bool,
    /// NOT NULL of the tenant column.
    pub not_null: bool,
    /// The constraint that kept new rows NOT NULL, and was NOT VALID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unchecked_not_null: Option<String>,
    /// DEFAULT of the tenant column.
    pub default: Option<String>,
    /// Indexes of a partition, which an index made on its parent adopts and would take along.
    pub indexes: BTreeMap<String, String>,
    /// Whether what the ground changes has been noted: once, before the first change.
    pub noted: bool,
    /// `attnum` of the tenant column.
    pub column_number: i16,
    /// The owner that it was protected for.
    pub owner: String,
    /// Closed by a DROP EXTENSION .. CASCADE of earlier.
    pub closed: bool,
}

/// A registered table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// Name of the schema when it was registered.
    pub schema_name: String,
    /// Name of the table when it was registered.
    pub table_name: String,
    /// The database that wrote `relation_oid`: see [`catalog::database_identity`].
    pub database_identity: u32,
    /// Its oid there.
    pub relation_oid: u32,
    /// The template.
    pub template: String,
    /// The tenant column; empty for a template without one.
    pub tenant_column: String,
    /// The mode.
    pub mode: String,
    /// The options.
    pub options: Value,
    /// What protecting made.
    pub made: Made,
    /// What was there before.
    pub found: Found,
}

impl Row {
    /// The relation that it means today.
    pub fn relation(&self) -> Option<pg_sys::Oid> {
        catalog::registered_relation(
            &RelationName {
                schema: self.schema_name.clone(),
                name: self.table_name.clone(),
            },
            pg_sys::Oid::from(self.relation_oid),
            pg_sys::Oid::from(self.database_identity),
        )
    }

    /// Whether its oids are of this database.
    pub fn is_of_this_database(&self) -> bool {
        self.database_identity == catalog::database_identity().to_u32()
    }

    /// Whether `relation` is the very table that was registered, not one of its name or a restored one.
    pub fn is_of(&self, relation: pg_sys::Oid) -> bool {
        self.is_of_this_database() && self.relation_oid == relation.to_u32()
    }

    /// The tenant column as `relation` names it today: it may have been renamed since. Its number is
    /// believed of the very table that was registered only, since a restore gives new ones.
    pub fn column_today(&self, relation: pg_sys::Oid) -> String {
        self.is_of(relation)
            .then(|| catalog_column(relation, self.found.column_number))
            .flatten()
            .unwrap_or_else(|| self.tenant_column.clone())
    }
}

/// The name of a column that was not dropped.
fn catalog_column(relation: pg_sys::Oid, number: i16) -> Option<String> {
    // SAFETY: null for a column that does not exist or was dropped; the tuple is released after its
    // name was copied.
    unsafe {
        let tuple = pg_sys::SearchSysCacheAttNum(relation, number);
        if tuple.is_null() {
            return None;
        }
        let attribute = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_attribute>();
        let name = catalog::string_from((*attribute).attname.data.as_ptr());
        pg_sys::ReleaseSysCache(tuple);
        name
    }
}

macro_rules! rows {
    () => {
        "SELECT pg_catalog.jsonb_build_object('schema_name', schema_name, 'table_name', table_name,
           'database_identity', database_identity::pg_catalog.int8, 'relation_oid', relation_oid::pg_catalog.int8,
           'template', template, 'tenant_column', coalesce(tenant_column, ''), 'mode', mode, 'options', options,
           'made', made, 'found', found)::pg_catalog.text
         FROM tenancy.protection"
    };
}

const ROWS: &str = rows!();

const NAMED: &str = concat!(rows!(), " WHERE schema_name = $1 AND table_name = $2");

const ROW: &str = concat!(
    rows!(),
    " WHERE (schema_name = $1 AND table_name = $2) OR relation_oid = $3"
);

/// All registrations, those of tables that are gone too.
pub fn everything() -> Result<Vec<Row>> {
    let _role = ActingRole::new(extension_owner()?);
    spi::rows(ROWS, &[])
}

/// The registration under that name.
pub fn named(schema: &str, table: &str) -> Result<Option<Row>> {
    let _role = ActingRole::new(extension_owner()?);
    spi::row_planned(NAMED, &[schema.into(), table.into()])
}

/// Who registered the table.
pub fn registered_by(row: &Row) -> Result<Option<String>> {
    let _role = ActingRole::new(extension_owner()?);
    spi::row(
        "SELECT pg_catalog.to_json(protected_by)::pg_catalog.text FROM tenancy.protection
         WHERE schema_name = $1 AND table_name = $2",
        &[
            row.schema_name.as_str().into(),
            row.table_name.as_str().into(),
        ],
    )
}

/// All registered tables that exist, with the relation that each means, in the order of oids.
pub fn all() -> Result<Vec<(pg_sys::Oid, Row)>> {
    let rows = everything()?;
    let mut found: Vec<(pg_sys::Oid, Row)> = rows
        .into_iter()
        .filter_map(|row| row.relation().map(|oid| (oid, row)))
        .collect();
    found.sort_by_key(|(oid, row)| (oid.to_u32(), row.relation_oid != oid.to_u32()));
    found.dedup_by_key(|(oid, _)| oid.to_u32());
    Ok(found)
}

/// The registration of one relation.
pub fn of(relation: pg_sys::Oid) -> Result<Option<Row>> {
    let Some(name) = catalog::relation_name(relation) else {
        return Ok(None);
    };
    let rows: Vec<Row> = {
        let _role = ActingRole::new(extension_owner()?);
        spi::rows_planned(
            ROW,
            &[name.schema.into(), name.name.into(), relation.into()],
        )?
    };
    let mut rows: Vec<Row> = rows
        .into_iter()
        // Its own, also where another table has taken the name that it was registered under.
        .filter(|row| row.is_of(relation) || row.relation() == Some(relation))
        .collect();
    rows.sort_by_key(|row| row.relation_oid != relation.to_u32());
    Ok(rows.into_iter().next())
}

/// Writes `row`; `previous` is what stood there before, under whatever name.
pub fn save(row: &Row, previous: Option<&Row>) -> Result<()> {
    if previous == Some(row) {
        return Ok(());
    }
    let caller = catalog::current_role_name();
    let stood_elsewhere = match previous {
        Some(previous) => {
            (&previous.schema_name, &previous.table_name) != (&row.schema_name, &row.table_name)
        }
        // Perhaps that of a table which had the name before.
        None => named(&row.schema_name, &row.table_name)?.is_some(),
    };
    if stood_elsewhere {
        follow_renames()?;
    }
    let _role = ActingRole::new(extension_owner()?);
    spi::execute(
        "INSERT INTO tenancy.protection AS p (schema_name, table_name, database_identity, relation_oid,
             template, tenant_column, mode, options, made, found, protected_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (schema_name, table_name) DO UPDATE SET
             database_identity = EXCLUDED.database_identity, relation_oid = EXCLUDED.relation_oid,
             template = EXCLUDED.template, tenant_column = EXCLUDED.tenant_column,
             mode = EXCLUDED.mode, options = EXCLUDED.options,
             made = EXCLUDED.made, found = EXCLUDED.found,
             mode_since = CASE WHEN p.mode = EXCLUDED.mode THEN p.mode_since
                               ELSE pg_catalog.now() END",
        &[
            row.schema_name.as_str().into(),
            row.table_name.as_str().into(),
            pg_sys::Oid::from(row.database_identity).into(),
            pg_sys::Oid::from(row.relation_oid).into(),
            row.template.as_str().into(),
            Some(row.tenant_column.as_str())
                .filter(|column| !column.is_empty())
                .into(),
            row.mode.as_str().into(),
            JsonB(row.options.clone()).into(),
            JsonB(to_value(&row.made)).into(),
            JsonB(to_value(&row.found)).into(),
            caller.into(),
        ],
    )
}

/// Has every registration stand under the name that its table has today. What stands under such a name
/// otherwise was registered in another database, or is of a table that is gone.
pub fn follow_renames() -> Result<()> {
    let _role = ActingRole::new(extension_owner()?);
    // No schema has an empty name: there they do not get into each other's way, as tables that swapped names would.
    spi::execute(
        "UPDATE tenancy.protection p SET schema_name = '', table_name = p.relation_oid::pg_catalog.text
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE p.database_identity = $1 AND c.oid = p.relation_oid
           AND (p.schema_name <> n.nspname OR p.table_name <> c.relname)",
        &[catalog::database_identity().into()],
    )?;
    spi::execute(
        "DELETE FROM tenancy.protection p
         USING tenancy.protection moved, pg_catalog.pg_class c, pg_catalog.pg_namespace n
         WHERE moved.schema_name = '' AND c.oid = moved.relation_oid AND n.oid = c.relnamespace
           AND p.schema_name = n.nspname AND p.table_name = c.relname",
        &[],
    )?;
    spi::execute(
        "UPDATE tenancy.protection p SET schema_name = n.nspname, table_name = c.relname
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE p.schema_name = '' AND c.oid = p.relation_oid",
        &[],
    )
}

/// Forgets a table.
pub fn delete(row: &Row) -> Result<()> {
    let _role = ActingRole::new(extension_owner()?);
    delete_row(row)
}

fn delete_row(row: &Row) -> Result<()> {
    spi::execute(
        "DELETE FROM tenancy.protection WHERE schema_name = $1 AND table_name = $2",
        &[
            row.schema_name.as_str().into(),
            row.table_name.as_str().into(),
        ],
    )
}

fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}
