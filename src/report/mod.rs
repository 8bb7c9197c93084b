//! What is to be looked at: `tenancy.access_matrix()`, `tenancy.health()`, and `tenancy.report_html()`, the state of
//! the rollout as one page that needs nothing but itself.
//!
//! | question | file |
//! |---|---|
//! | who reaches whose rows | `access` |
//! | how each component is | `health` |
//! | what SQL calls for the page, and reading the views | `entry`, `load` |
//! | what a page is made of | `data` |
//! | the page | `page`; its parts: `board`, `tables`, `timeline`, `matrix`, `denials`, `findings`; its looks: `style` |
//!
//! Of the page all but `entry` and `load` is pure. Every text goes through maud, which escapes it. Must never put a text
//! that came from the database into a style, a script or an address.

mod access;
mod board;
mod data;
mod denials;
mod entry;
mod findings;
mod health;
mod load;
mod matrix;
mod page;
mod style;
mod tables;
mod timeline;
