//! What the document tests share: the agents system's tables, bound and registered, owned by a role
//! that is no superuser, and an application role that owns nothing and may read nothing of them.

#![allow(dead_code, reason = "each test executable uses its part")]

use pgrx_test::fixture::{ClientExt, Database, Server};
use postgres::Client;

pub const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
pub const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";
/// A member of A, an admin of A, a member of B, and a super admin, who is in B.
pub const ANN: &str = "11111111-0000-4000-8000-000000000001";
pub const ADAM: &str = "22222222-0000-4000-8000-000000000002";
pub const BOB: &str = "33333333-0000-4000-8000-000000000003";
pub const ROOT: &str = "44444444-0000-4000-8000-000000000004";

pub const OWN: &str = "SELECT get_user_tenant_context()";

const TABLES: &str = "
    CREATE TYPE tenant_kind AS ENUM ('system', 'digital_health', 'pharmaceuticals');
    CREATE TABLE organizations (id uuid PRIMARY KEY, name text, slug text, tenant_type tenant_kind NOT NULL,
        tenant_key text NOT NULL UNIQUE, is_active boolean NOT NULL DEFAULT true, secret text DEFAULT 'secret');
    CREATE TABLE users (id uuid PRIMARY KEY, organization_id uuid REFERENCES organizations, email text);
    CREATE INDEX ON users (organization_id);
    CREATE TABLE profiles (id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE, full_name text, role text NOT NULL);
    CREATE TABLE tenant_configurations (tenant_id uuid PRIMARY KEY REFERENCES organizations ON DELETE CASCADE,
        ui_config jsonb NOT NULL DEFAULT '{}', enabled_features jsonb NOT NULL DEFAULT '{}', limits jsonb NOT NULL DEFAULT '{}');
    CREATE TABLE tenant_apps (tenant_id uuid NOT NULL REFERENCES organizations ON DELETE CASCADE, app_key text NOT NULL, app_name text,
        app_route text, is_visible boolean NOT NULL DEFAULT true, is_enabled boolean NOT NULL DEFAULT true,
        display_order integer NOT NULL, PRIMARY KEY (tenant_id, app_key));
    CREATE TABLE feature_flags (id integer PRIMARY KEY, flag_key text NOT NULL UNIQUE, is_active boolean NOT NULL DEFAULT true,
        is_enabled boolean NOT NULL DEFAULT false, config jsonb NOT NULL DEFAULT '{}');
    CREATE TABLE tenant_feature_flags (tenant_id uuid NOT NULL, flag_id integer NOT NULL REFERENCES feature_flags ON DELETE CASCADE,
        is_enabled boolean NOT NULL, config jsonb, PRIMARY KEY (tenant_id, flag_id));";

pub const BIND: &str = "SELECT tenancy.bind(claims_setting => 'request.jwt.claims',
    membership => 'users', membership_user => 'id', membership_tenant => 'organization_id',
    role_table => 'profiles', tenants => 'organizations', tenants_active => 'is_active')";

pub const REGISTER: &str = "
    SELECT tenancy.register_context('user', 'users', columns => '{source.id, email, joined.full_name, joined.role}',
        user_column => 'id', joined => 'profiles', joined_on => 'joined.id = source.id', joined_user_column => 'id',
        shown_to_admins => true);
    SELECT tenancy.register_context('organization', 'organizations', tenant_column => 'id',
        columns => '{id, name, slug, tenant_type, tenant_key, is_active}');
    SELECT tenancy.register_context('config', 'tenant_configurations', columns => '{ui_config, enabled_features, limits}');
    SELECT tenancy.register_context('apps', 'tenant_apps', 'array', order_by => 'display_order, app_key',
        visible => 'is_visible AND is_enabled', columns => '{app_key, app_name, app_route, display_order}');
    SELECT tenancy.register_context('feature_flags', 'feature_flags', 'array', order_by => 'flag_key',
        visible => 'source.is_active', global => true,
        columns => ARRAY['flag_key AS key', 'coalesce(joined.is_enabled, source.is_enabled) AS enabled',
                         'source.config || coalesce(joined.config, ''{}'') AS config'],
        joined => 'tenant_feature_flags', joined_on => 'joined.flag_id = source.id');";

