//! The records, one by one.

use maud::{Markup, html};

use super::data::Denial;

/// How many are shown.
const LIMIT: usize = 300;

/// The list, the latest first.
pub fn section(denials: &[Denial]) -> Markup {
    html! {
        section id="denials" {
            h2 { "Denials" }
            @if denials.is_empty() {
                p { "Nothing has been recorded." }
            }
            @for denial in denials.iter().take(LIMIT) { (one(denial)) }
            @if denials.len() > LIMIT {
                p.soft { (denials.len() - LIMIT) " more are in tenancy.shadow_denials." }
            }
        }
    }
}

fn one(denial: &Denial) -> Markup {
    let (kind_class, kind) = kind(&denial.kind);
    html! {
        div.entry {
            div {
                span class=(kind_class) { (kind) } " "
                b { (denial.relation) } " " (denial.command) " "
                @if let Some(precision) = &denial.precision {
                    @let (class, words) = certainty(precision, denial.confirmed);
                    span class=(class) { (words) }
                }
            }
            dl {
                (fact("rows", &denial.rows.to_string()))
                (fact("statements", &denial.statements.to_string()))
                (fact("context tenant", denial.context_tenant.as_deref().unwrap_or("none")))
                (fact("row's tenant", denial.row_tenant.as_deref().unwrap_or("none")))
                (fact("user", denial.app_user.as_deref().unwrap_or("none")))
                (fact("role", denial.role.as_deref().unwrap_or("")))
                (fact("application", denial.application_name.as_deref().unwrap_or("")))
                (fact("first", &denial.first_seen))
                (fact("last", &denial.last_seen))
            }
            @if let Some(query) = denial.query.as_deref().filter(|query| !query.is_empty()) {
                pre { (query) }
            }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! {
        @if !value.is_empty() {
            div { dt { (name) } dd { (value) } }
        }
    }
}

fn kind(kind: &str) -> (&'static str, &str) {
    match kind {
        "hidden_row" => ("tag warn", "row would be hidden"),
        "check_violation" => ("tag bad", "write would be refused"),
        "missing_context" => ("tag bad", "no context"),
        "statement_error" => ("tag bad", "statement would fail"),
        other => ("tag warn", other),
    }
}

fn certainty(precision: &str, confirmed: Option<bool>) -> (&'static str, String) {
    match (precision, confirmed) {
        ("exact", _) => ("tag calm", "exact".to_owned()),
        (_, Some(true)) => ("tag calm", "confirmed".to_owned()),
        (other, _) => ("tag warn", format!("{other}, not confirmed")),
    }
}
