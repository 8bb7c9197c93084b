//! FROM: tables and what stands for them, and joins. All have the columns id, n, r and note.

use super::generate::{Generator, Relation};
use super::sql::{Sql, filters, optional, sequence};
use super::tables::{OWNERS_VIEW, named};

const COLUMNS: &str = "id, n, r, note";

impl Generator {
    /// A number of relations, joined.
    pub fn from(&mut self, count: usize, depth: u32) -> (Sql, Vec<Relation>) {
        let (first, relation) = self.source(depth, false);
        let mut relations = vec![relation];
        let mut joins = Vec::new();
        for _ in 1..count {
            let (join, relation) = self.join(&relations, depth);
            joins.push(join);
            relations.push(relation);
        }
        let joins = Sql::List {
            open: "",
            separator: "",
            items: joins,
        };
        (sequence([first, joins]), relations)
    }

    fn join(&mut self, before: &[Relation], depth: u32) -> (Sql, Relation) {
        let other = self.pick(before).alias().to_owned();
        let others = u32::from(!self.outer_only);
        let (shape, word) = self.weighed(&[
            (42 * others, ("inner join", " JOIN ")),
            (26, ("left join", " LEFT JOIN ")),
            (8, ("right join", " RIGHT JOIN ")),
            (6, ("full join", " FULL JOIN ")),
            (5 * others, ("cross join", " CROSS JOIN ")),
            (7 * others, ("lateral", " CROSS JOIN LATERAL ")),
            (6 * others, ("left join lateral", " LEFT JOIN LATERAL ")),
        ]);
        self.has(shape);
        match shape {
            "cross join" => {
                let (table, alias) = (self.any_table(), self.alias());
                let text = format!("{word}(SELECT {COLUMNS} FROM {table} WHERE id < 4) {alias}");
                (Sql::from(text), Relation::new(&alias, Some(table)))
            }
            "lateral" | "left join lateral" => {
                let (table, inner, alias) = (self.any_table(), self.alias(), self.alias());
                let link = self.link(&inner, &other);
                let mut conditions = vec![Sql::from(link)];
                if self.chance(40) {
                    let relation = [Relation::new(&inner, None)];
                    conditions.push(Sql::from(self.predicate(&relation)));
                }
                let head = format!(
                    "{word}(SELECT {inner}.id, {inner}.n, {inner}.r, {inner}.note FROM {table} {inner}"
                );
                let limit = if self.chance(40) {
                    self.has("LIMIT in LATERAL");
                    optional(Sql::from(format!(" ORDER BY {inner}.id LIMIT 2")))
                } else {
                    Sql::from("")
                };
                let tail = if shape == "lateral" { "" } else { " ON true" };
                let sql = sequence([
                    Sql::from(head),
                    filters(conditions),
                    limit,
                    Sql::from(format!(") {alias}{tail}")),
                ]);
                (sql, Relation::new(&alias, Some(table)))
            }
            _ => {
                let (source, relation) = self.source(depth, false);
                let mut conditions = vec![Sql::from(self.link(relation.alias(), &other))];
                if shape != "full join" && self.chance(30) {
                    let mut all = before.to_vec();
                    all.push(relation.clone());
                    conditions.push(Sql::from(self.predicate(&all)));
                }
                let on = Sql::List {
                    open: " ON ",
                    separator: " AND ",
                    items: conditions,
                };
                (sequence([Sql::from(word), source, on]), relation)
            }
        }
    }

    /// One relation; each of its rows has an id of its own if that is asked for.
    pub fn source(&mut self, depth: u32, is_unique: bool) -> (Sql, Relation) {
        if !self.with.is_empty() && self.chance(60) {
            let alias = self.alias();
            let (_, relation) = &self.with[0];
            let text = format!("{} {alias}", relation.alias());
            return (Sql::from(text), Relation::new(&alias, relation.key.table));
        }
        match self.number(0, 99) {
            0..14 => {
                let (name, table, other, shape) = self.any_standin();
                self.has(shape);
                self.unseen.extend(other);
                let alias = self.alias();
                let mut relation = Relation::new(&alias, table);
                relation.key.by_owner = shape == OWNERS_VIEW;
                (Sql::from(format!("{name} {alias}")), relation)
            }
            14..27 => self.sub_select(depth),
            27..32 => self.aggregated(),
            32..36 if !is_unique => self.appended(),
            _ => self.table(),
        }
    }

