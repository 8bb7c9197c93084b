//! From settings to a resolved context, through the cache.
//!
//! Owns the current context of the session and the memory its answers live in. Must never return a
//! context of an older generation, and must never let a lookup run inside another.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys::{self, Datum};

use super::hot::{self, Answers};
use super::identity::{TenantId, TenantType};
use super::model::{Asked, Missing, Resolved, Standing};
use super::{lookup, questions, service, validate};
use crate::binding::{self, Binding};
use crate::cache::{generation, store};
use crate::document;
use crate::error::{Error, Kind, Result};
use crate::gucs::{self, MissingContext};
use crate::pg_compat;

/// The context that counts, with the memory its answers point to.
struct Current {
    resolved: Rc<Resolved>,
    answers: Option<Rc<Answers>>,
}

/// A tenant, comparable within one transaction at the cost of a pointer. Not a tenant's name: it means
/// nothing once the transaction is over, and no query survives that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TenantMark(*const Answers);

/// What a query was started for, as far as its rows depend on it.
pub struct Mark {
    tenant: TenantMark,
    /// The user, his roles and memberships, where they matter too.
    identity: Option<Rc<Resolved>>,
}

impl Mark {
    /// Whether that is the current context, if it is known without asking.
    pub fn is_known(&self) -> bool {
        IS_CURRENT.get()
            && CURRENT.with_borrow(|current| {
                current.as_deref().is_some_and(|current| {
                    current.mark() == self.tenant
                        && self
                            .identity
                            .as_ref()
                            .is_none_or(|identity| Rc::ptr_eq(identity, &current.resolved))
                })
            })
    }

    /// Whether that is the current context; the identity counts where it was noted and is asked for.
    pub fn is_current(&self, with_identity: bool) -> Result<bool> {
        let now = mark(true)?;
        let identity = self.identity.as_ref().filter(|_| with_identity);
        Ok(now.tenant == self.tenant
            && identity.is_none_or(|identity| now.identity.as_ref() == Some(identity)))
    }
}

