//! The attacks on one table.
//!
//! Owns which there are and their order. Each write runs in a subtransaction of its own, and whether it
//! changed anything of the other tenant is asked of the rows themselves, past row security, never of what
//! the statement says it did.

use super::prey::{self, Copied, Party, Prey};
use super::rows::{self, Cursor, Found};
use super::run::{as_role, check_at_once, set_the_scene, tried, without_triggers};
use super::tables::{Belonging, Column, Target};
use super::verdict::{Attack, Finding, Verdict, is_kept_by_a_key, is_of_the_harness, of_error};
use super::{Told, Work, links, reading};
use crate::error::Result;
use crate::policy::quoted;
use crate::policy::subtransaction::{Failure, sqlstate};

/// How many rows of the other tenant are attacked one by one.
const ROWS: usize = 10;

/// Attacks a table in every way.
pub fn table(work: &Work<'_>, target: &Target) -> Vec<Finding> {
    let told = Told::new(&target.table.schema, &target.table.name);
    if !target.table.may_anything {
        let detail = "the role has no privilege on it";
        return vec![told.finding("all", Verdict::Refused, Some(detail), Some("42501"))];
    }
    let party = match &target.belonging {
        Belonging::Nobody {
            tenant_admins_write: true,
        } => work.cast.plain.as_ref(),
        _ => Some(&work.cast.actor),
    };
    let Some(party) = party else {
        let detail = "admins of tenants may write it, and the tenant has no other user";
        return vec![told.finding("all", Verdict::NotAttacked, Some(detail), None)];
    };
    let mut findings = tried(|| {
        set_the_scene();
        work.cast.place(party)?;
        check_at_once()?;
        in_scene(work, target, party, &told)
    })
    .unwrap_or_else(|failure| vec![told.failed("all", &failure)]);
    findings.push(truncate(target, &told));
    findings
}

fn in_scene(work: &Work<'_>, target: &Target, party: &Party, told: &Told) -> Result<Vec<Finding>> {
    let prey = match rows::find(work, target)? {
        Found::Prey(prey) => prey,
        Found::CannotBe(why) => {
            return Ok(vec![told.finding(
                "all",
                Verdict::Nothing,
                Some(&why),
                None,
            )]);
        }
        Found::None(why) => {
            return Ok(vec![told.finding(
                "all",
                Verdict::NotAttacked,
                Some(&why),
                None,
            )]);
        }
    };
    let mut findings = Vec::new();
    let belongs = !matches!(target.belonging, Belonging::Nobody { .. });
    if belongs {
        findings.push(reading::select(work, target, &prey, told)?);
        findings.extend(reading::pretending(work, target, &prey, told)?);
    }
    findings.push(insert(work, target, &prey, "insert", told)?);
    let own = rows::own(work, target, party)?;
    let marks = match &own {
        Found::Prey(own) => own.marks.as_slice(),
        _ => &[],
    };
    findings.extend(one_by_one(work, target, &prey, marks, "", told)?);
    match own {
        _ if !belongs => {}
        Found::Prey(own) if !own.marks.is_empty() && !prey.marks.is_empty() => {
            findings.push(move_away(work, target, &own, &prey, told)?);
            findings.extend(upserts(work, target, &own, &prey, told)?);
            findings.extend(links::all(work, target, &own, told)?);
        }
        Found::CannotBe(why) => {
            findings.push(told.finding("move", Verdict::Nothing, Some(&why), None));
        }
        Found::Prey(_) => {
            let why = "there is no row that another could be moved to";
            findings.push(told.finding("move", Verdict::NotAttacked, Some(why), None));
        }
        Found::None(why) => {
            let why = format!("no row of one's own: {why}");
            findings.push(told.finding("move", Verdict::NotAttacked, Some(&why), None));
        }
    }
    if let (true, Belonging::Tenant(column), Some(platform)) =
        (target.shared, &target.belonging, &work.cast.platform)
    {
        let shared = Prey::of_tenant(column, platform);
        if prey::fingerprint(target, &shared.condition)?.0 > 0 {
            findings.push(insert(work, target, &shared, "insert shared row", told)?);
            findings.extend(one_by_one(work, target, &shared, &[], " shared row", told)?);
        }
    }
    Ok(findings)
}

