//! The operator's tool for the px module, as a library.
//!
//! [`convert`] turns configurations of HUMAN's other enforcers into `px_*` directives, and
//! [`check`] explains the `px_*` directives of an nginx configuration. Which directives there are,
//! both learn from `docs/directives.md`.
#![forbid(unsafe_code)]

pub mod check;
pub mod convert;
pub mod documented;
