//! What rolling back does not undo.
//!
//! Owns naming it: sequences that went on, and triggers in languages that reach outside.

use pgrx::pg_sys;

use super::run::read_as_owner;
use super::tables::Target;
use super::verdict::{Finding, Verdict};
use crate::error::Result;
use crate::policy::spi;
use crate::policy::subtransaction::attempt_reading;

const SEQUENCES: &str = "
SELECT pg_catalog.jsonb_build_array(c.oid::pg_catalog.int8, c.relowner::pg_catalog.int8,
    pg_catalog.format('%I.%I', n.nspname, c.relname))::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.oid >= 16384 AND n.nspname !~ '^pg_' ORDER BY n.nspname, c.relname";

const UNTRUSTED: &str = "
SELECT pg_catalog.jsonb_build_array(pg_catalog.format('%I.%I', n.nspname, c.relname), t.tgname, l.lanname)::pg_catalog.text
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE NOT t.tgisinternal AND NOT l.lanpltrusted AND l.lanname <> 'internal' AND c.oid = ANY ($1)
  AND p.oid >= 16384 AND p.pronamespace <> 'tenancy'::pg_catalog.regnamespace
ORDER BY n.nspname, c.relname, t.tgname";

/// Where the sequences of the database stand in this session.
pub struct Sequences(Vec<(u32, u32, String, Option<String>)>);

impl Sequences {
    /// As they are now.
    pub fn now() -> Result<Self> {
        let known = spi::rows::<(u32, u32, String)>(SEQUENCES, &[])?;
        let with = |(oid, owner, name)| (oid, owner, name, value(oid, owner));
        Ok(Self(known.into_iter().map(with).collect()))
    }

    /// Those that this session has advanced since.
    pub fn advanced(&self) -> Vec<Finding> {
        let advanced = self
            .0
            .iter()
            .filter(|(oid, owner, _, before)| value(*oid, *owner) != *before);
        advanced
            .map(|(_, _, name, _)| Finding {
                relation: name.clone(),
                attack: "side effect".to_owned(),
                verdict: Verdict::Nothing,
                detail: Some(
                    "the sequence was advanced, which rolling back does not undo".to_owned(),
                ),
                sqlstate: None,
            })
            .collect()
    }
}

/// What `nextval` gave last in this session; `None` where it was not called.
fn value(oid: u32, owner: u32) -> Option<String> {
    let sql = format!("SELECT pg_catalog.currval({oid}::pg_catalog.regclass)");
    let owner = pg_sys::Oid::from(owner);
    attempt_reading(|| read_as_owner(owner, &sql)).ok()?.text()
}

/// Triggers that fired in languages that reach outside of the database.
pub fn outside(targets: &[Target]) -> Result<Vec<Finding>> {
    let tables: Vec<pg_sys::Oid> = targets.iter().map(|target| target.table.oid()).collect();
    let found = spi::rows::<(String, String, String)>(UNTRUSTED, &[tables.into()])?;
    Ok(found
        .into_iter()
        .map(|(relation, trigger, language)| Finding {
            relation,
            attack: "side effect".to_owned(),
            verdict: Verdict::Nothing,
            detail: Some(format!(
                "trigger \"{trigger}\" is in language {language}: what it does outside of the database is not undone"
            )),
            sqlstate: None,
        })
        .collect())
}
