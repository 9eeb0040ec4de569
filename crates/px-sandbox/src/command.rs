//! The commands that `px-sandbox` and `pxctl` share, and what every command of theirs is made of.
//!
//! Each takes the name of the program it runs in, for its help text.

mod cookie;
mod explain;
mod options;

pub use cookie::run as cookie;
pub use explain::run as explain;
pub use options::{Failure, duration, print, text, value};
