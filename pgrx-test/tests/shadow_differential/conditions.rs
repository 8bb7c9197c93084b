//! Conditions: on columns, and with sub-selects. None can raise an error.

use super::generate::{Generator, Relation};
use super::sql::{Sql, filters, sequence};

const COLUMNS: [&str; 4] = ["id", "n", "r", "r"];
const COMPARISONS: [&str; 5] = ["<", ">", "=", "<>", ">="];

impl Generator {
    /// Some conditions over relations.
    pub fn conditions(&mut self, relations: &[Relation], most: i32, depth: u32) -> Vec<Sql> {
        let count = self.number(0, most);
        (0..count)
            .map(|_| self.condition(relations, depth))
            .collect()
    }

    fn condition(&mut self, relations: &[Relation], depth: u32) -> Sql {
        if depth < 2 && self.chance(if depth == 0 { 35 } else { 20 }) {
            self.sub_select_condition(relations, depth)
        } else {
            Sql::from(self.predicate(relations))
        }
    }

    fn constant(&mut self, to: i32) -> String {
        if self.is_prepared && self.chance(40) {
            self.has("parameter");
            return "$1".to_owned();
        }
        self.number(0, to).to_string()
    }

    /// A condition on columns.
    pub fn predicate(&mut self, relations: &[Relation]) -> String {
        let relation = self.pick(relations).clone();
        let alias = relation.alias().to_owned();
        let column = self.word(&COLUMNS);
        match self.number(0, 15) {
            0..3 => {
                let comparison = self.word(&COMPARISONS);
                let constant = self.constant(if column == "n" { 7 } else { 30 });
                format!("{alias}.{column} {comparison} {constant}")
            }
            3 => format!("{alias}.note LIKE '%{}%'", self.number(0, 9)),
            4 => format!("{alias}.{column} IS NULL"),
            5 => format!("{alias}.{column} IS NOT NULL"),
            6 => format!("coalesce({alias}.{column}, 3) % 2 = {}", self.number(0, 1)),
            7 => format!("{alias}.id % 3 <> {}", self.number(0, 2)),
            8 if relation.has_tenant => {
                self.has("the application's own filter");
                format!("{alias}.tenant_id = {}", self.number(1, 2))
            }
            8 | 9 => format!("{alias}.n BETWEEN 1 AND {}", self.constant(7)),
            10 => {
                let other = self.pick(relations).alias().to_owned();
                let comparison = self.word(&COMPARISONS);
                format!("{alias}.n {comparison} {other}.r")
            }
            11 => format!("is_even({alias}.{column})"),
            12 => {
                let (one, other) = (self.predicate(relations), self.predicate(relations));
                format!("({one} OR {other})")
            }
            13 => format!("NOT ({})", self.predicate(relations)),
            _ => self.lenient(relations),
        }
    }

    /// A condition that rows which outer joins make up can pass.
    pub fn lenient(&mut self, relations: &[Relation]) -> String {
        let alias = self.pick(relations).alias().to_owned();
        match self.number(0, 4) {
            0 => format!("coalesce({alias}.id, 40) > {}", self.number(8, 20)),
            1 => format!("({alias}.id IS NULL OR {})", self.predicate(relations)),
            2 => {
                let other = self.pick(relations).alias().to_owned();
                format!("{alias}.n IS DISTINCT FROM {other}.n")
            }
            3 => format!("{alias}.n IS NULL"),
            _ => format!(
                "coalesce({alias}.note, '-') NOT LIKE '%{}'",
                self.number(1, 5)
            ),
        }
    }

