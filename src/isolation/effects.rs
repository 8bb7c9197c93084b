//! What rolling back does not undo.
//!
//! Owns naming it: sequences that went on or were set, advisory locks of the session, and triggers in languages
//! that reach outside.

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

/// Advisory locks that this session holds: `(key, name)`, keys of eight bytes or two of four.
const LOCKS: &str = "
SELECT pg_catalog.to_jsonb(CASE l.objsubid WHEN 1 THEN ((l.classid::pg_catalog.int8 << 32) | l.objid::pg_catalog.int8)::pg_catalog.text
     ELSE pg_catalog.format('(%s, %s)', l.classid, l.objid) END
     || CASE l.mode WHEN 'ShareLock' THEN ' (shared)' ELSE '' END)::pg_catalog.text
FROM pg_catalog.pg_locks l
WHERE l.locktype = 'advisory' AND l.granted AND l.pid = pg_catalog.pg_backend_pid()
ORDER BY l.objsubid, l.classid, l.objid, l.mode";

/// What a rollback leaves as it is, before the attacks.
pub struct Kept {
    sequences: Sequences,
    locks: Vec<String>,
}

impl Kept {
    /// As it is now.
    pub fn now() -> Result<Self> {
        Ok(Self {
            sequences: Sequences::now()?,
            locks: spi::rows(LOCKS, &[])?,
        })
    }

    /// What is otherwise since.
    pub fn changed(&self) -> Result<Vec<Finding>> {
        let mut findings = self.sequences.changed();
        let now: Vec<String> = spi::rows(LOCKS, &[])?;
        let missing = |of: &[String], from: &[String], detail: &str| -> Vec<Finding> {
            of.iter()
                .filter(|lock| !from.contains(lock))
                .map(|lock| side_effect(format!("advisory lock {lock}"), detail.to_owned()))
                .collect()
        };
        findings.extend(missing(
            &now,
            &self.locks,
            "the session holds it now, until it ends or gives it back with pg_advisory_unlock()",
        ));
        findings.extend(missing(
            &self.locks,
            &now,
            "the session held it, and it was given back",
        ));
        Ok(findings)
    }
}

fn side_effect(relation: String, detail: String) -> Finding {
    Finding {
        relation,
        attack: "side effect".to_owned(),
        verdict: Verdict::Nothing,
        detail: Some(detail),
        sqlstate: None,
        acceptable: false,
        accepted: None,
    }
}

/// A sequence: its oid and owner, what it is called, and where it stands.
struct Sequence {
    oid: u32,
    owner: u32,
    name: String,
    given: Option<String>,
    state: Option<State>,
}

/// What a sequence has stored.
#[derive(PartialEq)]
struct State {
    last: i64,
    called: bool,
}

/// Where the sequences of the database stand.
struct Sequences(Vec<Sequence>);

impl Sequences {
    fn now() -> Result<Self> {
        let known = spi::rows::<(u32, u32, String)>(SEQUENCES, &[])?;
        let with = |(oid, owner, name): (u32, u32, String)| Sequence {
            given: value(oid, owner),
            state: state(&name, owner),
            oid,
            owner,
            name,
        };
        Ok(Self(known.into_iter().map(with).collect()))
    }

    /// Those that this session has advanced since, or that somebody has set.
    fn changed(&self) -> Vec<Finding> {
        let told = |sequence: &Sequence| {
            let detail = if value(sequence.oid, sequence.owner) != sequence.given {
                "the sequence was advanced, which rolling back does not undo"
            } else if was_set(
                sequence.state.as_ref()?,
                &state(&sequence.name, sequence.owner)?,
            ) {
                "the sequence was set, which rolling back does not undo, here or by somebody else meanwhile"
            } else {
                return None;
            };
            Some(side_effect(sequence.name.clone(), detail.to_owned()))
        };
        self.0.iter().filter_map(told).collect()
    }
}

/// `setval(.., false)` leaves no trace in the session; sequences that others use go on and stay called.
fn was_set(before: &State, after: &State) -> bool {
    before != after && !after.called
}

/// What is stored; `None` where it cannot be read.
fn state(name: &str, owner: u32) -> Option<State> {
    let sql = format!("SELECT s.last_value, s.is_called FROM {name} AS s");
    let owner = pg_sys::Oid::from(owner);
    let answer = attempt_reading(|| read_as_owner(owner, &sql)).ok()?;
    let mut values = answer.rows.into_iter().next()?.into_iter().flatten();
    Some(State {
        last: values.next()?.parse().ok()?,
        called: values.next()? == "t",
    })
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
        .map(|(relation, trigger, language)| {
            let detail = format!(
                "trigger \"{trigger}\" is in language {language}: what it does outside of the database is not undone"
            );
            side_effect(relation, detail)
        })
        .collect())
}
