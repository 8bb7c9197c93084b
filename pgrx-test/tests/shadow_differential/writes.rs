//! UPDATE, DELETE, INSERT and MERGE.

use super::generate::{Generator, Relation};
use super::sql::{Access, Key, Sql, filters, optional, sequence};
use super::tables::{Table, named};

impl Generator {
    pub fn write(&mut self) -> Sql {
        if self.chance(10) {
            self.add_with(false);
        }
        match self.number(0, 99) {
            0..34 => self.update(),
            34..56 => self.delete(),
            56..84 => self.insert(),
            _ => self.merge(),
        }
    }

    fn target(&mut self, access: Access) -> (&'static Table, Relation) {
        let (table, alias) = (named(self.any_table()), self.alias());
        let relation = Relation {
            key: Key {
                alias: alias.clone(),
                table: Some(table.name),
                access,
                by_owner: false,
            },
            has_tenant: table.extra == Some("tenant_id"),
            is_table: true,
        };
        (table, relation)
    }

    /// A further relation that each row of the target meets once, and the condition.
    fn partner(&mut self, target: &Relation) -> (Sql, Relation, Sql) {
        let (source, partner) = self.source(1, true);
        let column = self.word(&["id", "r"]);
        let link = format!("{}.id = {}.{column}", partner.alias(), target.alias());
        (source, partner, Sql::from(link))
    }

    fn update(&mut self) -> Sql {
        let (table, target) = self.target(Access::Update);
        let mut shown = vec![target.clone()];
        let (mut from, mut conditions) = (Sql::from(""), Vec::new());
        if self.chance(40) {
            self.has("UPDATE .. FROM");
            let (source, partner, link) = self.partner(&target);
            from = sequence([Sql::from(" FROM "), source]);
            conditions.push(link);
            shown.push(partner);
        } else {
            self.has("UPDATE");
        }
        let more = self.conditions(&shown, 2, 0);
        conditions.extend(more);
        let assigned = self.assignment(table, target.alias());
        let head = format!("UPDATE {} {} SET {assigned}", table.name, target.alias());
        let returning = self.returning(&shown);
        sequence([Sql::from(head), from, filters(conditions), returning])
    }

    fn assignment(&mut self, table: &Table, alias: &str) -> String {
        // A row cannot move under enforcement, whoever moves it.
        if table.extra == Some("tenant_id") && self.all_bound && self.chance(20) {
            self.has("UPDATE of the tenant");
            return format!("tenant_id = {}", self.tenant());
        }
        match self.number(0, 4) {
            0 => format!("n = {alias}.n + 1"),
            1 => format!("n = {}", self.number(0, 7)),
            2 => "r = NULL".to_owned(),
            3 => format!("note = {alias}.note || '+'"),
            _ => {
                self.has("scalar sub-select in SET");
                let (other, inner) = (self.unseen_table(), self.alias());
                let link = self.link(&inner, alias);
                format!("n = (SELECT max({inner}.n) FROM {other} {inner} WHERE {link})")
            }
        }
    }

    fn tenant(&mut self) -> i32 {
        *self.pick(&[1, 1, 1, 2, 9, 50])
    }

    fn delete(&mut self) -> Sql {
        let (table, target) = self.target(Access::Delete);
        let mut shown = vec![target.clone()];
        let (mut using, mut conditions) = (Sql::from(""), Vec::new());
        if self.chance(35) {
            self.has("DELETE .. USING");
            let (source, partner, link) = self.partner(&target);
            using = sequence([Sql::from(" USING "), source]);
            conditions.push(link);
            shown.push(partner);
        } else {
            self.has("DELETE");
        }
        let more = self.conditions(&shown, 2, 0);
        conditions.extend(more);
        let head = format!("DELETE FROM {} {}", table.name, target.alias());
        let returning = self.returning(&shown);
        sequence([Sql::from(head), using, filters(conditions), returning])
    }

    fn returning(&mut self, shown: &[Relation]) -> Sql {
        if !self.chance(55) {
            return Sql::from("");
        }
        self.has("RETURNING");
        let mut pieces = vec![Sql::from(" RETURNING ")];
        for (index, relation) in shown.iter().enumerate() {
            if index > 0 {
                pieces.push(Sql::from(", "));
            }
            pieces.push(Sql::Key(relation.key.clone()));
        }
        Sql::Sequence(pieces)
    }

