//! The statements that read bound tables.
//!
//! Owns their text and their kept plans. Every name in them is qualified, operators included, so that
//! no `search_path` can redirect them; they run as the table's owner.

use std::cell::Cell;

use pgrx::pg_sys;

use super::{BoundTable, Definition};
use crate::catalog::{self, quote_identifier};
use crate::context::identity::{TenantType, UserType};
use crate::error::{Error, Kind, Result};
use crate::registry::PinnedSearchPath;

/// A column of a bound table.
pub struct Column {
    pub number: i16,
    pub base_type: pg_sys::Oid,
}

impl Column {
    /// The spelling of identifiers in this column.
    pub fn user_type(&self) -> UserType {
        match self.base_type {
            pg_sys::UUIDOID => UserType::Uuid,
            pg_sys::INT8OID => UserType::Bigint,
            pg_sys::INT4OID => UserType::Integer,
            _ => UserType::Text,
        }
    }

    /// The tenant type that the column can hold; `None` for any other type.
    pub fn tenant_type(&self) -> Option<TenantType> {
        tenant_type_of(self.base_type)
    }

    /// Whether its values are strings.
    pub fn is_string(&self) -> bool {
        let (mut category, mut preferred) = (0, false);
        // SAFETY: a catalog lookup by oid.
        unsafe {
            pg_sys::get_type_category_preferred(self.base_type, &mut category, &mut preferred)
        };
        category as u8 == pg_sys::TYPCATEGORY_STRING
    }

    /// The name of its type, or of that below a domain.
    pub fn type_name(&self) -> String {
        // SAFETY: formats a type oid.
        unsafe { catalog::string_from(pg_sys::format_type_be(self.base_type)) }.unwrap_or_default()
    }

    fn is_built_in(&self) -> bool {
        is_built_in(self.base_type)
    }

    /// SQL that spells the column as text and runs nobody's code: a cast of a type that is not built
    /// in may be any function, and would run as the owner of the table, whoever that is by then.
    fn as_text(&self, name: &str) -> String {
        let name = quote_identifier(name);
        if self.is_built_in() {
            format!("{name}::pg_catalog.text")
        } else {
            format!("NULLIF(pg_catalog.format('%s', {name}), '')")
        }
    }
}

/// The tenant type that a column of that type, or of a domain over it, can hold.
pub fn tenant_type_of(type_oid: pg_sys::Oid) -> Option<TenantType> {
    let built_in = |type_oid| {
        Some(match type_oid {
            pg_sys::UUIDOID => TenantType::Uuid,
            pg_sys::TEXTOID | pg_sys::VARCHAROID => TenantType::Text,
            pg_sys::INT8OID => TenantType::Bigint,
            pg_sys::INT4OID => TenantType::Integer,
            _ => return None,
        })
    };
    // Asked for every row of a lookup: no more than it takes.
    // SAFETY: a catalog lookup by oid.
    built_in(type_oid).or_else(|| built_in(unsafe { pg_sys::getBaseType(type_oid) }))
}

/// Whether the type came with Postgres.
pub fn is_built_in(type_oid: pg_sys::Oid) -> bool {
    type_oid.to_u32() < pg_sys::FirstUnpinnedObjectId
}

/// Refuses a column that the row does not hold: its value is not there for the guard to compare.
pub fn require_stored(relation: pg_sys::Oid, number: i16) -> Result<()> {
    // SAFETY: a catalog lookup by oid and number.
    if unsafe { pg_sys::get_attgenerated(relation, number) } as u8 == b'v' {
        return Err(Error::new(
            Kind::FeatureNotSupported,
            "a virtual generated column cannot carry identity",
        )
        .hint("Bind the columns that it is computed from, or make it STORED."));
    }
    Ok(())
}

/// The column of that name.
pub fn column(relation: pg_sys::Oid, name: &str) -> Result<Column> {
    let name_c = catalog::c_string(name);
    // SAFETY: catalog lookups by oid and name.
    unsafe {
        let number = pg_sys::get_attnum(relation, name_c.as_ptr());
        if number <= 0 {
            let relation = catalog::relation_name(relation)
                .map(|n| n.to_string())
                .unwrap_or_default();
            return Err(Error::new(
                Kind::UndefinedColumn,
                format!(
                    "column {} of relation {relation} does not exist",
                    quote_identifier(name)
                ),
            )
            .hint("Name an existing column of the bound relation."));
        }
        require_stored(relation, number)?;
        let base_type = pg_sys::getBaseType(pg_sys::get_atttype(relation, number));
        Ok(Column { number, base_type })
    }
}

/// What is pinned while a statement runs: assigning settings costs more than reading a row by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pins {
    Nothing,
    /// Something in it resolves names as it runs.
    SearchPath,
    /// Values are read or written as settings say, or the time zone counts.
    Spelling,
}

