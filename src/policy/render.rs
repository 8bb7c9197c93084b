//! The DDL of protection.
//!
//! Pure: owns every statement that protecting a table runs, so that `policy_sql` prints exactly what
//! `protect_table` executes. Names come in quoted or are quoted here by a function that needs no
//! server. Must never execute anything.

use super::model::Command;
use super::names;
use super::predicate::Rule;

/// Always quoted: the same text with every server's list of reserved words.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quoted only where Postgres's deparser would; for columns it is asked instead.
pub fn quoted_list(names: &[String]) -> String {
    names
        .iter()
        .map(|name| quoted(name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A literal that reads the same whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let text = text.replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\"))
    } else {
        format!("'{text}'")
    }
}

/// A table as statements name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its schema, not quoted.
    pub schema: String,
    /// Its name, not quoted.
    pub table: String,
    /// The tenant column, not quoted.
    pub column: String,
}

impl Target {
    /// Schema and table, quoted.
    pub fn qualified(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }
}

/// A policy that protection wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name, not quoted.
    pub name: String,
    /// PERMISSIVE or RESTRICTIVE.
    pub permissive: bool,
    /// FOR which command.
    pub command: Command,
    /// USING, in parentheses.
    pub using: Option<String>,
    /// WITH CHECK, in parentheses.
    pub check: Option<String>,
}

/// The policies of a table. `covered` are the commands for which the user has a permissive policy:
/// ours would be ORed with it and so show more rows than it does.
pub fn policies(rule: &Rule, covered: &[Command]) -> Vec<Policy> {
    let policy = |name, permissive, command| {
        let predicate = rule.predicate(command);
        Policy {
            name,
            permissive,
            command,
            using: predicate.using,
            check: predicate.check,
        }
    };
    let isolation = Command::EACH
        .into_iter()
        .map(|command| policy(names::isolation(&rule.table, command), false, command));
    let access = |command| policy(names::access(&rule.table, command), true, command);
    if covered.is_empty() && rule.is_uniform() {
        return isolation.chain([access(Command::All)]).collect();
    }
    let open = Command::EACH.into_iter().filter(|c| !covered.contains(c));
    isolation.chain(open.map(access)).collect()
}

/// `CREATE POLICY`.
pub fn create_policy(target: &Target, policy: &Policy) -> String {
    let mut sql = format!(
        "CREATE POLICY {} ON {} AS {} FOR {} TO PUBLIC",
        quoted(&policy.name),
        target.qualified(),
        if policy.permissive {
            "PERMISSIVE"
        } else {
            "RESTRICTIVE"
        },
        policy.command.keyword(),
    );
    if let Some(using) = &policy.using {
        sql.push_str(&format!(" USING {using}"));
    }
    if let Some(check) = &policy.check {
        sql.push_str(&format!(" WITH CHECK {check}"));
    }
    sql
}

/// `DROP POLICY`, silent where it is gone.
pub fn drop_policy(target: &Target, name: &str) -> String {
    format!(
        "DROP POLICY IF EXISTS {} ON {}",
        quoted(name),
        target.qualified()
    )
}

/// The policy that lets nobody pass, for when the functions that the others call are dropped.
pub fn create_closed_policy(target: &Target) -> String {
    format!(
        "CREATE POLICY {} ON {} AS RESTRICTIVE FOR ALL TO PUBLIC USING (false)",
        quoted(&names::closed(&target.table)),
        target.qualified()
    )
}

/// `ENABLE` or `DISABLE ROW LEVEL SECURITY`.
pub fn row_security(target: &Target, enabled: bool) -> String {
    let verb = if enabled { "ENABLE" } else { "DISABLE" };
    format!(
        "ALTER TABLE {} {verb} ROW LEVEL SECURITY",
        target.qualified()
    )
}

/// `FORCE` or `NO FORCE ROW LEVEL SECURITY`.
pub fn forced_row_security(target: &Target, forced: bool) -> String {
    let verb = if forced { "FORCE" } else { "NO FORCE" };
    format!(
        "ALTER TABLE {} {verb} ROW LEVEL SECURITY",
        target.qualified()
    )
}

