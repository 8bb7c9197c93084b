//! The context that counts, and where it came from.
//!
//! Owns the words for it, and whether a statement fails for want of one.

use super::super::model::Command;
use super::super::needs::{CommandNeeds, Needs};
use super::super::subtransaction::{attempt_reading, sqlstate};
use super::Line;
use crate::binding::{self, Binding};
use crate::context::claims::Claims;
use crate::context::model::{Resolved, Standing};
use crate::context::setting::Setting;
use crate::context::{questions, resolve};
use crate::error::Result;
use crate::gucs::{self, MissingContext};
use crate::hooks;

/// The context in words, as it counts now, and why a statement fails for want of one.
pub struct Context {
    /// A line each for user, tenant and roles.
    pub lines: Vec<Line>,
    /// SQLSTATE and message of the error with which a statement starts, where it does.
    pub missing: Option<String>,
}

/// Where the parts of the context come from: an argument, or settings of the session.
#[derive(Clone, Copy)]
pub enum Origin {
    /// The arguments `user_id` and `tenant_id`.
    Arguments,
    /// The session.
    Session,
}

/// Resolves the context and says what a command with those needs makes of it.
pub fn of(origin: Origin, needs: Option<Needs>) -> Result<Context> {
    let Some(binding) = binding::current()? else {
        return Ok(Context {
            lines: vec![Line::new(
                "context",
                "none",
                "this database does not say where identity and membership live: call tenancy.bind()"
                    .to_owned(),
            )],
            missing: needs
                .filter(|needs| *needs != Needs::default())
                .map(|_| "42501: no tenant context".to_owned()),
        });
    };
    let resolved = match attempt_reading(resolve::current) {
        Ok(resolved) => resolved,
        Err(failure) => {
            let told = format!("{}: {}", sqlstate(failure.code), failure.message);
            return Ok(Context {
                lines: vec![Line::new("context", "error", failure.sentence())],
                missing: needs
                    .filter(|needs| *needs != Needs::default())
                    .map(|_| told),
            });
        }
    };
    let missing = match needs {
        Some(needs) if gucs::missing_context() == MissingContext::Error => {
            hooks::require(needs).err().map(|error| {
                let hint = error.hint_text().unwrap_or_default();
                format!("42501: {}. {hint}", error.message())
            })
        }
        _ => None,
    };
    Ok(Context {
        lines: lines(&binding, &resolved, origin),
        missing,
    })
}

/// What the statement of a command needs: what is found by its key is read.
pub fn needs(template: &str, options: &str, command: Command) -> Needs {
    let needs = CommandNeeds::of_row(template, options);
    match command {
        Command::Insert => needs.insert,
        Command::Update => needs.update.and(needs.select),
        Command::Delete => needs.delete.and(needs.select),
        Command::Select | Command::All => needs.select,
    }
}

fn lines(binding: &Binding, resolved: &Resolved, origin: Origin) -> Vec<Line> {
    let user = match &resolved.user {
        Some(user) => Line::new("context: user", user, user_source(binding, origin)),
        None => Line::new("context: user", "none", "no user is given".to_owned()),
    };
    let chosen = tenant_source(binding, origin);
    let by_service = of_setting(&binding.settings.service);
    let tenant = match &resolved.standing {
        Standing::Tenant(tenant) => Line::new(
            "context: tenant",
            &tenant.to_string(),
            match (chosen, binding.membership_query.is_some()) {
                _ if resolved.service => {
                    format!("tenancy.as_tenant(): {}", by_service.unwrap_or_default())
                }
                (Some(source), false) => {
                    format!("{source}; no membership table is bound, so it is trusted")
                }
                (Some(source), true) => format!("{source}; the user is a member of it"),
                (None, _) => "by default: the only active membership of the user".to_owned(),
            },
        ),
        Standing::Ambiguous(count) => Line::new(
            "context: tenant",
            "none",
            format!("the user has {count} active memberships and none is chosen"),
        ),
        Standing::Missing(_) => {
            let error = resolve::missing_context(resolved);
            let why = error.detail_text().unwrap_or_default();
            Line::new(
                "context: tenant",
                "none",
                match chosen {
                    Some(source) => format!("{source}. {why}"),
                    None => why.to_owned(),
                },
            )
        }
    };
    let mut rights = Vec::new();
    if resolved.tenant().is_some() {
        if questions::is_tenant_admin(resolved, binding) {
            rights.push("a tenant admin");
        }
        if resolved.has_role_in(&binding.super_admin_roles) {
            rights.push("a super admin");
        }
    }
    let roles: Vec<&str> = resolved.roles.iter().map(AsRef::as_ref).collect();
    let roles = Line::new(
        "context: role",
        if roles.is_empty() {
            "none".to_owned()
        } else {
            roles.join(", ")
        }
        .as_str(),
        if rights.is_empty() {
            "no admin".to_owned()
        } else {
            rights.join(", ")
        },
    );
    vec![user, tenant, roles]
}

fn user_source(binding: &Binding, origin: Origin) -> String {
    if let Origin::Arguments = origin {
        return "argument user_id".to_owned();
    }
    let claims = binding.settings.claims.as_ref();
    let claim = claims.and_then(|setting| claimed(setting, &binding.user_claim));
    let named = of_setting(&binding.settings.user);
    [claim, named]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}

fn tenant_source(binding: &Binding, origin: Origin) -> Option<String> {
    let settings = &binding.settings;
    let named = settings
        .tenant
        .iter()
        .find(|setting| setting.value().is_some());
    if let Origin::Arguments = origin {
        return named.map(|_| "argument tenant_id".to_owned());
    }
    let claims = settings
        .claims
        .as_ref()
        .zip(binding.tenant_claim.as_deref());
    claims
        .and_then(|(setting, claim)| claimed(setting, claim))
        .or_else(|| named.and_then(of_setting))
}

fn of_setting(setting: &Setting) -> Option<String> {
    setting.value()?;
    Some(format!("setting {}, {}", setting.name(), scope(setting)))
}

fn claimed(setting: &Setting, claim: &str) -> Option<String> {
    let claims = Claims::parse(&setting.value()?).ok()?;
    claims.identifier(claim).ok().flatten()?;
    Some(format!(
        "claim \"{claim}\" of setting {}, {}",
        setting.name(),
        scope(setting)
    ))
}

fn scope(setting: &Setting) -> &'static str {
    if setting.is_set_by_statement() {
        "set by a statement of this session"
    } else {
        "brought by the connection"
    }
}
