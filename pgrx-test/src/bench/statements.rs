//! Point lookups sent over one session, for what pgbench cannot be asked: the cost to the backend.

use anyhow::Result;
use postgres::Client;

use super::Bench;
use super::schema::ROW;
use super::session::{self, DATABASE, Session};
use super::variant::{Identity, Variant};

/// How a lookup is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prepared,
    Simple,
    /// BEGIN, SET LOCAL, lookup and COMMIT, all prepared.
    PreparedSetLocal,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Prepared, Kind::Simple, Kind::PreparedSetLocal];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Prepared => "prepared lookup",
            Kind::Simple => "simple lookup",
            Kind::PreparedSetLocal => "prepared lookup, SET LOCAL",
        }
    }

    /// A session that brings the identity along, except where each transaction sets it.
    pub fn open(self, bench: &Bench, variant: Variant, identity: &Identity) -> Result<Client> {
        match self {
            Kind::Prepared | Kind::Simple => variant.open(bench, identity),
            Kind::PreparedSetLocal => {
                session::open(variant.server(bench), DATABASE, variant.role(), "")
            }
        }
    }
}

/// The lookup of a row.
pub(crate) fn query(variant: Variant, identity: &Identity, id: &str) -> String {
    format!(
        "SELECT id, title, amount FROM {}.items WHERE id = {id}{}",
        variant.schema(),
        variant.condition("tenant_id", identity)
    )
}

/// Looks one row up again and again; fails where it is not found.
pub(crate) fn repeat(
    session: &mut Client,
    kind: Kind,
    variant: Variant,
    identity: &Identity,
    times: u64,
) -> Result<()> {
    let id = ROW as i64;
    if kind == Kind::Simple {
        let query = query(variant, identity, &id.to_string());
        for _ in 0..times {
            session.row(&query)?;
        }
        return Ok(());
    }
    let lookup = session.prepare(&query(variant, identity, "$1"))?;
    if kind == Kind::Prepared {
        for _ in 0..times {
            session.query_one(&lookup, &[&id])?;
        }
        return Ok(());
    }
    let begin = session.prepare("BEGIN")?;
    let set = session.prepare(&variant.set_local(identity))?;
    let commit = session.prepare("COMMIT")?;
    for _ in 0..times {
        session.execute(&begin, &[])?;
        session.execute(&set, &[])?;
        session.query_one(&lookup, &[&id])?;
        session.execute(&commit, &[])?;
    }
    Ok(())
}