/// The leading tenant index.
pub fn create_index(target: &Target, name: &str) -> String {
    format!(
        "CREATE INDEX {} ON {} ({})",
        quoted(name),
        target.qualified(),
        quoted(&target.column)
    )
}

/// The same without blocking writers; not for partitioned tables, which Postgres refuses.
pub fn create_index_concurrently(target: &Target, name: &str) -> String {
    format!(
        "CREATE INDEX CONCURRENTLY {} ON {} ({})",
        quoted(name),
        target.qualified(),
        quoted(&target.column)
    )
}

/// `SET NOT NULL`, which scans the table under its strongest lock.
pub fn set_not_null(target: &Target) -> String {
    format!(
        "ALTER TABLE {} ALTER COLUMN {} SET NOT NULL",
        target.qualified(),
        quoted(&target.column)
    )
}

/// `DROP NOT NULL`.
pub fn drop_not_null(target: &Target) -> String {
    format!(
        "ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL",
        target.qualified(),
        quoted(&target.column)
    )
}

/// NOT NULL for new rows only, as Postgres has it from 18 on.
pub fn add_unchecked_not_null(target: &Target, name: &str) -> String {
    format!(
        "ALTER TABLE {} ADD CONSTRAINT {} NOT NULL {} NOT VALID",
        target.qualified(),
        quoted(name),
        quoted(&target.column)
    )
}

/// The way to NOT NULL that scans without blocking: Postgres takes the validated check as proof.
pub fn set_not_null_script(target: &Target) -> Vec<String> {
    let (table, check) = (
        target.qualified(),
        quoted(&names::not_null_check(&target.table)),
    );
    let column = quoted(&target.column);
    vec![
        format!(
            "ALTER TABLE {table} ADD CONSTRAINT {check} CHECK ({column} IS NOT NULL) NOT VALID"
        ),
        format!("ALTER TABLE {table} VALIDATE CONSTRAINT {check}"),
        set_not_null(target),
        format!("ALTER TABLE {table} DROP CONSTRAINT {check}"),
    ]
}

/// `SET DEFAULT`, or `DROP DEFAULT` without an expression.
pub fn set_default(target: &Target, expression: Option<&str>) -> String {
    let action = expression.map_or_else(
        || "DROP DEFAULT".to_owned(),
        |text| format!("SET DEFAULT {text}"),
    );
    format!(
        "ALTER TABLE {} ALTER COLUMN {} {action}",
        target.qualified(),
        quoted(&target.column)
    )
}

/// The trigger that keeps a row with its tenant, and its tie to the extension.
///
/// AFTER where it can be: a BEFORE trigger would lock every row that is updated once more, and a
/// later BEFORE trigger could still change the column. In a partition tree it must be BEFORE,
/// because a row that moves to another partition fires no AFTER UPDATE trigger.
pub fn create_trigger(target: &Target, name: &str, in_partition_tree: bool) -> Vec<String> {
    let (table, trigger, column) = (target.qualified(), quoted(name), quoted(&target.column));
    let timing = if in_partition_tree { "BEFORE" } else { "AFTER" };
    vec![
        format!(
            "CREATE TRIGGER {trigger} {timing} UPDATE ON {table} FOR EACH ROW \
             WHEN (OLD.{column} IS DISTINCT FROM NEW.{column}) \
             EXECUTE FUNCTION tenancy.tenant_column_immutable()"
        ),
        format!("ALTER TRIGGER {trigger} ON {table} DEPENDS ON EXTENSION pg_tenancy"),
    ]
}

/// `DROP TRIGGER`, silent where it is gone.
pub fn drop_trigger(target: &Target, name: &str) -> String {
    format!(
        "DROP TRIGGER IF EXISTS {} ON {}",
        quoted(name),
        target.qualified()
    )
}

/// `DROP INDEX`, silent where it is gone.
pub fn drop_index(schema: &str, name: &str) -> String {
    format!("DROP INDEX IF EXISTS {}.{}", quoted(schema), quoted(name))
}

