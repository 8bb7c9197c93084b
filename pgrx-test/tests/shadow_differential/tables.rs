//! What the generator knows of the tables.

/// A table, and how to have it protected.
pub struct Table {
    pub name: &'static str,
    /// `None` for one that stays as it is.
    pub template: Option<&'static str>,
    pub options: &'static str,
    /// The column that a recorded tenant is taken from.
    pub tenant: Option<&'static str>,
    /// A column that has to be written besides the common ones.
    pub extra: Option<&'static str>,
}

const fn table(name: &'static str, template: &'static str) -> Table {
    Table {
        name,
        template: Some(template),
        options: "{}",
        tenant: Some("tenant_id"),
        extra: Some("tenant_id"),
    }
}

/// All of them; a parent comes before its children.
pub const TABLES: [Table; 12] = [
    table("t", "tenant"),
    table("s", "shared_read"),
    table("a", "tenant_read_admin_write"),
    table("m", "member_read"),
    table("pt", "tenant"),
    // Has rows without a tenant.
    table("tn", "tenant"),
    // Has policies of its own.
    Table {
        options: "{\"adopt_policies\": true}",
        ..table("w", "tenant")
    },
    Table {
        tenant: Some("id"),
        extra: None,
        ..table("o", "own_tenant")
    },
    Table {
        options: "{\"user_column\": \"owner\"}",
        tenant: None,
        extra: Some("owner"),
        ..table("p", "self")
    },
    Table {
        options: "{\"visible\": \"n < 5\"}",
        tenant: None,
        extra: None,
        ..table("g", "global_read_admin_write")
    },
    Table {
        tenant: None,
        extra: Some("t_id"),
        ..table("c", "child")
    },
    Table {
        template: None,
        tenant: None,
        extra: None,
        ..table("u", "")
    },
];

/// The table of that name.
pub fn named(name: &str) -> &'static Table {
    static ALL: [Table; 12] = TABLES;
    ALL.iter()
        .find(|table| table.name == name)
        .unwrap_or_else(|| panic!("no table {name}"))
}

/// How often each of the protected ones is chosen.
pub const CHOICE: [&str; 17] = [
    "t", "t", "t", "s", "s", "a", "m", "pt", "pt", "tn", "w", "w", "o", "p", "g", "c", "c",
];

/// The one that is not.
pub const UNPROTECTED: &str = "u";

/// Its owner is bound by policies, whoever runs the statement.
pub const OWNERS_VIEW: &str = "owner's view";

/// What can stand for a table: text, the table whose rows it shows, another that is read, and the shape.
pub type Standin = (
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    &'static str,
);

pub const STANDINS: [Standin; 5] = [
    ("v_invoker", Some("t"), None, "invoker's view"),
    ("v_barrier", Some("t"), None, "security barrier view"),
    ("v_owner", Some("s"), None, OWNERS_VIEW),
    ("v_join", Some("t"), Some("s"), "view over a join"),
    ("rows_of(20)", Some("pt"), None, "inlined function"),
];

/// What stands for a table and binds nobody.
pub const EXEMPT: Standin = ("v_exempt", None, None, "superuser's view");
