//! What the validator found.

use maud::{Markup, html};

use super::data::{Finding, Findings};

/// How many are shown.
const LIMIT: usize = 500;

/// The list, the worst first, waived ones last.
pub fn section(findings: &Findings) -> Markup {
    html! {
        section id="findings" {
            h2 { "Findings" }
            @match findings {
                Findings::NotAsked => p.soft { "Not looked for: tenancy.report_html(with_findings => false)." },
                Findings::Failed(message) => p { "tenancy.validate() failed: " (message) },
                Findings::Found(all) if all.is_empty() => p { "tenancy.validate() found nothing." },
                Findings::Found(all) => (list(all)),
            }
        }
    }
}

fn list(all: &[Finding]) -> Markup {
    let mut sorted: Vec<&Finding> = all.iter().collect();
    sorted.sort_by_key(|finding| (finding.waived, rank(&finding.level)));
    html! {
        @for finding in sorted.iter().take(LIMIT) {
            div.entry {
                div {
                    span class=(class(&finding.level)) { (finding.level) } " "
                    b { (finding.object) } " " code { (finding.code) }
                    @if finding.waived { " " span.tag.calm { "waived" } }
                }
                p { (finding.detail.as_deref().unwrap_or_default()) }
                @if let Some(reason) = finding.reason.as_deref().filter(|_| finding.waived) {
                    p.soft { "Accepted: " (reason) }
                }
                @if let Some(remediation) = &finding.remediation {
                    details {
                        summary { "remediation" }
                        pre { (remediation) }
                    }
                }
            }
        }
        @if sorted.len() > LIMIT {
            p.soft { (sorted.len() - LIMIT) " more are in tenancy.validate()." }
        }
    }
}

fn rank(level: &str) -> usize {
    ["error", "warn", "info"]
        .iter()
        .position(|known| *known == level)
        .unwrap_or(0)
}

fn class(level: &str) -> &'static str {
    match level {
        "info" => "tag calm",
        "warn" => "tag warn",
        _ => "tag bad",
    }
}