impl Current {
    fn mark(&self) -> TenantMark {
        TenantMark(self.answers.as_ref().map_or(core::ptr::null(), Rc::as_ptr))
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Current>>> = const { RefCell::new(None) };
    /// The answers of every tenant that counted in the transaction: the executor may still point to
    /// them. One for a tenant, however often the context goes back and forth.
    static ANSWERS: RefCell<HashMap<TenantId, Rc<Answers>>> = RefCell::new(HashMap::new());
    static IS_CURRENT: Cell<bool> = const { Cell::new(false) };
    /// The current context must not outlive the statement: it could not be cached.
    static STATEMENT_ONLY: Cell<bool> = const { Cell::new(false) };
    static RESOLVING: Cell<bool> = const { Cell::new(false) };
}

/// Marks the current context as out of date. Only writes flags: called from callbacks.
pub fn forget() {
    IS_CURRENT.set(false);
}

/// Whether a lookup is under way: its own statements must not be judged.
pub fn is_resolving() -> bool {
    RESOLVING.get()
}

/// Called as each statement starts: what could be kept for one statement only is over.
pub fn start_statement(parallel: bool) {
    service::start_statement();
    if STATEMENT_ONLY.get() || parallel {
        hot::forget();
        STATEMENT_ONLY.set(false);
    }
}

/// Called when a transaction is over: nothing points into its contexts any more. The next
/// transaction resolves again, which is where leftovers of this one would show.
pub fn end_transaction(committed: bool) {
    if !(committed && belongs_to_the_connection()) {
        hot::forget();
    }
    STATEMENT_ONLY.set(false);
    generation::end_transaction();
    document::end_transaction();
    // SAFETY: a plain read of the backend's state.
    if !unsafe { pg_sys::ActivePortal }.is_null() {
        // A procedure committed and goes on: its arguments may still point to answers.
        return;
    }
    // A context that goes on keeps its tenant's answers and no others.
    hot::forget_questions();
    questions::end_transaction();
    let kept = CURRENT.with_borrow(Clone::clone);
    let kept = kept.as_ref().and_then(|current| current.answers.as_ref());
    ANSWERS.with_borrow_mut(|answers| {
        if answers.len() > 1 {
            answers.retain(|_, answer| kept.is_some_and(|kept| Rc::ptr_eq(kept, answer)));
            answers.shrink_to(16);
        }
    });
}

/// Whether the next transaction would resolve to the very same: the connection brought the context, so
/// that there is nothing to be left over, and it was looked up as if for every transaction.
fn belongs_to_the_connection() -> bool {
    IS_CURRENT.get()
        && hot::has_tenant()
        && !STATEMENT_ONLY.get()
        && !pg_compat::one_snapshot_per_transaction()
        && binding::known().is_some_and(|binding| binding.settings.are_of_the_connection())
}

/// The current context as a query is started for it; `with_identity` where more than the tenant
/// matters.
pub fn mark(with_identity: bool) -> Result<Mark> {
    let resolved = current()?;
    let tenant = CURRENT.with_borrow(|current| {
        current
            .as_deref()
            .map_or(TenantMark(core::ptr::null()), Current::mark)
    });
    Ok(Mark {
        tenant,
        identity: with_identity.then_some(resolved),
    })
}

/// Whether that is still the current context.
pub fn is_current(resolved: &Rc<Resolved>) -> bool {
    IS_CURRENT.get()
        && CURRENT.with_borrow(|current| {
            current
                .as_deref()
                .is_some_and(|current| Rc::ptr_eq(&current.resolved, resolved))
        })
}

/// The context, if it is known without asking.
pub fn known() -> Option<Rc<Resolved>> {
    let current = CURRENT.with_borrow(Clone::clone)?;
    IS_CURRENT.get().then(|| current.resolved.clone())
}

/// The context, whatever it is.
pub fn current() -> Result<Rc<Resolved>> {
    if IS_CURRENT.get()
        && let Some(current) = CURRENT.with_borrow(Clone::clone)
    {
        return Ok(current.resolved.clone());
    }
    let _resolving = Resolving::start()?;
    let (resolved, keep) = match adopted()? {
        None => not_bound(),
        Some(binding) => resolve(binding)?,
    };
    make_current(resolved.clone(), keep);
    Ok(resolved)
}

/// The context as it was before that command of this transaction, past any cache: whoever writes
/// identity data is judged by what he was, never by what he writes.
pub fn before(binding: &Binding, command: pg_sys::CommandId) -> Result<Resolved> {
    let _resolving = Resolving::start()?;
    binding.settings.adopt();
    let asked = validate::asked(binding)?;
    lookup::look_up(binding, &asked, lookup::Snapshot::Before(command))
}

/// The context; several tenants without a choice are an error.
pub fn current_or_ambiguous() -> Result<Rc<Resolved>> {
    let resolved = current()?;
    match resolved.standing {
        Standing::Ambiguous(_) => Err(missing_context(&resolved)),
        _ => Ok(resolved),
    }
}

/// The context for a policy: without a tenant an error, or nothing under `deny`.
pub fn current_for_policy() -> Result<Rc<Resolved>> {
    let resolved = current()?;
    if resolved.tenant().is_none() && gucs::missing_context() == MissingContext::Error {
        return Err(missing_context(&resolved));
    }
    Ok(resolved)
}

/// Fails where no user is set, however many tenants he has.
pub fn require_user(resolved: &Resolved) -> Result<()> {
    if resolved.user.is_some() {
        return Ok(());
    }
    let settings: Vec<String> = match binding::current()? {
        Some(binding) => {
            let claims = binding.claims_setting.iter().cloned();
            claims.chain([binding.user_setting.clone()]).collect()
        }
        None => return Err(missing_context(resolved)),
    };
    let example = settings.first().cloned().unwrap_or_default();
    Err(Error::new(Kind::InsufficientPrivilege, "no user context")
        .detail(format!(
            "{} is not set in this transaction.",
            settings.join(" or ")
        ))
        .hint(format!(
            "Set it for the transaction: SET LOCAL {example} = '...'."
        )))
}

/// Fails where neither a user is set nor a tenant that is trusted without one.
pub fn require_anyone(resolved: &Resolved) -> Result<()> {
    if resolved.user.is_some() || resolved.tenant().is_some() {
        return Ok(());
    }
    Err(missing_context(resolved))
}

/// The tenant as a datum of that type; call after the context was resolved with a tenant.
pub fn datum(wanted: TenantType) -> Result<Datum> {
    let current = CURRENT.with_borrow(Clone::clone);
    let answer = current
        .as_ref()
        .and_then(|current| current.answers.as_ref()?.datum(wanted));
    answer.ok_or_else(|| {
        let bound = binding::current()
            .ok()
            .flatten()
            .map_or("another type", |binding| binding.tenant_type.name());
        let function = match bound {
            "uuid" => "current_tenant_id()",
            "text" => "current_tenant_id_text()",
            _ => "current_tenant_id_bigint()",
        };
        Error::new(
            Kind::DatatypeMismatch,
            format!("tenants are of type {bound}, not {}", wanted.name()),
        )
        .hint(format!("Call {function}."))
    })
}

/// Prepares for workers, which get the bare values of the settings and can judge none of them.
pub fn start_parallel_statement() -> Result<()> {
    if let Some(binding) = binding::current()? {
        binding.settings.adopt();
    }
    Ok(())
}

/// How long a context may count without being looked at again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Statement,
    Transaction,
}

