//! What the tests of the report page share: a database with hostile names in all places, and what may not be
//! on its page.

#![allow(dead_code)]

use pgrx_test::fixture::ClientExt;
use scraper::{Html, Selector};

use crate::policy_support::Stage;

pub const TABLE: &str = "<script>alert(1)</script>";
pub const USER: &str = "\"><img src=x onerror=alert(2)>";
pub const OURS: &str = "<b>ours</b>";
pub const THEIRS: &str = "'theirs' & \"co\"";
pub const APPLICATION: &str = "<svg/onload=alert(3)>";

/// Tenants of text, tables in every mode, and denials of statements with hostile names in all places.
pub fn stage() -> Stage {
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

pub fn page(stage: &Stage, arguments: &str) -> String {
    stage
        .superuser()
        .text(&format!("SELECT tenancy.report_html({arguments})"))
        .expect("a page")
}

/// The texts of what a selector finds, each with single spaces.
pub fn texts(page: &Html, selector: &str) -> Vec<String> {
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

/// What is on the page and should not be: markup of somebody else's, addresses, and no policy that tells a
/// browser to fetch and run nothing.
pub fn strangers(text: &str) -> Vec<String> {
    let page = Html::parse_document(text);
    let mut found = Vec::new();
    for forbidden in [
        "script", "img", "image", "iframe", "link", "object", "embed", "form", "i", "a", "base",
    ] {
        for element in page.select(&Selector::parse(forbidden).unwrap()) {
            found.push(element.html());
        }
    }
    for element in page.select(&Selector::parse("*").unwrap()) {
        for (name, value) in element.value().attrs() {
            let is_address = [
                "src",
                "href",
                "xlink:href",
                "srcset",
                "srcdoc",
                "data",
                "action",
            ]
            .contains(&name);
            if name.starts_with("on") || name == "style" || is_address {
                found.push(format!("{name}={value}"));
            }
            if name == "http-equiv" && value != "Content-Security-Policy" {
                found.push(format!("{name}={value}"));
            }
        }
    }
    let sheets = texts(&page, "style");
    if sheets.len() != 1 || sheets[0].contains("url(") || sheets[0].contains("@import") {
        found.push(sheets.concat());
    }
    let policy = page
        .select(&Selector::parse("meta[http-equiv=Content-Security-Policy]").unwrap())
        .next()
        .and_then(|meta| meta.attr("content"));
    if !policy.is_some_and(|policy| policy.starts_with("default-src 'none'; ")) {
        found.push(format!("policy {policy:?}"));
    }
    found
}
