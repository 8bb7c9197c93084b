//! `tenancy.report_html()`: the state of the rollout as one page that needs nothing but itself.
//!
//! | question | file |
//! |---|---|
//! | what SQL calls, and reading the views | `entry`, `load` |
//! | what a page is made of | `data` |
//! | the page | `page`; its parts: `tables`, `timeline`, `matrix`, `denials`, `findings`; its looks: `style` |
//!
//! All but `entry` and `load` is pure. Every text goes through maud, which escapes it. Must never put a text
//! that came from the database into a style, a script or an address.

mod data;
mod denials;
mod entry;
mod findings;
mod load;
mod matrix;
mod page;
mod style;
mod tables;
mod timeline;
