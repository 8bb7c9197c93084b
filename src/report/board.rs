//! The board: how each component is, the worst first.

use maud::{Markup, html};

use super::health::{Grade, Health};

/// The board.
pub fn section(components: Option<&[Health]>) -> Markup {
    html! {
        section id="health" {
            h2 { "Health" }
            @match components {
                None => p.soft { "Not looked at: tenancy.report_html(with_findings => false)." },
                Some(components) => {
                    div.board {
                        @for health in components {
                            div.part {
                                div { b { (health.component) } " " span class=(class(health.grade)) { (health.grade.word()) } }
                                p { (health.reason) }
                                details {
                                    summary { "look at" }
                                    pre { (health.look_at) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn class(grade: Grade) -> &'static str {
    match grade {
        Grade::Error => "tag bad",
        Grade::Warn => "tag warn",
        Grade::Unknown => "tag calm",
        Grade::Ok => "tag good",
    }
}
