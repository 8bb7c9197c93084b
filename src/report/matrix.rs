//! Whose context met whose rows.
//!
//! Owns which tenants have a row and a column of their own: those with most rows; the rest are summed.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::data::Denial;

/// How many tenants have their own row, and their own column.
const LIMIT: usize = 20;

/// Counts by tenant of the context and tenant of the row; `None` is no tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix<'a> {
    /// Tenants of contexts.
    pub contexts: Vec<Side<'a>>,
    /// Tenants of rows.
    pub rows: Vec<Side<'a>>,
    /// In that order.
    pub counts: Vec<Vec<i64>>,
}

/// A tenant, none, or all that have no place of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side<'a> {
    /// That one.
    Tenant(&'a str),
    /// None.
    None,
    /// So many others.
    Others(usize),
}

/// The matrix of what was recorded.
pub fn of(denials: &[Denial]) -> Matrix<'_> {
    let contexts = largest(denials, |denial| denial.context_tenant.as_deref());
    let rows = largest(denials, |denial| denial.row_tenant.as_deref());
    let mut counts = vec![vec![0i64; rows.len()]; contexts.len()];
    for denial in denials {
        let context = place(&contexts, denial.context_tenant.as_deref());
        let row = place(&rows, denial.row_tenant.as_deref());
        if let (Some(context), Some(row)) = (context, row) {
            counts[context][row] = counts[context][row].saturating_add(denial.rows);
        }
    }
    Matrix {
        contexts,
        rows,
        counts,
    }
}

fn largest<'a>(denials: &'a [Denial], of: impl Fn(&'a Denial) -> Option<&'a str>) -> Vec<Side<'a>> {
    let mut sums: BTreeMap<Option<&str>, i64> = BTreeMap::new();
    for denial in denials {
        let sum = sums.entry(of(denial)).or_default();
        *sum = sum.saturating_add(denial.rows);
    }
    let has_none = sums.remove(&None).is_some();
    let mut tenants: Vec<(i64, &str)> = sums
        .into_iter()
        .filter_map(|(tenant, sum)| Some((sum, tenant?)))
        .collect();
    tenants.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let others = tenants.len().saturating_sub(LIMIT);
    tenants.truncate(LIMIT);
    let mut sides: Vec<Side<'_>> = tenants
        .into_iter()
        .map(|(_, tenant)| Side::Tenant(tenant))
        .collect();
    sides.extend(has_none.then_some(Side::None));
    sides.extend((others > 0).then_some(Side::Others(others)));
    sides
}

fn place(sides: &[Side<'_>], tenant: Option<&str>) -> Option<usize> {
    let wanted = tenant.map_or(Side::None, Side::Tenant);
    sides.iter().position(|side| *side == wanted).or_else(|| {
        sides
            .iter()
            .position(|side| matches!(side, Side::Others(_)))
    })
}

/// The table.
pub fn section(denials: &[Denial]) -> Markup {
    let matrix = of(denials);
    html! {
        section id="tenants" {
            h2 { "Tenant to tenant" }
            @if denials.is_empty() {
                p { "Nothing has been recorded." }
            } @else {
                p.soft { "Rows that would be denied: down the tenant of the context, across the tenant of the row." }
                div.box {
                    table {
                        thead {
                            tr {
                                th { "context" }
                                @for side in &matrix.rows { th.n { (name(*side, "no tenant")) } }
                            }
                        }
                        tbody {
                            @for (context, counts) in matrix.contexts.iter().zip(&matrix.counts) {
                                tr {
                                    th { (name(*context, "no context")) }
                                    @for count in counts {
                                        td.n { @if *count > 0 { (count) } @else { "·" } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn name(side: Side<'_>, none: &str) -> Markup {
    html! {
        @match side {
            Side::Tenant(tenant) => code { (tenant) },
            Side::None => (none),
            Side::Others(count) => { (count) " others" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(context: Option<&str>, row: Option<&str>, rows: i64) -> Denial {
        Denial {
            context_tenant: context.map(str::to_owned),
            row_tenant: row.map(str::to_owned),
            rows,
            ..Denial::default()
        }
    }

    #[test]
    fn counts_meet_where_tenants_do() {
        let denials = [
            denial(Some("a"), Some("b"), 2),
            denial(Some("a"), Some("b"), 3),
            denial(None, Some("b"), 7),
            denial(Some("b"), None, 1),
        ];
        let matrix = of(&denials);
        assert_eq!(
            matrix.contexts,
            [Side::Tenant("a"), Side::Tenant("b"), Side::None]
        );
        assert_eq!(matrix.rows, [Side::Tenant("b"), Side::None]);
        assert_eq!(matrix.counts, [[5, 0], [0, 1], [7, 0]]);
    }

    #[test]
    fn small_tenants_are_summed() {
        let names: Vec<String> = (0..30).map(|number| format!("t{number:02}")).collect();
        let denials: Vec<Denial> = names
            .iter()
            .zip(1..)
            .map(|(name, rows)| denial(Some(name), Some("x"), rows))
            .collect();
        let matrix = of(&denials);
        assert_eq!(matrix.contexts.len(), LIMIT + 1);
        assert_eq!(matrix.contexts[0], Side::Tenant("t29"));
        assert_eq!(matrix.contexts[LIMIT], Side::Others(10));
        assert_eq!(matrix.counts[LIMIT], [(1..=10).sum::<i64>()]);
        assert!(section(&denials).into_string().contains("10 others"));
    }
}
