//! The words of the policy contract: templates, modes and commands.
//!
//! Pure: owns parsing and naming of what a caller may ask for; options are in `options`. Must never touch the catalog.

use super::options::Readers;
pub use super::options::{ForeignKeys, Options};
use crate::binding::TenantType;
use crate::error::{Error, Kind, Result};

/// Which rows a protected table shows to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// A tenant sees and writes its own rows.
    Tenant,
    /// The same, and everybody reads the rows of the platform tenant.
    SharedRead,
    /// A tenant sees its own rows, and its admins write them.
    TenantReadAdminWrite,
    /// The table of tenants itself: a tenant sees its own row.
    OwnTenant,
    /// A user sees and writes his own row.
    SelfRow,
    /// A user sees the rows of all his tenants and writes those of the current one.
    MemberRead,
    /// Everybody reads, admins write; no tenant column.
    GlobalReadAdminWrite,
    /// The rows whose parent, by a foreign key, is the tenant's; no tenant column.
    Child,
}

impl Template {
    /// All of them, in the order of the contract.
    pub const ALL: [Self; 8] = [
        Self::Tenant,
        Self::SharedRead,
        Self::TenantReadAdminWrite,
        Self::OwnTenant,
        Self::SelfRow,
        Self::MemberRead,
        Self::GlobalReadAdminWrite,
        Self::Child,
    ];

    /// The template of that name.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|template| template.name() == name)
            .ok_or_else(|| {
                Error::new(
                    Kind::InvalidParameterValue,
                    format!("unknown template \"{name}\""),
                )
                .hint(format!(
                    "Use one of: {}.",
                    Self::ALL.map(Self::name).join(", ")
                ))
            })
    }

    /// Whether the table has a tenant column, which is then NOT NULL and indexed.
    pub fn has_tenant_column(self, options: &Options) -> bool {
        match self {
            Self::Tenant
            | Self::SharedRead
            | Self::TenantReadAdminWrite
            | Self::OwnTenant
            | Self::MemberRead => true,
            Self::SelfRow => options.readers != Readers::None,
            Self::GlobalReadAdminWrite | Self::Child => false,
        }
    }

    /// Whether a row must stay with its tenant; the id of a tenant is not the tenant of a row.
    pub fn keeps_tenant(self, options: &Options) -> bool {
        self.has_tenant_column(options) && self != Self::OwnTenant
    }

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::SharedRead => "shared_read",
            Self::TenantReadAdminWrite => "tenant_read_admin_write",
            Self::OwnTenant => "own_tenant",
            Self::SelfRow => "self",
            Self::MemberRead => "member_read",
            Self::GlobalReadAdminWrite => "global_read_admin_write",
            Self::Child => "child",
        }
    }
}

/// How far the protection of a table has been rolled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Registered, nothing else.
    Permissive,
    /// Registered; what enforcement would change is recorded.
    Shadow,
    /// Policies in place, row security enabled (and forced).
    Enforce,
}

impl Mode {
    /// The mode of that name.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "permissive" => Ok(Self::Permissive),
            "shadow" => Ok(Self::Shadow),
            "enforce" => Ok(Self::Enforce),
            other => Err(Error::new(
                Kind::InvalidParameterValue,
                format!("unknown mode \"{other}\""),
            )
            .hint("Use 'permissive', 'shadow' or 'enforce'.")),
        }
    }

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Permissive => "permissive",
            Self::Shadow => "shadow",
            Self::Enforce => "enforce",
        }
    }
}

/// A command that a policy can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Command {
    /// Every command.
    All,
    /// SELECT.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

impl Command {
    /// The four commands that rows are isolated for, in the order of the contract.
    pub const EACH: [Self; 4] = [Self::Select, Self::Insert, Self::Update, Self::Delete];

    /// The keyword in `FOR ..`.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }

    /// The end of a policy's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// `pg_policy.polcmd`.
    pub const fn catalog_letter(self) -> &'static str {
        match self {
            Self::All => "*",
            Self::Select => "r",
            Self::Insert => "a",
            Self::Update => "w",
            Self::Delete => "d",
        }
    }

    /// Whether existing rows are tested.
    pub const fn has_using(self) -> bool {
        !matches!(self, Self::Insert)
    }

    /// Whether written rows are tested.
    pub const fn has_check(self) -> bool {
        matches!(self, Self::All | Self::Insert | Self::Update)
    }
}

/// What the policies of a tenant type call and which column types they compare with an index.
pub trait TenantFunctions {
    /// The twin of the context function that raises where there is no context.
    fn required_call(self) -> &'static str;
    /// The same of the platform tenant.
    fn platform_call(self) -> &'static str;
    /// All tenants of the user, in an array of the type that `required_call` returns.
    fn memberships_call(self) -> &'static str;
    /// The types of a tenant column, as `format_type` shows them.
    fn column_types(self) -> &'static [&'static str];
    /// The column's DEFAULT, the context function qualified with the extension's schema.
    fn default_expression(self, quoted_schema: &str) -> String;
}

impl TenantFunctions for TenantType {
    fn required_call(self) -> &'static str {
        match self {
            Self::Uuid => "tenancy.current_tenant_id_required()",
            Self::Text => "tenancy.current_tenant_id_text_required()",
            // int4 = int8 is a member of the btree operator family, so one twin serves both.
            Self::Bigint | Self::Integer => "tenancy.current_tenant_id_bigint_required()",
        }
    }

    fn platform_call(self) -> &'static str {
        match self {
            Self::Uuid => "tenancy.platform_tenant_id_required()",
            Self::Text => "tenancy.platform_tenant_id_text_required()",
            Self::Bigint | Self::Integer => "tenancy.platform_tenant_id_bigint_required()",
        }
    }

    fn memberships_call(self) -> &'static str {
        match self {
            Self::Uuid => "tenancy.user_tenant_ids_required()",
            Self::Text => "tenancy.user_tenant_ids_text_required()",
            Self::Bigint | Self::Integer => "tenancy.user_tenant_ids_bigint_required()",
        }
    }

    fn column_types(self) -> &'static [&'static str] {
        match self {
            Self::Uuid => &["uuid"],
            Self::Text => &["text", "character varying"],
            Self::Bigint => &["bigint"],
            Self::Integer => &["integer"],
        }
    }

    fn default_expression(self, quoted_schema: &str) -> String {
        match self {
            Self::Uuid => format!("{quoted_schema}.current_tenant_id()"),
            Self::Text => format!("{quoted_schema}.current_tenant_id_text()"),
            Self::Bigint => format!("{quoted_schema}.current_tenant_id_bigint()"),
            Self::Integer => format!("({quoted_schema}.current_tenant_id_bigint())::integer"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_templates_are_told_from_nonsense() {
        assert_eq!(Mode::parse("shadow"), Ok(Mode::Shadow));
        assert_eq!(
            Mode::parse("ENFORCE").unwrap_err().kind(),
            Kind::InvalidParameterValue
        );
        for template in Template::ALL {
            assert_eq!(Template::parse(template.name()), Ok(template));
        }
        for nonsense in ["", "Tenant", "user"] {
            assert_eq!(
                Template::parse(nonsense).unwrap_err().kind(),
                Kind::InvalidParameterValue
            );
        }
    }
}