/// TRUNCATE knows no rows: whether it is granted decides, and running it would lock the table.
fn truncate(target: &Target, told: &Told) -> Finding {
    if target.table.may_truncate {
        let detail = "TRUNCATE is granted, which no policy holds back; it was not run, because it locks the table";
        told.finding("truncate", Verdict::Leak, Some(detail), None)
    } else if target.table.owned {
        let detail =
            "the role has the rights of the owner, who grants himself TRUNCATE and drops policies";
        told.finding("truncate", Verdict::Leak, Some(detail), None)
    } else {
        let detail = "TRUNCATE is not granted";
        told.finding("truncate", Verdict::Refused, Some(detail), Some("42501"))
    }
}

/// Runs one write as the role; the verdict by whether rows of the prey changed. Where triggers or rules may
/// have stood in the way, what policies and privileges do is asked without them: only those are isolation.
pub fn write(
    work: &Work<'_>,
    target: &Target,
    prey: &Prey,
    attack: Attack<'_>,
    prepare: impl Fn() -> Result<bool>,
    sql: &str,
) -> Result<Met> {
    Ok(judged(target, |triggers| {
        once(work, target, prey, attack, &prepare, sql, triggers).0
    }))
}

/// The same for a statement that a cursor has name one row of the prey: what it touched is that row, also where
/// somebody else has changed it since the call began, which the snapshot does not show.
fn write_named(
    work: &Work<'_>,
    target: &Target,
    prey: &Prey,
    attack: Attack<'_>,
    sql: &str,
) -> Met {
    judged(target, |triggers| {
        let (met, touched) = once(work, target, prey, attack, &|| Ok(true), sql, triggers);
        if met.verdict != Verdict::Nothing || touched == 0 {
            met
        } else if target.table.interferes {
            Met::not_attacked(
                "the statement touched a row that somebody else changed meanwhile, or a trigger or a rule wrote elsewhere",
            )
        } else {
            Met::leak(
                "a row of the other tenant was reached that somebody else changed meanwhile"
                    .to_owned(),
            )
        }
    })
}

/// What a write meets, given whether triggers act.
fn judged(target: &Target, once: impl Fn(bool) -> Met) -> Met {
    let met = once(true);
    if !(target.table.interferes && met.may_be_of_a_trigger()) {
        return met;
    }
    let alone = once(false);
    match alone.verdict {
        verdict if target.table.always_hides(verdict) => Met::not_attacked(
            "a trigger or a rule that always acts may have dropped or refused it: nothing is known of the policies",
        ),
        Verdict::Nothing | Verdict::Refused => alone,
        Verdict::NotAttacked if met.verdict == Verdict::NotAttacked => met,
        Verdict::Leak | Verdict::NotAttacked => Met::not_attacked(
            "a trigger or a rule of the table stood in the way, and no policy does without it",
        ),
    }
}

/// What one statement meets, and how many rows it says that it touched.
fn once(
    work: &Work<'_>,
    target: &Target,
    prey: &Prey,
    attack: Attack<'_>,
    prepare: &impl Fn() -> Result<bool>,
    sql: &str,
    triggers: bool,
) -> (Met, u64) {
    let met = tried(|| {
        if !prepare()? {
            return Ok(None);
        }
        let before = prey::fingerprint(target, &prey.condition)?;
        let touched = if triggers {
            as_role(work.role, sql)?.count
        } else {
            without_triggers(|| as_role(work.role, sql))?.count
        };
        let after = prey::fingerprint(target, &prey.condition)?;
        Ok(Some((before != after, touched)))
    });
    match met {
        Ok(Some((true, touched))) => (
            Met::leak(format!(
                "rows of the other tenant were changed; the statement says that it touched {touched}"
            )),
            touched,
        ),
        Ok(Some((false, touched))) => (Met::nothing(), touched),
        Ok(None) => (
            Met::not_attacked("the row was changed by somebody else meanwhile"),
            0,
        ),
        Err(failure) => (Met::failed(attack, &failure), 0),
    }
}

