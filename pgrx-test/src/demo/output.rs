//! What a server answered, for people to read.

use std::io::Write;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use postgres::SimpleQueryMessage;
use postgres::error::DbError;

/// Columns of a terminal that every terminal has.
const WIDTH: u16 = 110;

pub fn print_error(out: &mut dyn Write, error: &DbError) -> Result<()> {
    writeln!(out, "  ERROR {}: {}", error.code().code(), error.message())?;
    for (name, text) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(text) = text {
            writeln!(out, "  {name}: {text}")?;
        }
    }
    Ok(())
}

fn new_table() -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH);
    table
}

/// Whether to say of statements without rows how many they touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    Said,
    LeftOut,
}

/// Rows as a table. A result that is empty text, as of a function that returns nothing, is left out.
pub fn print_result(
    out: &mut dyn Write,
    messages: Vec<SimpleQueryMessage>,
    counts: Counts,
) -> Result<()> {
    let mut table = new_table();
    let mut rows = 0;
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                if rows == 0 {
                    table.set_header(row.columns().iter().map(|column| column.name()));
                }
                rows += 1;
                table.add_row((0..row.len()).map(|i| row.get(i).unwrap_or("")));
            }
            SimpleQueryMessage::CommandComplete(count) => {
                let says_something = table
                    .row_iter()
                    .next()
                    .is_some_and(|row| row.cell_iter().any(|cell| !cell.content().is_empty()));
                if rows == 0 && counts == Counts::Said {
                    writeln!(out, "  {count} rows")?;
                } else if says_something {
                    writeln!(out, "{table}")?;
                }
                table = new_table();
                rows = 0;
            }
            _ => {}
        }
    }
    Ok(())
}
