//! Compiles the C shim against the same nginx headers the bindings were made from, and hands the
//! nginx version on as `ngx_ge_*` cfgs.

use std::env;
use std::path::PathBuf;

/// Versions whose differences the code asks about.
const VERSIONS: &[(u64, &str)] =
    &[(1_021_000, "ngx_ge_1_21_0"), (1_023_000, "ngx_ge_1_23_0"), (1_029_003, "ngx_ge_1_29_3")];

fn main() {
    println!("cargo::rerun-if-changed=csrc/shim.c");
    println!("cargo::rerun-if-env-changed=NGINX_SOURCE_DIR");
    println!("cargo::rerun-if-env-changed=NGINX_BUILD_DIR");

    let version: u64 = env::var("DEP_NGINX_VERSION_NUMBER")
        .expect("nginx-sys tells its version")
        .parse()
        .expect("nginx's version is a number");
    for (number, cfg) in VERSIONS {
        println!("cargo::rustc-check-cfg=cfg({cfg})");
        if version >= *number {
            println!("cargo::rustc-cfg={cfg}");
        }
    }

    let include = env::var_os("DEP_NGINX_INCLUDE").expect("nginx-sys tells its include path");
    // Tests build a module of their own.
    println!("cargo::rustc-env=PX_NGINX_INCLUDE={}", include.display());
    let mut shim = cc::Build::new();
    shim.includes(env::split_paths(&include).collect::<Vec<PathBuf>>());
    // nginx's own headers are not warning free under every compiler; the shim's few lines are.
    shim.file("csrc/shim.c").flag("-w").compile("pxshim");
}