/// What one attack met.
#[derive(Debug, Clone)]
pub struct Met {
    pub verdict: Verdict,
    pub detail: Option<String>,
    pub sqlstate: Option<String>,
}

impl Met {
    pub fn leak(detail: String) -> Self {
        Self::of(Verdict::Leak, Some(detail))
    }

    pub fn nothing() -> Self {
        Self::of(Verdict::Nothing, None)
    }

    pub fn not_attacked(detail: &str) -> Self {
        Self::of(Verdict::NotAttacked, Some(detail.to_owned()))
    }

    fn of(verdict: Verdict, detail: Option<String>) -> Self {
        Self {
            verdict,
            detail,
            sqlstate: None,
        }
    }

    /// Whether a trigger may have had it end so, and not a policy: by dropping the write, or by an error of
    /// its own, or of what it runs.
    fn may_be_of_a_trigger(&self) -> bool {
        match self.sqlstate.as_deref() {
            None => self.verdict == Verdict::Nothing,
            Some("42501") => !self.detail.as_deref().is_some_and(is_of_the_harness),
            Some(_) => false,
        }
    }

    pub fn failed(attack: Attack<'_>, failure: &Failure) -> Self {
        let code = sqlstate(failure.code);
        let raised_by = failure.raised_by.as_deref();
        let (verdict, detail) = if is_kept_by_a_key(attack, &code, &failure.message, raised_by) {
            let detail = "a row of the other tenant was reached, and only a foreign key kept it";
            (Verdict::Leak, detail.to_owned())
        } else {
            (
                of_error(attack, &code, &failure.message, raised_by),
                failure.message.clone(),
            )
        };
        Self {
            verdict,
            detail: Some(detail),
            sqlstate: Some(code),
        }
    }

    /// Of several rows attacked in the same way: the worst.
    pub fn and(self, other: Self) -> Self {
        if self.verdict.worst(other.verdict) == self.verdict {
            self
        } else {
            other
        }
    }
}

/// Writes the other tenant's row anew: an exact copy, in the place of the one that was copied, so that
/// nothing but isolation can refuse it.
fn insert(
    work: &Work<'_>,
    target: &Target,
    prey: &Prey,
    attack: &str,
    told: &Told,
) -> Result<Finding> {
    let Some(row) = prey::copy(target, &prey.condition)? else {
        return Ok(told.finding(attack, Verdict::NotAttacked, Some("the row is gone"), None));
    };
    let sql = prey::insert(target, &rows::insertable(target, row.values.clone()));
    let met = write(
        work,
        target,
        prey,
        Attack::Rows,
        || row.take_away(target),
        &sql,
    )?;
    Ok(told.met(attack, met))
}

/// Changes, takes and deletes rows of the prey. Each is named by a cursor that an owner holds on it: the
/// statement reads no column, so that policies for SELECT do not stand in for those that are asked for.
fn one_by_one(
    work: &Work<'_>,
    target: &Target,
    prey: &Prey,
    own_marks: &[(String, String)],
    suffix: &str,
    told: &Told,
) -> Result<Vec<Finding>> {
    let table = target.table.sql();
    let row = prey::copy(target, &prey.condition)?;
    let mut attacks = Vec::new();
    if let Some((column, value)) = row.as_ref().and_then(|row| changeable(target, prey, row)) {
        let set = format!("UPDATE {table} SET {} = {value}", quoted(&column));
        attacks.push(("update", Attack::Rows, set));
    }
    attacks.push(("delete", Attack::Rows, format!("DELETE FROM {table}")));
    if !own_marks.is_empty() {
        let set = rows::updatable(target, own_marks.to_vec());
        let set = format!("UPDATE {table} SET {}", assignments(&set));
        attacks.push(("take", Attack::Move, set));
    }
    let mut met: Vec<Option<Met>> = vec![None; attacks.len()];
    let cursor = Cursor::open(target, &prey.condition)?;
    for _ in 0..ROWS {
        if !cursor.next()? {
            break;
        }
        for (place, (_, attack, sql)) in attacks.iter().enumerate() {
            let sql = format!("{sql} {}", cursor.condition());
            let one = write_named(work, target, prey, *attack, &sql);
            met[place] = Some(match met[place].take() {
                Some(before) => before.and(one),
                None => one,
            });
        }
    }
    cursor.close()?;
    let locked = || Met::not_attacked("all rows of the other tenant are locked by others");
    Ok(attacks
        .iter()
        .zip(met)
        .map(|((attack, ..), met)| {
            told.met(&format!("{attack}{suffix}"), met.unwrap_or_else(locked))
        })
        .collect())
}

