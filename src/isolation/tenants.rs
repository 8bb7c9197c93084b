//! Who attacks whom: two tenants, and a user of each.
//!
//! Owns the choice, and setting the context for it. The attacker is the strongest that is bound: an admin
//! of the tenant where there is one, never a super admin, and no member of the other tenant.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::prey::Party;
use super::run::{read_as_owner, set_the_scene, tried};
use super::tables::{Belonging, Target};
use crate::binding::{self, Binding, Rank, TenantType};
use crate::catalog;
use crate::context::model::Resolved;
use crate::context::setting::SERVICE_SETTING;
use crate::context::{resolve, setting};
use crate::error::{Error, Kind, Result};
use crate::policy::subtransaction::attempt_reading;
use crate::policy::{literal, quoted};

/// How many tenants, and users of one, are looked at.
const TENANTS: usize = 50;
const USERS: usize = 200;
/// How many rows of a table are read to find tenants.
const ROWS: usize = 10_000;

/// Who attacks whom.
pub struct Cast {
    pub actor: Party,
    /// A user of the same tenant who is no admin; the actor himself where he is none.
    pub plain: Option<Party>,
    pub other: Party,
    /// All tenants of the actor.
    pub own: Vec<String>,
    /// The tenant whose rows are everybody's to read.
    pub platform: Option<String>,
    /// The table of tenants.
    pub tenants: Option<u32>,
    /// Settings that sessions of the role begin with.
    pub settings: Vec<(String, String)>,
    binding: Rc<Binding>,
}

impl Cast {
    /// Sets the context of a party for the rest of the subtransaction, and makes sure that it counts.
    pub fn place(&self, party: &Party) -> Result<()> {
        for (name, value) in &self.settings {
            setting::set_local(name, value);
        }
        resolved_as(&self.binding, party).map(drop)
    }

    /// Has the actor say that he is of the other tenant, for the rest of the subtransaction; whether that is
    /// only his word, because memberships say who he is.
    pub fn pretend(&self) -> bool {
        let pretended = Party {
            tenant: self.other.tenant.clone(),
            user: self.actor.user.clone(),
        };
        if self.binding.membership.is_none() {
            return false;
        }
        say(&self.binding, &pretended);
        true
    }

    /// What holds for a party's own row of the table of memberships, over the alias `t`.
    pub fn membership_of(&self, party: &Party, relation: pgrx::pg_sys::Oid) -> Option<String> {
        let table = self.binding.membership.as_ref()?;
        let column = quoted(&self.binding.membership_user);
        let is_his = format!("t.{column} = {}", literal(party.user.as_deref()?));
        (table.relation == relation).then_some(is_his)
    }

    /// The tables that say who is who.
    pub fn bound(&self) -> Vec<pgrx::pg_sys::Oid> {
        let binding = &self.binding;
        [&binding.membership, &binding.tenants, &binding.role_table]
            .into_iter()
            .flatten()
            .map(|table| table.relation)
            .collect()
    }

    /// Whether who is who is read from that table.
    pub fn binds(&self, relation: pgrx::pg_sys::Oid) -> bool {
        self.bound().contains(&relation)
    }
}

/// Chooses, among those that were named or all.
pub fn cast(tenant: Option<&str>, other: Option<&str>, targets: &[Target]) -> Result<Cast> {
    let binding = binding::required()?;
    let named = |text: Option<&str>| text.map(|text| canonical(&binding, text)).transpose();
    let (tenant, other) = (named(tenant)?, named(other)?);
    if tenant.is_some() && tenant == other {
        return Err(Error::new(
            Kind::InvalidParameterValue,
            "a tenant cannot be attacked by itself",
        )
        .hint("Name two tenants, or leave both out."));
    }
    let platform = binding.platform_tenant.clone();
    let mut known = match (&tenant, &other) {
        (Some(_), Some(_)) => Vec::new(),
        _ => by_coverage(&binding, targets, platform.as_deref())?,
    };
    invent(&binding, &mut known);
    let mut victims = other.clone().map_or_else(|| known.clone(), |one| vec![one]);
    if let (None, None, [first, second, ..]) = (&tenant, &other, known.as_slice()) {
        // The first attacks the second.
        victims = vec![second.clone(), first.clone()];
        victims.extend(known.iter().skip(2).cloned());
    }
    for victim in &victims {
        let attackers = tenant
            .clone()
            .map_or_else(|| known.clone(), |one| vec![one]);
        for attacker in attackers.iter().filter(|attacker| *attacker != victim) {
            if let Some(cast) = between(&binding, attacker, victim, targets)? {
                return Ok(cast);
            }
        }
    }
    Err(Error::new(
        Kind::ObjectNotInPrerequisiteState,
        "there is nothing to attack: no two tenants were found",
    )
    .detail("It takes two active tenants, and, where memberships are bound, a user of the first who is neither a member of the second nor a super admin.")
    .hint("Make two tenants for the test, and name them: tenancy.test_isolation(.., tenant => '..', other => '..')."))
}

