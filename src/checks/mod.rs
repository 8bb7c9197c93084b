//! Checks beside the validator: what a schema must look like, and what its data must hold.
//!
//! | question | file |
//! |---|---|
//! | rules about columns, and who may write them | `expected` |
//! | what a name of a type means | `type_name` |
//! | what holds before and after a migration | `migration` |
//! | rows that every tenant or user needs, and who may say so | `required` |
//! | who lacks them | `missing` |
//! | what else is wrong with the data | `consistency` |
//! | reading keys of a table past row security, for whoever administers it | `keys` |
//! | the statement that makes a row | `fix` |
//!
//! Checks write nothing, and read with the caller's rights unless a file says otherwise.

mod arguments;
mod consistency;
mod expected;
mod fix;
pub mod keys;
mod migration;
mod missing;
mod required;
mod sql;
mod type_name;
