//! The endpoints, one file each. A handler parses the request through extractors, asks the [view](crate::view), and
//! returns the answer.

pub(in crate::http) mod breadcrumbs;
pub(in crate::http) mod clients;
pub(in crate::http) mod collections;
pub(in crate::http) mod health;
pub(in crate::http) mod kv;
pub(in crate::http) mod openapi;
mod posted_records;
pub(in crate::http) mod status;
pub(in crate::http) mod stream;
pub(in crate::http) mod write;
mod wrong;