pub const SEED: &str = "
    INSERT INTO organizations VALUES ('aaaaaaaa-0000-4000-8000-000000000001', 'Alpha', 'alpha', 'digital_health', 'alpha-1'),
        ('bbbbbbbb-0000-4000-8000-000000000002', 'Beta', 'beta', 'pharmaceuticals', 'beta-1');
    INSERT INTO users VALUES ('11111111-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000001', 'ann@alpha'),
        ('22222222-0000-4000-8000-000000000002', 'aaaaaaaa-0000-4000-8000-000000000001', 'adam@alpha'),
        ('33333333-0000-4000-8000-000000000003', 'bbbbbbbb-0000-4000-8000-000000000002', 'bob@beta'),
        ('44444444-0000-4000-8000-000000000004', 'bbbbbbbb-0000-4000-8000-000000000002', 'root@beta');
    INSERT INTO profiles VALUES ('11111111-0000-4000-8000-000000000001', 'Ann', 'user'),
        ('22222222-0000-4000-8000-000000000002', 'Adam', 'admin'), ('33333333-0000-4000-8000-000000000003', 'Bob', 'user'),
        ('44444444-0000-4000-8000-000000000004', 'Root', 'super_admin');
    INSERT INTO tenant_configurations (tenant_id, ui_config) VALUES
        ('aaaaaaaa-0000-4000-8000-000000000001', '{\"theme\": \"dark\"}'), ('bbbbbbbb-0000-4000-8000-000000000002', '{\"theme\": \"light\"}');
    INSERT INTO tenant_apps SELECT o.id, 'app-' || n, o.name || ' ' || n, '/' || n, n % 5 <> 0, n % 7 <> 0, 100 - n
        FROM organizations o, generate_series(1, 20) n;
    INSERT INTO feature_flags SELECT n, 'flag-' || n, n % 4 <> 0, n % 2 = 0, jsonb_build_object('n', n) FROM generate_series(1, 20) n;
    INSERT INTO tenant_feature_flags SELECT o.id, n, o.name = 'Alpha', CASE WHEN n > 5 THEN jsonb_build_object('of', o.name) END
        FROM organizations o, generate_series(1, 10) n;";

/// The document by hand, as the agents system would write it.
pub const BY_HAND: &str = "
    SELECT jsonb_build_object(
        'user', (SELECT jsonb_build_object('id', u.id, 'email', u.email, 'full_name', p.full_name, 'role', p.role)
                 FROM users u LEFT JOIN profiles p ON p.id = u.id WHERE u.id = $1),
        'tenant', jsonb_build_object('id', o.id), 'role', (SELECT role FROM profiles WHERE id = $1),
        'memberships', jsonb_build_array(jsonb_build_object('tenant_id', o.id, 'role', NULL)),
        'organization', jsonb_build_object('id', o.id, 'name', o.name, 'slug', o.slug, 'tenant_type', o.tenant_type,
            'tenant_key', o.tenant_key, 'is_active', o.is_active),
        'config', (SELECT jsonb_build_object('ui_config', ui_config, 'enabled_features', enabled_features, 'limits', limits)
                   FROM tenant_configurations WHERE tenant_id = o.id),
        'apps', (SELECT coalesce(jsonb_agg(jsonb_build_object('app_key', app_key, 'app_name', app_name, 'app_route', app_route,
                        'display_order', display_order) ORDER BY display_order, app_key), '[]')
                 FROM tenant_apps WHERE tenant_id = o.id AND is_visible AND is_enabled),
        'feature_flags', (SELECT coalesce(jsonb_agg(jsonb_build_object('key', f.flag_key, 'enabled', coalesce(t.is_enabled, f.is_enabled),
                        'config', f.config || coalesce(t.config, '{}')) ORDER BY f.flag_key), '[]')
                 FROM feature_flags f LEFT JOIN tenant_feature_flags t ON t.flag_id = f.id AND t.tenant_id = o.id
                 WHERE f.is_active))
    FROM users u JOIN organizations o ON o.id = u.organization_id WHERE u.id = $1";

pub struct World {
    pub db: Database,
    pub app: String,
    pub owner: String,
}

impl World {
    /// The agents system with its document.
    pub fn new(server: &'static Server) -> World {
        let world = World::bound(server);
        world.owner().ok(REGISTER);
        world
    }

    /// The agents system without registered keys.
    pub fn bound(server: &'static Server) -> World {
        let db = Database::new(server);
        let (owner, app) = (db.role("owner"), db.role("app"));
        db.superuser()
            .ok(&format!("GRANT CREATE ON SCHEMA public TO {owner}"));
        let world = World { db, app, owner };
        let mut session = world.owner();
        session.ok(TABLES);
        session.ok(SEED);
        session.ok(BIND);
        world
    }

    pub fn admin(&self) -> Client {
        self.db.superuser()
    }

    /// The owner of all the tables.
    pub fn owner(&self) -> Client {
        self.db.connect(&self.owner)
    }

    /// The application role without a context.
    pub fn app(&self) -> Client {
        self.db.connect(&self.app)
    }

    /// The application role on a connection that brings its user.
    pub fn app_as(&self, user: &str) -> Client {
        let claims = format!("-c request.jwt.claims={{\"sub\":\"{user}\"}}");
        self.db.connect_with(&self.app, &claims)
    }

    /// The document of a user by hand, past the extension.
    pub fn by_hand(&self, user: &str) -> Option<String> {
        let sql = BY_HAND.replace("$1", &format!("'{user}'"));
        self.admin().text(&sql)
    }
}

/// A part of the document, by a path such as `{user,email}`.
pub fn at(path: &str) -> String {
    format!("SELECT get_user_tenant_context() #>> '{path}'")
}