#[cfg(test)]
mod tests {
    use super::super::model::Template;
    use super::super::options::Options;
    use super::super::predicate::UserForm;
    use super::*;
    use crate::binding::TenantType;

    fn target() -> Target {
        Target {
            schema: "my.app".into(),
            table: "Weird \"Table\"".into(),
            column: "tenant_id".into(),
        }
    }

    fn rule(template: Template, table: &str) -> Rule {
        Rule {
            template,
            options: Options::default(),
            table: table.into(),
            column: "t".into(),
            tenant: TenantType::Uuid,
            user: UserForm::Uuid,
            link: None,
        }
    }

    #[test]
    fn policies_name_their_parts() {
        let wanted = policies(&rule(Template::Tenant, "orders"), &[]);
        let text: Vec<String> = wanted
            .iter()
            .map(|policy| {
                create_policy(
                    &Target {
                        schema: "s".into(),
                        table: "orders".into(),
                        column: "t".into(),
                    },
                    policy,
                )
                .replace("tenancy.current_tenant_id_required()", "f()")
            })
            .collect();
        assert_eq!(
            text,
            [
                "CREATE POLICY \"orders_tenant_isolation_select\" ON \"s\".\"orders\" AS RESTRICTIVE FOR SELECT TO PUBLIC USING (\"t\" = f())",
                "CREATE POLICY \"orders_tenant_isolation_insert\" ON \"s\".\"orders\" AS RESTRICTIVE FOR INSERT TO PUBLIC WITH CHECK (\"t\" = f())",
                "CREATE POLICY \"orders_tenant_isolation_update\" ON \"s\".\"orders\" AS RESTRICTIVE FOR UPDATE TO PUBLIC USING (\"t\" = f()) WITH CHECK (\"t\" = f())",
                "CREATE POLICY \"orders_tenant_isolation_delete\" ON \"s\".\"orders\" AS RESTRICTIVE FOR DELETE TO PUBLIC USING (\"t\" = f())",
                "CREATE POLICY \"orders_tenant_access\" ON \"s\".\"orders\" AS PERMISSIVE FOR ALL TO PUBLIC USING (\"t\" = f()) WITH CHECK (\"t\" = f())",
            ]
        );
    }

    #[test]
    fn access_is_given_with_the_text_that_isolates() {
        let wanted = policies(&rule(Template::SharedRead, "t"), &[]);
        assert_eq!(wanted.len(), 8);
        for (isolation, access) in wanted.iter().zip(&wanted[4..]) {
            assert!(!isolation.permissive && access.permissive);
            assert_eq!(access.name, names::access("t", isolation.command));
            assert_eq!(
                (&access.using, &access.check),
                (&isolation.using, &isolation.check)
            );
        }
    }

    #[test]
    fn access_is_not_given_where_the_user_gives_it() {
        let rule = rule(Template::Tenant, "t");
        let names: Vec<String> = policies(&rule, &[Command::Select, Command::Delete])
            .into_iter()
            .filter(|p| p.permissive)
            .map(|p| p.name)
            .collect();
        assert_eq!(names, ["t_tenant_access_insert", "t_tenant_access_update"]);
        assert!(
            policies(&rule, &Command::EACH)
                .iter()
                .all(|p| !p.permissive)
        );
    }

    #[test]
    fn quoting_holds_everywhere() {
        let target = target();
        let table = "\"my.app\".\"Weird \"\"Table\"\"\"";
        for sql in [
            create_index(&target, "i"),
            set_not_null(&target),
            row_security(&target, true),
            create_closed_policy(&target),
            drop_trigger(&target, "x"),
        ] {
            assert!(sql.contains(table), "{sql}");
        }
        assert!(
            set_not_null_script(&target)
                .iter()
                .all(|sql| sql.contains(table))
        );
    }

    #[test]
    fn moving_rows_are_caught_before_in_a_partition_tree() {
        assert!(create_trigger(&target(), "x", true)[0].contains(" BEFORE UPDATE ON "));
        assert!(create_trigger(&target(), "x", false)[0].contains(" AFTER UPDATE ON "));
    }
}