fn canonical(binding: &Binding, text: &str) -> Result<String> {
    let id = binding.tenant_type.parse(text).map_err(|fault| {
        Error::new(
            Kind::InvalidTextRepresentation,
            format!("a tenant is not a well-formed {}", fault.type_name),
        )
        .hint("Give the identifier of a tenant, or leave the argument out.")
    })?;
    Ok(id.to_string())
}

/// Tenants, those with rows in most tables first.
fn by_coverage(
    binding: &Binding,
    targets: &[Target],
    platform: Option<&str>,
) -> Result<Vec<String>> {
    let mut known: Vec<(usize, String)> = Vec::new();
    let mut add = |found: Vec<String>| {
        for id in found {
            if platform != Some(&id) && !known.iter().any(|(_, other)| *other == id) {
                known.push((0, id));
            }
        }
    };
    if let Some(table) = &binding.tenants {
        let column = quoted(&binding.tenants_id);
        add(some(table.relation, table.owner, &column)?);
    } else if let Some(table) = &binding.membership {
        let column = quoted(&binding.membership_tenant);
        add(some(table.relation, table.owner, &column)?);
    } else {
        for target in targets {
            if let Belonging::Tenant(column) = &target.belonging {
                let column = quoted(column);
                let found =
                    attempt_reading(|| some(target.table.oid(), target.table.owner(), &column));
                // What cannot be read is told where it is attacked.
                add(found.unwrap_or_default());
            }
        }
    }
    known.truncate(TENANTS);
    let ids: Vec<String> = known.iter().map(|(_, id)| literal(id)).collect();
    for target in targets {
        let Belonging::Tenant(name) = &target.belonging else {
            continue;
        };
        let Some(column) = target.table.column(name) else {
            continue;
        };
        let sql = format!(
            "SELECT i.id::pg_catalog.text FROM pg_catalog.unnest(ARRAY[{}]::pg_catalog.text[]::{}[]) AS i(id)
             WHERE EXISTS (SELECT FROM {} AS t WHERE t.{} = i.id)",
            ids.join(", "),
            column.base_type,
            target.table.sql(),
            quoted(name)
        );
        // A column of another type than tenants have is none of theirs.
        if let Ok(answer) = attempt_reading(|| read_as_owner(target.table.owner(), &sql)) {
            for id in answer.column() {
                if let Some((covered, _)) = known.iter_mut().find(|(_, other)| *other == id) {
                    *covered += 1;
                }
            }
        }
    }
    known.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    Ok(known.into_iter().map(|(_, id)| id).collect())
}

/// Some values of a column.
fn some(
    relation: pgrx::pg_sys::Oid,
    owner: pgrx::pg_sys::Oid,
    column: &str,
) -> Result<Vec<String>> {
    let Some(name) = catalog::relation_name(relation) else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT DISTINCT s.id FROM (SELECT {} AS id FROM {name} AS t
         WHERE t.{column} IS NOT NULL LIMIT {ROWS}) AS s ORDER BY 1 LIMIT {TENANTS}",
        catalog::as_text(&format!("t.{column}"))
    );
    Ok(read_as_owner(owner, &sql)?.column())
}

