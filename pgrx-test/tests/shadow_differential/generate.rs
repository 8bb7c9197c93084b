//! Statements out of a seed. Pure: the same seed and number give the same statement.
//!
//! No result may depend on the plan: LIMIT comes with an order of all columns, joins that write match a
//! row once, sub-selects that give a value look up a key or aggregate, and conditions raise nothing.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::actors::{self, Step};
use super::sql::{Access, Key, Sql};
use super::tables::{CHOICE, EXEMPT, STANDINS, Standin, UNPROTECTED};

/// A statement, who runs it, and what is known of it.
#[derive(Debug, Clone)]
pub struct Statement {
    pub sql: Sql,
    /// What it is made of.
    pub shapes: BTreeSet<&'static str>,
    /// The order of rows counts.
    pub is_ordered: bool,
    pub writes: bool,
    /// Tables whose rows may matter without being shown.
    pub unseen: BTreeSet<&'static str>,
    pub steps: Vec<Step>,
    pub settings: &'static str,
    pub is_prepared: bool,
}

/// Something in FROM.
#[derive(Debug, Clone)]
pub struct Relation {
    pub key: Key,
    pub has_tenant: bool,
    /// A table itself, so that its rows can be locked.
    pub is_table: bool,
}

impl Relation {
    pub fn new(alias: &str, table: Option<&'static str>) -> Relation {
        Relation {
            key: Key {
                alias: alias.to_owned(),
                table,
                access: Access::Read,
                by_owner: false,
            },
            has_tenant: false,
            is_table: false,
        }
    }

    pub fn alias(&self) -> &str {
        &self.key.alias
    }
}

/// Makes one statement.
pub struct Generator {
    rng: StdRng,
    version: u32,
    aliases: u32,
    pub shapes: BTreeSet<&'static str>,
    pub unseen: BTreeSet<&'static str>,
    /// WITH queries, and what each shows.
    pub with: Vec<(Sql, Relation)>,
    pub is_prepared: bool,
    /// Nobody runs it whom policies do not bind.
    pub all_bound: bool,
    sparing: Sparing,
    /// Joins are outer joins.
    pub outer_only: bool,
}

/// How much of a statement is protected. Where one relation is, nothing hides that it was overlooked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sparing {
    No,
    OneToCome,
    OneThere,
}

/// The statement of that number.
pub fn statement(seed: u64, number: u64, version: u32) -> Statement {
    let mut generator = Generator {
        rng: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number)),
        version,
        aliases: 0,
        shapes: BTreeSet::new(),
        unseen: BTreeSet::new(),
        with: Vec::new(),
        is_prepared: false,
        all_bound: true,
        sparing: Sparing::No,
        outer_only: false,
    };
    generator.is_prepared = generator.chance(15);
    let steps = actors::steps(&mut generator);
    generator.all_bound = steps.iter().all(|step| step.actor.is_bound());
    let settings = actors::settings(&mut generator);
    if generator.chance(45) {
        generator.sparing = Sparing::OneToCome;
        generator.has("one protected relation at most");
    }
    let (sql, is_ordered, writes) = if generator.chance(30) {
        (generator.write(), false, true)
    } else {
        let (sql, is_ordered) = generator.select();
        (sql, is_ordered, false)
    };
    let (with, writes_first) = generator.take_with();
    Statement {
        sql: Sql::Sequence(vec![with, sql]),
        shapes: generator.shapes,
        is_ordered,
        writes: writes || writes_first,
        unseen: generator.unseen,
        steps,
        settings,
        is_prepared: generator.is_prepared,
    }
}

impl Generator {
    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    pub fn number(&mut self, from: i32, to: i32) -> i32 {
        self.rng.random_range(from..=to)
    }

    pub fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        among
            .choose(&mut self.rng)
            .expect("something to choose from")
    }

    pub fn word(&mut self, among: &[&'static str]) -> &'static str {
        self.pick::<&'static str>(among)
    }

    /// Chooses by weight.
    pub fn weighed<T: Copy>(&mut self, among: &[(u32, T)]) -> T {
        let all: u32 = among.iter().map(|(weight, _)| weight).sum();
        let mut left = self.rng.random_range(0..all);
        for (weight, one) in among {
            if left < *weight {
                return *one;
            }
            left -= weight;
        }
        unreachable!("the weights are the sum of them")
    }

    pub fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("r{}", self.aliases)
    }

    pub fn has(&mut self, shape: &'static str) {
        self.shapes.insert(shape);
    }

    pub fn is_since(&self, version: u32) -> bool {
        self.version >= version
    }

    fn is_protected(&mut self) -> bool {
        match self.sparing {
            Sparing::No => self.chance(86),
            Sparing::OneThere => false,
            Sparing::OneToCome => {
                let now = self.chance(55);
                if now {
                    self.sparing = Sparing::OneThere;
                }
                now
            }
        }
    }

    pub fn any_table(&mut self) -> &'static str {
        if self.is_protected() {
            self.word(&CHOICE)
        } else {
            UNPROTECTED
        }
    }

    pub fn any_standin(&mut self) -> Standin {
        if self.is_protected() {
            *self.pick(&STANDINS)
        } else {
            EXEMPT
        }
    }

    fn take_with(&mut self) -> (Sql, bool) {
        let with = std::mem::take(&mut self.with);
        let is_recursive = self.shapes.contains("WITH RECURSIVE");
        let items: Vec<Sql> = with.into_iter().map(|(sql, _)| sql).collect();
        if items.is_empty() {
            return (Sql::from(""), false);
        }
        let open = if is_recursive {
            "WITH RECURSIVE "
        } else {
            "WITH "
        };
        let list = Sql::List {
            open,
            separator: ", ",
            items,
        };
        let writes = self.shapes.contains("WITH that writes");
        (Sql::Sequence(vec![list, Sql::from(" ")]), writes)
    }
}
