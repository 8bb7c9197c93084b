//! What makes which grade.
//!
//! Pure. Owns the sentences.

use super::component::{Grade, Health, Part};
use super::facts::Facts;
use super::told::{of_findings, told};

/// All components, the worst first.
pub fn graded(facts: &Facts) -> Vec<Health> {
    let mut all = vec![
        context(facts),
        of_findings("roles", facts, Part::Roles),
        of_findings("policies", facts, Part::Policies),
        coverage(facts),
        schema(facts),
        rollout(facts),
        data(facts),
        of_findings("server", facts, Part::Server),
    ];
    // Stable: components of one grade keep their order.
    all.sort_by_key(|health| health.grade);
    all
}

fn unread(component: &'static str, why: &str, look_at: &str) -> Health {
    Health {
        component,
        grade: Grade::Unknown,
        reason: format!("could not be looked at: {why}"),
        look_at: look_at.to_owned(),
    }
}

fn context(facts: &Facts) -> Health {
    let look_at = "SELECT * FROM tenancy.status()";
    let lines = match &facts.status {
        Ok(lines) => lines,
        Err(why) => return unread("context", why, look_at),
    };
    let line = |feature: &str| lines.iter().find(|line| line.feature == feature);
    let state = |feature: &str| line(feature).map_or("", |line| line.state.as_str());
    let (grade, reason) = match state("binding") {
        "on" => {
            let bad = |feature: &&str| !["on", ""].contains(&state(feature));
            let detail = |feature: &str| {
                format!(
                    "{feature} is {}: {}",
                    state(feature),
                    line(feature).map_or("", |line| line.detail.as_str())
                )
            };
            let errors = ["guard"];
            let warnings = ["cache", "document", "settings"];
            match (
                errors.iter().find(|f| bad(f)),
                warnings.iter().find(|f| bad(f)),
            ) {
                (Some(feature), _) => (Grade::Error, detail(feature)),
                (None, Some(feature)) => (Grade::Warn, detail(feature)),
                (None, None) => (
                    Grade::Ok,
                    format!(
                        "{}, the context is cached and identity columns are guarded",
                        line("binding").map_or("", |line| line.detail.as_str())
                    ),
                ),
            }
        }
        "off" => {
            let registered = facts
                .coverage
                .as_ref()
                .map_or(0, |tables| tables.registered);
            match registered {
                0 => (
                    Grade::Warn,
                    "nothing is bound: no session has a tenant".to_owned(),
                ),
                _ => (
                    Grade::Error,
                    format!(
                        "nothing is bound, and {registered} tables are registered: no session has a tenant"
                    ),
                ),
            }
        }
        _ => (
            Grade::Error,
            format!(
                "the binding is broken: {}",
                line("binding").map_or("", |line| line.detail.as_str())
            ),
        ),
    };
    Health {
        component: "context",
        grade,
        reason,
        look_at: look_at.to_owned(),
    }
}

fn coverage(facts: &Facts) -> Health {
    let told = told(&facts.found, Part::Coverage);
    let tables = match &facts.coverage {
        Ok(tables) => *tables,
        Err(why) => return unread("coverage", why, "SELECT * FROM tenancy.protected_tables"),
    };
    if tables.tables == 0 {
        return Health {
            component: "coverage",
            grade: Grade::Warn.min(told.grade),
            reason: "nothing is protected: no table is registered or has a tenant column"
                .to_owned(),
            look_at: "SELECT * FROM tenancy.protected_tables".to_owned(),
        };
    }
    Health {
        component: "coverage",
        grade: told.grade,
        reason: format!(
            "of {} tenant tables {} have row security, {} by tenancy; {}",
            tables.tables, tables.bound, tables.enforced, told.words
        ),
        look_at: told.look_at,
    }
}

fn schema(facts: &Facts) -> Health {
    let mut health = of_findings("schema", facts, Part::Schema);
    match &facts.expected {
        Ok(expected) if expected.differ > 0 => {
            health.reason = format!(
                "{} of {} expected columns differ; {}",
                expected.differ, expected.columns, health.reason
            );
            if health.grade > Grade::Warn {
                health.grade = Grade::Warn;
                health.look_at = "SELECT * FROM validate_schema() WHERE status <> 'OK'".to_owned();
            }
        }
        Ok(_) => {}
        Err(why) => {
            health.grade = health.grade.min(Grade::Unknown);
            health.reason = format!(
                "{}; expected columns could not be looked at: {why}",
                health.reason
            );
        }
    }
    health
}