impl Pins {
    fn of(table: &BoundTable, active: Option<&str>, resolves_names: bool) -> Self {
        match active {
            Some(_) if table.reads_settings => Self::Spelling,
            Some(_) => Self::SearchPath,
            None if resolves_names => Self::SearchPath,
            None => Self::Nothing,
        }
    }

    /// Pins it, as long as what is returned lives.
    pub fn hold(self) -> Option<PinnedSearchPath> {
        match self {
            Self::Nothing => None,
            Self::SearchPath => Some(PinnedSearchPath::new()),
            Self::Spelling => Some(PinnedSearchPath::with_spelling()),
        }
    }
}

/// A statement with one parameter, its owner and its plan.
#[derive(Debug)]
pub struct Query {
    pub owner: pg_sys::Oid,
    pub parameter_type: pg_sys::Oid,
    /// The type that the parameter, or each of its elements, is compared as.
    pub element_type: pg_sys::Oid,
    /// What of the session must not matter to it.
    pub pins: Pins,
    pub text: String,
    plan: Cell<pg_sys::SPIPlanPtr>,
}

impl Query {
    /// (tenant, role as text) of each active membership of a user.
    pub fn memberships(table: &BoundTable, definition: &Definition) -> Result<Self> {
        Self::memberships_that(table, definition, definition.membership_active.as_deref())
    }

    /// The same of each membership, whether or not it counts now.
    pub fn all_memberships(table: &BoundTable, definition: &Definition) -> Result<Self> {
        Self::memberships_that(table, definition, None)
    }

    fn memberships_that(
        table: &BoundTable,
        definition: &Definition,
        active: Option<&str>,
    ) -> Result<Self> {
        let user = column(table.relation, &definition.membership_user)?;
        let tenant = column(table.relation, &definition.membership_tenant)?;
        require_tenant_type(&tenant, definition, &definition.membership_tenant)?;
        let role = match &definition.membership_role {
            Some(role) => column(table.relation, role)?.as_text(role),
            None => "NULL::pg_catalog.text".to_owned(),
        };
        let tenant_name = quote_identifier(&definition.membership_tenant);
        let (equality, parameter_type) = equality(&user)?;
        let text = format!(
            "SELECT {tenant_name}, {role} FROM {relation} WHERE {user_name} {equality} $1 AND {tenant_name} IS NOT NULL{active}",
            relation = relation_text(table)?,
            user_name = quote_identifier(&definition.membership_user),
            active = condition(active),
        );
        Ok(Self::new(
            table,
            parameter_type,
            parameter_type,
            Pins::of(table, active, !user.is_built_in()),
            text,
        ))
    }

    /// (role as text) of a user.
    pub fn role(table: &BoundTable, definition: &Definition) -> Result<Self> {
        let user = column(table.relation, &definition.role_user)?;
        let (equality, parameter_type) = equality(&user)?;
        let text = format!(
            "SELECT {role} FROM {relation} WHERE {user_name} {equality} $1",
            role =
                column(table.relation, &definition.role_column)?.as_text(&definition.role_column),
            relation = relation_text(table)?,
            user_name = quote_identifier(&definition.role_user),
        );
        Ok(Self::new(
            table,
            parameter_type,
            parameter_type,
            Pins::of(table, None, !user.is_built_in()),
            text,
        ))
    }

    /// (tenant) of each active one among an array of tenants.
    pub fn tenants(table: &BoundTable, definition: &Definition) -> Result<Self> {
        let id = column(table.relation, &definition.tenants_id)?;
        require_tenant_type(&id, definition, &definition.tenants_id)?;
        let (equality, element_type) = equality(&id)?;
        // SAFETY: a catalog lookup by oid.
        let array_type = unsafe { pg_sys::get_array_type(element_type) };
        let text = format!(
            "SELECT {id_name} FROM {relation} WHERE {id_name} {equality} ANY ($1){active}",
            id_name = quote_identifier(&definition.tenants_id),
            relation = relation_text(table)?,
            active = condition(definition.tenants_active.as_deref()),
        );
        let pins = Pins::of(table, definition.tenants_active.as_deref(), false);
        Ok(Self::new(table, array_type, element_type, pins, text))
    }

    fn new(
        table: &BoundTable,
        parameter_type: pg_sys::Oid,
        element_type: pg_sys::Oid,
        pins: Pins,
        text: String,
    ) -> Self {
        Self {
            owner: table.owner,
            parameter_type,
            element_type,
            pins,
            text,
            plan: Cell::new(core::ptr::null_mut()),
        }
    }

