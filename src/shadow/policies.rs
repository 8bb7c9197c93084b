//! The policies that enforcement would put to work on a table: ours and the user's own, dormant ones
//! included.
//!
//! Owns reading and parsing them, once a table and generation. Must never let through an expression
//! that can raise: a shadow that fails would be noticed.

use pgrx::prelude::*;
use pgrx::{PgList, is_a};

use super::functions::Functions;
use super::nodes;
use super::tables::Table;
use crate::binding::tenant_type;
use crate::catalog;
use crate::policy::{self, Command};
use crate::registry::{self, PinnedSearchPath};

use pg_sys::Node;

/// A policy with its parsed expressions, over the table as relation 1.
pub struct Policy {
    /// Whether it is the user's own, and so at work already where row security is on.
    pub is_users: bool,
    pub permissive: bool,
    /// `pg_policy.polcmd`.
    pub command: u8,
    /// Empty for PUBLIC.
    pub roles: Vec<pg_sys::Oid>,
    pub using: Option<Expression>,
    pub check: Option<Expression>,
}

/// An expression of a policy.
#[derive(Clone, Copy)]
pub struct Expression {
    pub node: *mut Node,
    /// Whether it can be evaluated without a risk of raising.
    pub is_safe: bool,
}

/// All policies of a table.
pub struct Policies {
    pub all: Vec<Policy>,
    memory: pg_sys::MemoryContext,
}

impl Policies {
    /// Reads and parses them; `None` where one cannot be.
    pub fn read(table: &Table, functions: &Functions) -> Option<Self> {
        // SAFETY: a new context below the one that caches live in; nodes made below stay in it.
        let (memory, before) = unsafe {
            let memory = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CacheMemoryContext,
                c"pg_tenancy shadow policies".as_ptr(),
                0,
                1024,
                64 * 1024,
            );
            (memory, pg_sys::MemoryContextSwitchTo(memory))
        };
        let all = read_all(table, functions);
        // SAFETY: back to the context of the caller.
        unsafe { pg_sys::MemoryContextSwitchTo(before) };
        Some(Self { all: all?, memory })
    }

    /// Gives the memory back.
    pub fn free(self) {
        // SAFETY: nobody else holds a node of it: what goes into queries is copied.
        unsafe { pg_sys::MemoryContextDelete(self.memory) };
    }
}

fn read_all(table: &Table, functions: &Functions) -> Option<Vec<Policy>> {
    let mut all = users(table.relation, functions);
    let covered = covered(&all);
    all.extend(ours(table, &covered, functions)?);
    Some(all)
}

/// The commands for which the user has a permissive policy.
fn covered(users: &[Policy]) -> Vec<Command> {
    Command::EACH
        .into_iter()
        .filter(|command| {
            let letter = command.catalog_letter().as_bytes()[0];
            users.iter().any(|policy| {
                policy.permissive && (policy.command == b'*' || policy.command == letter)
            })
        })
        .collect()
}

fn ours(table: &Table, covered: &[Command], functions: &Functions) -> Option<Vec<Policy>> {
    // SAFETY: a catalog lookup; null where there is no such column.
    let column =
        unsafe { catalog::string_from(pg_sys::get_attname(table.relation, table.column, true)) };
    let rule = policy::rule(
        table.relation,
        table.template?,
        &table.options,
        &column.unwrap_or_default(),
        tenant_type().ok()?,
        table.link.as_deref(),
    )
    .ok()?;
    let expression = |text: &Option<String>| {
        let node = parse(table.relation, text.as_ref()?)?;
        Some(examined(node, functions))
    };
    Some(
        policy::policies(&rule, covered)
            .into_iter()
            .map(|policy| Policy {
                is_users: false,
                permissive: policy.permissive,
                command: policy.command.catalog_letter().as_bytes()[0],
                roles: Vec::new(),
                using: expression(&policy.using),
                check: expression(&policy.check),
            })
            .collect(),
    )
}

fn users(relation: pg_sys::Oid, functions: &Functions) -> Vec<Policy> {
    let mut found = Vec::new();
    registry::scan(pg_sys::PolicyRelationId, |row| {
        if row.oid(c"polrelid") != relation {
            return;
        }
        let expression = |name| {
            let text = catalog::c_string(&row.text(name)?);
            // SAFETY: what the catalog holds is a node in text form.
            let node: *mut Node = unsafe { pg_sys::stringToNode(text.as_ptr()).cast() };
            Some(examined(node, functions))
        };
        let text = |name| row.text(name).unwrap_or_default();
        found.push(Policy {
            is_users: true,
            permissive: text(c"polpermissive") == "t",
            command: text(c"polcmd").bytes().next().unwrap_or(b'*'),
            roles: text(c"polroles")
                .trim_matches(['{', '}'])
                .split(',')
                .filter_map(|role| role.parse::<u32>().ok())
                .filter(|role| *role != 0)
                .map(pg_sys::Oid::from)
                .collect(),
            using: expression(c"polqual"),
            check: expression(c"polwithcheck"),
        });
    });
    found
}

