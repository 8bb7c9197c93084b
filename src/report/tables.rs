//! The registered tables: mode, readiness and why not.

use maud::{Markup, html};

use super::data::Table;

/// The list.
pub fn section(tables: &[Table]) -> Markup {
    html! {
        section id="tables" {
            h2 { "Tables" }
            @if tables.is_empty() {
                p { "No table is registered: call tenancy.protect_table() or tenancy.protect_schema()." }
            } @else {
                div.box {
                    table {
                        thead {
                            tr {
                                th { "table" } th { "state" } th { "why not ready" }
                                th.n { "statements" } th.n { "denials" } th { "last denial" } th { "since" }
                            }
                        }
                        tbody {
                            @for table in tables {
                                tr {
                                    td.name { (table.relation) }
                                    td {
                                        span class=(mode(&table.mode)) { (table.mode) }
                                        @if table.mode != "enforce" { br; (ready(table)) }
                                    }
                                    td.wide { (reasons(table)) }
                                    td.n { (count(table.statements)) }
                                    td.n { (count(table.denials)) }
                                    td.when { (table.last_denial.as_deref().unwrap_or("never")) }
                                    td.when { (table.since.as_deref().unwrap_or_default()) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The class of a mode, never its text.
fn mode(mode: &str) -> &'static str {
    match mode {
        "enforce" => "tag good",
        "shadow" => "tag calm",
        _ => "tag warn",
    }
}

fn ready(table: &Table) -> Markup {
    html! {
        @match table.ready {
            Some(true) => span.tag.good { "ready" },
            Some(false) => span.tag.bad { "not ready" },
            None => span.soft { "not known" },
        }
    }
}

fn reasons(table: &Table) -> Markup {
    let reasons = table.reasons.as_deref().unwrap_or_default();
    html! {
        @match reasons {
            [] => {},
            [only] => (only),
            several => ul { @for reason in several { li { (reason) } } },
        }
    }
}

fn count(count: Option<i64>) -> String {
    count.map_or_else(String::new, |count| count.to_string())
}
