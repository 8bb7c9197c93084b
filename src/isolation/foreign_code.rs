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
    SELECT b.root, t.oid, t.typowner, t.typtype, t.typbasetype, t.typelem, t.typrelid, t.typname
    FROM below b JOIN pg_catalog.pg_attribute a ON a.attrelid = b.relation AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    UNION SELECT u.root, t.oid, t.typowner, t.typtype, t.typbasetype, t.typelem, t.typrelid, t.typname
    FROM types u CROSS JOIN LATERAL (
        SELECT u.typbasetype AS oid WHERE u.typtype = 'd'
        UNION ALL SELECT u.typelem
        UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE u.oid IN (r.rngtypid, r.rngmultitypid)
        UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
            WHERE a.attrelid = u.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS inside
    JOIN pg_catalog.pg_type t ON t.oid = inside.oid),
expressions AS (
    SELECT b.root, 'pg_catalog.pg_trigger'::pg_catalog.regclass AS class, t.oid FROM below b JOIN pg_catalog.pg_trigger t ON t.tgrelid = b.relation
    UNION SELECT b.root, 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid FROM below b JOIN pg_catalog.pg_constraint k ON k.conrelid = b.relation
    UNION SELECT u.root, 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid FROM types u JOIN pg_catalog.pg_constraint k ON k.contypid = u.oid
    UNION SELECT b.root, 'pg_catalog.pg_attrdef'::pg_catalog.regclass, f.oid FROM below b JOIN pg_catalog.pg_attrdef f ON f.adrelid = b.relation
    UNION SELECT b.root, 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid FROM below b JOIN pg_catalog.pg_index i ON i.indrelid = b.relation
    UNION SELECT b.root, 'pg_catalog.pg_rewrite'::pg_catalog.regclass, w.oid FROM below b JOIN pg_catalog.pg_rewrite w ON w.ev_class = b.relation
    -- The key of its partitions.
    UNION SELECT b.root, 'pg_catalog.pg_class'::pg_catalog.regclass, b.relation FROM below b),
called AS (
    SELECT b.root, t.tgfoid AS function FROM below b JOIN pg_catalog.pg_trigger t ON t.tgrelid = b.relation
    UNION SELECT e.root, CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid ELSE o.oprcode END
    FROM expressions e JOIN pg_catalog.pg_depend d ON d.classid = e.class AND d.objid = e.oid
    LEFT JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = d.refobjid
    WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, 'pg_catalog.pg_operator'::pg_catalog.regclass)),
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