    /// The kept plan; prepared on first use. Call with SPI connected and the owner acting.
    pub fn plan(&self) -> Result<pg_sys::SPIPlanPtr> {
        if !self.plan.get().is_null() {
            return Ok(self.plan.get());
        }
        let text = catalog::c_string(&self.text);
        let mut types = [self.parameter_type];
        // SAFETY: SPI is connected by the caller's promise. One plan serves all values: without
        // statistics on a single key a custom plan would only cost planning.
        unsafe {
            let plan = pg_sys::SPI_prepare_cursor(
                text.as_ptr(),
                1,
                types.as_mut_ptr(),
                pg_sys::CURSOR_OPT_GENERIC_PLAN as i32,
            );
            if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                return Err(Error::new(Kind::Internal, "a bound table cannot be read")
                    .detail(format!("SPI_prepare failed for: {}", self.text)));
            }
            self.plan.set(plan);
            Ok(plan)
        }
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        let plan = self.plan.replace(core::ptr::null_mut());
        // SAFETY: a plan we kept, freed once, and not while the process ends.
        unsafe {
            if !plan.is_null() && !pg_sys::proc_exit_inprogress {
                pg_sys::SPI_freeplan(plan);
            }
        }
    }
}

fn condition(active: Option<&str>) -> String {
    active
        // On lines of its own: it may end in a comment.
        .map(|expression| format!(" AND ({expression}\n)"))
        .unwrap_or_default()
}

fn relation_text(table: &BoundTable) -> Result<String> {
    catalog::relation_name(table.relation)
        .map(|name| name.to_string())
        .ok_or_else(|| Error::new(Kind::UndefinedTable, "the bound relation does not exist"))
}

pub fn require_tenant_type(column: &Column, definition: &Definition, name: &str) -> Result<()> {
    if column.tenant_type() == Some(definition.tenant_type) {
        return Ok(());
    }
    // SAFETY: formats a type oid.
    let actual = unsafe { catalog::string_from(pg_sys::format_type_be(column.base_type)) };
    Err(Error::new(
        Kind::DatatypeMismatch,
        format!(
            "column {} is of type {}, but tenants are of type {}",
            quote_identifier(name),
            actual.unwrap_or_default(),
            definition.tenant_type.name()
        ),
    )
    .hint("Give tenancy.bind the tenant_type of the column: uuid, text, bigint or integer."))
}

/// Refuses a column that nothing can be compared with.
pub fn require_comparable(column: &Column) -> Result<()> {
    equality(column).map(drop)
}

/// Types that read an identifier and keep less than all of it.
const CUTS_OR_ROUNDS: [pg_sys::Oid; 10] = [
    pg_sys::CHAROID,
    pg_sys::FLOAT4OID,
    pg_sys::FLOAT8OID,
    pg_sys::MONEYOID,
    pg_sys::DATEOID,
    pg_sys::TIMEOID,
    pg_sys::TIMETZOID,
    pg_sys::TIMESTAMPOID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::INTERVALOID,
];

/// The qualified equality operator of the column's type, and the type of its right side: one that reads
/// all of an identifier. What is cut off would leave somebody else's.
pub fn equality(column: &Column) -> Result<(String, pg_sys::Oid)> {
    match column.base_type {
        // There is such an operator, and indexes know it.
        pg_sys::NAMEOID => return Ok(("OPERATOR(pg_catalog.=)".to_owned(), pg_sys::TEXTOID)),
        type_oid if CUTS_OR_ROUNDS.contains(&type_oid) => {
            return Err(Error::new(
                Kind::FeatureNotSupported,
                format!(
                    "a column of type {} cannot carry identity",
                    column.type_name()
                ),
            )
            .detail("What it does not hold of an identifier would tell it from another's.")
            .hint("Bind a column of a type such as uuid, text or bigint."));
        }
        _ => {}
    }
    // SAFETY: catalog lookups by oid; the tuple is released before returning.
    unsafe {
        let entry = pg_sys::lookup_type_cache(column.base_type, pg_sys::TYPECACHE_EQ_OPR as i32);
        let operator = (*entry).eq_opr;
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::OPEROID as i32,
            pg_sys::Datum::from(operator),
        );
        if operator == pg_sys::InvalidOid || tuple.is_null() {
            return Err(Error::new(
                Kind::DatatypeMismatch,
                "the bound column is of a type without an equality operator",
            )
            .hint("Bind a column of a type such as uuid, text or bigint."));
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_operator>();
        let name = catalog::string_from((*form).oprname.data.as_ptr()).unwrap_or_default();
        let namespace = catalog::string_from(pg_sys::get_namespace_name((*form).oprnamespace));
        let right = (*form).oprright;
        pg_sys::ReleaseSysCache(tuple);
        let right = match right {
            pg_sys::ANYENUMOID | pg_sys::ANYELEMENTOID => column.base_type,
            right => right,
        };
        let namespace = quote_identifier(&namespace.unwrap_or_default());
        Ok((format!("OPERATOR({namespace}.{name})"), right))
    }
}
