//! Test harness of `pg_tenancy`: brings up Postgres servers, installs the extension into them
//! and runs the tests. The binary's subcommands are thin; what they share lives here, so that the
//! demo, the benchmarks and the tests stand on the same ground.
//!
//! Three rules hold everywhere: nothing is written into a Postgres installation of the system,
//! no server listens on a default port, and what cannot be done fails instead of being skipped.

pub mod bench;
pub mod browser;
mod build_products;
pub mod catalog_dump;
pub mod cluster;
pub mod demo;
pub mod drivers;
pub mod exec;
pub mod fixture;
pub mod install;
pub mod matrix;
pub mod paths;
pub mod pgbouncer;
pub mod progress;
pub mod provision;
pub mod report;
pub mod run_dir;
pub mod scenario;
pub mod standby;
pub mod tiers;
pub mod toolchain;
pub mod user;
