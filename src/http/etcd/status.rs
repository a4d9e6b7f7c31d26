//! The errors of etcd, in its words: clients compare the texts.

use axum::http::header::RETRY_AFTER;
use tonic::{Code, Status};

use crate::http::rep::problem::Problem;
use crate::view::etcd::{NotLinear, RangeError};
use crate::view::{OverBudget, ViewError};

pub(super) fn empty_key() -> Status {
    Status::invalid_argument("etcdserver: key is not provided")
}

pub(super) fn invalid_sort_option() -> Status {
    Status::invalid_argument("etcdserver: invalid sort option")
}

pub(super) fn unknown_comparison() -> Status {
    Status::invalid_argument("crumbd: a comparison has an unknown result or target")
}

pub(super) fn compacted() -> Status {
    Status::out_of_range("etcdserver: mvcc: required revision has been compacted")
}

pub(super) fn future_revision() -> Status {
    Status::out_of_range("etcdserver: mvcc: required revision is a future revision")
}

pub(super) fn permission_denied() -> Status {
    Status::permission_denied("etcdserver: permission denied")
}

pub(super) fn no_user() -> Status {
    Status::invalid_argument("etcdserver: user name is empty")
}

pub(super) fn invalid_token() -> Status {
    Status::unauthenticated("etcdserver: invalid auth token")
}

/// A call that changes something, where it cannot be done.
pub(super) fn impossible(what: &str, why: &str) -> Status {
    Status::permission_denied(format!("crumbd: {what} is not possible here: {why}"))
}

/// A call that this daemon has nothing for.
pub(super) fn not_served(what: &str, instead: &str) -> Status {
    Status::permission_denied(format!("crumbd: {what} is not served here: {instead}"))
}

/// The daemon is stopping, or has nothing to serve yet. Clients try again, with another endpoint if they have one.
pub(super) fn unavailable(why: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("crumbd: {why}"))
}

impl From<NotLinear> for Status {
    fn from(why: NotLinear) -> Self {
        unavailable(format!(
            "{why}; a serializable read (etcdctl get --consistency=s) is answered from this daemon's memory"
        ))
    }
}

impl From<RangeError> for Status {
    fn from(error: RangeError) -> Self {
        match error {
            RangeError::Compacted => compacted(),
            RangeError::Awaited => unavailable(error),
            RangeError::View(error) => of_view(&error),
        }
    }
}

/// There is no room for an answer.
pub(super) fn over_budget(error: OverBudget) -> Status {
    Status::resource_exhausted(format!("crumbd: {}", ViewError::OverBudget(error)))
}

pub(super) fn of_view(error: &ViewError) -> Status {
    match error {
        ViewError::OverBudget(full) => over_budget(full.clone()),
        _ => unavailable(error),
    }
}

/// A problem of the HTTP interface as a status.
pub(super) fn of_problem(problem: &Problem) -> Status {
    let code = match problem.status() {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 | 421 => Code::PermissionDenied,
        404 => Code::NotFound,
        413 | 429 => Code::ResourceExhausted,
        _ => Code::Unavailable,
    };
    let mut status = Status::new(code, format!("crumbd: {}", problem.detail()));
    if let Some(seconds) = problem.retry_after() {
        status.metadata_mut().insert(RETRY_AFTER.as_str(), seconds.into());
    }
    status
}
