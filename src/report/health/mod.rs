//! `tenancy.health()`: a grade for each component, the worst first.
//!
//! | question | file |
//! |---|---|
//! | what SQL calls | here |
//! | what is known, each part read apart from the others | `load` |
//! | what was read, as plain values | `facts` |
//! | what findings say of a component | `told` |
//! | which rule belongs to which component | `component` |
//! | what makes which grade, and why in one sentence | `grade` |
//!
//! All but `load` is pure. Reads only, with the caller's rights. What cannot be looked at is graded `unknown`,
//! never `ok`, and never ends the call.

mod component;
mod facts;
mod grade;
mod load;
mod told;

pub use component::{Grade, Health};
pub use load::{found, health_with};

use pgrx::iter::TableIterator;
use pgrx::prelude::*;

extension_sql_file!(
    "../../../sql/92_health.sql",
    name = "health",
    requires = ["validate", "shadow"]
);

#[pg_extern(sql = false)]
fn health() -> TableIterator<
    'static,
    (
        name!(component, String),
        name!(grade, String),
        name!(reason, String),
        name!(look_at, String),
    ),
> {
    let components = health_with(&found());
    TableIterator::new(components.into_iter().map(|health| {
        (
            health.component.to_owned(),
            health.grade.word().to_owned(),
            health.reason,
            health.look_at,
        )
    }))
}
