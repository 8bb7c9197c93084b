//! What one session remembers of resolved contexts, and when it must forget.
//!
//! Owns the generation that invalidations raise, and the bounded store. Must never answer from an
//! entry of an older generation.

pub mod generation;
pub mod store;
