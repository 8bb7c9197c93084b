//! System packages, by apt.
//!
//! Owns the list of what each step needs. Installs only what is missing, and must never let a
//! package start a service: a machine's administrator did not ask for one.

use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result};

use crate::progress::step;
use crate::{exec, user};

/// A step that needs packages.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Compiling the extension: pgrx reads Postgres's headers with libclang.
    BuildExtension,
    /// Fetching a wheel.
    FetchWheel,
    /// Fetching and compiling Postgres's source.
    BuildPostgres,
    /// The pooler that the tests run against.
    Pooler,
    /// Running an application's code in Python and JavaScript.
    Drivers,
    /// Looking at a page.
    Browser,
}

impl Need {
    fn packages(self) -> &'static [&'static str] {
        match self {
            Need::BuildExtension => &[
                "gcc",
                "libc6-dev",
                "make",
                "clang",
                "libclang-dev",
                "pkg-config",
                "libssl-dev",
            ],
            Need::FetchWheel => &["python3", "python3-pip"],
            Need::BuildPostgres => &[
                "gcc",
                "libc6-dev",
                "make",
                "bison",
                "flex",
                "perl",
                "pkg-config",
                "dpkg-dev",
                "bzip2",
                "xz-utils",
                "libreadline-dev",
                "zlib1g-dev",
                "libssl-dev",
                "libicu-dev",
            ],
            Need::Pooler => &["pgbouncer"],
            Need::Browser => &["chromium-headless-shell", "fonts-dejavu-core"],
            Need::Drivers if has_node() => &["python3", "python3-venv"],
            Need::Drivers => &["python3", "python3-venv", "nodejs", "npm"],
        }
    }
}

/// Installs what is missing for a step.
pub fn ensure(need: Need) -> Result<()> {
    if matches!(need, Need::FetchWheel) && has_pip() {
        return Ok(()); // whichever Python it belongs to
    }
    install(need.packages()).with_context(|| format!("needed for {need:?}"))
}

/// Installs what is missing of these packages.
pub fn install(packages: &[&str]) -> Result<()> {
    // apt's own lock makes a second apt-get fail instead of wait.
    static ONE_AT_A_TIME: Mutex<bool> = Mutex::new(false);
    let mut updated = ONE_AT_A_TIME.lock().expect("installing does not panic");
    let missing: Vec<&str> = packages.iter().copied().filter(|p| !installed(p)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !*updated {
        update()?;
        *updated = true;
    }
    step("system", format!("installing {}", missing.join(" ")));
    exec::run(
        user::as_root("sh")
            .args(["-c", INSTALL, "sh"])
            .args(&missing),
    )
    .map(drop)
}

/// Refreshes apt's lists.
pub fn update() -> Result<()> {
    step("system", "apt-get update");
    exec::run(user::as_root("apt-get").args(["-o", "DPkg::Lock::Timeout=120", "update"])).map(drop)
}

fn installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Status}", package]);
    exec::run(&mut query).is_ok_and(|status| status.trim() == "installed")
}

/// Node.js often comes from elsewhere than the distribution, whose npm would not go with it.
fn has_node() -> bool {
    ["node", "npm"]
        .iter()
        .all(|program| exec::run(Command::new(program).arg("--version")).is_ok())
}

fn has_pip() -> bool {
    exec::run(Command::new("python3").args(["-m", "pip", "--version"])).is_ok()
}

/// `policy-rc.d` is how Debian lets one keep packages from starting their services, and
/// `createcluster.d` how one keeps Postgres's from creating a cluster on the default port. Both
/// are taken away again; what was there before is not touched.
const INSTALL: &str = r#"
set -e
export DEBIAN_FRONTEND=noninteractive
made=
trap 'rm -f $made' EXIT
if [ ! -e /usr/sbin/policy-rc.d ]; then
    made="$made /usr/sbin/policy-rc.d"
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
mkdir -p /etc/postgresql-common/createcluster.d
if [ ! -e /etc/postgresql-common/createcluster.d/pg_tenancy.conf ]; then
    made="$made /etc/postgresql-common/createcluster.d/pg_tenancy.conf"
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/pg_tenancy.conf
fi
apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "$@"
"#;
