//! SELECT: what it returns, and in which order.

use super::generate::{Generator, Relation};
use super::sql::{Access, Sql, filters, optional, sequence};

const AGGREGATES: [&str; 6] = [
    "count(*)",
    "sum(@.n)",
    "max(@.r)",
    "min(@.id)",
    "count(DISTINCT @.n)",
    "string_agg(@.note, ',' ORDER BY @.note)",
];

const WINDOWS: [&str; 5] = [
    "count(*) OVER ()",
    "sum(@.n) OVER (PARTITION BY @.r)",
    "rank() OVER (ORDER BY @.n)",
    "max(@.id) OVER (PARTITION BY @.n)",
    "sum(@.id) OVER (ORDER BY @.r)",
];

impl Generator {
    /// The statement, and whether its rows have an order.
    pub fn select(&mut self) -> (Sql, bool) {
        if self.chance(18) {
            self.add_with(true);
        }
        match self.number(0, 99) {
            0..12 => self.outer(),
            12..54 => self.keyed(),
            54..66 => self.columns(),
            66..86 => self.grouped(),
            _ => self.set_operation(),
        }
    }

    fn relations(&mut self) -> (Sql, Vec<Relation>) {
        let count = self.weighed(&[(34, 1), (40, 2), (26, 3)]);
        self.from(count, 0)
    }

    /// Shows the key of each relation, so that it can be told which rows are in the result.
    fn keyed(&mut self) -> (Sql, bool) {
        let (from, mut relations) = self.relations();
        let conditions = self.conditions(&relations, 2, 0);
        let locks = self.locks(&mut relations);
        let mut results: Vec<Sql> = relations
            .iter()
            .map(|relation| Sql::Key(relation.key.clone()))
            .collect();
        let more = self.extras(&relations, locks.is_none());
        results.extend(more);
        let (end, is_ordered) = self.end(results.len());
        let mut all = vec![Sql::from("SELECT "), listed(results), Sql::from(" FROM ")];
        all.extend([from, filters(conditions), end]);
        if let Some(locks) = locks {
            all.push(optional(Sql::from(locks)));
        }
        (Sql::Sequence(all), is_ordered)
    }

    /// Outer joins and a filter that lets through what they make up.
    fn outer(&mut self) -> (Sql, bool) {
        self.has("outer join with a filter above");
        self.outer_only = true;
        let count = self.weighed(&[(60, 2), (40, 3)]);
        let (from, relations) = self.from(count, 2);
        self.outer_only = false;
        let mut conditions = vec![Sql::from(self.lenient(&relations))];
        if self.chance(30) {
            conditions.push(Sql::from(self.predicate(&relations)));
        }
        let results: Vec<Sql> = relations
            .iter()
            .map(|relation| Sql::Key(relation.key.clone()))
            .collect();
        let parts = [Sql::from("SELECT "), listed(results), Sql::from(" FROM ")];
        let all = parts.into_iter().chain([from, filters(conditions)]);
        (sequence(all), false)
    }

    fn extras(&mut self, relations: &[Relation], may_count: bool) -> Vec<Sql> {
        let alias = self.pick(relations).alias().to_owned();
        let mut extras = Vec::new();
        if self.chance(40) {
            extras.push(Sql::from(format!("coalesce({alias}.note, '-')")));
        }
        if may_count && self.chance(14) {
            self.has("window function");
            let window = self.word(&WINDOWS).replace('@', &alias);
            extras.push(Sql::from(window));
        }
        if self.chance(12) {
            self.has("scalar sub-select");
            extras.push(self.value(&alias));
        }
        if self.chance(7) {
            self.has("ARRAY");
            extras.push(self.array(&alias));
        }
        if self.chance(6) {
            self.has("EXISTS in CASE");
            let (table, inner) = (self.unseen_table(), self.alias());
            let link = self.link(&inner, &alias);
            extras.push(Sql::from(format!(
                "CASE WHEN EXISTS (SELECT FROM {table} {inner} WHERE {link}) THEN 1 ELSE 2 END"
            )));
        }
        extras
    }

    /// Locks the rows of the first relation, where that is possible.
    fn locks(&mut self, relations: &mut [Relation]) -> Option<String> {
        let inner_only = !["left join", "right join", "full join", "left join lateral"]
            .iter()
            .any(|shape| self.shapes.contains(shape));
        let writes = self.shapes.contains("WITH that writes");
        if !inner_only || writes || !relations[0].is_table || !self.chance(20) {
            return None;
        }
        self.has("FOR UPDATE");
        relations[0].key.access = Access::Update;
        let word = self.word(&["UPDATE", "SHARE", "NO KEY UPDATE"]);
        Some(format!(" FOR {word} OF {}", relations[0].alias()))
    }

