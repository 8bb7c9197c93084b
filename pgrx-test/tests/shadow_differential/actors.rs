//! Who runs a statement, and under which settings.

use super::generate::Generator;

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    Application,
    /// Of the tables; bound, since row security is forced.
    Owner,
    Bypass,
    Superuser,
}

impl Actor {
    pub fn is_bound(self) -> bool {
        matches!(self, Actor::Application | Actor::Owner)
    }
}

/// What the application said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context {
    /// An admin of tenant 1.
    Admin,
    /// A member of tenant 2.
    Member,
    /// A member of 1 and 2, in 1.
    Both,
    /// None, so that rows are denied.
    Denied,
    /// None, so that statements fail.
    Missing,
}

impl Context {
    /// As settings of the transaction.
    pub fn settings(self) -> &'static str {
        match self {
            Context::Admin => "SET LOCAL app.current_user_id = 'u1'; SET LOCAL app.tenant = '1'",
            Context::Member => "SET LOCAL app.current_user_id = 'u2'; SET LOCAL app.tenant = '2'",
            Context::Both => "SET LOCAL app.current_user_id = 'u3'; SET LOCAL app.tenant = '1'",
            Context::Denied => {
                "SET LOCAL pg_tenancy.missing_context = deny; SET LOCAL app.current_user_id = ''; SET LOCAL app.tenant = ''"
            }
            Context::Missing => "SET LOCAL app.current_user_id = ''; SET LOCAL app.tenant = ''",
        }
    }
}

/// One execution of a statement.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub actor: Actor,
    pub context: Context,
}

const ACTORS: [(u32, Actor); 4] = [
    (82, Actor::Application),
    (12, Actor::Owner),
    (3, Actor::Bypass),
    (3, Actor::Superuser),
];

const CONTEXTS: [(u32, Context); 5] = [
    (50, Context::Admin),
    (25, Context::Member),
    (16, Context::Both),
    (5, Context::Denied),
    (4, Context::Missing),
];

/// One execution, or several of a prepared statement.
pub fn steps(generator: &mut Generator) -> Vec<Step> {
    let count = if generator.is_prepared {
        generator.number(2, 4)
    } else {
        1
    };
    let steps: Vec<Step> = (0..count)
        .map(|_| Step {
            actor: generator.weighed(&ACTORS),
            context: generator.weighed(&CONTEXTS),
        })
        .collect();
    for step in &steps {
        match step.actor {
            Actor::Application => {}
            Actor::Owner => generator.has("the owner"),
            Actor::Bypass | Actor::Superuser => generator.has("an exempt role"),
        }
        match step.context {
            Context::Denied => generator.has("no context, denied"),
            Context::Missing => generator.has("no context, error"),
            _ => {}
        }
    }
    if generator.is_prepared {
        generator.has("prepared");
    }
    steps
}

const SETTINGS: [&str; 11] = [
    "SET LOCAL enable_hashjoin = off",
    "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
    "SET LOCAL enable_nestloop = off",
    "SET LOCAL enable_nestloop = off; SET LOCAL enable_hashjoin = off",
    "SET LOCAL enable_seqscan = off",
    "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
    "SET LOCAL enable_hashagg = off; SET LOCAL enable_hashjoin = off",
    "SET LOCAL enable_memoize = off; SET LOCAL enable_material = off",
    "SET LOCAL geqo_threshold = 2",
    "SET LOCAL join_collapse_limit = 1; SET LOCAL from_collapse_limit = 1",
    "SET LOCAL pg_tenancy.shadow_placement = scan",
];

const PARALLEL: &str = "SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SET LOCAL min_parallel_table_scan_size = 0; SET LOCAL min_parallel_index_scan_size = 0";

/// Planner settings, so that the same shapes get other plans.
pub fn settings(generator: &mut Generator) -> &'static str {
    if generator.is_prepared {
        if generator.chance(60) {
            generator.has("generic plan");
            return "SET LOCAL plan_cache_mode = force_generic_plan";
        }
        return "";
    }
    match generator.number(0, 99) {
        0..50 => "",
        50..53 => {
            generator.has("parallel plan");
            PARALLEL
        }
        _ => generator.word(&SETTINGS),
    }
}
