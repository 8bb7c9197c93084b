//! Protecting the tables of a schema, each in a transaction of its own.
//!
//! Owns the commits: locks of a table last as long as its own turn, a call that is cut off keeps what is
//! done, and calling again goes on. Must never run inside a transaction block, where it could not commit.

use std::collections::HashSet;

use pgrx::pg_sys;

use super::apply;
use super::choose::{Choice, Queue};
use super::protect::{Request, protect};
use super::protect_schema::{progress, tables, with_advice};
use super::subtransaction::attempt_repeatedly;
use crate::cache::generation::Writing;
use crate::catalog;
use crate::error::{Error, Kind, Result};

/// Protects the tables of a schema one by one and commits after each; a table that fails is a WARNING.
pub fn run(
    call: pg_sys::FunctionCallInfo,
    schema: &str,
    request: &Request,
    exclude: &[pg_sys::Oid],
) -> Result<()> {
    require_no_transaction_block(call)?;
    let _writing = Writing::start();
    let listed = tables(schema, request)?;
    let transactions = Transactions::begin()?;
    let (mut done, mut failed) = (HashSet::new(), 0);
    let mut queue = Queue::new(&listed, request, exclude);
    let mut number = 0;
    while let Some((table, choice)) = transactions.each(|| queue.next())? {
        let relation = pg_sys::Oid::from(table.oid);
        if done.contains(&relation) {
            continue;
        }
        let name = catalog::relation_name(relation)
            .map(|name| name.to_string())
            .unwrap_or_default();
        let (request, why) = match choice {
            Choice::Protect(request, why) => (request, why),
            Choice::Leave(why) => {
                apply::notice(&format!("table {name} is not protected: {why}"), None);
                continue;
            }
        };
        match transactions.each(|| attempt_repeatedly(|| protect(relation, &request))) {
            Ok(outcomes) => {
                for mut outcome in outcomes {
                    outcome.result.because(why.as_deref());
                    done.insert(outcome.relation);
                    let text = outcome.result.text();
                    if outcome.result.says_more_than_the_mode() {
                        let name = catalog::relation_name(outcome.relation)
                            .map(|name| name.to_string())
                            .unwrap_or_default();
                        apply::notice(&format!("table {name}: {text}"), None);
                    }
                }
            }
            Err(failure) => {
                failed += 1;
                apply::warning(
                    &format!("table {name} is not protected"),
                    Some(&with_advice(failure).sentence()),
                    None,
                );
            }
        }
        number += 1;
        progress(number, listed.len());
    }
    for table in listed.iter().filter(|table| table.follows_parent) {
        let relation = pg_sys::Oid::from(table.oid);
        if !done.contains(&relation)
            && let Some(name) = catalog::relation_name(relation)
        {
            apply::notice(
                &format!("table {name} is not protected: its parent is not"),
                None,
            );
        }
    }
    let protected = done.len();
    apply::notice(
        &format!("{protected} tables protected, {failed} could not be"),
        None,
    );
    transactions.end();
    Ok(())
}

fn require_no_transaction_block(call: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: `call` is this very call's; the context of a CALL is a CallContext, and nothing else has
    // that tag.
    let atomic = unsafe {
        let context = call
            .as_ref()
            .map_or(core::ptr::null_mut(), |call| call.context);
        context.is_null()
            || (*context).type_ != pg_sys::NodeTag::T_CallContext
            || (*context.cast::<pg_sys::CallContext>()).atomic
    };
    if atomic {
        return Err(Error::new(
            Kind::ActiveSqlTransaction,
            "tenancy.protect_schema_by_table() cannot run inside a transaction block",
        )
        .detail("It commits after each table.")
        .hint("CALL it by itself, or use tenancy.protect_schema(..), which is one transaction."));
    }
    Ok(())
}

/// The right to commit: a connection of SPI that is not atomic.
struct Transactions;

impl Transactions {
    fn begin() -> Result<Self> {
        // SAFETY: called from a procedure that was checked to be outside of a transaction block; an
        // error that unwinds past it has Postgres close the connection.
        let answer = unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as i32) };
        if answer != pg_sys::SPI_OK_CONNECT as i32 {
            return Err(Error::new(Kind::Internal, "could not connect to SPI"));
        }
        Ok(Self)
    }

    /// Runs `work` under a snapshot of its own and commits.
    fn each<T>(&self, work: impl FnOnce() -> T) -> T {
        // SAFETY: the snapshot that is pushed is popped before the commit, which wants no other left
        // than the portal's; an error unwinds to Postgres, which drops both.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
        let done = work();
        // SAFETY: as above; nothing of this extension holds memory or a lock of the transaction.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::SPI_commit();
        }
        done
    }

    fn end(self) {
        // SAFETY: closes what `begin` opened.
        unsafe { pg_sys::SPI_finish() };
    }
}
