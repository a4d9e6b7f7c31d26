//! crumbd
pub mod cache;
pub mod cli;
pub mod client;
pub mod feed;
pub mod http;
pub mod ingest;
pub mod model;
pub mod trail;
pub mod view;
pub mod wire;