/// Where a tenant is trusted as it is set, any two will do.
fn invent(binding: &Binding, known: &mut Vec<String>) {
    if binding.membership.is_some() || binding.tenants.is_some() {
        return;
    }
    for number in 1..=2 {
        if known.len() < 2 {
            known.push(match binding.tenant_type {
                TenantType::Uuid => format!("00000000-0000-4000-8000-00000000000{number}"),
                TenantType::Text => format!("tenancy-test-{number}"),
                TenantType::Bigint | TenantType::Integer => format!("214748364{number}"),
            });
        }
    }
}

/// The cast for two tenants; `None` where nobody can attack.
fn between(
    binding: &Rc<Binding>,
    tenant: &str,
    other: &str,
    targets: &[Target],
) -> Result<Option<Cast>> {
    let (users, victim) = match &binding.membership {
        Some(_) => (
            members(binding, tenant, other)?
                .into_iter()
                .map(Some)
                .collect(),
            members(binding, other, tenant)?.into_iter().next(),
        ),
        None => {
            let (user, victim) = users_of_rows(targets, tenant, other)?;
            (vec![user], victim)
        }
    };
    let (mut actor, mut plain): (Option<(Party, Resolved)>, Option<Party>) = (None, None);
    for user in users {
        let party = Party {
            tenant: tenant.to_owned(),
            user,
        };
        let Ok(resolved) = tried(|| {
            set_the_scene();
            resolved_as(binding, &party)
        }) else {
            continue;
        };
        let rank = resolved.roles.iter().map(|role| binding.rank(role)).max();
        match rank {
            Some(Rank::SuperAdmin) => continue,
            Some(Rank::Admin(_)) => actor = Some((party, resolved)),
            Some(Rank::Member) | None => {
                plain.get_or_insert_with(|| party.clone());
                actor.get_or_insert((party, resolved));
            }
        }
        let has_admin = actor
            .as_ref()
            .is_some_and(|(party, _)| plain.as_ref() != Some(party));
        if has_admin && plain.is_some() {
            break;
        }
    }
    Ok(actor.map(|(actor, resolved)| Cast {
        actor,
        plain,
        other: Party {
            tenant: other.to_owned(),
            user: victim,
        },
        own: resolved
            .memberships
            .iter()
            .map(|membership| membership.tenant.to_string())
            .collect(),
        platform: binding.platform_tenant.clone(),
        tenants: binding
            .tenants
            .as_ref()
            .map(|table| table.relation.to_u32()),
        settings: Vec::new(),
        binding: binding.clone(),
    }))
}

/// Users of one tenant who are not of the other, admins first.
fn members(binding: &Binding, tenant: &str, not_of: &str) -> Result<Vec<String>> {
    let Some(table) = &binding.membership else {
        return Ok(Vec::new());
    };
    let Some(name) = catalog::relation_name(table.relation) else {
        return Ok(Vec::new());
    };
    let admins = list(&binding.admin_roles);
    let user = quoted(&binding.membership_user);
    let of = quoted(&binding.membership_tenant);
    let mut order = String::new();
    if let Some(role) = &binding.membership_role {
        order = format!(
            "pg_catalog.bool_or(m.{}::pg_catalog.text = ANY ({admins})) DESC, ",
            quoted(role)
        );
    }
    if let Some(role_table) = &binding.role_table
        && let Some(role_name) = catalog::relation_name(role_table.relation)
    {
        let sql = format!(
            "SELECT r.{}::pg_catalog.text FROM {role_name} AS r WHERE r.{}::pg_catalog.text = ANY ({admins}) LIMIT {ROWS}",
            quoted(&binding.role_user),
            quoted(&binding.role_column)
        );
        let known = read_as_owner(role_table.owner, &sql)?.column();
        order.push_str(&format!(
            "m.{user}::pg_catalog.text = ANY ({}) DESC, ",
            list(&known)
        ));
    }
    let sql = format!(
        "SELECT m.{user}::pg_catalog.text FROM {name} AS m
         WHERE m.{of} = {} AND m.{user} IS NOT NULL
           AND NOT EXISTS (SELECT FROM {name} AS x WHERE x.{user} = m.{user} AND x.{of} = {})
         GROUP BY m.{user} ORDER BY {order}1 LIMIT {USERS}",
        literal(tenant),
        literal(not_of)
    );
    Ok(read_as_owner(table.owner, &sql)?.column())
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| literal(value)).collect();
    format!("ARRAY[{}]::pg_catalog.text[]", values.join(", "))
}