/// A column to change, and a value that it has: rather one that nothing depends on, and one that the role
/// may change.
fn changeable(target: &Target, prey: &Prey, row: &Copied) -> Option<(String, String)> {
    let is_mark = |column: &Column| prey.marks.iter().any(|(name, _)| *name == column.name);
    let columns = target.table.columns.iter();
    let column = columns
        .filter(|column| !column.generated && !is_mark(column))
        .min_by_key(|column| (!column.may_update, column.unique, column.links))?;
    Some((column.name.clone(), row.value(&column.name)?.to_owned()))
}

/// `column = value`, as many as there are.
pub fn assignments(values: &[(String, String)]) -> String {
    let values: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{} = {value}", quoted(name)))
        .collect();
    values.join(", ")
}

/// Moves a row of one's own to the other tenant.
fn move_away(
    work: &Work<'_>,
    target: &Target,
    own: &Prey,
    prey: &Prey,
    told: &Told,
) -> Result<Finding> {
    let cursor = Cursor::open(target, &own.condition)?;
    if !cursor.next()? {
        cursor.close()?;
        let detail = "all rows of the tenant are locked by others";
        return Ok(told.finding("move", Verdict::NotAttacked, Some(detail), None));
    }
    let sql = format!(
        "UPDATE {} SET {} {}",
        target.table.sql(),
        assignments(&rows::updatable(target, prey.marks.clone())),
        cursor.condition()
    );
    // Where the tenant is the key, its row would be in the way.
    let in_the_way = target.table.unique_keys.iter().any(|key| {
        key.iter()
            .all(|column| prey.marks.iter().any(|(name, _)| name == column))
    });
    let row = prey::copy(target, &prey.condition)?.filter(|_| in_the_way);
    let prepare = || row.as_ref().map_or(Ok(true), |row| row.take_away(target));
    let met = write(work, target, prey, Attack::Move, prepare, &sql)?;
    cursor.close()?;
    Ok(told.met("move", met))
}

/// Writes a row of one's own with a key that a row of the other tenant has.
fn upserts(
    work: &Work<'_>,
    target: &Target,
    own: &Prey,
    prey: &Prey,
    told: &Told,
) -> Result<Vec<Finding>> {
    let Some(row) = prey::copy(target, &prey.condition)? else {
        return Ok(Vec::new());
    };
    let Some((column, _)) = changeable(target, prey, &row) else {
        return Ok(Vec::new());
    };
    let is_mark = |column: &String| own.marks.iter().any(|(name, _)| name == column);
    let key = target
        .table
        .unique_keys
        .iter()
        .find(|key| !key.iter().any(is_mark));
    let Some(key) = key else {
        return Ok(Vec::new());
    };
    let names: Vec<String> = key.iter().map(|name| quoted(name)).collect();
    let sql = format!(
        "{} ON CONFLICT ({}) DO UPDATE SET {column} = EXCLUDED.{column}",
        prey::insert(target, &rows::insertable(target, row.with(&own.marks))),
        names.join(", "),
        column = quoted(&column)
    );
    let met = write(work, target, prey, Attack::Upsert, || Ok(true), &sql)?;
    Ok(vec![told.met("upsert", met)])
}
