//! Representations: what a request says, and how an answer looks.

pub(in crate::http) mod negotiate;
pub(in crate::http) mod problem;
pub(in crate::http) mod query;
pub(in crate::http) mod reply;
pub(in crate::http) mod request_body;