/// Users that rows of users name, where no membership is bound: one to attack, one to be attacked.
fn users_of_rows(
    targets: &[Target],
    tenant: &str,
    other: &str,
) -> Result<(Option<String>, Option<String>)> {
    for target in targets {
        let Belonging::User { user, tenant: of } = &target.belonging else {
            continue;
        };
        let column = quoted(user);
        let one = |tenant: &str, not: Option<&str>| -> Result<Option<String>> {
            let mut sql = format!(
                "SELECT t.{column} FROM {} AS t WHERE t.{column} IS NOT NULL",
                target.table.sql()
            );
            if let Some(of) = of {
                sql.push_str(&format!(" AND t.{} = {}", quoted(of), literal(tenant)));
            }
            if let Some(not) = not {
                sql.push_str(&format!(" AND t.{column} <> {}", literal(not)));
            }
            sql.push_str(" LIMIT 1");
            Ok(read_as_owner(target.table.owner(), &sql)?.text())
        };
        let user = one(tenant, None)?;
        let victim = one(other, user.as_deref())?;
        if user.is_some() && victim.is_some() {
            return Ok((user, victim));
        }
    }
    Ok((None, None))
}

/// Places a context and resolves it; an error where it is not the party's.
fn resolved_as(binding: &Binding, party: &Party) -> Result<Resolved> {
    say(binding, party);
    let resolved = resolve::current()?;
    match resolved.tenant() {
        Some(tenant) if tenant.to_string() == party.tenant => Ok((*resolved).clone()),
        _ => Err(resolve::missing_context(&resolved)),
    }
}

/// Sets all that an application sets to say who asks.
fn say(binding: &Binding, party: &Party) {
    // A service's own word would count for more, and the caller may be one.
    let service = SERVICE_SETTING.to_owned();
    for name in binding.setting_names().into_iter().chain([service]) {
        setting::define(&name);
        setting::set_local(&name, "");
    }
    let user = party.user.as_deref();
    if let Some(user) = user {
        setting::set_local(&binding.user_setting, user);
    }
    if let Some(name) = &binding.tenant_setting {
        setting::set_local(name, &party.tenant);
    }
    if let Some(name) = &binding.claims_setting {
        let mut claims = Map::new();
        if let Some(user) = user {
            claim(&mut claims, &binding.user_claim, user);
        }
        if let Some(path) = &binding.tenant_claim {
            claim(&mut claims, path, &party.tenant);
        }
        setting::set_local(name, &Value::Object(claims).to_string());
    }
}

/// Writes a claim under its whole name and, where that is a path, along it.
fn claim(claims: &mut Map<String, Value>, name: &str, value: &str) {
    let mut parts: Vec<&str> = name.split('.').collect();
    let last = parts.pop().unwrap_or(name);
    let mut place = &mut *claims;
    for part in parts {
        let next = place
            .entry(part)
            .or_insert_with(|| Value::Object(Map::new()));
        match next {
            Value::Object(next) => place = next,
            _ => return,
        }
    }
    place.insert(last.to_owned(), value.into());
    claims.insert(name.to_owned(), value.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::claims::Claims;

    #[test]
    fn claims_are_found_under_their_names_and_paths() {
        let mut claims = Map::new();
        claim(&mut claims, "sub", "u");
        claim(&mut claims, "app.org.id", "t");
        let text = Value::Object(claims).to_string();
        let read = Claims::parse(&text).unwrap();
        assert_eq!(read.identifier("sub"), Ok(Some("u".into())));
        assert_eq!(read.identifier("app.org.id"), Ok(Some("t".into())));
        assert!(text.contains(r#""org":{"id":"t"}"#), "{text}");
    }
}
