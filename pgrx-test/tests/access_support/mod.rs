//! What the tests of `tenancy.access_matrix()` share: tables bound in every way, roles granted in every way,
//! and what a role really reaches.

#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};

use pgrx_test::fixture::ClientExt;
use postgres::Client;

use crate::policy_support::{A, B};
use crate::template_support::{P, World};

/// Tables of notes by what bounds them, and how.
pub const TABLES: &[(&str, &str)] = &[
    (
        "drafts",
        "SELECT tenancy.protect_table('app.drafts', mode => 'shadow')",
    ),
    ("wild", ""),
    (
        "mine",
        "CREATE POLICY p ON app.mine USING (tenant_id = current_tenant_id()); {RLS}",
    ),
    (
        "many",
        "CREATE POLICY p ON app.many USING (tenant_id = ANY (user_tenant_ids())); {RLS}",
    ),
    (
        "widened",
        "CREATE POLICY p ON app.widened USING (tenant_id = current_tenant_id()); CREATE POLICY q ON app.widened FOR SELECT USING (body <> ''); {RLS}",
    ),
    (
        "moving",
        "CREATE POLICY p ON app.moving FOR SELECT USING (tenant_id = current_tenant_id());
         CREATE POLICY q ON app.moving FOR UPDATE USING (tenant_id = current_tenant_id()) WITH CHECK (true);
         CREATE POLICY r ON app.moving FOR INSERT WITH CHECK (tenant_id IS NOT NULL); {RLS}",
    ),
    (
        "listing",
        "CREATE POLICY p ON app.listing USING (tenant_id IN (SELECT x.id FROM app.wild_tenants x)); {RLS}",
    ),
    (
        "belonging",
        "CREATE POLICY p ON app.belonging USING (EXISTS (SELECT FROM app.belongs b WHERE b.tenant_id = belonging.tenant_id AND b.user_id = current_tenant_user_id())); {RLS}",
    ),
    ("closed", "{RLS}"),
    (
        "unforced",
        "CREATE POLICY p ON app.unforced USING (tenant_id = current_tenant_id()); ALTER TABLE app.unforced ENABLE ROW LEVEL SECURITY",
    ),
    (
        "for_reader",
        "CREATE POLICY p ON app.for_reader TO {reader} USING (true); CREATE POLICY q ON app.for_reader TO {app} USING (tenant_id = current_tenant_id()); {RLS}",
    ),
    (
        "floored",
        "CREATE POLICY p ON app.floored USING (true); CREATE POLICY q ON app.floored AS RESTRICTIVE USING (tenant_id = current_tenant_id() OR tenant_id = '{P}'); {RLS}",
    ),
    (
        "half_floored",
        "CREATE POLICY p ON app.half_floored USING (true); CREATE POLICY q ON app.half_floored AS RESTRICTIVE TO {reader} USING (tenant_id = current_tenant_id()); {RLS}",
    ),
    (
        "pierced",
        "SELECT tenancy.protect_table('app.pierced', mode => 'enforce'); DROP POLICY pierced_tenant_isolation_select ON app.pierced; CREATE POLICY p ON app.pierced FOR SELECT USING (true)",
    ),
];

/// The tables of templates, those above, and roles of every kind.
pub struct Place {
    pub world: World,
    /// By what they are called here.
    pub roles: BTreeMap<&'static str, String>,
}

