//! The key that carries the tenant, made of one that does not.
//!
//! Pure: owns its text, and when it stands for the other. Must never give up what the other does.

use super::key_catalog::{Key, pairs};
use super::model::ForeignKeys;
use super::names;
use super::render::{quoted, quoted_list};

/// One end of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// The table.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// Its tenant column.
    pub column: String,
    /// What its `foreign_keys` option says.
    pub foreign_keys: ForeignKeys,
    /// Whether it is enforced (after the call), so that keys are made.
    pub enforced: bool,
    /// How many rows the planner expects.
    pub estimated_rows: f64,
    /// Whether row security is forced while the statements run.
    pub forced: bool,
    /// The platform tenant, where everybody reads its rows and so may point at them.
    pub shared: Option<String>,
}

impl End {
    /// Schema and table, quoted.
    pub fn qualified(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }
}

/// Whether `key` holds the pair of tenant columns.
pub fn carries(key: &Key, child: &End, parent: &End) -> bool {
    pairs(key).any(|(from, to)| *from == child.column && *to == parent.column)
}

/// The key with the pair of tenant columns left out: only what links.
pub fn link_of(mut key: Key, child: &End, parent: &End) -> Key {
    let kept: Vec<usize> = pairs(&key)
        .enumerate()
        .filter(|(_, (from, to))| **from != child.column || **to != parent.column)
        .map(|(place, _)| place)
        .collect();
    for list in [
        &mut key.columns,
        &mut key.parent_columns,
        &mut key.operators,
        &mut key.parent_operators,
    ] {
        *list = kept
            .iter()
            .filter_map(|place| list.get(*place).cloned())
            .collect();
    }
    key
}

/// Whether `wide` stands for `narrow`: the same ends, every pair of columns, and the tenant.
pub fn stands_for(wide: &Key, narrow: &Key, child: &End, parent: &End) -> bool {
    wide.child == narrow.child
        && wide.parent == narrow.parent
        && carries(wide, child, parent)
        && pairs(narrow).all(|pair| pairs(wide).any(|other| other == pair))
}

/// `REFERENCES ..` of the key that carries the tenant.
pub fn definition(key: &Key, child: &End, parent: &End) -> String {
    let mut columns = vec![child.column.clone()];
    columns.extend(key.columns.iter().cloned());
    let mut parent_columns = vec![parent.column.clone()];
    parent_columns.extend(key.parent_columns.iter().cloned());
    let mut sql = format!(
        "FOREIGN KEY ({}) REFERENCES {} ({})",
        quoted_list(&columns),
        parent.qualified(),
        quoted_list(&parent_columns)
    );
    // MATCH FULL of one column is MATCH SIMPLE, and of more it cannot include the tenant, which is
    // never null; the old key then stays and goes on checking it.
    sql.push_str(match key.on_update.as_str() {
        "c" => " ON UPDATE CASCADE",
        "r" => " ON UPDATE RESTRICT",
        // SET NULL and SET DEFAULT would take the tenant along; the old key stays and does it.
        _ => "",
    });
    let link = if key.set_columns.is_empty() {
        &key.columns
    } else {
        &key.set_columns
    };
    match key.on_delete.as_str() {
        "c" => sql.push_str(" ON DELETE CASCADE"),
        "r" => sql.push_str(" ON DELETE RESTRICT"),
        "n" => sql.push_str(&format!(" ON DELETE SET NULL ({})", quoted_list(link))),
        "d" => sql.push_str(&format!(" ON DELETE SET DEFAULT ({})", quoted_list(link))),
        _ => {}
    }
    if key.deferrable {
        sql.push_str(" DEFERRABLE");
        if key.deferred {
            sql.push_str(" INITIALLY DEFERRED");
        }
    }
    sql
}

/// Whether the old key does something that the new one cannot.
pub fn must_stay(key: &Key) -> bool {
    matches!(key.on_update.as_str(), "n" | "d") || (key.match_type == "f" && key.columns.len() > 1)
}

/// The name of the unique key that `key` would need of its parent.
pub fn unique_name(parent: &End, key: &Key) -> String {
    names::unique_key(&parent.table, &key.parent_columns)
}

/// `DROP CONSTRAINT`, silent where it is gone.
pub fn drop_key(child: &End, name: &str) -> String {
    format!(
        "ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}",
        child.qualified(),
        quoted(name)
    )
}

