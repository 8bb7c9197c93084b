//! Checks beside the validator: what a schema must look like, and what its data must hold.
//!
//! | question | file |
//! |---|---|
//! | rules about columns, and who may write them | `expected` |
//! | what a name of a type means | `type_name` |
//!
//! Checks read with the caller's rights unless a file says otherwise, and write nothing.

mod arguments;
mod expected;
mod sql;
mod type_name;