impl Place {
    pub fn new() -> Place {
        let world = World::new();
        let stage = &world.stage;
        let mut roles: BTreeMap<_, _> = [
            "reader",
            "member",
            "sleeper",
            "reads_all",
            "writes_all",
            "bypass",
            "heir",
            "outside",
            "stranger",
        ]
        .map(|name| (name, stage.database.role(name)))
        .into();
        roles.insert("app", stage.app.clone());
        roles.insert("owner", stage.owner.clone());
        roles.insert("superuser", stage.database.server().superuser.clone());
        let place = Place { world, roles };
        for (table, template, column, options) in [
            ("notes", "tenant", "tenant_id", "{}"),
            ("tools", "shared_read", "tenant_id", "{}"),
            ("config", "tenant_read_admin_write", "tenant_id", "{}"),
            ("profiles", "self", "tenant_id", "{}"),
            ("flags", "global_read_admin_write", "tenant_id", "{}"),
            ("lines", "child", "tenant_id", "{}"),
            ("words", "child", "tenant_id", "{}"),
            ("tenants", "own_tenant", "id", r#"{"super_admins": "all"}"#),
            ("members", "member_read", "tenant_id", "{}"),
        ] {
            place.world.enforce(table, template, column, options);
        }
        let mut owner = place.world.stage.owner();
        owner.ok(&format!(
            "CREATE TABLE app.wild_tenants (id uuid); INSERT INTO app.wild_tenants VALUES ('{A}'), ('{B}'), ('{P}'); GRANT SELECT ON app.wild_tenants TO PUBLIC;
             CREATE VIEW app.belongs AS SELECT 'two' AS user_id, unnest('{{{A},{B}}}'::uuid[]) AS tenant_id; GRANT SELECT ON app.belongs TO PUBLIC"
        ));
        for (table, bound) in TABLES {
            owner.ok(&format!(
                "CREATE TABLE app.{table} (id int PRIMARY KEY, tenant_id uuid NOT NULL, body text);
                 INSERT INTO app.{table} VALUES (1, '{A}', 'a'), (2, '{B}', 'b'), (3, '{P}', 'p')"
            ));
            owner.ok(&place.filled(
                &bound.replace("{RLS}", "ALTER TABLE app.{t} ENABLE ROW LEVEL SECURITY; ALTER TABLE app.{t} FORCE ROW LEVEL SECURITY;")
                    .replace("{t}", table),
            ));
        }
        place.superuser(
            "GRANT USAGE ON SCHEMA app TO {reader}, {bypass}, {heir}, {writes_all};
             GRANT SELECT ON ALL TABLES IN SCHEMA app TO {reader}, {outside};
             REVOKE SELECT ON app.notes, app.wild FROM {reader};
             GRANT SELECT (body) ON app.notes TO {reader}; GRANT UPDATE (body) ON app.notes TO {reader};
             GRANT INSERT (id, tenant_id) ON app.wild TO {reader};
             GRANT SELECT, UPDATE ON app.notes TO {bypass}; GRANT SELECT, UPDATE, TRUNCATE ON app.wild, app.closed TO {bypass};
             GRANT DELETE ON app.mine TO PUBLIC;
             GRANT TRUNCATE ON app.moving TO {app};
             GRANT {app} TO {member}; ALTER ROLE {sleeper} NOINHERIT; GRANT {app} TO {sleeper};
             GRANT {owner} TO {heir};
             GRANT pg_read_all_data TO {reads_all}; GRANT pg_write_all_data TO {writes_all};
             ALTER ROLE {bypass} BYPASSRLS",
        );
        place
    }

    pub fn filled(&self, sql: &str) -> String {
        self.roles
            .iter()
            .fold(sql.replace("{P}", P), |sql, (name, role)| {
                sql.replace(&format!("{{{name}}}"), role)
            })
    }

    fn superuser(&self, sql: &str) {
        self.world.stage.superuser().ok(&self.filled(sql));
    }

    /// A row a cell: table, command, reach, what grants it, what bounds it, ways besides, their reach.
    pub fn matrix(&self, role: &str) -> Vec<Vec<String>> {
        matrix(&mut self.world.stage.superuser(), &self.roles[role])
    }

    pub fn cell(&self, role: &str, table: &str, command: &str) -> Vec<String> {
        self.matrix(role)
            .into_iter()
            .find(|cell| cell[0] == format!("app.{table}") && cell[1] == command)
            .map(|mut cell| cell.split_off(2))
            .unwrap_or_default()
    }

    pub fn as_user(&self, role: &str, user: &str, tenant: &str) -> Client {
        let options = format!("-c app.current_user_id={user} -c app.current_tenant_id={tenant}");
        self.world
            .stage
            .database
            .connect_with(&self.roles[role], &options)
    }
}

fn matrix(session: &mut Client, role: &str) -> Vec<Vec<String>> {
    session
        .rows(&format!(
            "SELECT relation, command, reach, granted_by, bounded_by, besides, besides_reach FROM tenancy.access_matrix('{role}')"
        ))
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
        .collect()
}

/// What came of a statement: rows, or a SQLSTATE.
fn tried(session: &mut Client, sql: &str) -> Result<Vec<String>, String> {
    session.ok("BEGIN");
    let outcome = match session.simple_query(sql) {
        Ok(messages) => {
            let mut rows = Vec::new();
            for message in messages {
                match message {
                    postgres::SimpleQueryMessage::Row(row) => {
                        rows.push(row.get(0).unwrap_or_default().to_owned());
                    }
                    postgres::SimpleQueryMessage::CommandComplete(count) if rows.is_empty() => {
                        rows = vec![String::new(); count as usize];
                    }
                    _ => {}
                }
            }
            Ok(rows)
        }
        Err(error) => Err(error
            .as_db_error()
            .map_or_else(|| error.to_string(), |error| error.code().code().to_owned())),
    };
    session.ok("ROLLBACK");
    outcome
}

/// Whose rows a command reaches, tried as user `two`, who is an admin of B and a member of A, in B:
/// the words that fit.
pub fn reached(session: &mut Client, table: &str, command: &str) -> Vec<&'static str> {
    let rows = |session: &mut Client, sql: &str| match tried(session, sql) {
        Ok(rows) => rows,
        Err(code) => {
            assert!(["42501", "23514"].contains(&code.as_str()), "{code}: {sql}");
            Vec::new()
        }
    };
    let body = match table {
        "tenants" => "name",
        "members" => "tenant_id",
        _ => "body",
    };
    match command {
        "SELECT" => {
            let seen: BTreeSet<String> = rows(session, &format!("SELECT {body} FROM app.{table}"))
                .into_iter()
                .collect();
            let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
            match seen[..] {
                [] => vec!["none"],
                ["two"] => vec!["own rows"],
                ["b"] => vec!["own tenant"],
                ["a", "b"] | [A, B] => vec!["own tenants"],
                ["b", "p"] => vec!["shared rows"],
                ["off", "on"] => vec!["shared rows", "all tenants"],
                ["a", "b", "p"] | [P, A, B] | ["amy", "ann", "bob", "two"] => vec!["all tenants"],
                _ => panic!("{seen:?}"),
            }
        }
        "INSERT" => {
            let allowed: String = [("a", A, 1), ("b", B, 2), ("p", P, 3)]
                .into_iter()
                .filter(|(name, tenant, note)| {
                    let sql = match table {
                        "profiles" => format!(
                            "INSERT INTO app.profiles (id, tenant_id) VALUES ('{}', '{tenant}')",
                            if *name == "b" { "two" } else { "zed" }
                        ),
                        "flags" => "INSERT INTO app.flags (id) VALUES (9)".to_owned(),
                        "lines" => format!("INSERT INTO app.lines (id, note_id) VALUES (9, {note})"),
                        "words" => format!("INSERT INTO app.words (id, line_id) VALUES (9, {note})"),
                        "tenants" => "INSERT INTO app.tenants VALUES ('00000000-0000-0000-0000-0000000000ff')".to_owned(),
                        _ => format!("INSERT INTO app.{table} (id, tenant_id) VALUES (9, '{tenant}')"),
                    };
                    match tried(session, &sql) {
                        Ok(_) => true,
                        // Past the policies already.
                        Err(code) if code == "23505" => true,
                        Err(code) => {
                            assert_eq!(code, "42501", "{sql}");
                            false
                        }
                    }
                })
                .map(|(name, _, _)| name)
                .collect();
            match allowed.as_str() {
                "" => vec!["none"],
                "b" if table == "profiles" => vec!["own rows"],
                "b" => vec!["own tenant"],
                "ab" => vec!["own tenants"],
                "bp" => vec!["shared rows"],
                "abp" => vec!["all tenants"],
                other => panic!("{other}"),
            }
        }
        "TRUNCATE" => {
            let outcome = tried(session, &format!("TRUNCATE app.{table} CASCADE"));
            if outcome.is_ok() {
                vec!["all tenants"]
            } else {
                assert_eq!(outcome, Err("42501".to_owned()), "{table}");
                vec!["none"]
            }
        }
        _ => {
            let count = if command == "UPDATE" {
                let column = if table == "tenants" { "name" } else { "body" };
                // To a tenant that is neither the user's nor shared.
                let other = if ["many", "belonging"].contains(&table) {
                    P
                } else {
                    A
                };
                let moved = rows(
                    session,
                    &format!("UPDATE app.{table} SET tenant_id = '{other}'"),
                );
                let touched = rows(session, &format!("UPDATE app.{table} SET {column} = 'x'"));
                if moved.is_empty() { touched.len() } else { 9 }
            } else {
                rows(session, &format!("DELETE FROM app.{table}")).len()
            };
            match (table, count) {
                (_, 0) => vec!["none"],
                ("profiles", 1) => vec!["own rows"],
                ("profiles", 4) => vec!["all tenants"],
                ("flags", _) => vec!["shared rows", "all tenants"],
                (_, 1) => vec!["own tenant"],
                (_, 2) => vec!["own tenants", "shared rows"],
                _ => vec!["all tenants"],
            }
        }
    }
}
