//! What each template lets whom see and write: the text of its predicates.
//!
//! Pure, and the only place that knows them: policies, drift, documentation and whoever asks what
//! enforcement would do take the texts from here. Functions stand bare, never in a sub-select: an
//! index condition, partition pruning, and a true estimate for the planner. Must never ask the catalog.

use super::model::{Command, Template, TenantFunctions};
use super::options::{Options, Readers, SuperAdmins, Writers};
use super::render::quoted;
use crate::binding::TenantType;

const TENANT_ADMIN: &str = "tenancy.is_tenant_admin_required()";
const SUPER_ADMIN: &str = "tenancy.is_super_admin_required()";
// False without a context, where the rest of the predicate can do without one.
const PERHAPS_TENANT_ADMIN: &str = "tenancy.is_tenant_admin_or_not()";
const PERHAPS_SUPER_ADMIN: &str = "tenancy.is_super_admin_or_not()";
const NOBODY: &str = "false";

/// The texts for one command: what existing rows are tested with, and what written rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    /// USING; `None` for INSERT.
    pub using: Option<String>,
    /// WITH CHECK; `None` for SELECT and DELETE.
    pub check: Option<String>,
}

/// The type that a user is compared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserForm {
    /// uuid.
    Uuid,
    /// text and what is compared as text.
    Text,
    /// bigint and integer.
    Bigint,
}

impl UserForm {
    const fn required_call(self) -> &'static str {
        match self {
            Self::Uuid => "tenancy.current_user_id_uuid_required()",
            Self::Text => "tenancy.current_user_id_text_required()",
            Self::Bigint => "tenancy.current_user_id_bigint_required()",
        }
    }
}

/// The foreign key by which a row of a `child` table belongs to its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The constraint.
    pub constraint: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The parent's oid.
    pub parent: u32,
    /// The parent's schema.
    pub parent_schema: String,
    /// The parent's name.
    pub parent_table: String,
    /// The columns that it refers to.
    pub parent_columns: Vec<String>,
    /// How the parent belongs to a tenant.
    pub owner: Owner,
}

/// How the parent of a `child` table belongs to a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// By its tenant column; everybody reads the rows of the platform tenant where it is shared.
    Column {
        /// The column.
        name: String,
        /// Whether the parent is `shared_read`.
        shared: bool,
    },
    /// By a parent of its own.
    Parent(Box<Link>),
}

/// All that the predicates of one table depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The template.
    pub template: Template,
    /// Its options.
    pub options: Options,
    /// The table's name, not quoted.
    pub table: String,
    /// The tenant column, not quoted; empty for a template without one.
    pub column: String,
    /// The tenant's type.
    pub tenant: TenantType,
    /// The type of the user column, for `self`.
    pub user: UserForm,
    /// The way to the tenant, for `child`.
    pub link: Option<Link>,
}

impl Rule {
    /// What rows are tested with for that command; not for [`Command::All`] where commands differ.
    pub fn predicate(&self, command: Command) -> Predicate {
        let (reads, writes) = match command {
            Command::All => (Command::Select, Command::Insert),
            one => (one, one),
        };
        let text = |of: Command| format!("({})", self.text(of));
        Predicate {
            using: command.has_using().then(|| text(reads)),
            check: command.has_check().then(|| text(writes)),
        }
    }

    /// Whether one text serves all commands.
    pub fn is_uniform(&self) -> bool {
        let first = self.text(Command::Select);
        Command::EACH
            .into_iter()
            .all(|command| self.text(command) == first)
    }

    fn text(&self, command: Command) -> String {
        let reads = command == Command::Select;
        let own = self.own("");
        match self.template {
            Template::Tenant => own,
            Template::SharedRead if reads => any([own, self.platforms("", &self.column)]),
            Template::SharedRead => own,
            Template::TenantReadAdminWrite if reads => own,
            Template::TenantReadAdminWrite => all([own, TENANT_ADMIN.to_owned()]),
            Template::OwnTenant => self.own_tenant(command, own),
            Template::SelfRow => self.self_row(command, own),
            Template::MemberRead if reads => format!(
                "{} = ANY ({})",
                quoted(&self.column),
                self.tenant.memberships_call()
            ),
            Template::MemberRead if self.options.admin_writes => {
                all([own, TENANT_ADMIN.to_owned()])
            }
            Template::MemberRead => own,
            Template::GlobalReadAdminWrite => self.global(reads),
            Template::Child => self.link.as_ref().map_or_else(
                || NOBODY.to_owned(),
                |link| self.through(link, &quoted(&self.table), 1, reads),
            ),
        }
    }

    fn own(&self, qualifier: &str) -> String {
        format!(
            "{qualifier}{} = {}",
            quoted(&self.column),
            self.tenant.required_call()
        )
    }