    /// Shows some columns only.
    fn columns(&mut self) -> (Sql, bool) {
        let (from, relations) = self.relations();
        let conditions = self.conditions(&relations, 2, 0);
        let count = self.number(1, 3);
        let results: Vec<Sql> = (0..count)
            .map(|_| {
                let column = self.word(&["id", "n", "r", "note"]);
                let alias = self.pick(&relations).alias();
                Sql::from(format!("{alias}.{column}"))
            })
            .collect();
        self.has("some columns");
        let distinct = if self.chance(35) {
            self.has("DISTINCT");
            "SELECT DISTINCT "
        } else {
            "SELECT "
        };
        let (end, is_ordered) = self.end(results.len());
        let parts = [Sql::from(distinct), listed(results), Sql::from(" FROM ")];
        let all = parts.into_iter().chain([from, filters(conditions), end]);
        (sequence(all), is_ordered)
    }

    fn grouped(&mut self) -> (Sql, bool) {
        let (from, relations) = self.relations();
        let conditions = self.conditions(&relations, 2, 0);
        let alias = self.pick(&relations).alias().to_owned();
        let other = self.pick(&relations).alias().to_owned();
        let aggregate = self.word(&AGGREGATES).replace('@', &other);
        let head = [Sql::from("SELECT ")];
        if self.chance(35) {
            self.has("aggregate of all");
            let results = [Sql::from(aggregate), Sql::from(" FROM ")];
            let all = head.into_iter().chain(results);
            return (sequence(all.chain([from, filters(conditions)])), false);
        }
        self.has("GROUP BY");
        let results = [
            Sql::from(format!("{alias}.n, {aggregate} FROM ")),
            from,
            filters(conditions),
        ];
        let group = if self.chance(15) {
            self.has("grouping sets");
            format!(" GROUP BY ROLLUP ({alias}.n)")
        } else {
            format!(" GROUP BY {alias}.n")
        };
        let mut all: Vec<Sql> = head.into_iter().chain(results).collect();
        all.push(Sql::from(group));
        if self.chance(30) {
            self.has("HAVING");
            let having = self.word(&["count(*) > 2", "max(@.id) < 25", "count(*) < 5"]);
            let having = format!(" HAVING {}", having.replace('@', &other));
            all.push(optional(Sql::from(having)));
        }
        let (end, is_ordered) = self.end(2);
        all.push(end);
        (Sql::Sequence(all), is_ordered)
    }

    fn set_operation(&mut self) -> (Sql, bool) {
        let (shape, word) = self.weighed(&[
            (25, ("UNION ALL", " UNION ALL ")),
            (20, ("UNION", " UNION ")),
            (20, ("EXCEPT", " EXCEPT ")),
            (10, ("EXCEPT", " EXCEPT ALL ")),
            (25, ("INTERSECT", " INTERSECT ")),
        ]);
        self.has(shape);
        let columns = self.word(&["@.id, @.n", "@.n", "@.id"]);
        let one = self.member(columns);
        let other = self.member(columns);
        let (end, is_ordered) = self.end(columns.split(", ").count());
        (sequence([one, Sql::from(word), other, end]), is_ordered)
    }

    fn member(&mut self, columns: &str) -> Sql {
        let count = self.weighed(&[(65, 1), (35, 2)]);
        let (from, relations) = self.from(count, 1);
        for relation in &relations {
            self.unseen.extend(relation.key.table);
        }
        let conditions = self.conditions(&relations, 2, 0);
        let columns = columns.replace('@', relations[0].alias());
        sequence([
            Sql::from(format!("SELECT {columns} FROM ")),
            from,
            filters(conditions),
        ])
    }

    /// An order of all columns, which leaves nothing to chance, and how many rows.
    fn end(&mut self, columns: usize) -> (Sql, bool) {
        if !self.chance(35) {
            return (Sql::from(""), false);
        }
        self.has("ORDER BY");
        let mut numbers: Vec<String> = (1..=columns).map(|number| number.to_string()).collect();
        if self.chance(30) {
            numbers
                .iter_mut()
                .for_each(|number| number.push_str(" DESC"));
        }
        let order = Sql::from(format!(" ORDER BY {}", numbers.join(", ")));
        if !self.chance(35) {
            return (order, true);
        }
        self.has("LIMIT");
        let mut limit = format!(" LIMIT {}", self.number(1, 8));
        if self.chance(20) {
            limit.push_str(" OFFSET 2");
        }
        (sequence([order, optional(Sql::from(limit))]), true)
    }
}

fn listed(items: Vec<Sql>) -> Sql {
    let mut pieces = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            pieces.push(Sql::from(", "));
        }
        pieces.push(item);
    }
    Sql::Sequence(pieces)
}
