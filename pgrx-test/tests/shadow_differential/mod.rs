//! The differential test of shadow mode: statements out of a seed, run without protection, in shadow mode
//! and enforced.

pub mod actors;
mod added;
mod conditions;
pub mod generate;
pub mod judge;
mod relations;
mod select;
pub mod shrink;
pub mod sql;
mod tables;
pub mod tally;
pub mod world;
mod writes;