fn make_current(resolved: Rc<Resolved>, keep: Keep) {
    let same = CURRENT
        .with_borrow(Clone::clone)
        .filter(|current| Rc::ptr_eq(&current.resolved, &resolved) || current.resolved == resolved);
    let current = same.unwrap_or_else(|| {
        let answers = resolved.tenant().map(answers_of);
        Rc::new(Current { resolved, answers })
    });
    CURRENT.replace(Some(current.clone()));
    IS_CURRENT.set(true);
    STATEMENT_ONLY.set(keep == Keep::Statement);
    if let Some(answers) = &current.answers {
        answers.remember();
    }
}

/// The memory of a tenant's answers, which lives to the end of the transaction.
pub fn answers_of(tenant: &TenantId) -> Rc<Answers> {
    ANSWERS.with_borrow_mut(|answers| match answers.get(tenant) {
        Some(known) => known.clone(),
        None => {
            let new = Rc::new(Answers::new(tenant));
            answers.insert(tenant.clone(), new.clone());
            new
        }
    })
}

/// Makes the context current if it takes no more than the cache, and says whether that gave a tenant.
/// Never fails: who needs the context is told what is wrong with it by `current`.
pub fn recall() -> bool {
    let Ok(_resolving) = Resolving::start() else {
        return false;
    };
    let Ok(Some(binding)) = binding::current() else {
        return false;
    };
    binding.settings.adopt();
    let Ok(asked) = validate::asked(&binding) else {
        return false;
    };
    let Some(known) = cached(&binding, &asked) else {
        return false;
    };
    make_current(known, keep(&binding));
    hot::has_tenant()
}

/// The answer of an earlier lookup, where that may count.
fn cached(binding: &Binding, asked: &Asked) -> Option<Rc<Resolved>> {
    // SAFETY: a plain read of the backend's state.
    let parallel = pg_compat::in_parallel_worker() || unsafe { pg_sys::IsInParallelMode() };
    if parallel || !binding.is_cacheable() || generation::has_own_changes() {
        return None;
    }
    store::find(asked, generation::current())
}

/// How long what was cached or could be cached counts.
fn keep(binding: &Binding) -> Keep {
    if binding.settings.are_watched() {
        Keep::Transaction
    } else {
        Keep::Statement
    }
}

/// How often a lookup is repeated because identity data changed under it.
const ATTEMPTS: usize = 3;

fn resolve(mut binding: Rc<Binding>) -> Result<(Rc<Resolved>, Keep)> {
    let mut judged_in = generation::current();
    let mut asked = validate::asked(&binding)?;
    if let Some(nobody) = nobody(&asked) {
        return Ok((nobody, keep(&binding)));
    }
    if let Some(known) = cached(&binding, &asked) {
        return Ok((known, keep(&binding)));
    }
    // A leader and its workers must agree: all of them see what the statement's snapshot sees.
    // SAFETY: a plain read of the backend's state.
    let parallel = pg_compat::in_parallel_worker() || unsafe { pg_sys::IsInParallelMode() };
    let snapshot = if parallel {
        lookup::Snapshot::OfStatement
    } else {
        lookup::Snapshot::Fresh
    };
    let mut attempts = ATTEMPTS;
    loop {
        if !parallel {
            generation::accept_messages();
        }
        let before = generation::current();
        if before != judged_in || !binding::is_current(&binding) {
            // Who asks may be no service any more, and the lookup that of an earlier binding.
            match adopted()? {
                None => return Ok(not_bound()),
                Some(now) => binding = now,
            }
            judged_in = generation::current();
            asked = validate::asked(&binding)?;
            if let Some(nobody) = nobody(&asked) {
                return Ok((nobody, Keep::Statement));
            }
        }
        let resolved = Rc::new(lookup::look_up(&binding, &asked, snapshot)?);
        if !binding::is_current(&binding) || (!parallel && generation::current() != judged_in) {
            if attempts > 0 {
                attempts -= 1;
                continue;
            }
            // Identity data changes faster than it can be read: right for this statement, and no longer.
            return Ok((resolved, Keep::Statement));
        }
        if parallel || !binding.is_cacheable() || generation::has_own_changes() {
            return Ok((resolved, Keep::Statement));
        }
        if !pg_compat::one_snapshot_per_transaction() {
            store::insert(asked, resolved.clone(), judged_in, gucs::cache_entries());
        }
        return Ok((resolved, keep(&binding)));
    }
}

