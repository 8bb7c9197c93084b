//! The background worker that writes the store to disk now and then.
//!
//! Owns nothing but the rhythm. Must never connect to a database.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::prelude::*;

use super::{file, memory};
use crate::gucs;

fn builder() -> BackgroundWorkerBuilder {
    BackgroundWorkerBuilder::new("pg_tenancy shadow")
        .set_type("pg_tenancy shadow")
        .set_library("pg_tenancy")
        .set_function("pg_tenancy_shadow_worker")
        // Standbys record too.
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(Duration::from_secs(5)))
        .enable_shmem_access(None)
}

/// With the server.
pub fn start_with_server() {
    builder().load();
}

/// For memory that was made just now. Without a worker, what is recorded lasts as long as the server.
pub fn start_now() {
    if builder().load_dynamic().is_err() {
        log!(
            "pg_tenancy: no background worker could be started: raise max_worker_processes, or what shadow mode records is lost when the server stops"
        );
    }
}

/// The worker's whole life.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_tenancy_shadow_worker(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    if !memory::attach() {
        return;
    }
    let (mut written, mut last) = (memory::changes(), Instant::now());
    loop {
        // Whatever else wakes a process up is no reason to write.
        let rest = gucs::shadow_flush_interval().saturating_sub(last.elapsed());
        let goes_on = BackgroundWorker::wait_latch(Some(rest));
        if BackgroundWorker::sighup_received() {
            // SAFETY: a worker reads the configuration when it is told to.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
        if goes_on && last.elapsed() < gucs::shadow_flush_interval() {
            continue;
        }
        last = Instant::now();
        let changes = memory::changes();
        if changes != written && file::write_out() {
            written = changes;
        }
        if !goes_on {
            return;
        }
    }
}
