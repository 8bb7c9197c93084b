//! Code of ordinary roles that the tables of a superuser run.
//!
//! Rows are found, made and taken away as the owner of their table. Where that is a superuser, nothing may be run
//! that an ordinary role has written: operations are restricted there, and still a superuser's. Owns that refusal.

use pgrx::pg_sys;

use super::tables::Target;
use crate::error::{Error, Kind, Result};
use crate::policy::spi;

/// The first such piece of code: a table's name, and what is whose.
const FOREIGN: &str = "
WITH RECURSIVE below AS (
    SELECT c.oid AS root, c.oid AS relation
    FROM pg_catalog.unnest($1::pg_catalog.oid[]) AS t(oid) JOIN pg_catalog.pg_class c ON c.oid = t.oid
    JOIN pg_catalog.pg_roles o ON o.oid = c.relowner AND o.rolsuper
    UNION SELECT b.root, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.relation),
types AS (
    SELECT b.root, t.oid, t.typowner, t.typtype, t.typbasetype, t.typname
    FROM below b JOIN pg_catalog.pg_attribute a ON a.attrelid = b.relation AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    UNION SELECT u.root, t.oid, t.typowner, t.typtype, t.typbasetype, t.typname
    FROM types u JOIN pg_catalog.pg_type t ON u.typtype = 'd' AND t.oid = u.typbasetype),
called AS (
    SELECT b.root, t.tgfoid AS function FROM below b JOIN pg_catalog.pg_trigger t ON t.tgrelid = b.relation
    UNION SELECT b.root, d.refobjid FROM below b JOIN pg_catalog.pg_constraint k ON k.conrelid = b.relation
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = k.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    UNION SELECT b.root, d.refobjid FROM below b JOIN pg_catalog.pg_attrdef f ON f.adrelid = b.relation
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    UNION SELECT b.root, d.refobjid FROM below b JOIN pg_catalog.pg_index i ON i.indrelid = b.relation
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    UNION SELECT u.root, d.refobjid FROM types u JOIN pg_catalog.pg_constraint k ON k.contypid = u.oid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = k.oid
        AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass),
parts AS (
    SELECT b.root, 'table ' || tenancy.qualified_name(c.oid) AS what, c.relowner AS owner
    FROM below b JOIN pg_catalog.pg_class c ON c.oid = b.relation WHERE c.oid <> b.root
    UNION SELECT u.root, 'type ' || pg_catalog.quote_ident(u.typname), u.typowner FROM types u
    UNION SELECT f.root, 'function ' || pg_catalog.quote_ident(p.proname), p.proowner
    FROM called f JOIN pg_catalog.pg_proc p ON p.oid = f.function)
SELECT pg_catalog.jsonb_build_array(tenancy.qualified_name(p.root), pg_catalog.format('%s to %I', p.what, o.rolname))::pg_catalog.text
FROM parts p JOIN pg_catalog.pg_roles o ON o.oid = p.owner AND NOT o.rolsuper ORDER BY 1 LIMIT 1";

/// Fails where a superuser's table would run it.
pub fn refuse(targets: &[Target]) -> Result<()> {
    let tables: Vec<pg_sys::Oid> = targets.iter().map(|target| target.table.oid()).collect();
    let Some((table, whose)) = spi::row::<(String, String)>(FOREIGN, &[tables.into()])? else {
        return Ok(());
    };
    Err(Error::new(
        Kind::ObjectNotInPrerequisiteState,
        format!("table {table} would run code of an ordinary role as a superuser"),
    )
    .detail(format!("The table belongs to a superuser, {whose}."))
    .hint("Give the table to a role that is no superuser with ALTER TABLE .. OWNER TO."))
}
