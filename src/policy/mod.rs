//! Which rows exist: generated row-level security.
//!
//! | question | file |
//! |---|---|
//! | what SQL calls | `entry` |
//! | what a template lets whom see and write | `predicate`, `needs`; what it takes of the catalog: `rule`, `link` |
//! | which template fits a table | `choose` |
//! | the order of things | `protect`, `protect_schema`, `protect_schema_by_table`, `unprotect`, `mode_switch`, `policy_sql` |
//! | which tables a call is about, rights, the first lock | `members`, `protectable` |
//! | what is planned | `ground` (NOT NULL, default, index), `gate` (policies, row security, trigger) |
//! | foreign keys | `key_catalog`, `key_definition`, `key_plan`, `key_sight`, `key_completion` |
//! | unique keys | `unique_catalog`, `unique_keys` |
//! | rows that are refused, or should be | `bad_rows`, `immutable`, `cross_links` |
//! | how it is said, and compared | `describe`, `compare` |
//! | whether it still is so | `drift_scan` (all), `drift`, `drift_gate` (one table), `drift_look`, `drift_catalog`, `seen`, `difference` (the words); `repair`, `repair_steps` |
//! | the statements and names, pure | `model`, `options`, `names`, `render`, `plan` |
//! | the catalog, the registry, running | `inspect`, `store`, `spi`, `apply`, `subtransaction` |
//! | why a row is there or not, for whom | `explain` |
//! | tables made later | `auto_register` (which schemas), `auto_switch`, `auto_event` (when), `auto_apply` (what) |
//! | the rest | `app_role`, `drop_guard` |

mod app_role;
pub(crate) mod apply;
mod auto_apply;
mod auto_event;
mod auto_register;
mod auto_switch;
mod bad_rows;
mod choose;
mod compare;
mod cross_links;
mod describe;
mod difference;
mod drift;
mod drift_catalog;
mod drift_gate;
mod drift_look;
mod drift_scan;
mod drop_guard;
mod entry;
mod explain;
mod gate;
mod ground;
mod immutable;
mod inspect;
mod key_catalog;
mod key_completion;
mod key_definition;
mod key_plan;
mod key_sight;
mod link;
mod made_key;
mod members;
mod mode_switch;
mod model;
mod names;
mod needs;
mod options;
mod plan;
mod policy_sql;
mod predicate;
mod protect;
mod protect_schema;
mod protect_schema_by_table;
mod protectable;
mod ready;
mod render;
mod repair;
mod repair_steps;
mod rule;
mod seen;
pub(crate) mod spi;
mod store;
pub(crate) mod subtransaction;
mod unique_catalog;
mod unique_keys;
mod unprotect;

pub use app_role::{grant_on, keep as keep_role, make as make_bound_role};
pub use auto_switch::mend as mend_auto_protect;
pub use entry::given;
pub use model::{Command, Options, Template};
pub use needs::{CommandNeeds, Needs, Same};
pub use render::{literal, policies, quoted, quoted_list};
pub use rule::of as rule;
pub use store::all as registered_tables;