    /// What to write into the columns that a table has besides the common ones.
    fn extra(&mut self, table: &Table, source: &Relation) -> String {
        match table.extra {
            Some("tenant_id") if source.has_tenant && source.key.table != Some("tn") => {
                if self.chance(50) {
                    self.has("INSERT of another row's tenant");
                    return format!(", {}.tenant_id", source.alias());
                }
                format!(", {}", self.tenant())
            }
            Some("tenant_id") => format!(", {}", self.tenant()),
            Some("owner") => format!(", 'u{}'", self.number(1, 3)),
            Some(_) => format!(", 1 + {}.id % 30", source.alias()),
            None => String::new(),
        }
    }

    fn insert(&mut self) -> Sql {
        let (table, _) = self.target(Access::Read);
        let (source, relation) = self.source(1, true);
        self.unseen.extend(relation.key.table);
        let conditions = self.conditions(std::slice::from_ref(&relation), 2, 0);
        let alias = relation.alias();
        let (conflicts, shift) = if self.chance(45) {
            (true, *self.pick(&[0, 0, 8]))
        } else {
            (false, 1000)
        };
        let extra = self.extra(table, &relation);
        let extra_column = table
            .extra
            .map_or(String::new(), |name| format!(", {name}"));
        let mut pieces = vec![
            Sql::from(format!(
                "INSERT INTO {} AS x (id, n, r, note{extra_column}) SELECT {alias}.id + {shift}, {alias}.n, {alias}.r, {alias}.note{extra} FROM ",
                table.name
            )),
            source,
            filters(conditions),
        ];
        if conflicts {
            let clause = match self.number(0, 3) {
                0 => {
                    self.has("ON CONFLICT DO NOTHING");
                    " ON CONFLICT DO NOTHING"
                }
                1 => {
                    self.has("ON CONFLICT DO NOTHING");
                    " ON CONFLICT (id) DO NOTHING"
                }
                2 => {
                    self.has("ON CONFLICT DO UPDATE");
                    " ON CONFLICT (id) DO UPDATE SET n = excluded.n"
                }
                _ => {
                    self.has("ON CONFLICT DO UPDATE");
                    " ON CONFLICT (id) DO UPDATE SET note = excluded.note || x.note WHERE x.n < 5"
                }
            };
            pieces.push(Sql::from(clause));
        } else {
            self.has("INSERT .. SELECT");
        }
        if self.chance(40) {
            self.has("RETURNING");
            pieces.push(optional(Sql::from(" RETURNING id, n")));
        }
        Sql::Sequence(pieces)
    }

    fn merge(&mut self) -> Sql {
        self.has("MERGE");
        let (table, target) = self.target(Access::Update);
        let (source, partner) = self.source(1, true);
        self.unseen.extend(partner.key.table);
        self.unseen.insert(table.name);
        let (x, y) = (target.alias().to_owned(), partner.alias().to_owned());
        let mut actions = Vec::new();
        if self.chance(40) {
            let condition = self.predicate(std::slice::from_ref(&partner));
            actions.push(Sql::from(format!(
                " WHEN MATCHED AND {condition} THEN DELETE"
            )));
        }
        if self.chance(75) {
            let assigned = self.word(&["n = 3", "note = 'merged'", "r = NULL"]);
            actions.push(Sql::from(format!(
                " WHEN MATCHED THEN UPDATE SET {assigned}"
            )));
        }
        if actions.is_empty() || self.chance(50) {
            let extra = self.extra(table, &partner);
            let column = table
                .extra
                .map_or(String::new(), |name| format!(", {name}"));
            actions.push(Sql::from(format!(
                " WHEN NOT MATCHED THEN INSERT (id, n, r, note{column}) VALUES ({y}.id, {y}.n, {y}.r, {y}.note{extra})"
            )));
        }
        if self.is_since(17) && self.chance(15) {
            self.has("MERGE, not matched by source");
            actions.push(Sql::from(
                " WHEN NOT MATCHED BY SOURCE THEN UPDATE SET note = 'left'",
            ));
        }
        let actions = Sql::List {
            open: "",
            separator: "",
            items: actions,
        };
        let on = format!(" ON {x}.id = {y}.id");
        let returning = if self.is_since(17) && self.chance(30) {
            self.has("MERGE RETURNING");
            format!(" RETURNING {x}.id")
        } else {
            String::new()
        };
        sequence([
            Sql::from(format!("MERGE INTO {} {x} USING ", table.name)),
            source,
            Sql::from(on),
            actions,
            Sql::from(returning),
        ])
    }
}
