//! `tenancy.report_html()`: what is on the page, that hostile names are text on it, that it needs nothing
//! from outside, and how a browser shows it.

mod policy_support;

use pgrx_test::browser::{Browser, Window};
use pgrx_test::cluster::test_run_dir;
use pgrx_test::fixture::{ClientExt, expect_error};
use policy_support::Stage;
use scraper::{Html, Selector};

const TABLE: &str = "<script>alert(1)</script>";
const USER: &str = "\"><img src=x onerror=alert(2)>";
const OURS: &str = "<b>ours</b>";
const THEIRS: &str = "'theirs' & \"co\"";
const APPLICATION: &str = "<svg/onload=alert(3)>";

/// Tenants of text, tables in every mode, and denials of statements with hostile names in all places.
fn stage() -> Stage {
    let stage = Stage::with_type("text");
    let mut owner = stage.owner();
    owner.ok(&format!(
        "CREATE TABLE app.\"{TABLE}\" (id int PRIMARY KEY, tenant_id text NOT NULL, note text);
         CREATE TABLE app.quiet (id int PRIMARY KEY, tenant_id text NOT NULL);
         CREATE TABLE app.tight (id int PRIMARY KEY, tenant_id text NOT NULL);
         CREATE TABLE app.{} (id int PRIMARY KEY, tenant_id text NOT NULL);",
        "a_name_as_long_as_any_can_be_in_this_database_without_any_spaces"
            .get(..63)
            .unwrap(),
    ));
    owner
        .execute(
            &format!("INSERT INTO app.\"{TABLE}\" VALUES (1, $1, 'a secret'), (2, $2, 'a secret')"),
            &[&OURS, &THEIRS],
        )
        .unwrap();
    owner.ok(&format!(
        "SELECT tenancy.protect_table('app.\"{TABLE}\"', mode => 'shadow');
         SELECT tenancy.protect_table('app.quiet', mode => 'permissive');
         SELECT tenancy.protect_table('app.tight', mode => 'enforce');
         SELECT tenancy.protect_schema('app', mode => 'shadow', exclude => '{{app.quiet,app.tight}}')"
    ));
    let mut app = stage.nobody();
    app.ok("BEGIN");
    app.execute(
        "SELECT set_config('app.current_tenant_id', $1, true), set_config('app.current_user_id', $2, true), set_config('application_name', $3, true)",
        &[&OURS, &USER, &APPLICATION],
    )
    .unwrap();
    app.ok(&format!(
        "SELECT note AS \"</pre><i>alias\" FROM app.\"{TABLE}\" WHERE id > 0 AND note <> '{}'",
        "long ".repeat(60)
    ));
    app.ok("COMMIT");
    app.ok(&format!("SELECT FROM app.\"{TABLE}\""));
    stage
}

fn page(stage: &Stage, arguments: &str) -> String {
    stage
        .superuser()
        .text(&format!("SELECT tenancy.report_html({arguments})"))
        .expect("a page")
}

