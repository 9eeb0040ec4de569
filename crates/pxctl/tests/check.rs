//! `pxctl check` on configurations of several files.

use std::fs;
use std::path::PathBuf;

use pxctl::check::check;

struct Directory(PathBuf);

impl Directory {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let path = std::env::temp_dir().join(format!("pxctl-{name}-{}", std::process::id()));
        for (file, text) in files {
            let file = path.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Self(path)
    }

    fn report(&self) -> String {
        let text =
            check(&self.0.join("nginx.conf")).map_or_else(|f| f.to_string(), |r| r.to_string());
        text.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn shows_what_is_in_effect() {
    let directory = Directory::with(
        "effect",
        &[
            ("nginx.conf", "events {}\nhttp {\n  include px.conf;\n  include sites/*.conf;\n}\n"),
            (
                "px.conf",
                "px_app_id PX1;\npx_auth_token hush;\npx_cookie_secret hush;\npx_ip_headers a b;\n",
            ),
            (
                "sites/a.conf",
                "server {\n server_name a.test;\n px_enabled on;\n location / { px_ip_headers c; }\n location /x { return 204; }\n location /off { px_enabled off; }\n}\n",
            ),
            ("sites/b.conf", "server { server_name b.test; }\n"),
        ],
    );
    let report = directory.report();
    for part in [
        "server a.test (sites/a.conf:1)",
        "px_app_id PX1;",
        "# inherited from px.conf:1",
        "px_auth_token (not shown);",
        "px_ip_headers c;",
        "location /x (sites/a.conf:5)\n    as its outer level",
        "No problems.",
    ] {
        assert!(report.contains(part), "{part}\n{report}");
    }
    for part in ["hush", "b.test", "/off"] {
        assert!(!report.contains(part), "{part}\n{report}");
    }
}

#[test]
fn finds_problems() {
    for (line, problem) in [
        (
            "px_enabeld on;",
            "nginx.conf:4: unknown directive \"px_enabeld\", did you mean \"px_enabled\"?",
        ),
        ("if ($a) { px_enabled off; }", "nginx.conf:4: \"px_enabled\" is not allowed in if"),
        ("px_blocking_score;", "nginx.conf:4: \"px_blocking_score\" with 0 arguments"),
        ("px_blocking_score 1 2;", "nginx.conf:4: \"px_blocking_score\" with 2 arguments"),
        ("px_blocking_score 1; px_blocking_score 2;", "is a duplicate of nginx.conf:4"),
        ("px_appId PX2; px_app_id PX2;", "\"px_app_id\" is a duplicate"),
        ("px_compression_level 3;", "\"px_compression_level\" has no effect: compression is off"),
        ("px_redirect_to_referer on;", "no effect: there is no redirect"),
        ("px_redirect_on_custom_url on;", "no effect: there is no px_custom_block_url"),
        ("px_api_protection_block_url /;", "no effect: API protection is off"),
        ("px_api_protection_default_redirect_url /;", "no effect: API protection is off"),
        ("px_custom_create_advanced_blocking_response @a;", "no effect: JSON responses are off"),
        ("px_cors_preflight_request_filter_enabled on;", "no effect: CORS support is off"),
        ("px_cors_custom_preflight_handler @a;", "no effect: CORS support is off"),
        ("px_cors_block_response_header A b;", "no effect: CORS support is off"),
        ("px_debug_probability 9;", "no effect: px_debug is off"),
        ("px_block_enabled on; px_module_mode monitor;", "contradicts"),
    ] {
        let text = format!(
            "events {{}}\nhttp {{ px_app_id PX1; px_auth_token t; px_cookie_secret s;\nserver {{ px_enabled on; location / {{\n{line}\n}} }} }}"
        );
        let directory = Directory::with("problems", &[("nginx.conf", &text)]);
        let report = directory.report();
        assert!(report.contains(problem), "{problem}\n{report}");
        assert!(report.contains("1 problem:"), "{report}");
    }
}

#[test]
fn finds_what_is_missing() {
    let directory = Directory::with(
        "missing",
        &[(
            "nginx.conf",
            "events {} px_debug on; http { px_enabled on; server { location / { px_debug on; } } }",
        )],
    );
    let report = directory.report();
    for part in [
        "\"px_debug\" is not allowed in main",
        "there is no px_app_id",
        "there is no px_auth_token",
        "there is no px_cookie_secret",
        "4 problems",
    ] {
        assert!(report.contains(part), "{part}\n{report}");
    }
}

#[test]
fn refuses_what_cannot_be_read() {
    let directory = Directory::with("loop", &[("nginx.conf", "include nginx.conf;")]);
    assert_eq!(directory.report(), "nginx.conf: includes itself, or too much");
    let directory = Directory::with("none", &[("nginx.conf", "include none.conf;")]);
    assert!(directory.report().starts_with("cannot read none.conf"));
}

#[test]
fn an_outer_value_may_have_an_effect_in_one_server_only() {
    let text = "http { px_app_id PX1; px_auth_token t; px_cookie_secret s; px_enabled on;
        px_compression_level 3; server { px_compression_enabled on; } server { } }";
    let directory = Directory::with("outer", &[("nginx.conf", text)]);
    assert!(directory.report().contains("No problems."), "{}", directory.report());
    let text = text.replace("px_compression_enabled on;", "");
    let directory = Directory::with("outer", &[("nginx.conf", &text)]);
    assert!(directory.report().contains("\"px_compression_level\" has no effect"));
}

#[test]
fn a_file_to_include_is_taken_as_part_of_http() {
    let text = "px_app_id PX1; px_auth_token t; px_cookie_secret s; px_enabled on;";
    let directory = Directory::with("part", &[("nginx.conf", text)]);
    assert!(directory.report().contains("No problems."), "{}", directory.report());
}
