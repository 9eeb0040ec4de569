//! Inputs of every format with the expected outputs; `UPDATE=1` writes the outputs.

use std::path::{Path, PathBuf};

use pxctl::convert::{Format, convert};

const FORMATS: [Format; 5] =
    [Format::Setconf, Format::Lua, Format::Kong, Format::Js, Format::Fastly];

const FIXTURES: [(&str, Format); 6] = [
    ("setconf.js", Format::Setconf),
    ("pxconfig.lua", Format::Lua),
    ("kong.json", Format::Kong),
    ("kong.yml", Format::Kong),
    ("worker.js", Format::Js),
    ("fastly.vcl", Format::Fastly),
];

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn fixture(name: &str) -> String {
    std::fs::read_to_string(tests().join("fixtures").join(name)).unwrap()
}

#[test]
fn writes_what_is_expected() {
    for (name, format) in FIXTURES {
        let input = fixture(name);
        assert_eq!(Format::guess(&input), format, "{name}");
        let output = convert(&input, None).unwrap();
        let golden = tests().join("golden").join(format!("{name}.out"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &output).unwrap();
        }
        assert_eq!(output, std::fs::read_to_string(golden).unwrap(), "{name}");
    }
}

/// The names that the other enforcers give to their options.
#[test]
fn knows_every_name() {
    let names: Vec<&str> = include_str!("names.txt").lines().collect();
    assert!(names.len() > 300);
    for name in names {
        let output = convert(&format!("{{{name:?}: 1}}"), Some(Format::Js)).unwrap();
        assert!(!output.contains("# unknown"), "{output}");
        assert!(output.contains(name), "{name} is lost: {output}");
    }
}

#[test]
fn loses_nothing() {
    for (name, key) in [
        ("worker.js", "mysterious"),
        ("worker.js", "customVerificationHandler"),
        ("pxconfig.lua", "base_url"),
        ("pxconfig.lua", "/my-account"),
        ("setconf.js", "px_whatever"),
        ("fastly.vcl", "px_custom_check_sensitive_route"),
    ] {
        assert!(convert(&fixture(name), None).unwrap().contains(key), "{name} {key}");
    }
}

/// The resource of the ingress controller, and a plugin that is not there for everything.
#[test]
fn finds_the_plugin_where_kong_has_it() {
    let resource = "apiVersion: configuration.konghq.com/v1\nkind: KongPlugin\nmetadata:\n  name: px\n\
                    plugin: perimeterx\nconfig:\n  px_appId: PX1\n  ip_headers:\n  - X-Real-IP\n";
    let output = convert(resource, None).unwrap();
    assert!(output.contains("px_app_id PX1;") && output.contains("px_ip_headers X-Real-IP;"));
    assert!(!output.contains("# unknown"), "{output}");
    let of_a_route = "_format_version: \"3.0\"\nservices:\n- name: shop\n  routes:\n  - paths: [/]\n    \
                      plugins:\n    - name: perimeterx\n      config: {px_appId: PX2, ip_headers: [a, b]}\n";
    let output = convert(of_a_route, None).unwrap();
    assert!(output.contains("px_app_id PX2;") && output.contains("px_ip_headers a b;"), "{output}");
    assert!(
        output.contains("# by hand: services[shop].routes[0].plugins[perimeterx]: "),
        "{output}"
    );
}

#[test]
fn a_value_written_twice_appears_once() {
    let calls =
        "px_module.setconf('px_blocking_score', 1); px_module.setconf('px_blocking_score', 2)";
    let output = convert(calls, None).unwrap();
    assert!(output.contains("\npx_blocking_score 2;\n"), "{output}");
    assert!(output.contains("# px_blocking_score is set twice"), "{output}");
}

#[test]
fn a_comment_stays_on_its_line() {
    let output = convert(r#"{"px_nothing": "a\npx_enabled off;\r\n", "px_css_ref": "a\nb"}"#, None);
    let output = output.unwrap();
    for line in output.lines().skip(3) {
        assert!(line.starts_with('#') || line.starts_with("px_enable_json_response"), "{output}");
    }
    let name = "{\"bad\\nname;\": 1}";
    assert!(convert(name, None).unwrap().lines().all(|line| !line.starts_with("name")));
}

#[test]
fn says_where_an_input_is_wrong() {
    for (format, input, fault) in [
        (Format::Js, "{ a: 1,\n  b: }", "2:6: a value is missing"),
        (Format::Js, "{ a: 'x", "1:7: a text does not end"),
        (Format::Js, "{ a: 1 } }", "1:10: '}' stands behind the object"),
        (Format::Js, "nothing", "1:1: there is no configuration object"),
        (Format::Kong, "{\"a\": [1", "1:7: a list does not end"),
        (Format::Kong, "config:\n  a: 1\n  b", "3:3: a key with a colon is expected"),
        (Format::Kong, "config:\n  a: [1,\nb: 2", "2:3: a text or a bracket does not end"),
        (Format::Kong, "config: &anchor\n  a: 1", "1:1: this form of YAML is not understood"),
        (Format::Kong, "_format_version: \"3.0\"", "1:1: there is no configuration object"),
        (Format::Lua, "_M.a = {", "1:8: a table does not end"),
        (Format::Fastly, "table t { \"a\" 1 }", "1:15: \":\" is expected"),
        (Format::Setconf, "px_module.setconf(1)", "1:19: setconf needs a name in quotes"),
    ] {
        assert_eq!(convert(input, Some(format)).unwrap_err().to_string(), fault, "{input}");
    }
}

/// Whatever the input, there is an output or a fault, and no panic.
#[test]
fn survives_every_input() {
    let mut seed = 7_u64;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    let pieces = [
        "{", "}", "[", "]", "(", ")", "`", "${", "'", "\"", "\\", "/", "//", "/*", "--", "[[",
        "]]", "=", ",", ";", ":", ".", "a", "function", "end", "px_x", "é", "²", "\n", "1", "-",
        "table", "sub", "setconf", "return", "_M.a", "{\"", "\"}", "\\ud83d", "async ", "...", "*",
        "if", "$",
    ];
    for format in FORMATS {
        for (name, _) in FIXTURES {
            let text = fixture(name);
            for (end, _) in text.char_indices() {
                let _ = convert(&text[..end], Some(format));
            }
            for _ in 0..300 {
                let (a, b) = (random(text.len()), random(text.len()));
                let changed = format!(
                    "{}{}{}",
                    &text[..a.min(b)],
                    pieces[random(pieces.len())],
                    &text[a.max(b)..]
                );
                let _ = convert(&changed, Some(format));
            }
        }
        for _ in 0..20_000 {
            let text: String = (0..random(24)).map(|_| pieces[random(pieces.len())]).collect();
            let _ = convert(&text, Some(format));
        }
    }
}

/// Deep nesting neither exhausts the stack nor takes time that grows faster than the input.
#[test]
fn survives_deep_and_long_inputs() {
    for format in FORMATS {
        for piece in [
            "{",
            "[",
            "(",
            "{a:",
            "a={",
            "a=[",
            "`${",
            "a(",
            "/*",
            "--[[",
            "[=",
            "function ",
            "a='b'+",
            "table t {",
            "- ",
            "a:\n  ",
            "- a\n",
        ] {
            let _ = convert(&piece.repeat(100_000), Some(format));
            let _ = convert(&format!("a = {}", piece.repeat(100_000)), Some(format));
            let _ = convert(&format!("{{a: {}", piece.repeat(100_000)), Some(format));
        }
    }
}
