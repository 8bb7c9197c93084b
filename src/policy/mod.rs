//! Which rows exist: generated row-level security.
//!
//! `model`, `names`, `render` and `plan` are pure; `inspect`, `store`, `keys` and `apply` are thin
//! over SPI; `protect`, `unprotect`, `mode_switch`, `app_role` and `drop_guard` put them in order;
//! `entry` is what SQL calls.

mod app_role;
mod apply;
mod drop_guard;
mod entry;
mod immutable;
mod inspect;
mod keys;
mod mode_switch;
mod model;
mod names;
mod plan;
mod protect;
mod render;
mod spi;
mod store;
mod unprotect;
