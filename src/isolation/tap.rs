//! The result as TAP.
//!
//! Pure. Owns its lines: one for each attack, details below it as comments.

use super::verdict::Finding;

/// The plan, and a line for each finding, with its comments.
pub fn lines(findings: &[Finding]) -> Vec<String> {
    let told = findings.iter().enumerate();
    core::iter::once(format!("1..{}", findings.len()))
        .chain(told.map(|(place, finding)| line(place + 1, finding)))
        .collect()
}

fn line(number: usize, finding: &Finding) -> String {
    let ok = if finding.fails() { "not ok" } else { "ok" };
    let what = finding.headline();
    // A number sign would begin a directive, a new line another test.
    let mut line = format!(
        "{ok} {number} - {}",
        what.replace('#', "\\#").replace(['\n', '\r'], " ")
    );
    if let Some(reason) = &finding.accepted {
        let words: Vec<&str> = reason.split_whitespace().collect();
        line.push_str(&format!(" # SKIP {}", words.join(" ")));
    }
    if let Some(detail) = &finding.detail {
        let code = finding.sqlstate.as_deref().map(|code| format!("{code} "));
        line.push_str(&format!(
            "\n# {}{}",
            code.unwrap_or_default(),
            detail.replace(['\n', '\r'], "\n# ")
        ));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Verdict;
    use super::*;

    #[test]
    fn each_finding_is_a_line() {
        let finding = |verdict, accepted: Option<&str>| Finding {
            relation: "app.\"a\n#b\"".to_owned(),
            attack: "call".to_owned(),
            verdict,
            detail: Some("one\ntwo".to_owned()),
            sqlstate: Some("42501".to_owned()),
            acceptable: true,
            accepted: accepted.map(str::to_owned),
        };
        assert_eq!(
            lines(&[
                finding(Verdict::Refused, None),
                finding(Verdict::NotAttacked, None),
                finding(Verdict::NotAttacked, Some("as\nread")),
                finding(Verdict::Leak, Some("as read")),
            ]),
            [
                "1..4",
                "ok 1 - app.\"a \\#b\": call: refused\n# 42501 one\n# two",
                "not ok 2 - app.\"a \\#b\": call: not attacked\n# 42501 one\n# two",
                "ok 3 - app.\"a \\#b\": call: not attacked # SKIP as read\n# 42501 one\n# two",
                "not ok 4 - app.\"a \\#b\": call: LEAK # SKIP as read\n# 42501 one\n# two",
            ]
        );
    }
}
