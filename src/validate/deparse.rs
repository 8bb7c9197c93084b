//! The text of expressions of the catalog, of each once in a call.
//!
//! Owns that one which is damaged, or of something that is being dropped, is null and not the end: many
//! rules read the same policies. Must never outlive the call: names change.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use pgrx::prelude::*;
use pgrx::{IntoDatum, direct_function_call, pg_sys};

use crate::policy::subtransaction::attempt_reading;

/// Texts by relation, and length and hash of the node tree, which is many times as long.
#[derive(Default)]
struct Texts {
    hasher: RandomState,
    known: HashMap<(u32, usize, u64), Option<String>>,
}

thread_local! {
    static TEXTS: RefCell<Option<Texts>> = const { RefCell::new(None) };
}

/// While it lives, texts are remembered; ends on drop, an unwinding error included.
pub struct Remembering {
    before: Option<Texts>,
}

impl Remembering {
    /// Begins with nothing known.
    pub fn begin() -> Self {
        Self {
            before: TEXTS.replace(Some(Texts::default())),
        }
    }
}

impl Drop for Remembering {
    fn drop(&mut self) {
        TEXTS.replace(self.before.take());
    }
}

#[pg_extern(sql = false)]
fn expression_text(node: &str, relation: pg_sys::Oid) -> Option<String> {
    let known = TEXTS.with_borrow(|texts| {
        let texts = texts.as_ref()?;
        let key = (relation.to_u32(), node.len(), texts.hasher.hash_one(node));
        Some((key, texts.known.get(&key).cloned()))
    });
    match known {
        Some((_, Some(text))) => text,
        Some((key, None)) => {
            let text = deparsed(node, relation);
            TEXTS.with_borrow_mut(|texts| {
                if let Some(texts) = texts {
                    texts.known.insert(key, text.clone());
                }
            });
            text
        }
        None => deparsed(node, relation),
    }
}

fn deparsed(node: &str, relation: pg_sys::Oid) -> Option<String> {
    let text = attempt_reading(|| {
        // SAFETY: a function of Postgres with the arguments that it declares; a node tree is stored as
        // text is.
        let text = unsafe {
            direct_function_call::<String>(
                pg_sys::pg_get_expr,
                &[node.into_datum(), relation.into_datum()],
            )
        };
        Ok(text)
    });
    text.ok().flatten()
}