/// `VALIDATE CONSTRAINT` for whoever runs it. With `row_security` off a role that policies bind gets
/// an error, instead of a validation that passed over the rows it does not see. One statement, so
/// that it holds in whatever session that statement is run.
pub fn validate_seeing_all(table: &str, name: &str) -> String {
    let statement = format!("ALTER TABLE {table} VALIDATE CONSTRAINT {}", quoted(name));
    let mut tag = "tenancy".to_owned();
    while statement.contains(&format!("${tag}$")) {
        tag.push('_');
    }
    format!(
        "DO ${tag}$ DECLARE before text := pg_catalog.current_setting('row_security'); BEGIN \
         SET LOCAL row_security = off; {statement}; \
         PERFORM pg_catalog.set_config('row_security', before, true); END ${tag}$"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(oid: u32, table: &str) -> End {
        End {
            oid,
            schema: "app".into(),
            table: table.into(),
            column: "tenant_id".into(),
            foreign_keys: ForeignKeys::Add,
            enforced: true,
            estimated_rows: 0.0,
            forced: false,
            shared: None,
        }
    }

    fn key() -> Key {
        Key {
            name: "snapshots_connector_id_fkey".into(),
            child: 2,
            parent: 1,
            columns: vec!["connector_id".into()],
            parent_columns: vec!["id".into()],
            operators: vec!["OPERATOR(pg_catalog.=)".into()],
            parent_operators: vec!["OPERATOR(pg_catalog.=)".into()],
            match_type: "s".into(),
            on_update: "c".into(),
            on_delete: "n".into(),
            set_columns: vec![],
            deferrable: true,
            deferred: true,
            validated: true,
            special: false,
            definition: String::new(),
        }
    }

    #[test]
    fn deleting_nulls_only_the_link() {
        assert_eq!(
            definition(&key(), &end(2, "snapshots"), &end(1, "connectors")),
            "FOREIGN KEY (\"tenant_id\", \"connector_id\") REFERENCES \"app\".\"connectors\" (\"tenant_id\", \"id\") \
             ON UPDATE CASCADE ON DELETE SET NULL (\"connector_id\") DEFERRABLE INITIALLY DEFERRED"
        );
    }

    #[test]
    fn a_key_that_carries_the_tenant_stands_for_one_that_does_not() {
        let (child, parent) = (end(2, "snapshots"), end(1, "connectors"));
        let mut wide = key();
        wide.columns.insert(0, "tenant_id".into());
        wide.parent_columns.insert(0, "tenant_id".into());
        assert!(stands_for(&wide, &key(), &child, &parent));
        assert!(!stands_for(&key(), &key(), &child, &parent));
    }

    #[test]
    fn the_link_is_what_is_left_without_the_tenant() {
        let mut wide = key();
        wide.columns.insert(0, "tenant_id".into());
        wide.parent_columns.insert(0, "tenant_id".into());
        wide.operators.insert(0, "OPERATOR(pg_catalog.<>)".into());
        wide.parent_operators
            .insert(0, "OPERATOR(pg_catalog.<>)".into());
        let link = link_of(wide, &end(2, "snapshots"), &end(1, "connectors"));
        assert_eq!(
            (&link.columns, &link.parent_columns),
            (&key().columns, &key().parent_columns)
        );
        assert_eq!(
            (&link.operators, &link.parent_operators),
            (&key().operators, &key().parent_operators)
        );
    }

    #[test]
    fn what_the_new_key_cannot_do_keeps_the_old_one() {
        let mut narrow = key();
        assert!(!must_stay(&narrow));
        narrow.on_update = "n".into();
        assert!(must_stay(&narrow));
        let mut full = key();
        full.match_type = "f".into();
        assert!(
            !must_stay(&full),
            "MATCH FULL of one column is MATCH SIMPLE"
        );
        full.columns.push("other".into());
        assert!(must_stay(&full));
    }

    #[test]
    fn no_name_ends_the_block_early() {
        let sql = validate_seeing_all("\"app\".\"$tenancy$\"", "$tenancy_$");
        assert!(
            sql.starts_with("DO $tenancy__$ ") && sql.ends_with(" $tenancy__$"),
            "{sql}"
        );
    }
}
