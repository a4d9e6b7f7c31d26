//! Representations: parsing of requests, and the form of answers.

pub(in crate::http) mod conditions;
pub(in crate::http) mod excluded_identity;
pub(in crate::http) mod key_address;
pub(in crate::http) mod negotiate;
pub(in crate::http) mod problem;
pub(in crate::http) mod query;
pub(in crate::http) mod relay;
pub(in crate::http) mod reply;
pub(in crate::http) mod request_body;
