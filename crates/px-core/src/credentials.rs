//! Credential Intelligence: logins among the requests, their credentials as hashes, and whether the
//! origin let them in.
//!
//! Source: credential-intelligence.md. What a visitor typed lives as long as it takes to hash it, and
//! is wiped then; only the user name may be reported as it is, where the operator or the protocol
//! says so.

mod endpoint;
mod extraction;
mod file;
mod hashing;
mod login;

pub use endpoint::{Endpoint, EndpointPath, Endpoints, SentThrough};
pub use extraction::{Raw, extract};
pub use hashing::{CiVersion, Credentials, Protocol, SsoStep, hashed};
pub use login::{BodyRegex, LoginMethod, LoginOptions, LoginOverrides, LoginRule};
