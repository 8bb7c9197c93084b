//! `tenancy.status()`: what is on in this session, and why not.
//!
//! Must never change what it reports.

use pgrx::iter::TableIterator;
use pgrx::prelude::*;

use crate::cache::store;
use crate::{binding, document, gucs, registry};

type Line = (&'static str, &'static str, String);

#[pg_extern(sql = false)]
fn status() -> TableIterator<
    'static,
    (
        name!(feature, String),
        name!(state, String),
        name!(detail, String),
    ),
> {
    let lines = [
        loading(),
        binding_line(),
        settings(),
        cache(),
        document(),
        guard(),
        protection(),
    ];
    TableIterator::new(
        lines
            .into_iter()
            .map(|(feature, state, detail)| (feature.to_owned(), state.to_owned(), detail)),
    )
}

fn loading() -> Line {
    if gucs::is_preloaded() {
        (
            "library",
            "on",
            "preloaded: the hooks see every statement".to_owned(),
        )
    } else {
        (
            "library",
            "partly",
            "loaded in this session only: statements before that ran without the hooks. Add pg_tenancy to shared_preload_libraries"
                .to_owned(),
        )
    }
}

fn binding_line() -> Line {
    match binding::current() {
        Ok(Some(binding)) => (
            "binding",
            "on",
            format!("tenants are of type {}", binding.tenant_type.name()),
        ),
        Ok(None) => (
            "binding",
            "off",
            "tenancy.bind() was never called".to_owned(),
        ),
        Err(error) => ("binding", "broken", error.message().to_owned()),
    }
}

fn settings() -> Line {
    let Ok(Some(binding)) = binding::current() else {
        return ("settings", "off", "nothing is bound".to_owned());
    };
    let names = binding.setting_names();
    binding.settings.adopt();
    if binding.settings.are_watched() {
        ("settings", "on", names.join(", "))
    } else {
        (
            "settings",
            "slow",
            format!(
                "another library defines one of {}: the context is read for every statement",
                names.join(", ")
            ),
        )
    }
}

fn cache() -> Line {
    match binding::current() {
        Ok(Some(binding)) if binding.is_cacheable() => {
            ("cache", "on", format!("{} of {} entries", store::len(), gucs::cache_entries()))
        }
        Ok(Some(_)) => (
            "cache",
            "off",
            "a trigger on a bound table is missing or not ENABLE ALWAYS, or an active expression depends on more than its row. Call tenancy.bind() again to restore the triggers"
                .to_owned(),
        ),
        _ => ("cache", "off", "nothing is bound".to_owned()),
    }
}

fn document() -> Line {
    let keys = match binding::current().and_then(|binding| document::keys(binding.as_deref())) {
        Ok(keys) => keys,
        Err(error) => return ("document", "broken", error.message().to_owned()),
    };
    let names: Vec<_> = keys.keys.iter().map(|key| key.name.as_str()).collect();
    let (count, bytes) = document::usage();
    if keys.cacheable {
        (
            "document",
            "on",
            format!(
                "registered: {}; {count} documents kept in {} of {} kB",
                if names.is_empty() {
                    "nothing".to_owned()
                } else {
                    names.join(", ")
                },
                bytes.div_ceil(1024),
                gucs::document_cache_bytes() / 1024
            ),
        )
    } else {
        (
            "document",
            "off",
            "documents are not cached: a trigger on a source is missing or not ENABLE ALWAYS, or a registered expression or type depends on more than rows. Call tenancy.register_context() again to restore the triggers"
                .to_owned(),
        )
    }
}

fn guard() -> Line {
    match binding::current() {
        Ok(Some(binding)) if binding.is_guarded() => (
            "guard",
            "on",
            "identity columns of bound tables are guarded".to_owned(),
        ),
        Ok(Some(_)) => (
            "guard",
            "off",
            "the trigger tenancy_identity_guard is missing or disabled on a bound table, a partition or a child of one. Call tenancy.bind() again to restore it"
                .to_owned(),
        ),
        _ => ("guard", "off", "nothing is bound".to_owned()),
    }
}

fn protection() -> Line {
    let rows = binding::registry_tables()
        .map(|tables| registry::protection_rows(tables.protection))
        .unwrap_or_default();
    let enforced = rows.iter().filter(|row| row.mode == "enforce").count();
    let state = if enforced > 0 { "on" } else { "off" };

    (
        "protection",
        state,
        format!(
            "{enforced} of {} registered tables are enforced",
            rows.len()
        ),
    )
}