    // Measured against `= ANY (ARRAY[..])`: the same in an index, half the cost where every row is
    // tested, since the array would be built for each.
    fn platforms(&self, qualifier: &str, column: &str) -> String {
        format!(
            "{qualifier}{} = {}",
            quoted(column),
            self.tenant.platform_call()
        )
    }

    fn own_tenant(&self, command: Command, own: String) -> String {
        let supers = self.options.super_admins;
        match command {
            Command::Select if supers == SuperAdmins::None => own,
            Command::Select => any([own, SUPER_ADMIN.to_owned()]),
            Command::Update if self.options.admin_writes => {
                let admins = all([own, TENANT_ADMIN.to_owned()]);
                match supers {
                    SuperAdmins::All => any([admins, SUPER_ADMIN.to_owned()]),
                    _ => admins,
                }
            }
            _ if supers == SuperAdmins::All => SUPER_ADMIN.to_owned(),
            _ => NOBODY.to_owned(),
        }
    }

    fn self_row(&self, command: Command, own: String) -> String {
        let options = &self.options;
        let mine = format!(
            "{} = {}",
            quoted(&options.user_column),
            self.user.required_call()
        );
        let mut text = match (command, options.readers) {
            (_, Readers::None) => mine,
            (Command::Select, Readers::Tenant) => any([mine, own]),
            (Command::Select, Readers::TenantAdmins) => {
                any([mine, all([own, TENANT_ADMIN.to_owned()])])
            }
            // Else a user could put his row before the eyes of another tenant.
            (Command::Insert, _) => all([mine, own]),
            _ => mine,
        };
        let reads = command == Command::Select;
        if options.super_admins == SuperAdmins::All
            || (reads && options.super_admins == SuperAdmins::Read)
        {
            text = any([text, PERHAPS_SUPER_ADMIN.to_owned()]);
        }
        text
    }

    fn global(&self, reads: bool) -> String {
        let admins = self.options.writers == Writers::TenantAdmins;
        match (&self.options.visible, reads) {
            (None, true) => "true".to_owned(),
            // A comment at its end must not swallow what follows.
            (Some(visible), true) => any([
                format!("{visible}\n"),
                if admins {
                    PERHAPS_TENANT_ADMIN.to_owned()
                } else {
                    PERHAPS_SUPER_ADMIN.to_owned()
                },
            ]),
            (_, false) if admins => TENANT_ADMIN.to_owned(),
            (_, false) => SUPER_ADMIN.to_owned(),
        }
    }

    /// That the parent is the tenant's, said in full: it must hold even where the parent's own
    /// policies do not bind, as they do not bind its owner without FORCE.
    fn through(&self, link: &Link, child: &str, depth: usize, reads: bool) -> String {
        let mut alias = format!("parent_{depth}");
        while alias == self.table {
            alias.push('_');
        }
        let mut conditions: Vec<String> = link
            .columns
            .iter()
            .zip(&link.parent_columns)
            .map(|(from, to)| format!("{alias}.{} = {child}.{}", quoted(to), quoted(from)))
            .collect();
        conditions.push(match &link.owner {
            Owner::Column { name, shared } => {
                let own = format!("{alias}.{} = {}", quoted(name), self.tenant.required_call());
                if *shared && reads {
                    let platforms = self.platforms(&format!("{alias}."), name);
                    format!("({})", any([own, platforms]))
                } else {
                    own
                }
            }
            Owner::Parent(next) => self.through(next, &alias, depth + 1, reads),
        });
        format!(
            "EXISTS (SELECT FROM {}.{} AS {alias} WHERE {})",
            quoted(&link.parent_schema),
            quoted(&link.parent_table),
            conditions.join(" AND ")
        )
    }
}

fn any<const N: usize>(parts: [String; N]) -> String {
    joined(parts, " OR ")
}

fn all<const N: usize>(parts: [String; N]) -> String {
    joined(parts, " AND ")
}

