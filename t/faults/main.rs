//! Tests for the px module: the fault matrix. Each row breaks one thing under constant load and asserts
//! what every visitor gets, what the operator sees, and that it is over when the fault is.
//!
//! The table that is printed in the end is the one in docs/reliability.md; `PX_WRITE_DOCS=1` writes it there.

#[path = "../support/mod.rs"]
mod support;

mod collector;
mod first_party;
mod load;
mod matrix;
mod node;
mod risk_api;
mod site;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut rows = Vec::new();
    rows.extend(risk_api::rows());
    rows.extend(collector::rows());
    rows.extend(first_party::rows());
    rows.extend(node::rows());
    matrix::run(rows)
}
