//! Shared libraries of the tests' own, which nginx loads before all others or as modules.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the one from a C source of this project into `dir`, by the compiler that built nginx's part
/// of the module.
pub fn build(source: &str, dir: &Path, options: &[&str]) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let library = dir.join(source.with_extension("so").file_name().expect("a file's name"));
    let built = Command::new("cc")
        // A library that counts malloc's calls must make its own as they are written.
        .args(["-O1", "-Wall", "-Werror", "-fno-builtin", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .args(options)
        .status()
        .expect("cc can be run");
    assert!(built.success(), "{}", source.display());
    library
}