fn rollout(facts: &Facts) -> Health {
    let look_at = "SELECT * FROM tenancy.shadow_report()";
    let tables = match &facts.rollout {
        Ok(tables) => *tables,
        Err(why) => return unread("rollout", why, look_at),
    };
    let all = tables.enforced + tables.shadowed + tables.permissive;
    let open = tables.shadowed + tables.permissive;
    let refused = match tables.refused {
        0 => String::new(),
        refused => format!("; {refused} statements were refused (tenancy.denials)"),
    };
    let (grade, reason) = if all == 0 {
        (Grade::Warn, "no table is registered".to_owned())
    } else if open == 0 {
        (
            Grade::Ok,
            format!("all {all} registered tables are enforced{refused}"),
        )
    } else {
        (
            Grade::Warn,
            format!(
                "{open} of {all} registered tables are not enforced: {} permissive, {} in shadow mode, {} of these ready, with {} denials{refused}",
                tables.permissive, tables.shadowed, tables.ready, tables.denials
            ),
        )
    };
    Health {
        component: "rollout",
        grade,
        reason,
        look_at: look_at.to_owned(),
    }
}

fn data(facts: &Facts) -> Health {
    let look_at = "SELECT * FROM tenancy.validate_data()";
    let data = match &facts.data {
        Ok(data) => *data,
        Err(why) => return unread("data", why, look_at),
    };
    let (grade, reason) = match (data.tables, data.not_validated) {
        (0, _) => (Grade::Ok, "there is no tenant table".to_owned()),
        (tables, 0) => (
            Grade::Unknown,
            format!(
                "rows are not looked at: about {} in {tables} tenant tables",
                data.rows
            ),
        ),
        (tables, open) => (
            Grade::Warn,
            format!(
                "{open} constraints of tenant tables were never validated; rows are not looked at: about {} in {tables} tenant tables",
                data.rows
            ),
        ),
    };
    Health {
        component: "data",
        grade,
        reason,
        look_at: look_at.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::data::Finding;
    use super::super::facts::{Coverage, Data, Expected, Rollout, Status};
    use super::*;

    fn healthy() -> Facts {
        let status = [
            "library", "binding", "settings", "cache", "document", "guard",
        ]
        .map(|feature| Status {
            feature: feature.to_owned(),
            state: "on".to_owned(),
            detail: String::new(),
        });
        Facts {
            found: Ok(Vec::new()),
            status: Ok(status.to_vec()),
            coverage: Ok(Coverage {
                tables: 3,
                registered: 3,
                enforced: 3,
                bound: 3,
            }),
            rollout: Ok(Rollout {
                enforced: 3,
                ..Rollout::default()
            }),
            expected: Ok(Expected::default()),
            data: Ok(Data {
                tables: 3,
                rows: 100,
                ..Data::default()
            }),
        }
    }

    fn found(code: &str, topic: &str, level: &str) -> Finding {
        Finding {
            code: code.to_owned(),
            topic: Some(topic.to_owned()),
            level: level.to_owned(),
            ..Finding::default()
        }
    }

    fn of(facts: &Facts, component: &str) -> Health {
        graded(facts)
            .into_iter()
            .find(|health| health.component == component)
            .unwrap()
    }

    #[test]
    fn what_is_well_is_ok_and_rows_are_not_known() {
        let all = graded(&healthy());
        assert_eq!(all.len(), 8);
        for health in &all {
            let expected = if health.component == "data" {
                Grade::Unknown
            } else {
                Grade::Ok
            };
            assert_eq!(health.grade, expected, "{health:?}");
        }
        assert_eq!(all[0].component, "data", "the worst first");
    }

    #[test]
    fn findings_count_where_they_belong() {
        for (code, topic, component) in [
            ("policy-always-true", "policies", "policies"),
            ("definer-public", "functions", "policies"),
            ("drift", "registration", "policies"),
            ("rls-off", "policies", "coverage"),
            ("role-path", "roles", "roles"),
            ("grant-truncate", "grants", "roles"),
            ("key-cascades", "keys", "schema"),
            ("view-definer", "ways around", "schema"),
            ("something", "a topic to come", "schema"),
            ("library-old", "server", "server"),
        ] {
            let facts = Facts {
                found: Ok(vec![
                    found(code, topic, "error"),
                    found("other", topic, "info"),
                ]),
                ..healthy()
            };
            let first = graded(&facts).remove(0);
            assert_eq!(
                (first.component, first.grade),
                (component, Grade::Error),
                "{code}"
            );
            assert!(
                first.reason.contains(&format!("1 error ({code})")),
                "{first:?}"
            );
            assert!(first.look_at.contains(&format!("'{code}'")), "{first:?}");
        }
    }

    #[test]
    fn what_is_waived_or_of_level_info_lowers_nothing() {
        let mut waived = found("role-path", "roles", "error");
        waived.waived = true;
        let facts = Facts {
            found: Ok(vec![
                waived,
                found("not-preloaded", "server", "info"),
                found("not-seen", "server", "info"),
            ]),
            ..healthy()
        };
        let roles = of(&facts, "roles");
        assert_eq!(
            (roles.grade, roles.reason.as_str()),
            (Grade::Ok, "nothing to mend, 1 waived")
        );
        let server = of(&facts, "server");
        assert_eq!(server.grade, Grade::Ok);
        assert_eq!(
            server.reason,
            "nothing to mend, 2 facts to know (not-preloaded, not-seen)"
        );
    }

    #[test]
    fn warnings_are_worse_than_nothing_and_better_than_errors() {
        let mut all = vec![found("role-bypassrls", "roles", "warn")];
        let graded = |all: &[Finding]| {
            let facts = Facts {
                found: Ok(all.to_vec()),
                ..healthy()
            };
            of(&facts, "roles").grade
        };
        assert_eq!(graded(&all), Grade::Warn);
        all.push(found("role-path", "roles", "error"));
        assert_eq!(graded(&all), Grade::Error);
    }

    #[test]
    fn a_rule_that_failed_counts_where_it_belongs() {
        let failed = Finding {
            rule: Some("rls-off".to_owned()),
            ..found("rule-failed", "policies", "error")
        };
        let facts = Facts {
            found: Ok(vec![failed]),
            ..healthy()
        };
        assert_eq!(of(&facts, "coverage").grade, Grade::Error);
        assert_eq!(of(&facts, "policies").grade, Grade::Ok);
    }

    #[test]
    fn the_context_is_as_bad_as_its_worst_feature() {
        for (feature, state, grade) in [
            ("guard", "off", Grade::Error),
            ("cache", "off", Grade::Warn),
            ("document", "broken", Grade::Warn),
            ("settings", "slow", Grade::Warn),
            ("binding", "off", Grade::Error),
            ("binding", "broken", Grade::Error),
            ("library", "partly", Grade::Ok),
        ] {
            let mut facts = healthy();
            for line in facts.status.as_mut().unwrap() {
                if line.feature == feature {
                    line.state = state.to_owned();
                }
            }
            assert_eq!(of(&facts, "context").grade, grade, "{feature} {state}");
        }
        let facts = Facts {
            status: Ok(vec![Status {
                feature: "binding".into(),
                state: "off".into(),
                detail: String::new(),
            }]),
            coverage: Ok(Coverage::default()),
            ..healthy()
        };
        assert_eq!(
            of(&facts, "context").grade,
            Grade::Warn,
            "nothing is protected either"
        );
    }

    #[test]
    fn rollout_coverage_and_expected_columns() {
        let rollout = |enforced, shadowed, permissive| Facts {
            rollout: Ok(Rollout {
                enforced,
                shadowed,
                permissive,
                ready: 1,
                denials: 7,
                refused: 2,
            }),
            ..healthy()
        };
        assert_eq!(of(&rollout(0, 0, 0), "rollout").grade, Grade::Warn);
        assert_eq!(of(&rollout(3, 0, 0), "rollout").grade, Grade::Ok);
        let open = of(&rollout(3, 2, 1), "rollout");
        assert_eq!(open.grade, Grade::Warn);
        assert_eq!(
            open.reason,
            "3 of 6 registered tables are not enforced: 1 permissive, 2 in shadow mode, 1 of these ready, with 7 denials; 2 statements were refused (tenancy.denials)"
        );
        let nothing = Facts {
            coverage: Ok(Coverage::default()),
            ..healthy()
        };
        assert_eq!(of(&nothing, "coverage").grade, Grade::Warn);
        let differs = Facts {
            expected: Ok(Expected {
                columns: 9,
                differ: 1,
            }),
            ..healthy()
        };
        let schema = of(&differs, "schema");
        assert_eq!(schema.grade, Grade::Warn);
        assert!(schema.look_at.contains("validate_schema"), "{schema:?}");
        let open = Facts {
            data: Ok(Data {
                tables: 1,
                not_validated: 2,
                ..Data::default()
            }),
            ..healthy()
        };
        assert_eq!(of(&open, "data").grade, Grade::Warn);
    }

    #[test]
    fn what_could_not_be_read_is_never_ok() {
        let why = || "permission denied".to_owned();
        let facts = Facts {
            found: Err(why()),
            status: Err(why()),
            coverage: Err(why()),
            rollout: Err(why()),
            expected: Err(why()),
            data: Err(why()),
        };
        for health in graded(&facts) {
            assert_eq!(health.grade, Grade::Unknown, "{health:?}");
            assert!(health.reason.contains("permission denied"), "{health:?}");
        }
        let facts = Facts {
            expected: Err(why()),
            ..healthy()
        };
        assert_eq!(of(&facts, "schema").grade, Grade::Unknown);
    }
}