    fn sub_select_condition(&mut self, outer: &[Relation], depth: u32) -> Sql {
        let outside = self.pick(outer).alias().to_owned();
        let not = if self.chance(35) { "NOT " } else { "" };
        match self.number(0, 99) {
            0..35 => {
                self.has(if not.is_empty() {
                    "EXISTS"
                } else {
                    "NOT EXISTS"
                });
                self.exists(not, &outside, depth)
            }
            35..43 => {
                self.has("OR EXISTS");
                let exists = self.exists(not, &outside, depth);
                let or = format!(" OR {})", self.predicate(outer));
                sequence([Sql::from("("), exists, Sql::from(or)])
            }
            43..68 => {
                self.has(if not.is_empty() { "IN" } else { "NOT IN" });
                let (column, inner) = (self.word(&COLUMNS), self.word(&COLUMNS));
                let (from, relations) = self.few(depth);
                let conditions = self.conditions(&relations, 2, depth + 1);
                let head = format!(
                    "{outside}.{column} {not}IN (SELECT {}.{inner} FROM ",
                    relations[0].alias()
                );
                sequence([Sql::from(head), from, filters(conditions), Sql::from(")")])
            }
            68..80 => {
                self.has("scalar sub-select in a condition");
                let comparison = self.word(&COMPARISONS);
                let value = self.value(&outside);
                sequence([Sql::from(format!("{outside}.n {comparison} ")), value])
            }
            80..90 => {
                self.has("ARRAY in a condition");
                let array = self.array(&outside);
                sequence([
                    Sql::from(format!("{outside}.n = ANY (")),
                    array,
                    Sql::from(")"),
                ])
            }
            _ => {
                self.has("sub-select that looks at nothing outside");
                let (from, relations) = self.few(depth);
                let conditions = self.conditions(&relations, 2, depth + 1);
                sequence([
                    Sql::from(format!("{not}EXISTS (SELECT FROM ")),
                    from,
                    filters(conditions),
                    Sql::from(")"),
                ])
            }
        }
    }

    fn exists(&mut self, not: &str, outside: &str, depth: u32) -> Sql {
        let (from, relations) = self.few(depth);
        let link = self.link(relations[0].alias(), outside);
        let mut conditions = vec![Sql::from(link)];
        conditions.extend(self.conditions(&relations, 2, depth + 1));
        sequence([
            Sql::from(format!("{not}EXISTS (SELECT 1 FROM ")),
            from,
            filters(conditions),
            Sql::from(")"),
        ])
    }

    /// One table or two, for a sub-select.
    fn few(&mut self, depth: u32) -> (Sql, Vec<Relation>) {
        let count = if depth == 0 && self.chance(35) { 2 } else { 1 };
        self.from(count, depth + 1)
    }

    /// Equality of columns that match now and then.
    pub fn link(&mut self, one: &str, other: &str) -> String {
        let (left, right) = self.weighed(&[
            (40, ("id", "r")),
            (30, ("r", "id")),
            (15, ("id", "id")),
            (10, ("r", "r")),
            (5, ("n", "n")),
        ]);
        format!("{one}.{left} = {other}.{right}")
    }

    /// A sub-select of one value.
    pub fn value(&mut self, outside: &str) -> Sql {
        let (table, alias) = (self.unseen_table(), self.alias());
        let relation = [Relation::new(&alias, None)];
        let (what, link) = match self.number(0, 3) {
            0 => ("max(@.n)", self.link(&alias, outside)),
            1 => ("count(*)", self.link(&alias, outside)),
            _ => ("@.n", format!("{alias}.id = {outside}.r")),
        };
        let mut conditions = vec![Sql::from(link)];
        if self.chance(40) {
            conditions.push(Sql::from(self.predicate(&relation)));
        }
        let what = what.replace('@', &alias);
        sequence([
            Sql::from(format!("(SELECT {what} FROM {table} {alias}")),
            filters(conditions),
            Sql::from(")"),
        ])
    }

    /// A sub-select that gives an array.
    pub fn array(&mut self, outside: &str) -> Sql {
        let (table, alias) = (self.unseen_table(), self.alias());
        let relation = [Relation::new(&alias, None)];
        let link = self.link(&alias, outside);
        let conditions = vec![Sql::from(link), Sql::from(self.predicate(&relation))];
        sequence([
            Sql::from(format!("ARRAY(SELECT {alias}.n FROM {table} {alias}")),
            filters(conditions),
            Sql::from(format!(" ORDER BY {alias}.id)")),
        ])
    }

    /// A table whose rows matter without being shown.
    pub fn unseen_table(&mut self) -> &'static str {
        let table = self.any_table();
        self.unseen.insert(table);
        table
    }
}
