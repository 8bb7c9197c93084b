//! What the tests of `tenancy.test_isolation()` share: tables with a planted hole, and what is told of them.

#![allow(dead_code, reason = "each test executable uses its part")]

use pgrx_test::fixture::{ClientExt, expect_error};

use crate::policy_support::{A, B, Stage};

/// A table of notes with rows of both tenants.
const NOTES: &str =
    "CREATE TABLE app.notes (id int PRIMARY KEY, tenant_id uuid NOT NULL, body text NOT NULL);
    INSERT INTO app.notes VALUES (1, '{A}', 'of a'), (2, '{B}', 'of b');";

/// Row security that lets everything through.
pub const USING_TRUE: &str = "ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY; ALTER TABLE app.notes FORCE ROW LEVEL SECURITY;
    CREATE POLICY everything ON app.notes USING (true);";

/// All that fails, whether it leaks or was not tried.
pub const FAILED: &str = "result IN ('LEAK', 'not attacked')";

pub struct Planted {
    pub stage: Stage,
}

impl Planted {
    /// Notes, protected, and then what the owner of the schema does.
    pub fn after(sql: &str) -> Planted {
        let planted = Planted::before("");
        planted.stage.protect("app.notes", "{}");
        planted.owner(sql);
        planted
    }

    /// Notes, not protected.
    pub fn before(sql: &str) -> Planted {
        let planted = Planted {
            stage: Stage::new(),
        };
        planted.owner(NOTES);
        planted.owner(sql);
        planted
    }

    pub fn filled(&self, sql: &str) -> String {
        sql.replace("{A}", A)
            .replace("{B}", B)
            .replace("{app}", &self.stage.app)
            .replace("{owner}", &self.stage.owner)
    }

    pub fn owner(&self, sql: &str) {
        self.stage.owner().ok(&self.filled(sql));
    }

    pub fn superuser(&self, sql: &str) {
        self.stage.superuser().ok(&self.filled(sql));
    }

    /// Relation and attack of those results.
    pub fn told(&self, condition: &str) -> Vec<String> {
        self.told_of("relation || ': ' || attack", condition)
    }

    /// An expression over those results.
    pub fn told_of(&self, what: &str, condition: &str) -> Vec<String> {
        self.stage.superuser().texts(&format!(
            "SELECT {what} FROM tenancy.test_isolation('{}') WHERE {condition}",
            self.stage.app
        ))
    }

    /// What became of each attack of one relation: `attack result`.
    pub fn results(&self, relation: &str) -> Vec<String> {
        self.told_of(
            "attack || ' ' || result",
            &format!("relation = '{relation}'"),
        )
    }

    /// Those leaks, in the order of the attacks, and the gate closed for them.
    #[track_caller]
    pub fn leaks(&self, expected: &[&str]) {
        assert_eq!(self.told("result = 'LEAK'"), expected);
        let gate = format!("SELECT tenancy.assert_isolation('{}')", self.stage.app);
        let error = self.stage.superuser().error(&gate);
        for leak in expected {
            expect_error(&error, "55000", leak);
        }
    }
}

/// Items of both tenants, protected.
pub fn protected() -> Stage {
    let stage = Stage::new();
    stage.items();
    stage.protect("app.items", "{}");
    stage
}