/// Parses an expression over the table.
fn parse(relation: pg_sys::Oid, expression: &str) -> Option<*mut Node> {
    let text = catalog::c_string(&format!("SELECT {expression}"));
    let _path = PinnedSearchPath::new();
    // SAFETY: the text is the extension's own; the relation stays open while it is in use.
    unsafe {
        let statements = PgList::<pg_sys::RawStmt>::from_pg(pg_sys::raw_parser(
            text.as_ptr(),
            pg_sys::RawParseMode::RAW_PARSE_DEFAULT,
        ));
        let statement = (*statements.get_ptr(0)?).stmt;
        if !is_a(statement, pg_sys::NodeTag::T_SelectStmt) {
            return None;
        }
        let targets = PgList::<pg_sys::ResTarget>::from_pg(
            (*statement.cast::<pg_sys::SelectStmt>()).targetList,
        );
        let lock = pg_sys::AccessShareLock as i32;
        let relation = pg_sys::table_open(relation, lock);
        let state = pg_sys::make_parsestate(core::ptr::null_mut());
        let none = core::ptr::null_mut();
        let item = pg_sys::addRangeTableEntryForRelation(state, relation, lock, none, false, false);
        pg_sys::addNSItemToQuery(state, item, false, true, true);
        let tree = pg_sys::transformWhereClause(
            state,
            (*targets.get_ptr(0)?).val,
            pg_sys::ParseExprKind::EXPR_KIND_POLICY,
            c"POLICY".as_ptr(),
        );
        pg_sys::assign_expr_collations(state, tree);
        pg_sys::free_parsestate(state);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        Some(tree)
    }
}

struct Examination<'a> {
    functions: &'a Functions,
    is_safe: bool,
}

/// Puts quiet functions into the place of those that raise, and looks whether others may.
pub fn examined(node: *mut Node, functions: &Functions) -> Expression {
    let mut examination = Examination {
        functions,
        is_safe: true,
    };
    // SAFETY: a tree that only we hold, walked with a context that outlives the walk.
    unsafe {
        examine(node, (&raw mut examination).cast());
    }
    Expression {
        node,
        is_safe: examination.is_safe,
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn examine(node: *mut Node, context: *mut core::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: Postgres passes each node of the tree, with the context of `examined`.
    unsafe {
        let examination = &mut *context.cast::<Examination<'_>>();
        if nodes::is(node, pg_sys::NodeTag::T_FuncExpr) {
            let call = node.cast::<pg_sys::FuncExpr>();
            if let Some(twin) = examination.functions.quiet_twin((*call).funcid) {
                (*call).funcid = twin;
            }
        }
        if pg_sys::check_functions_in_node(node, Some(may_raise), context) {
            examination.is_safe = false;
        }
        if matches!(
            (*node).type_,
            pg_sys::NodeTag::T_CoerceToDomain
                | pg_sys::NodeTag::T_CoerceViaIO
                | pg_sys::NodeTag::T_ArrayCoerceExpr
                | pg_sys::NodeTag::T_RowCompareExpr
                | pg_sys::NodeTag::T_XmlExpr
                | pg_sys::NodeTag::T_SubscriptingRef
        ) {
            examination.is_safe = false;
        }
        if nodes::is(node, pg_sys::NodeTag::T_Query) {
            return pg_sys::query_tree_walker(node.cast(), Some(examine), context, 0);
        }
        pg_sys::expression_tree_walker(node, Some(examine), context)
    }
}

/// A leakproof function raises nothing: an error would tell its arguments.
#[pg_guard]
unsafe extern "C-unwind" fn may_raise(
    function: pg_sys::Oid,
    context: *mut core::ffi::c_void,
) -> bool {
    // SAFETY: the context of `examined`; a catalog lookup by oid.
    unsafe {
        let examination = &*context.cast::<Examination<'_>>();
        !examination.functions.is_quiet(function) && !pg_sys::get_func_leakproof(function)
    }
}