fn joined<const N: usize>(parts: [String; N], word: &str) -> String {
    parts.map(|part| format!("({part})")).join(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rule(template: Template, options: serde_json::Value) -> Rule {
        Rule {
            template,
            options: Options::parse(&options).unwrap(),
            table: "c".into(),
            column: "t".into(),
            tenant: TenantType::Uuid,
            user: UserForm::Uuid,
            link: None,
        }
    }

    const T: &str = "\"t\" = tenancy.current_tenant_id_required()";

    fn texts(rule: &Rule) -> [String; 4] {
        Command::EACH.map(|command| rule.text(command))
    }

    #[test]
    fn each_command_tests_what_postgres_lets_it_test() {
        let rule = rule(Template::Tenant, json!({}));
        let has = |command| {
            let predicate = rule.predicate(command);
            (predicate.using.is_some(), predicate.check.is_some())
        };
        assert_eq!(has(Command::Select), (true, false));
        assert_eq!(has(Command::Insert), (false, true));
        assert_eq!(has(Command::Update), (true, true));
        assert_eq!(has(Command::Delete), (true, false));
        assert_eq!(has(Command::All), (true, true));
        assert!(rule.is_uniform());
    }

    #[test]
    fn shared_rows_are_read_and_never_written() {
        let rule = rule(Template::SharedRead, json!({}));
        let [select, insert, update, delete] = texts(&rule);
        assert_eq!(
            select,
            format!("({T}) OR (\"t\" = tenancy.platform_tenant_id_required())")
        );
        assert_eq!([insert, update, delete], [T, T, T]);
        assert!(!rule.is_uniform());
    }

    #[test]
    fn nobody_makes_or_drops_a_tenant() {
        assert_eq!(
            texts(&rule(Template::OwnTenant, json!({}))),
            [T, "false", "false", "false"]
        );
        let admins = texts(&rule(Template::OwnTenant, json!({"admin_writes": true})));
        assert_eq!(admins[2], format!("({T}) AND ({TENANT_ADMIN})"));
        assert_eq!([&admins[1], &admins[3]], ["false", "false"]);
        let supers = texts(&rule(Template::OwnTenant, json!({"super_admins": "all"})));
        assert_eq!(supers[1..], [SUPER_ADMIN, SUPER_ADMIN, SUPER_ADMIN]);
        let readers = texts(&rule(Template::OwnTenant, json!({"super_admins": "read"})));
        assert_eq!(readers[0], format!("({T}) OR ({SUPER_ADMIN})"));
        assert_eq!(readers[1..], ["false", "false", "false"]);
    }

    #[test]
    fn a_user_cannot_write_his_row_into_another_tenant() {
        let mine = "\"id\" = tenancy.current_user_id_uuid_required()";
        assert_eq!(texts(&rule(Template::SelfRow, json!({}))), [mine; 4]);
        let shown = texts(&rule(Template::SelfRow, json!({"readers": "tenant"})));
        assert_eq!(shown[0], format!("({mine}) OR ({T})"));
        assert_eq!(shown[1], format!("({mine}) AND ({T})"));
        assert_eq!(shown[2..], [mine, mine]);
        let supers = texts(&rule(Template::SelfRow, json!({"super_admins": "read"})));
        assert_eq!(supers[0], format!("({mine}) OR ({PERHAPS_SUPER_ADMIN})"));
        assert_eq!(supers[1..], [mine, mine, mine]);
    }

    #[test]
    fn reading_what_is_global_asks_for_no_context() {
        let open = texts(&rule(Template::GlobalReadAdminWrite, json!({})));
        assert_eq!(open, ["true", SUPER_ADMIN, SUPER_ADMIN, SUPER_ADMIN]);
        let some = texts(&rule(
            Template::GlobalReadAdminWrite,
            json!({"visible": "is_active -- now", "writers": "tenant_admins"}),
        ));
        assert_eq!(
            some[0],
            format!("(is_active -- now\n) OR ({PERHAPS_TENANT_ADMIN})")
        );
        assert_eq!(some[1], TENANT_ADMIN);
    }

    #[test]
    fn a_chain_ends_at_the_tenant() {
        let link = |table: &str, owner| Link {
            constraint: "k".into(),
            columns: vec!["p".into()],
            parent: 0,
            parent_schema: "s".into(),
            parent_table: table.into(),
            parent_columns: vec!["id".into()],
            owner,
        };
        let top = Owner::Column {
            name: "t".into(),
            shared: true,
        };
        let mut child = rule(Template::Child, json!({}));
        child.column.clear();
        assert_eq!(
            child.text(Command::Select),
            "false",
            "without a link nothing"
        );
        child.link = Some(link("mid", Owner::Parent(Box::new(link("top", top)))));
        assert_eq!(
            child.text(Command::Delete),
            "EXISTS (SELECT FROM \"s\".\"mid\" AS parent_1 WHERE parent_1.\"id\" = \"c\".\"p\" AND \
             EXISTS (SELECT FROM \"s\".\"top\" AS parent_2 WHERE parent_2.\"id\" = parent_1.\"p\" AND \
             parent_2.\"t\" = tenancy.current_tenant_id_required()))"
        );
        assert!(child.text(Command::Select).ends_with(
            "AND ((parent_2.\"t\" = tenancy.current_tenant_id_required()) OR \
             (parent_2.\"t\" = tenancy.platform_tenant_id_required()))))"
        ));
        child.table = "parent_1".into();
        assert!(
            child
                .text(Command::Select)
                .contains("parent_1_.\"id\" = \"parent_1\".\"p\"")
        );
    }
}
