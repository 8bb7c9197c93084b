//! Who is asking, and for which tenant: from settings to the functions that policies call.
//!
//! Owns the functions of the application's schema. Must never trust a setting further than the
//! binding allows.

pub mod claims;
mod each_tenant;
pub mod functions;
pub mod hot;
pub mod identity;
pub mod lookup;
pub mod model;
pub mod questions;
mod quiet;
pub mod resolve;
pub mod service;
pub mod setting;
pub mod validate;
