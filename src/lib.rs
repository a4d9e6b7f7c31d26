//! crumbd
pub mod cache;
pub mod ingest;
pub mod model;
pub mod trail;
pub mod wire;
