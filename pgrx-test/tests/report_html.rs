//! `tenancy.report_html()`: what is on the page, that hostile names are text on it, and that it needs nothing
//! from outside. How a browser shows it is in `report_browser`.

mod policy_support;
mod report_support;

use pgrx_test::fixture::{ClientExt, expect_error};
use report_support::{APPLICATION, OURS, TABLE, THEIRS, USER, page, stage, strangers, texts};
use scraper::Html;

#[test]
fn everything_is_on_it() {
    let stage = stage();
    let page = Html::parse_document(&page(&stage, ""));
    assert!(page.errors.is_empty(), "{:?}", page.errors);
    assert_eq!(
        texts(&page, "h2"),
        [
            "Health",
            "Tables",
            "Denials over time",
            "Tenant to tenant",
            "Denials",
            "Findings"
        ]
    );
    let names = texts(&page, "#tables td.name");
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names[0], format!("app.\"{TABLE}\""));
    let modes = texts(&page, "#tables td:nth-child(2)");
    assert!(
        modes[0] == "shadownot ready" && modes[3] == "enforce",
        "{modes:?}"
    );
    assert!(modes[2].starts_with("permissive"), "{modes:?}");
    assert!(
        !texts(&page, "#tables td:nth-child(3)")[0].is_empty(),
        "and says why"
    );
    let matrix = texts(&page, "#tenants tbody tr");
    assert!(
        matrix.iter().any(|line| line.starts_with(OURS)),
        "{matrix:?}"
    );
    assert!(texts(&page, "#tenants thead").concat().contains(THEIRS));
    assert!(!texts(&page, "#time svg rect").is_empty());
    let denials = texts(&page, "#denials .entry");
    assert_eq!(denials.len(), 2, "{denials:?}");
    let hidden = denials
        .iter()
        .find(|denial| denial.contains("row would be hidden"))
        .unwrap();
    for text in [TABLE, USER, OURS, THEIRS, APPLICATION, "</pre><i>alias"] {
        assert!(hidden.contains(text), "{text} in {hidden}");
    }
    assert!(
        denials.iter().any(|denial| denial.contains("no context")),
        "{denials:?}"
    );
    assert!(!page.html().contains("a secret"));
}

#[test]
fn findings_and_grades_are_on_it() {
    let stage = stage();
    let reason = "accepted by <b onclick=alert(4)>me</b> & co";
    let mut superuser = stage.superuser();
    superuser
        .execute(
            "SELECT tenancy.waive('rls-off', 'table app.quiet', $1, 'infinity')",
            &[&reason],
        )
        .unwrap();
    let page = Html::parse_document(&page(&stage, ""));
    let parts = texts(&page, "#health .part");
    assert_eq!(parts.len(), 8, "{parts:?}");
    assert!(
        parts[0].starts_with("coverage error") && parts[0].contains("rls-off"),
        "{parts:?}"
    );
    let graded = superuser.rows("SELECT component || ' ' || grade FROM tenancy.health()");
    for (part, row) in parts.iter().zip(graded) {
        assert!(part.starts_with(row[0].as_deref().unwrap()), "{part}");
    }
    assert_eq!(texts(&page, "#health details pre").len(), 8);

    let rows = superuser.rows("SELECT code, level, object, detail, coalesce(remediation, ''), waived, coalesce(reason, '') FROM tenancy.validate()");
    let entries = texts(&page, "#findings .entry");
    assert_eq!(entries.len(), rows.len());
    let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for row in &rows {
        let row: Vec<&str> = row
            .iter()
            .map(|text| text.as_deref().unwrap_or_default())
            .collect();
        let start = spaced(&format!("{} {} {}", row[1], row[2], row[0]));
        let entry = entries.iter().find(|entry| entry.starts_with(&start));
        let entry = entry.unwrap_or_else(|| panic!("{start} is not in {entries:#?}"));
        assert!(entry.contains(&spaced(row[3])), "{entry}");
        assert!(entry.ends_with(&spaced(row[4])), "{entry}");
        assert_eq!(entry.contains(reason), row[5] == "t", "{entry}");
    }
    let hostile = entries
        .iter()
        .find(|entry| entry.starts_with("error") && entry.contains(TABLE));
    assert!(hostile.is_some(), "{entries:#?}");
    assert!(entries.last().unwrap().contains(reason), "waived ones last");
    let mended = rows
        .iter()
        .filter(|row| row[4].as_deref() != Some(""))
        .count();
    let remediations = texts(&page, "#findings details pre");
    assert_eq!(remediations.len(), mended);
    assert!(
        remediations.iter().any(|sql| sql.contains(TABLE)),
        "{remediations:#?}"
    );
}

