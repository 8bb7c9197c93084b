//! What a materialized view holds as it is now.
//!
//! Nothing binds who may read it. Owns whose rows are in it: by the tenant's column, else by the tenant's
//! identifier, where that is long enough to be no other value. Must never call it clean for want of either.

use super::attack::Met;
use super::run::{read_as_owner, read_as_role, set_the_scene, tried};
use super::stored::tenant_column;
use super::through::OTHERS_CODE;
use super::verdict::{Attack, Finding};
use super::ways::View;
use super::{Told, Work};
use crate::error::Result;
use crate::policy::{literal, quoted, quoted_list};

/// Shorter identifiers turn up as other values.
const TELLING: usize = 8;

/// Whether it holds rows of another tenant.
pub fn of(work: &Work<'_>, view: &View, told: &Told) -> Result<Finding> {
    let met = match tenant_column(&view.columns, work.targets) {
        Some(column) => by_column(work, view, column),
        None if view.runs_others => Met::not_attacked(OTHERS_CODE),
        None => by_identifier(work, view),
    };
    let met = match met {
        // Not populated: its query decides.
        Met {
            sqlstate: Some(code),
            ..
        } if code == "55000" => Met::nothing(),
        met => met,
    };
    Ok(told.met("select", met))
}

/// What a query gives, in two numbers.
pub fn digest(query: &str) -> String {
    format!(
        "SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(ROW(tenancy_result)::pg_catalog.text, 0)) FROM ({query}) AS tenancy_result"
    )
}

fn by_column(work: &Work<'_>, view: &View, column: &str) -> Met {
    let cast = work.cast;
    let own: Vec<String> = core::iter::once(&cast.actor.tenant)
        .chain(&cast.own)
        .chain(&cast.platform)
        .map(|id| literal(id))
        .collect();
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM {} AS t WHERE t.{} NOT IN ({})",
        view.sql(),
        quoted(column),
        own.join(", ")
    );
    match tried(|| Ok(read_as_owner(view.owner(), &sql)?.text())) {
        Ok(count) if count.as_deref() == Some("0") => Met::nothing(),
        Ok(_) => Met::leak("it holds rows of another tenant".to_owned()),
        Err(failure) => Met::failed(Attack::Rows, &failure),
    }
}

fn by_identifier(work: &Work<'_>, view: &View) -> Met {
    let other = &work.cast.other.tenant;
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM (SELECT {} FROM {}) AS tenancy_result
         WHERE EXISTS (SELECT FROM pg_catalog.jsonb_each_text(pg_catalog.to_jsonb(tenancy_result)) AS v WHERE v.value = {})",
        quoted_list(&view.readable),
        view.sql(),
        literal(other)
    );
    let held = format!("SELECT * FROM {}", view.sql());
    let query = view.definition.as_deref().unwrap_or(&held);
    let compared = tried(|| {
        set_the_scene();
        work.cast.place(&work.cast.actor)?;
        let found =
            other.len() >= TELLING && read_as_role(work.role, &sql)?.text().as_deref() != Some("0");
        let read = |query: &str| -> Result<_> {
            let query = query.trim_end().trim_end_matches(';');
            Ok(read_as_owner(view.owner(), &digest(query))?.rows)
        };
        Ok((found, read(&held)? == read(query)?))
    });
    match compared {
        Ok((true, _)) => Met::leak("it holds rows of the other tenant".to_owned()),
        // What it shows of the other tenant its query shows as well.
        Ok((false, true)) => Met::nothing(),
        Ok((false, false)) => Met::not_attacked(
            "no column says whose its rows are, and they are not what its query gives now: refresh it",
        ),
        Err(failure) => Met::failed(Attack::Rows, &failure),
    }
}
