//! Cases about privileges and roles. `{other}` is of the case alone.

use super::{Case, case, told};

const APP: &str = "{T}{P}GRANT SELECT ON {s}.t TO {other}; ";

pub fn applied(text: &str) -> String {
    text.replace("{APP}", APP)
}

pub const CASES: &[Case] = &[
    case(
        "grant-truncate",
        "TRUNCATE on table {s}.t for {app}",
        "{T}GRANT TRUNCATE ON {s}.t TO {app}",
        "{T}",
    ),
    case(
        "grant-trigger",
        "TRIGGER on table {s}.t for {app}",
        "{T}GRANT TRIGGER ON {s}.t TO {app}",
        "{T}",
    ),
    case(
        "grant-references",
        "REFERENCES on table {s}.t for {app}",
        "{T}GRANT REFERENCES ON {s}.t TO {app}",
        "{T}",
    ),
    case(
        "grant-references",
        "REFERENCES on table {s}.t for {app}",
        "{T}GRANT REFERENCES (id) ON {s}.t TO {app}",
        "{T}GRANT SELECT (id) ON {s}.t TO {app}",
    ),
    case(
        "grant-public",
        "table {s}.t",
        "{T}GRANT SELECT ON {s}.t TO PUBLIC",
        "CREATE TABLE {s}.u (id int); GRANT SELECT ON {s}.u TO PUBLIC",
    ),
    case(
        "grant-column-void",
        "UPDATE on table {s}.t for {app}",
        "{T}GRANT UPDATE (note) ON {s}.t TO {app}",
        "{T}REVOKE UPDATE ON {s}.t FROM {app}; GRANT UPDATE (note) ON {s}.t TO {app}",
    ),
    case(
        "default-privileges",
        "default privileges of postgres in schema {s} for {app}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {s} GRANT TRUNCATE ON TABLES TO {app}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {s} GRANT SELECT ON TABLES TO {app}",
    ),
    case(
        "default-privileges-unprotected",
        "schema {s}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {s} GRANT SELECT ON TABLES TO {app}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {s} GRANT SELECT ON SEQUENCES TO {app}",
    ),
    // For all schemas, of a role that makes tables in this one.
    case(
        "default-privileges-unprotected",
        "schema {s}",
        "{T}{P}ALTER ROLE {other} NOLOGIN; GRANT CREATE ON SCHEMA {s} TO {other}; ALTER DEFAULT PRIVILEGES FOR ROLE {other} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}",
        "{T}{P}ALTER ROLE {other} NOLOGIN; GRANT CREATE ON SCHEMA {s} TO {other}; ALTER DEFAULT PRIVILEGES FOR ROLE {other} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}; SELECT tenancy.auto_protect('{s}', mode => 'enforce')",
    ),
    case(
        "default-privileges-unprotected",
        "schema {s}",
        "{T}{P}ALTER ROLE {other} NOLOGIN; ALTER SCHEMA {s} OWNER TO {other}; ALTER DEFAULT PRIVILEGES FOR ROLE {other} GRANT SELECT ON TABLES TO {app}",
        "{T}{P}ALTER ROLE {other} NOLOGIN; ALTER DEFAULT PRIVILEGES FOR ROLE {other} GRANT SELECT ON TABLES TO {app}",
    ),
    case(
        "schema-create",
        "CREATE on schema {s} for {app}",
        "GRANT CREATE ON SCHEMA {s} TO {app}",
        "GRANT USAGE ON SCHEMA {s} TO {app}",
    ),
    case(
        "schema-create",
        "schema {s} of {other}",
        "{APP}ALTER SCHEMA {s} OWNER TO {other}",
        "{APP}GRANT USAGE ON SCHEMA {s} TO {other}",
    ),
    // Of a group of its, and one of its own.
    case(
        "schema-create",
        "schema {s} of {other}",
        "{T}{P}ALTER ROLE {other} NOLOGIN; ALTER SCHEMA {s} OWNER TO {other}; GRANT {other} TO {app}",
        "{T}{P}ALTER ROLE {other} NOLOGIN; ALTER SCHEMA {s} OWNER TO {other}",
    ),
    case(
        "schema-create",
        "schema {s} of {app}",
        "ALTER SCHEMA {s} OWNER TO {app}",
        "ALTER ROLE {other} NOLOGIN; ALTER SCHEMA {s} OWNER TO {other}",
    ),
    case(
        "role-superuser",
        "role {other}",
        "{APP}ALTER ROLE {other} SUPERUSER",
        "{APP}",
    ),
    // By a group, and not one of administrators who own tables.
    case(
        "role-superuser",
        "role {other}",
        "{T}{P}GRANT {app} TO {other}; ALTER ROLE {other} SUPERUSER",
        "{T}GRANT USAGE ON SCHEMA {s} TO {other}; ALTER ROLE {other} SUPERUSER; ALTER TABLE {s}.t OWNER TO {other}; {P}",
    ),
    told(
        "role-owner",
        "role {other}",
        "{T}GRANT USAGE ON SCHEMA {s} TO {other}; ALTER TABLE {s}.t OWNER TO {other}",
        "{T}ALTER ROLE {other} NOLOGIN; ALTER TABLE {s}.t OWNER TO {other}",
    ),
    // Row security does not bind it.
    case(
        "role-owner",
        "role {other} with table {s}.t",
        "{T}GRANT USAGE ON SCHEMA {s} TO {other}; ALTER TABLE {s}.t OWNER TO {other}; SELECT tenancy.protect_table('{s}.t', mode => 'enforce', options => '{\"force\": false}')",
        "{T}GRANT USAGE ON SCHEMA {s} TO {other}; ALTER ROLE {other} NOLOGIN; ALTER TABLE {s}.t OWNER TO {other}; SELECT tenancy.protect_table('{s}.t', mode => 'enforce', options => '{\"force\": false}')",
    ),
    case(
        "role-bypassrls",
        "role {other}",
        "{APP}ALTER ROLE {other} BYPASSRLS",
        "{APP}",
    ),
    // By a group, and not one of those who copy the database.
    case(
        "role-bypassrls",
        "role {other}",
        "{T}{P}GRANT {app} TO {other}; ALTER ROLE {other} BYPASSRLS",
        "{T}{P}GRANT pg_read_all_data TO {other}; ALTER ROLE {other} BYPASSRLS",
    ),
    // Its own tables.
    case(
        "role-bypassrls",
        "role {other}",
        "{T}GRANT USAGE ON SCHEMA {s} TO {other}; ALTER TABLE {s}.t OWNER TO {other}; ALTER ROLE {other} BYPASSRLS; {P}",
        "{T}GRANT USAGE ON SCHEMA {s} TO {other}; ALTER TABLE {s}.t OWNER TO {other}; ALTER ROLE {other} NOLOGIN BYPASSRLS; {P}",
    ),
    case(
        "role-path",
        "role {other} as pg_read_server_files",
        "{APP}GRANT pg_read_server_files TO {other}",
        "{APP}GRANT pg_read_all_settings TO {other}",
    ),
    case(
        "role-replication",
        "role {other}",
        "{APP}ALTER ROLE {other} REPLICATION",
        "{APP}",
    ),
    case(
        "role-createrole",
        "role {other}",
        "{APP}ALTER ROLE {other} CREATEROLE",
        "{APP}ALTER ROLE {other} CREATEDB",
    ),
    case(
        "role-predefined",
        "role {other} as pg_read_all_data",
        "{APP}GRANT pg_read_all_data TO {other}",
        "{APP}",
    ),
    case(
        "role-setting",
        "role {other}: app.current_tenant_id",
        "ALTER ROLE {other} SET app.current_tenant_id = '00000000-0000-0000-0000-000000000001'",
        "ALTER ROLE {other} SET row_security = on",
    ),
    // Switched off, however that is spelled.
    case(
        "role-setting",
        "role {other}: row_security",
        "ALTER ROLE {other} SET row_security = 'False'",
        "ALTER ROLE {other} SET row_security = 'yes'",
    ),
    case(
        "role-setting",
        "role {other}: row_security",
        "ALTER ROLE {other} SET row_security = 'OF'",
        "ALTER ROLE {other} SET row_security = 1",
    ),
    case(
        "role-setting",
        "role {other}: row_security",
        "ALTER ROLE {other} SET row_security = 0",
        "ALTER ROLE {other} SET application_name = 'off'",
    ),
    case(
        "role-setting",
        "role {other}: row_security",
        "ALTER ROLE {other} SET row_security = n",
        "ALTER ROLE {other} SET row_security = t",
    ),
    // By its other name.
    case(
        "role-setting",
        "role {other}: app.current_org_id",
        "ALTER ROLE {other} SET app.current_org_id = '00000000-0000-0000-0000-000000000001'",
        "ALTER ROLE {other} SET app.current_organisation = 'x'",
    ),
    case(
        "service-role-shared",
        "role {other}",
        "SELECT tenancy.create_app_role('{other}', '{{s}}', login => true); INSERT INTO tenancy.service_roles SELECT rolname, oid FROM pg_roles WHERE rolname = '{other}'",
        "INSERT INTO tenancy.service_roles SELECT rolname, oid FROM pg_roles WHERE rolname = '{other}'",
    ),
    // Made again under its name.
    case(
        "service-role-shared",
        "role {other}",
        "INSERT INTO tenancy.service_roles SELECT rolname, oid FROM pg_roles WHERE rolname = '{other}'; SELECT tenancy.create_app_role('{other}', '{{s}}')",
        "SELECT tenancy.create_app_role('{other}', '{{s}}', login => true); INSERT INTO tenancy.service_roles SELECT rolname, 1 FROM pg_roles WHERE rolname = '{other}'",
    ),
    told(
        "context-unproven",
        "role {other}",
        "{APP}",
        "{APP}ALTER ROLE {other} NOLOGIN",
    ),
];
