//! The enforcer: what a HUMAN (formerly PerimeterX) Bot Defender enforcer decides and says.
//!
//! Bytes and values in, decisions and bytes out. No server, no sockets, no files, no clock (the
//! caller passes the time), no randomness (the caller passes the request id) and no logging.
//! The one door is [`enforce::begin`] and [`enforce::resume`]; everything else is a part of them
//! or a type they speak of.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        reason = "a test that is wrong is to panic"
    )
)]

mod activity;
mod additional_s2s;
pub mod agentic_trust;
mod anonymize;
pub mod base_url;
mod block_page;
mod body;
pub mod breaker;
pub mod client_ip;
pub mod cookies;
mod cors;
pub mod counters;
pub mod credentials;
pub mod crypto;
pub mod csp;
pub mod custom_parameters;
pub mod data_enrichment;
pub mod endpoints;
pub mod enforce;
mod extracted;
mod facts;
pub mod filter;
pub mod first_party;
pub mod graphql;
pub mod hooks;
mod json;
mod known_headers;
pub mod log_records;
pub mod metrics;
pub mod node;
pub mod policy;
pub mod reason;
pub mod remote_config;
mod report;
pub mod request;
mod risk;
pub mod routes;
pub mod score;
pub mod sealed;
pub mod snippet;
pub mod telemetry;
pub mod token;
pub mod token_cache;
pub mod token_memory;
pub mod url;
pub mod user_identifiers;
mod verdict;
pub mod visitor;

#[cfg(test)]
mod sample;
