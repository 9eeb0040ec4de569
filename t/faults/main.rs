//! Tests for the px module: the fault matrix. Each row breaks one thing under constant load and asserts
//! what every visitor gets, what the operator sees, and that it is over when the fault is.
//!
//! The table that is printed in the end is the one in docs/reliability.md; `PX_WRITE_DOCS=1` writes it there.

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod collector;
mod configuration;
mod descriptors;
mod dns;
mod first_party;
mod load;
mod machine;
mod matrix;
mod memory;
mod names;
mod node;
mod process;
mod risk_api;
mod site;
mod spool;
mod together;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut rows = Vec::new();
    rows.extend(risk_api::rows());
    rows.extend(collector::rows());
    rows.extend(first_party::rows());
    rows.extend(node::rows());
    rows.extend(process::rows());
    rows.extend(configuration::rows());
    rows.extend(memory::rows());
    rows.extend(descriptors::rows());
    rows.extend(spool::rows());
    rows.extend(clock::rows());
    rows.extend(names::rows());
    rows.extend(together::rows());
    matrix::run(rows)
}
