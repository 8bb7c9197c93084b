//! The ways to keep tenants apart that are compared.
//!
//! Owns what they differ in: the schema with their copy of the tables, the policy on it, the role,
//! and the setting that says who is asking. The alternatives use settings of their own names, so
//! that the extension's check of its settings is not held against them.

use super::Bench;
use super::session;
use crate::fixture::Server;

/// The application's role.
pub(crate) const APPLICATION: &str = "bench_app";
/// The same with `pg_tenancy.context_scope = session`.
pub(crate) const SESSION_SCOPED: &str = "bench_session_scoped";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// No row security, the tenant's literal in every WHERE, on a server without the library.
    Bare,
    /// The same where the library is preloaded: what the others are compared with.
    Literal,
    /// `tenancy.protect_table()`.
    Tenancy,
    /// The same for a role with `pg_tenancy.context_scope = session`.
    SessionScope,
    /// A policy that reads a setting.
    Setting,
    /// The same, wrapped so that it is read once a statement.
    SubSelect,
    /// A policy that calls a PL/pgSQL function, which looks the user up, as the OKR system had it.
    Lookup,
}

/// Who is asking.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub user: String,
    pub tenant: String,
}

impl Variant {
    /// One of each on the loaded server.
    pub const LOADED: [Variant; 5] = [
        Variant::Literal,
        Variant::Tenancy,
        Variant::Setting,
        Variant::SubSelect,
        Variant::Lookup,
    ];

    /// Those whose lookups are compared.
    pub const LOOKUPS: [Variant; 7] = [
        Variant::Bare,
        Variant::Literal,
        Variant::Tenancy,
        Variant::SessionScope,
        Variant::Setting,
        Variant::SubSelect,
        Variant::Lookup,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Variant::Bare => "literal, library not loaded",
            Variant::Literal => "literal WHERE, no RLS",
            Variant::Tenancy => "pg_tenancy",
            Variant::SessionScope => "pg_tenancy, session scope",
            Variant::Setting => "current_setting()::uuid",
            Variant::SubSelect => "(SELECT current_setting()::uuid)",
            Variant::Lookup => "PL/pgSQL lookup",
        }
    }

    /// The schema with its copy of the tables.
    pub fn schema(self) -> &'static str {
        match self {
            Variant::Bare | Variant::Literal => "literal",
            Variant::Tenancy | Variant::SessionScope => "protected",
            Variant::Setting => "by_setting",
            Variant::SubSelect => "by_subselect",
            Variant::Lookup => "by_lookup",
        }
    }

    pub fn role(self) -> &'static str {
        match self {
            Variant::SessionScope => SESSION_SCOPED,
            _ => APPLICATION,
        }
    }

    pub fn server(self, bench: &Bench) -> &'static Server {
        match self {
            Variant::Bare => bench.bare,
            _ => bench.loaded,
        }
    }

    /// The predicate of a hand-written policy.
    pub fn policy(self) -> Option<&'static str> {
        match self {
            Variant::Setting => {
                Some("tenant_id = current_setting('plain.current_tenant_id')::uuid")
            }
            Variant::SubSelect => {
                Some("tenant_id = (SELECT current_setting('plain.current_tenant_id')::uuid)")
            }
            Variant::Lookup => Some("tenant_id = plain.current_tenant()"),
            Variant::Bare | Variant::Literal | Variant::Tenancy | Variant::SessionScope => None,
        }
    }

    /// What a query has to say itself about the tenant of a table; empty under row security.
    pub fn condition(self, column: &str, identity: &Identity) -> String {
        match self {
            Variant::Bare | Variant::Literal => format!(" AND {column} = '{}'", identity.tenant),
            _ => String::new(),
        }
    }

    /// The setting that carries the identity, and its value. The literal needs none; it sets one
    /// where the others do, so that all send the same number of statements.
    fn setting(self, identity: &Identity) -> (&'static str, &str) {
        match self {
            Variant::Tenancy | Variant::SessionScope => ("app.current_user_id", &identity.user),
            Variant::Setting | Variant::SubSelect => ("plain.current_tenant_id", &identity.tenant),
            Variant::Bare | Variant::Literal | Variant::Lookup => {
                ("plain.current_user_id", &identity.user)
            }
        }
    }

    /// The identity as options of a connection.
    pub fn options(self, identity: &Identity) -> String {
        let (name, value) = self.setting(identity);
        format!("-c {name}={value}")
    }

    /// The identity as a statement for one transaction.
    pub fn set_local(self, identity: &Identity) -> String {
        let (name, value) = self.setting(identity);
        format!("SET LOCAL {name} = '{value}'")
    }

    /// A session of its role that brings the identity along.
    pub fn open(self, bench: &Bench, identity: &Identity) -> anyhow::Result<postgres::Client> {
        let server = self.server(bench);
        session::open(
            server,
            session::DATABASE,
            self.role(),
            &self.options(identity),
        )
    }
}