/// The texts of what a selector finds, each with single spaces.
fn texts(page: &Html, selector: &str) -> Vec<String> {
    page.select(&Selector::parse(selector).unwrap())
        .map(|element| {
            element
                .text()
                .collect::<String>()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

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
    let page = Html::parse_document(&text);
    for forbidden in [
        "script", "img", "iframe", "link", "object", "embed", "form", "i", "a", "base",
    ] {
        assert_eq!(
            page.select(&Selector::parse(forbidden).unwrap()).count(),
            0,
            "<{forbidden}>"
        );
    }
    for element in page.select(&Selector::parse("*").unwrap()) {
        for (name, value) in element.value().attrs() {
            assert!(!name.starts_with("on") && name != "style", "{name}={value}");
            let is_address =
                ["src", "href", "xlink:href", "srcset", "data", "action"].contains(&name);
            assert!(
                !is_address || value.starts_with('#') || value.starts_with("data:"),
                "{name}={value}"
            );
        }
    }
    let sheets = texts(&page, "style");
    assert_eq!(sheets.len(), 1);
    assert!(!sheets[0].contains("url(") && !sheets[0].contains("@import"));
    let policy = page
        .select(&Selector::parse("meta[http-equiv=Content-Security-Policy]").unwrap())
        .next()
        .and_then(|meta| meta.attr("content"));
    assert!(policy.unwrap().starts_with("default-src 'none'"));
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

/// Runs in the page and leaves what it measured in the title.
///
/// Everything is opened first. Contrast is that of WCAG 2, for every element with text of its own.
const PROBE: &str = "<script>addEventListener('load', () => {
    for (const details of document.querySelectorAll('details')) details.open = true;
    const inside = element => element.closest('.box') && !element.matches('.box');
    const wide = [...document.body.querySelectorAll('*')]
        .filter(element => !inside(element) && !element.closest('svg') && element.getBoundingClientRect().right > innerWidth + 0.5);
    const parts = colour => colour.match(/[0-9.]+/g).map(Number);
    const light = colour => { const [r, g, b] = parts(colour).map(part => { const c = part / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
    const back = element => { const colour = getComputedStyle(element).backgroundColor; const all = parts(colour);
        return all.length < 4 || all[3] > 0 ? colour : back(element.parentElement); };
    const contrast = element => { const [a, b] = [light(getComputedStyle(element).color), light(back(element))]; return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
    const worded = [...document.body.querySelectorAll('*')].filter(element => !element.closest('svg, script') && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
    const faint = worded.filter(element => contrast(element) < 4.5);
    document.title = JSON.stringify({ width: innerWidth, scroll: document.documentElement.scrollWidth, worded: worded.length,
        faint: faint.map(element => contrast(element).toFixed(1) + ' ' + element.outerHTML.slice(0, 80)),
        small: worded.filter(element => parseFloat(getComputedStyle(element).fontSize) < 11).map(element => element.outerHTML.slice(0, 80)),
        wide: wide.map(element => element.outerHTML.slice(0, 80)), dark: matchMedia('(prefers-color-scheme: dark)').matches,
        boxes: [...document.querySelectorAll('.box')].map(box => box.scrollWidth > box.clientWidth),
        sizes: [...document.querySelectorAll('section')].map(section => section.offsetHeight) }); });</script>";

#[test]
fn a_browser_shows_it_on_a_phone_and_in_the_dark() {
    let stage = stage();
    let text = page(&stage, "");
    let folder = test_run_dir().join(format!("report-{}", stage.database.name));
    let browser = Browser::new(&folder).expect("a browser");
    // The page lets no script run; one copy has to, to be measured.
    let (before, rest) = text
        .split_once("<meta http-equiv=\"Content-Security-Policy\"")
        .expect("a policy");
    let (_, after) = rest.split_once('>').expect("its end");
    let measured = format!("{before}{after}{PROBE}");
    for (device, width, height) in [("phone", 360, 3600), ("desktop", 1280, 2400)] {
        for dark in [false, true] {
            let window = Window {
                width,
                height,
                dark,
            };
            let document = Html::parse_document(&browser.document(&measured, window).unwrap());
            let title = texts(&document, "title").remove(0);
            let seen: serde_json::Value =
                serde_json::from_str(&title).unwrap_or_else(|error| panic!("{error}: {title}"));
            assert_eq!(seen["width"], width, "{seen}");
            assert_eq!(seen["scroll"], width, "the page scrolls sideways: {seen}");
            assert_eq!(seen["wide"].as_array().map(Vec::len), Some(0), "{seen}");
            assert_eq!(seen["dark"], dark, "{seen}");
            assert!(seen["worded"].as_i64() > Some(50), "{seen}");
            for nothing in ["faint", "small"] {
                assert_eq!(
                    seen[nothing].as_array().map(Vec::len),
                    Some(0),
                    "{nothing}: {seen}"
                );
            }
            assert!(
                seen["sizes"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .all(|size| size.as_i64() > Some(40)),
                "{seen}"
            );
            if device == "phone" {
                assert_eq!(
                    seen["boxes"][0], true,
                    "the tables scroll in their box: {seen}"
                );
            }
            let name = format!("{device}-{}.png", if dark { "dark" } else { "light" });
            let picture = browser.picture(&text, window, &name).unwrap();
            let (back, words) = shades(&picture);
            if dark {
                assert!(
                    back < 40 && words > 150,
                    "{name}: background {back}, lightest {words}"
                );
            } else {
                assert!(
                    back > 215 && words < 100,
                    "{name}: background {back}, darkest {words}"
                );
            }
        }
    }
}

/// How light the page's corner is, and what differs most from it.
fn shades(picture: &std::path::Path) -> (u8, u8) {
    let file = std::io::BufReader::new(std::fs::File::open(picture).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
    let frame = reader.next_frame(&mut pixels).unwrap();
    let step = frame.color_type.samples();
    let light = |pixel: &[u8]| {
        u8::try_from(pixel[..3].iter().map(|part| u32::from(*part)).sum::<u32>() / 3).unwrap()
    };
    let all: Vec<u8> = pixels[..frame.buffer_size()]
        .chunks(step)
        .map(light)
        .collect();
    let back = all[0];
    let far = all
        .iter()
        .copied()
        .max_by_key(|one| one.abs_diff(back))
        .unwrap();
    (back, far)
}