/// The binding, its settings made variables of ours.
fn adopted() -> Result<Option<Rc<Binding>>> {
    let binding = binding::current()?;
    if let Some(binding) = &binding {
        binding.settings.adopt();
    }
    Ok(binding)
}

fn not_bound() -> (Rc<Resolved>, Keep) {
    (
        Rc::new(Resolved::missing(Missing::NotBound)),
        Keep::Transaction,
    )
}

/// The context where nothing is asked for.
fn nobody(asked: &Asked) -> Option<Rc<Resolved>> {
    let nothing = asked.user.is_none() && asked.tenant.is_none();
    nothing.then(|| Rc::new(Resolved::missing(Missing::NothingSet)))
}

/// The error for a statement without a context, in words that help whoever reads the log.
pub fn missing_context(resolved: &Resolved) -> Error {
    let binding = binding::current().ok().flatten();
    let settings = binding
        .as_ref()
        .map(|binding| binding.setting_names())
        .unwrap_or_default();
    let tenant_setting = binding
        .as_ref()
        .and_then(|binding| binding.tenant_setting.clone());
    let example = settings
        .first()
        .cloned()
        .unwrap_or_else(|| "app.current_user_id".to_owned());
    let error = match &resolved.standing {
        Standing::Ambiguous(count) => {
            let error = Error::new(
                Kind::InsufficientPrivilege,
                "the user belongs to several tenants and none is chosen",
            )
            .detail(format!("The user has {count} active memberships."));
            return match tenant_setting {
                Some(name) => error.hint(format!(
                    "Set {name} for the transaction: SET LOCAL {name} = '...'."
                )),
                None => error.hint(
                    "Bind a tenant_setting with tenancy.bind, and set it for the transaction.",
                ),
            };
        }
        Standing::Tenant(_) | Standing::Missing(_) => {
            Error::new(Kind::InsufficientPrivilege, "no tenant context")
        }
    };
    match &resolved.standing {
        Standing::Missing(Missing::NotBound) => error
            .detail("This database does not say where identity and membership live.")
            .hint("Call tenancy.bind() once as an administrator."),
        Standing::Missing(Missing::NoMembership) => error
            .detail("The current user has no active membership in any tenant.")
            .hint(format!(
                "Check the value of {example}, and that the user's membership is active."
            )),
        Standing::Missing(Missing::NotAMember) => error
            .detail("The current user has no active membership in the chosen tenant.")
            .hint("Choose a tenant of the user: user_tenant_ids() lists them."),
        Standing::Missing(Missing::InactiveTenant) => error
            .detail("The chosen tenant does not exist or is not active.")
            .hint(format!("Check the value of {example}.")),
        _ => error
            .detail(format!(
                "{} is not set in this transaction.",
                settings.join(" or ")
            ))
            .hint(format!(
                "Set it for the transaction: SET LOCAL {example} = '...'."
            )),
    }
}

/// Holds off a second lookup inside a lookup: an expression of the binding that asks for the context
/// would never end.
struct Resolving;

impl Resolving {
    fn start() -> Result<Self> {
        if RESOLVING.replace(true) {
            return Err(Error::new(
                Kind::ObjectNotInPrerequisiteState,
                "the tenant context was asked for while it is being resolved",
            )
            .hint("Do not call context functions in an expression given to tenancy.bind."));
        }
        Ok(Self)
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        RESOLVING.set(false);
    }
}