    /// A table itself.
    pub fn table(&mut self) -> (Sql, Relation) {
        let table = self.any_table();
        let alias = self.alias();
        let relation = Relation {
            has_tenant: named(table).extra == Some("tenant_id"),
            is_table: true,
            ..Relation::new(&alias, Some(table))
        };
        (Sql::from(format!("{table} {alias}")), relation)
    }

    fn sub_select(&mut self, depth: u32) -> (Sql, Relation) {
        let (table, inner, alias) = (self.any_table(), self.alias(), self.alias());
        self.has("sub-select in FROM");
        let conditions = self.conditions(&[Relation::new(&inner, None)], 2, depth + 1);
        let end = if self.chance(20) {
            self.has("OFFSET 0");
            optional(Sql::from(" OFFSET 0"))
        } else {
            Sql::from("")
        };
        let sql = sequence([
            Sql::from(format!(
                "(SELECT {inner}.id, {inner}.n, {inner}.r, {inner}.note FROM {table} {inner}"
            )),
            filters(conditions),
            end,
            Sql::from(format!(") {alias}")),
        ]);
        (sql, Relation::new(&alias, Some(table)))
    }

    fn aggregated(&mut self) -> (Sql, Relation) {
        let (table, alias) = (self.any_table(), self.alias());
        self.has("joined aggregate");
        self.unseen.insert(table);
        let having = if self.chance(40) {
            optional(Sql::from(" HAVING count(*) > 2"))
        } else {
            Sql::from("")
        };
        let sql = sequence([
            Sql::from(format!(
                "(SELECT min(id) AS id, n, count(*)::int AS r, max(note) AS note FROM {table} GROUP BY n"
            )),
            having,
            Sql::from(format!(") {alias}")),
        ]);
        (sql, Relation::new(&alias, None))
    }

    fn appended(&mut self) -> (Sql, Relation) {
        let (one, other) = (self.unseen_table(), self.unseen_table());
        let alias = self.alias();
        self.has("UNION ALL in FROM");
        let text = format!(
            "(SELECT {COLUMNS} FROM {one} UNION ALL SELECT {COLUMNS} FROM {other} WHERE n > 2) {alias}"
        );
        (Sql::from(text), Relation::new(&alias, None))
    }

    /// A WITH query for those that follow to read.
    pub fn add_with(&mut self, may_write: bool) {
        let (table, inner) = (self.any_table(), self.alias());
        let name = "w1".to_owned();
        let inside = [Relation::new(&inner, None)];
        let shape = self.weighed(&[
            (35, "WITH"),
            (30, "WITH MATERIALIZED"),
            (15, "WITH RECURSIVE"),
            (if may_write { 20 } else { 0 }, "WITH that writes"),
        ]);
        self.has(shape);
        let columns = format!("{inner}.id, {inner}.n, {inner}.r, {inner}.note");
        let sql = match shape {
            "WITH RECURSIVE" => {
                let link = self.link(&inner, &name);
                Sql::from(format!(
                    "{name} AS (SELECT {COLUMNS} FROM {table} WHERE id < 4 UNION SELECT {columns} FROM {name} JOIN {table} {inner} ON {link})"
                ))
            }
            "WITH that writes" => {
                self.unseen.insert(table);
                let conditions = self.conditions(&inside, 2, 1);
                let head = if self.chance(50) {
                    format!("{name} AS (DELETE FROM {table} {inner}")
                } else {
                    format!("{name} AS (UPDATE {table} {inner} SET note = note || '!'")
                };
                let tail = format!(" RETURNING {columns})");
                sequence([Sql::from(head), filters(conditions), Sql::from(tail)])
            }
            _ => {
                let conditions = self.conditions(&inside, 2, 1);
                let word = match shape {
                    "WITH" => self.word(&["", "NOT MATERIALIZED "]),
                    _ => "MATERIALIZED ",
                };
                let head = format!("{name} AS {word}(SELECT {columns} FROM {table} {inner}");
                sequence([Sql::from(head), filters(conditions), Sql::from(")")])
            }
        };
        let mut relation = Relation::new(&name, Some(table));
        if shape == "WITH that writes" {
            // What is denied depends on what it does, and is there no more to look at.
            relation.key.table = None;
        }
        self.with.push((sql, relation));
    }
}
