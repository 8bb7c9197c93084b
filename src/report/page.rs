//! The page as a whole.
//!
//! Owns that it needs nothing from outside, and that a browser is told to fetch nothing and to run
//! nothing, whatever is in it.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::data::{Findings, Report};
use super::style::SHEET;
use super::{board, denials, findings, matrix, tables, timeline};

/// The document.
pub fn render(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "Tenancy of " (report.database) }
                style { (PreEscaped(SHEET)) }
            }
            body {
                main {
                    h1 { "Tenancy of " (report.database) }
                    p.soft { (report.made_at) ". All times are in " (report.time_zone) "." }
                    (sums(report))
                    (board::section(report.health.as_deref()))
                    (tables::section(&report.tables))
                    (timeline::section(&report.denials))
                    (matrix::section(&report.denials))
                    (denials::section(&report.denials))
                    (findings::section(&report.findings))
                }
            }
        }
    };
    page.into_string()
}

fn sums(report: &Report) -> Markup {
    let mode = |wanted: &str| {
        report
            .tables
            .iter()
            .filter(|table| table.mode == wanted)
            .count()
    };
    let ready = report
        .tables
        .iter()
        .filter(|table| table.mode != "enforce" && table.ready == Some(true))
        .count();
    let errors = match &report.findings {
        Findings::Found(all) => Some(
            all.iter()
                .filter(|finding| finding.level == "error" && !finding.waived)
                .count(),
        ),
        _ => None,
    };
    html! {
        div.sums {
            div { b { (mode("enforce")) } "enforced" }
            div { b { (mode("shadow")) } "in shadow mode" }
            div { b { (ready) } "ready to enforce" }
            div { b { (mode("permissive")) } "permissive" }
            div { b { (report.denials.len()) } "kinds of denial" }
            @if let Some(errors) = errors { div { b { (errors) } "errors found" } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::data::{Denial, Finding, Table};
    use super::super::health::{Grade, Health};
    use super::*;

    const EVIL: &str = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;\u{202e}";

    fn hostile() -> Report {
        let evil = || EVIL.to_owned();
        let some = || Some(evil());
        Report {
            database: evil(),
            made_at: evil(),
            time_zone: evil(),
            tables: vec![Table {
                relation: evil(),
                mode: evil(),
                since: some(),
                last_denial: some(),
                ready: Some(false),
                reasons: Some(vec![evil(), evil()]),
                ..Table::default()
            }],
            denials: vec![Denial {
                relation: evil(),
                command: evil(),
                kind: evil(),
                role: some(),
                app_user: some(),
                context_tenant: some(),
                row_tenant: some(),
                query: some(),
                application_name: some(),
                precision: some(),
                first_seen: evil(),
                last_seen: evil(),
                ..Denial::default()
            }],
            health: Some(vec![Health {
                component: "context",
                grade: Grade::Warn,
                reason: evil(),
                look_at: evil(),
            }]),
            findings: Findings::Found(vec![Finding {
                code: evil(),
                rule: some(),
                topic: some(),
                level: evil(),
                object: evil(),
                detail: some(),
                remediation: some(),
                waived: true,
                reason: some(),
            }]),
        }
    }

    #[test]
    fn every_text_is_text() {
        let page = render(&hostile());
        assert!(!page.contains("<script") && !page.contains("<img"));
        // Each of the texts above, those that are shown twice included.
        assert_eq!(
            page.matches("&lt;script&gt;alert(1)&lt;/script&gt;")
                .count(),
            34
        );
        let failed = Report {
            findings: Findings::Failed(EVIL.to_owned()),
            ..Report::default()
        };
        assert!(render(&failed).contains("validate() failed: &quot;&gt;&lt;script"));
    }

    #[test]
    fn an_empty_database_has_a_page() {
        let page = render(&Report::default());
        assert!(page.starts_with("<!DOCTYPE html>"));
        assert!(page.contains("No table is registered") && page.contains("Not looked for"));
    }

    #[test]
    fn nothing_comes_from_outside() {
        let page = render(&hostile());
        for address in [
            "http:", "https:", " src=\"", " href=\"", "url(", "@import", "<link",
        ] {
            assert!(!page.contains(address), "{address}");
        }
    }
}
