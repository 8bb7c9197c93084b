//! Running executables made by `cargo test` and reading what libtest prints.
//!
//! Every test counts by its own line. Must never lose one: a process that dies or hangs is a
//! failure by itself, whatever it printed before, and an ignored test is one too.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::exec;
use crate::report::{Failure, Outcome};

/// Makes cargo print what `build` reads.
pub const MESSAGES: &str = "--message-format=json-render-diagnostics";

/// An executable with tests.
#[derive(Clone, Debug)]
pub struct Executable {
    pub name: String,
    pub path: PathBuf,
}

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Runs a cargo command that compiles tests and returns the executables it makes.
pub fn build(cargo: &mut Command) -> Result<Vec<Executable>> {
    let output = exec::finish(cargo)?;
    if !output.status.success() {
        bail!(
            "the tests do not build:\n{}",
            exec::tail(&output.stderr, 200)
        );
    }
    Ok(output.stdout.lines().filter_map(executable).collect())
}

fn executable(line: &str) -> Option<Executable> {
    let message: Message = serde_json::from_str(line).ok()?;
    let is_test = message.profile?.test;
    let path = message.executable?;
    let name = message.target?.name;
    is_test.then_some(Executable { name, path })
}

/// Runs one executable. Its output goes to files in `scratch`, so that it cannot block on us.
pub fn run(
    executable: &Executable,
    arguments: &[String],
    environment: &[(&str, String)],
    scratch: &Path,
    limit: Duration,
) -> Result<Outcome> {
    let place = |kind: &str| scratch.join(format!("{}.{kind}", executable.name));
    let (out, err) = (place("out"), place("err"));
    let mut command = Command::new(&executable.path);
    command
        .args(arguments)
        // Which assertion failed is in the message; a report of many failures has to stay legible.
        .env("RUST_BACKTRACE", "0")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?);
    die_with_us(&mut command);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot run {}", executable.path.display()))?;
    let status = wait(&mut child, limit)?;
    let read = |path: &Path| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
    let (stdout, stderr) = (read(&out)?, read(&err)?);
    let mut outcome = count(&stdout);
    for failure in &mut outcome.failures {
        failure.name = format!("{}: {}", executable.name, failure.name);
    }
    if let Some(problem) = broken(status, &stdout, &outcome) {
        outcome.failures.push(Failure {
            name: format!("{}: {problem}", executable.name),
            output: format!("{}\n{}", exec::tail(&stdout, 60), exec::tail(&stderr, 60)),
        });
    }
    Ok(outcome)
}

/// Has the kernel kill the process when this thread ends, which waits for it: tests that outlive
/// an interrupted run would start servers that nobody stops.
fn die_with_us(command: &mut Command) {
    // SAFETY: runs between fork and exec, where only async-signal-safe calls are allowed; prctl
    // is a plain system call and nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            Ok(nix::sys::prctl::set_pdeathsig(
                nix::sys::signal::Signal::SIGKILL,
            )?)
        });
    }
}

/// None when the limit was exceeded and the process had to be killed.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if since.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        sleep(Duration::from_millis(50));
    }
}

/// Why the process as a whole is a failure, beyond the tests that it reported.
fn broken(status: Option<ExitStatus>, stdout: &str, outcome: &Outcome) -> Option<String> {
    match status {
        None => Some("did not end in time".to_owned()),
        Some(_) if !stdout.contains("\ntest result: ") => {
            Some("died before its tests were through".to_owned())
        }
        Some(status) if !status.success() && outcome.failures.is_empty() => {
            Some(format!("ended with {status}"))
        }
        // Output that a test writes past libtest can tear its line apart.
        Some(_) if announced(stdout) != outcome.passed + outcome.failures.len() => {
            Some(format!("announced {} tests", announced(stdout)))
        }
        Some(_) => None,
    }
}

/// The number in `running 4 tests`.
fn announced(stdout: &str) -> usize {
    let line = stdout
        .lines()
        .find_map(|line| line.strip_prefix("running "));
    line.and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

/// Reads `test some::name ... ok` and the sections of the failed ones.
fn count(stdout: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in stdout.lines() {
        let Some((name, verdict)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            continue;
        };
        let name = name.trim_end_matches(" - should panic").to_owned();
        match verdict.split(',').next().unwrap_or(verdict).trim() {
            "ok" => outcome.passed += 1,
            "FAILED" => {
                let output = section(stdout, &name);
                outcome.failures.push(Failure { name, output });
            }
            ignored if ignored.starts_with("ignored") => {
                let output = "ignored tests count as failed".to_owned();
                outcome.failures.push(Failure { name, output });
            }
            _ => {}
        }
    }
    outcome
}

/// What a failed test printed.
fn section(stdout: &str, name: &str) -> String {
    let title = format!("---- {name} stdout ----");
    let Some((_, after)) = stdout.split_once(&title) else {
        return String::new();
    };
    let end = ["\n---- ", "\nfailures:\n"]
        .iter()
        .filter_map(|mark| after.find(mark))
        .min();
    after[..end.unwrap_or(after.len())].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\nrunning 4 tests\n\
        test a::passes ... ok\n\
        test b_panics - should panic ... ok\n\
        test c_fails ... FAILED\n\
        test d_waits ... ignored, too slow\n\n\
        failures:\n\n\
        ---- c_fails stdout ----\n\
        assertion failed\n\n\
        failures:\n    c_fails\n\n\
        test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n";

    #[test]
    fn every_test_counts_and_ignored_ones_as_failed() {
        let outcome = count(PRINTED);
        assert_eq!(outcome.passed, 2);
        let failed: Vec<_> = outcome
            .failures
            .iter()
            .map(|f| (f.name.as_str(), f.output.as_str()))
            .collect();
        assert_eq!(
            failed,
            [
                ("c_fails", "assertion failed"),
                ("d_waits", "ignored tests count as failed")
            ]
        );
    }

    #[test]
    fn a_process_that_dies_is_a_failure() {
        let died = "\nrunning 2 tests\ntest a ... ok\n";
        let outcome = count(died);
        assert_eq!(outcome.passed, 1);
        assert!(broken(Some(ExitStatus::default()), died, &outcome).is_some());
        assert!(broken(None, PRINTED, &outcome).is_some());
        assert!(broken(Some(ExitStatus::default()), PRINTED, &outcome).is_some());
        assert!(broken(Some(ExitStatus::default()), PRINTED, &count(PRINTED)).is_none());
    }

    #[test]
    fn a_failing_exit_status_without_a_failed_test_is_a_failure() {
        use std::os::unix::process::ExitStatusExt;
        let fine = "\nrunning 1 test\ntest a ... ok\n\ntest result: ok. 1 passed\n";
        let status = ExitStatus::from_raw(101 << 8);
        assert!(broken(Some(status), fine, &count(fine)).is_some());
        assert!(broken(Some(ExitStatus::default()), fine, &count(fine)).is_none());
    }
}
