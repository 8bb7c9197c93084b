//! What the tests of `tenancy.explain_access()` share: asking it, and meeting the same as the application.

#![allow(dead_code)]

use pgrx_test::fixture::{ClientExt, quote_literal};
use postgres::Client;
use postgres::error::DbError;

/// A user and the tenant that he chose; `None` is unset.
pub type Asker<'a> = (Option<&'a str>, Option<&'a str>);

fn nullable(value: Option<&str>) -> String {
    value.map_or_else(|| "NULL".to_owned(), quote_literal)
}

/// The last line, for a key as jsonb.
pub fn verdict(
    session: &mut Client,
    table: &str,
    key: &str,
    command: &str,
    asker: Asker<'_>,
    role: Option<&str>,
) -> String {
    // Nobody is asked about by an empty user: without any argument the session's context counts.
    let (user, tenant) = asker;
    let user = user.or(tenant.is_none().then_some(""));
    lines(
        session,
        table,
        &format!("{}::jsonb", quote_literal(key)),
        command,
        (user, tenant),
        role,
    )
    .pop()
    .map(|[subject, verdict, _]| {
        assert_eq!(subject, "verdict");
        verdict
    })
    .expect("a verdict")
}

pub fn lines(
    session: &mut Client,
    table: &str,
    key: &str,
    command: &str,
    asker: Asker<'_>,
    role: Option<&str>,
) -> Vec<[String; 3]> {
    let sql = format!(
        "SELECT subject, verdict, detail FROM tenancy.explain_access('app.{table}', {key}, '{command}', {}, {}, {}) ORDER BY step",
        nullable(asker.0),
        nullable(asker.1),
        nullable(role),
    );
    session
        .rows(&sql)
        .into_iter()
        .map(|row| {
            let mut row = row.into_iter().map(Option::unwrap_or_default);
            [(); 3].map(|()| row.next().expect("three columns"))
        })
        .collect()
}

/// What the role meets, in the words of a verdict.
pub fn met(
    session: &mut Client,
    table: &str,
    row: &[String; 3],
    command: &str,
    asker: Asker<'_>,
) -> String {
    let [_, whole, condition] = row;
    session.ok(&format!(
        "BEGIN; SELECT set_config('app.current_user_id', {}, true), set_config('app.current_tenant_id', {}, true)",
        quote_literal(asker.0.unwrap_or_default()),
        quote_literal(asker.1.unwrap_or_default()),
    ));
    let sql = match command {
        "select" => format!("SELECT FROM app.{table} WHERE {condition}"),
        "update" => format!("UPDATE app.{table} SET body = body WHERE {condition}"),
        "delete" => format!("DELETE FROM app.{table} WHERE {condition}"),
        // There is such a row: what row security lets pass, its key refuses.
        _ => format!(
            "INSERT INTO app.{table} SELECT ({}::app.{table}).*",
            quote_literal(whole)
        ),
    };
    let told = match session.execute(&sql, &[]) {
        Ok(1) => "allowed".to_owned(),
        Ok(0) => "hidden".to_owned(),
        Ok(more) => panic!("{more} rows: {sql}"),
        Err(error) => in_words(error.as_db_error().expect("an error of the server")),
    };
    session.ok("ROLLBACK");
    told
}

fn in_words(error: &DbError) -> String {
    match error.code().code() {
        "23505" => "allowed".to_owned(),
        "42501"
            if error
                .message()
                .contains("violates row-level security policy") =>
        {
            "refused".to_owned()
        }
        _ => "error".to_owned(),
    }
}

/// The rows of a table: key, whole row as text, and the condition that finds it.
pub fn rows_of(superuser: &mut Client, table: &str) -> Vec<[String; 3]> {
    let keys = if table == "seats" {
        "tenant_id, user_id"
    } else {
        "id"
    };
    superuser
        .rows(&format!(
            "SELECT (SELECT jsonb_object_agg(k.key, k.value) FROM jsonb_each(to_jsonb(r)) AS k
                     WHERE k.key = ANY (string_to_array('{keys}', ', ')))::text,
                    r::text, format('({keys}) = (%s)', (SELECT string_agg(quote_literal(k.value), ', ' ORDER BY k.key)
                     FROM jsonb_each_text(to_jsonb(r)) AS k WHERE k.key = ANY (string_to_array('{keys}', ', '))))
             FROM app.{table} AS r ORDER BY 1"
        ))
        .into_iter()
        .map(|row| {
            let mut row = row.into_iter().map(Option::unwrap_or_default);
            [(); 3].map(|()| row.next().expect("three columns"))
        })
        .collect()
}
