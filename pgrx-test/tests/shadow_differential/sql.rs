//! A statement as a tree of text, whose lists can lose items: what a shortest form is found by.

/// The key of a row that a result shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub alias: String,
    /// The table that the row is of; `None` where no table's rows are shown as they are.
    pub table: Option<&'static str>,
    pub access: Access,
    /// It is read as the owner of a view, whoever runs the statement.
    pub by_owner: bool,
}

/// What a statement does with a row: policies differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    Read,
    Update,
    Delete,
}

/// A piece of a statement.
#[derive(Debug, Clone)]
pub enum Sql {
    Text(String),
    /// Only in the list of results of the statement itself, and before all else there.
    Key(Key),
    Sequence(Vec<Sql>),
    /// Nothing at all without items.
    List {
        open: &'static str,
        separator: &'static str,
        items: Vec<Sql>,
    },
}

impl From<String> for Sql {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Sql {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// One piece after the other.
pub fn sequence(pieces: impl IntoIterator<Item = Sql>) -> Sql {
    Sql::Sequence(pieces.into_iter().collect())
}

/// WHERE, or nothing.
pub fn filters(items: Vec<Sql>) -> Sql {
    Sql::List {
        open: " WHERE ",
        separator: " AND ",
        items,
    }
}

/// Something that a shorter form may be without.
pub fn optional(item: Sql) -> Sql {
    Sql::List {
        open: "",
        separator: "",
        items: vec![item],
    }
}

impl Sql {
    /// The text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Text(own) => text.push_str(own),
            Self::Key(key) => text.push_str(&format!("{}.id", key.alias)),
            Self::Sequence(pieces) => pieces.iter().for_each(|piece| piece.write(text)),
            Self::List {
                open,
                separator,
                items,
            } => {
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index == 0 { open } else { separator });
                    item.write(text);
                }
            }
        }
    }

    /// The keys, in the order of the result's columns.
    pub fn keys(&self) -> Vec<Key> {
        match self {
            Self::Text(_) => Vec::new(),
            Self::Key(key) => vec![key.clone()],
            Self::Sequence(pieces) | Self::List { items: pieces, .. } => {
                pieces.iter().flat_map(Self::keys).collect()
            }
        }
    }

    /// All forms with one item less; not all need be valid.
    pub fn smaller(&self) -> Vec<Sql> {
        let (pieces, is_list) = match self {
            Self::Text(_) | Self::Key(_) => return Vec::new(),
            Self::Sequence(pieces) => (pieces, false),
            Self::List { items, .. } => (items, true),
        };
        let with = |pieces: Vec<Sql>| match self {
            Self::List {
                open, separator, ..
            } => Self::List {
                open,
                separator,
                items: pieces,
            },
            _ => Self::Sequence(pieces),
        };
        let mut forms = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            if is_list {
                let mut fewer = pieces.clone();
                fewer.remove(index);
                forms.push(with(fewer));
            }
            for smaller in piece.smaller() {
                let mut changed = pieces.clone();
                changed[index] = smaller;
                forms.push(with(changed));
            }
        }
        forms
    }
}