#[test]
fn nothing_in_it_is_markup_of_somebody_elses_or_comes_from_outside() {
    let stage = stage();
    let text = page(&stage, "");
    assert_eq!(strangers(&text), [""; 0]);
    // And each of these would be noticed.
    let forged = |from: &str, to: &str| {
        let forged = text.replacen(from, to, 1);
        assert_ne!(forged, text, "{from} is not on the page");
        assert!(!strangers(&forged).is_empty(), "{to} goes unnoticed");
    };
    for (from, to) in [
        (
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "<script>alert(1)</script>",
        ),
        (
            "&lt;img src=x onerror=alert(2)&gt;",
            "<img src=x onerror=alert(2)>",
        ),
        ("&lt;svg/onload=alert(3)&gt;", "<svg/onload=alert(3)>"),
        ("&lt;/pre&gt;&lt;i&gt;alias", "</pre><i>alias"),
    ] {
        forged(from, to);
    }
    for more in [
        "<link rel=stylesheet href=https://example.com/x.css>",
        "<style>@import 'https://example.com/x.css';</style>",
        "<style>p { background: url(https://example.com/x.png); }</style>",
        "<a href='javascript:alert(5)'>x</a>",
        "<p style='color: red'>x</p>",
        "<p onclick='alert(6)'>x</p>",
        "<image href='https://example.com/x.png'/>",
        "<meta http-equiv=refresh content='0;url=https://example.com'>",
        "<iframe srcdoc=x></iframe>",
    ] {
        forged("<main>", &format!("<main>{more}"));
    }
    forged("default-src 'none'; ", "");
    forged("Content-Security-Policy", "X-Policy");
}

#[test]
fn it_is_for_administrators() {
    let stage = stage();
    for mut session in [stage.nobody(), stage.owner()] {
        expect_error(
            &session.error("SELECT tenancy.report_html()"),
            "42501",
            "for administrators",
        );
    }
    expect_error(
        &stage.superuser().error("SELECT tenancy.report_html(NULL)"),
        "22023",
        "with_findings",
    );
    let admin = stage.database.role("admin");
    let mut session = stage.database.connect(&admin);
    expect_error(
        &session.error("SELECT tenancy.report_html()"),
        "42501",
        "for administrators",
    );
    stage.superuser().ok(&format!(
        "ALTER DATABASE \"{}\" SET pg_tenancy.admin_role = '{admin}'",
        stage.database.name
    ));
    let page = stage
        .database
        .connect(&admin)
        .text("SELECT tenancy.report_html(false)")
        .unwrap();
    let page = Html::parse_document(&page);
    assert_eq!(
        texts(&page, "#denials .entry").len(),
        2,
        "all that a superuser sees"
    );
    assert!(texts(&page, "#findings")[0].contains("Not looked for"));
}

#[test]
fn an_empty_database_has_one_too() {
    let database = pgrx_test::fixture::Database::new(pgrx_test::fixture::Server::preloaded());
    let page = Html::parse_document(
        &database
            .superuser()
            .text("SELECT tenancy.report_html()")
            .unwrap(),
    );
    assert!(texts(&page, "#tables")[0].contains("No table is registered"));
    assert!(texts(&page, "#denials")[0].contains("Nothing has been recorded"));
}
