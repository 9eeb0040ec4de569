//! Tests for the px module: what the documents say is what the code does.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use px_sandbox::{Endpoint, Sandbox, cookie};
use serde_json::Value;
use support::markdown::{Document, documents, parse, read, repository};
use support::{Nginx, Origin, SOON, get, protect};

/// A row of the table in `src/directives.rs`.
#[derive(Debug)]
struct Row {
    name: String,
    /// `NONE_OR_ONE`, `ONE`, `ONE_OR_TWO`, `TWO` or `MANY`.
    args: String,
    context: &'static str,
    /// The field it sets; its own name where it sets none.
    field: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Scalar,
    List,
    WithoutEffect,
}

fn rows() -> Vec<Row> {
    let source = read("src/directives.rs");
    let rows: Vec<Row> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("row(c\""))
        .map(|row| {
            let (name, rest) = row.split_once("\", ").expect("a name");
            let (args, rest) = rest.split_once(", |").expect("arguments");
            let context = if row.ends_with(".in_locations_only(),") {
                "location"
            } else {
                "http, server, location"
            };
            let (name, args) = (name.to_owned(), args.to_owned());
            // What has no effect sets no field: only itself is a synonym of it.
            if let Some(rest) = rest.strip_prefix("_, a| ") {
                assert!(rest.starts_with("a.without_effect("), "{name}: {rest}");
                return Row { field: name.clone(), name, args, context, kind: Kind::WithoutEffect };
            }
            let rest = rest.strip_prefix("v, a| ").expect("a setter");
            let (setter, rest) = rest.split_once("(&mut v.").expect("a setter");
            let field = rest.split(',').next().expect("a field").to_owned();
            let kind = match setter {
                "once" | "mode" | "severity" => Kind::Scalar,
                "append" | "any" | "slots" => Kind::List,
                _ => panic!("{name}: {setter}"),
            };
            Row { name, args, context, field, kind }
        })
        .collect();
    assert!(rows.len() > 60, "only {} rows were understood", rows.len());
    let stated = source.split("static DIRECTIVES: [Directive; ").nth(1).expect("a table");
    assert_eq!(stated.split(']').next(), Some(rows.len().to_string().as_str()));
    rows
}

/// An entry of `docs/directives.md`.
#[derive(Debug, Default)]
struct Entry {
    syntax: Vec<String>,
    /// Without the name and the semicolon; `None` for `—`.
    default: Option<String>,
    synonyms: Vec<String>,
    is_list: bool,
    context: String,
    /// Its prose says so in the words of all that are.
    is_without_effect: bool,
}

fn entries() -> BTreeMap<String, Entry> {
    let document = read("docs/directives.md");
    let mut entries = BTreeMap::new();
    for section in document.split("\n### ").skip(1) {
        let (name, rest) = section.split_once("\n\n```text\n").expect("a heading and its facts");
        let (facts, prose) = rest.split_once("\n```\n").expect("facts end");
        assert!(!prose.trim().is_empty(), "{name} is not explained");
        let without_effect =
            "Accepted for configurations of other enforcers and warned about. Without effect: ";
        let is_without_effect = prose.trim().starts_with(without_effect);
        let mut entry = Entry { is_without_effect, ..Entry::default() };
        let mut label = "";
        for line in facts.lines() {
            let value = match line.split_at_checked(9) {
                Some(("         ", value)) => value,
                Some((begin, value)) => {
                    label = begin.trim_end_matches([' ', ':']);
                    value
                }
                None => panic!("{name}: {line}"),
            };
            match label {
                "Syntax" => entry.syntax.push(value.to_owned()),
                "Default" if value == "—" => {}
                "Default" => {
                    let text = entry.default.get_or_insert_default();
                    text.push_str(value);
                    text.push(' ');
                }
                "Context" => value.clone_into(&mut entry.context),
                "Synonym" => entry.synonyms.push(value.to_owned()),
                "Merging" => {
                    assert_eq!(value, "an inner list replaces the outer", "{name}");
                    entry.is_list = true;
                }
                _ => panic!("{name}: {line}"),
            }
        }
        if let Some(default) = &mut entry.default {
            let value = default.trim().strip_prefix(name).and_then(|value| value.strip_suffix(';'));
            *default = value.unwrap_or_else(|| panic!("{name}: {default}")).trim().to_owned();
        }
        assert!(entries.insert(name.to_owned(), entry).is_none(), "{name} stands twice");
    }
    entries
}

/// The number of arguments that a syntax line asks for.
fn arity(name: &str, syntax: &[String]) -> &'static str {
    let counts: BTreeSet<usize> = syntax
        .iter()
        .flat_map(|line| {
            let arguments = line.strip_prefix(name).and_then(|rest| rest.strip_suffix(';'));
            let arguments = arguments.unwrap_or_else(|| panic!("{name}: {line}")).trim();
            let arguments = arguments.replace(" | ", "|");
            if arguments.ends_with(" ...") || arguments.ends_with(" ...]") {
                return vec![1000];
            }
            let words: Vec<&str> = arguments.split(' ').collect();
            let optional = words.iter().filter(|word| word.starts_with('[')).count();
            (words.len() - optional..=words.len()).collect()
        })
        .collect();
    match counts.into_iter().collect::<Vec<_>>().as_slice() {
        [0, 1] => "NONE_OR_ONE",
        [1] => "ONE",
        [2] => "TWO",
        [1, 2] => "ONE_OR_TWO",
        [1000] => "MANY",
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_directive_is_documented_as_it_is() {
    let (rows, entries) = (rows(), entries());
    let in_code: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(in_code.len(), rows.len());
    let in_document: BTreeSet<&str> = entries
        .iter()
        .flat_map(|(name, entry)| {
            std::iter::once(name.as_str()).chain(entry.synonyms.iter().map(String::as_str))
        })
        .collect();
    assert_eq!(in_document, in_code);

    let row_of = |name: &str| rows.iter().find(|row| row.name == name).expect("just compared");
    for (name, entry) in &entries {
        let row = row_of(name);
        assert_eq!(arity(name, &entry.syntax), row.args, "{name}");
        assert_eq!(entry.is_list, row.kind == Kind::List, "{name}");
        assert_eq!(entry.is_without_effect, row.kind == Kind::WithoutEffect, "{name}");
        assert_eq!(entry.context, row.context, "{name}");
        for synonym in &entry.synonyms {
            let synonym = row_of(synonym);
            assert_eq!((&synonym.field, &synonym.args), (&row.field, &row.args), "{name}");
        }
    }
    // All others stand at the three levels.
    let source = read("src/directives.rs");
    assert!(source.contains(
        "const HSL: ngx_uint_t = (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF)"
    ));
    assert!(source.contains("Directive { name, contexts: HSL, args, set }"));
    assert!(source.contains("type_: DIRECTIVES[i].contexts | DIRECTIVES[i].args"));
}

/// The path from the repository's root, without `.` and `..`; outside of it there is nothing to link to.
fn normalised(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            Component::ParentDir if normal.pop() => {}
            _ => return None,
        }
    }
    Some(normal)
}

/// Where the links of a document lead, images and reference definitions included, with their lines.
fn links(document: &Document) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in &document.prose {
        in_code &= !line.trim().is_empty();
        // What stands in code, which may go on in the next line, is no link.
        let mut plain = String::new();
        for (at, part) in line.split('`').enumerate() {
            in_code ^= at > 0;
            plain.push_str(if in_code { "" } else { part });
        }
        let targets = plain.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        found.extend(targets.map(|target| (*number, target.to_owned())));
        for attribute in ["src=\"", "srcset=\"", "href=\""] {
            let targets = plain.split(attribute).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(targets.map(|target| (*number, target.to_owned())));
        }
        let definition = plain.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        found.extend(definition.map(|(_, target)| (*number, target.trim().to_owned())));
    }
    found
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let parsed: BTreeMap<String, _> =
        documents().into_iter().map(|document| (document.clone(), parse(&document))).collect();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (document, content) in &parsed {
        for (number, link) in links(content) {
            seen += 1;
            if link.starts_with("https://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let base = Path::new(document).parent().expect("a file is in a directory");
            let target = match path {
                "" => Some(PathBuf::from(document)),
                path => normalised(&base.join(path)),
            };
            let leads = target.is_some_and(|target| {
                let known = target.to_str().and_then(|target| parsed.get(target));
                let has_anchor = known.is_some_and(|known| known.anchors.contains(anchor));
                repository().join(&target).exists() && (anchor.is_empty() || has_anchor)
            });
            if !leads {
                wrong.push(format!("{document}:{number}: {link}"));
            }
        }
    }
    assert!(seen > 150, "{seen} links");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whoever begins at README.md or docs/README.md finds every document.
#[test]
fn every_document_is_linked() {
    let mut linked = BTreeSet::new();
    let mut open = vec![PathBuf::from("README.md"), PathBuf::from("docs/README.md")];
    while let Some(document) = open.pop() {
        if !linked.insert(document.clone()) || document.extension().is_none_or(|end| end != "md") {
            continue;
        }
        let base = document.parent().expect("a file is in a directory").to_owned();
        for (_, link) in links(&parse(document.to_str().expect("UTF-8"))) {
            let path = link.split('#').next().unwrap_or_default();
            let target = normalised(&base.join(path));
            let is_file = |target: &PathBuf| repository().join(target).is_file();
            open.extend(target.filter(is_file).filter(|_| !path.is_empty()));
        }
    }
    let lost: Vec<String> =
        documents().into_iter().filter(|document| !linked.contains(Path::new(document))).collect();
    assert!(lost.is_empty(), "nothing leads to {lost:?}");
}

/// What the module reports about its configuration to HUMAN, with `directives` in the server.
fn reported(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Value {
    sandbox.clear();
    let nginx = Nginx::start(&format!(
        "{} {directives} location / {{ {} }}",
        protect(sandbox).replace("px_module_mode active_blocking;", ""),
        origin.proxy_pass()
    ));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let command = cookie::command_header(&sandbox.app().secret, now + 60_000);
    get(nginx.addr(), "/", &[&format!("x-px-enforcer-telemetry: {command}")]);
    let telemetry = sandbox.wait_for(Endpoint::Telemetry, 1, SOON);
    telemetry[0].json()["details"]["enforcer_configs"]["active_config"].clone()
}

/// Defaults of what the core knows: a configuration that sets them all is the one that sets none.
#[test]
fn documented_defaults_are_the_defaults() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let of_the_test = [
        "px_enabled",
        "px_backend_url",
        "px_backend_collector_url",
        "px_client_host",
        "px_captcha_script_host",
        "px_initial_telemetry_enabled",
        "px_s2s_timeout",
        "px_first_party_timeout_ms",
        "px_async_timeout",
    ];
    let lines: String = entries()
        .iter()
        .filter(|(name, _)| !of_the_test.contains(&name.as_str()))
        .filter_map(|(name, entry)| Some(format!("{name} {};\n", entry.default.as_ref()?)))
        .collect();
    assert!(lines.lines().count() > 35, "{lines}");
    let set = reported(&sandbox, &origin, &lines);
    assert_eq!(set, reported(&sandbox, &origin, ""));
    // It is a report of what is set: another value shows.
    assert_ne!(set, reported(&sandbox, &origin, "px_risk_cookie_max_length 2049;"));
}

/// Where the defaults of the connector stand.
const NODE: &str = "src/node_conf.rs";

/// Defaults of what only the shell knows.
#[test]
fn documented_defaults_of_the_shell_are_those_of_its_source() {
    let entries = entries();
    for (name, default, path, text) in [
        ("px_enabled", "off", "src/values.rs", "enabled: self.enabled.unwrap_or(false)"),
        (
            "px_debug",
            "off",
            "crates/px-core/src/policy/options.rs",
            "logger_severity: LoggerSeverity::Error",
        ),
        (
            "px_logger_severity",
            "error",
            "crates/px-core/src/policy/options.rs",
            "logger_severity: LoggerSeverity::Error",
        ),
        (
            "px_debug_probability",
            "1",
            "src/conf/compile.rs",
            "values.debug_probability.unwrap_or(1)",
        ),
        (
            "px_deferred_activities",
            "on",
            "src/conf/compile.rs",
            "values.deferred_activities.unwrap_or(true)",
        ),
        (
            "px_additional_activity_handler_enabled",
            "on",
            "src/conf/compile.rs",
            "values.additional_activity_handler_enabled != Some(false)",
        ),
        (
            "px_sensitive_headers_enabled",
            "on",
            "src/values.rs",
            "self.sensitive_headers_enabled == Some(false)",
        ),
        (
            "px_custom_cookie_header_enabled",
            "on",
            "src/values.rs",
            "self.custom_cookie_header_enabled == Some(false)",
        ),
        (
            "px_cors_preflight_handler_enabled",
            "on",
            "src/values.rs",
            "switched_on(self.cors_preflight_handler_enabled)",
        ),
        (
            "px_cors_create_custom_block_response_headers_enabled",
            "on",
            "src/values.rs",
            "self.cors_create_custom_block_response_headers_enabled != Some(false)",
        ),
        ("px_s2s_timeout", "1s", "crates/px-core/src/policy/options.rs", "s2s_timeout_ms: 1000"),
        (
            "px_compression_enabled",
            "off",
            "src/conf/compile.rs",
            ".compression_enabled\n                .unwrap_or(false)",
        ),
        (
            "px_compression_level",
            "6",
            "src/conf/compile.rs",
            "values.compression_level.unwrap_or(6)",
        ),
        (
            "px_max_activity_batch_size",
            "20",
            "src/conf/compile.rs",
            "values.max_activity_batch_size.unwrap_or(20)",
        ),
        (
            "px_batch_activities_timeout_ms",
            "1s",
            "src/conf/compile.rs",
            "values.batch_activities_timeout_ms.unwrap_or(1000)",
        ),
        ("px_async_timeout", "2s", "src/conf/compile.rs", "values.async_timeout.unwrap_or(2000)"),
        ("px_ssl_verify", "on", "src/conf/compile.rs", "values.ssl_verify.unwrap_or(true)"),
        ("px_ssl_verify_depth", "3", "src/conf/compile.rs", "values.ssl_verify_depth.unwrap_or(3)"),
        (
            "px_activity_spool",
            "off",
            "src/conf/compile.rs",
            "spool: values.activity_spool.clone().flatten()",
        ),
        ("px_enable_pxde", "on", "src/values.rs", "self.enable_pxde == Some(false)"),
        ("px_max_errors_threshold", "10", "crates/px-core/src/breaker.rs", "threshold: 10,"),
        (
            "px_errors_count_interval",
            "60s",
            "crates/px-core/src/breaker.rs",
            "interval_ms: 60_000 }",
        ),
        (
            "px_token_cache",
            "zone=px_token_cache:8m",
            "src/token_cache.rs",
            "name: \"px_token_cache\".to_owned(), size: 8 * 1024 * 1024",
        ),
        (
            "px_backend_url",
            "https://sapi-<app id in lower case>.perimeterx.net",
            "crates/px-core/src/endpoints.rs",
            "https://sapi-{}.perimeterx.net\", app_id.to_ascii_lowercase()",
        ),
        (
            "px_first_party_timeout_ms",
            "4s",
            "crates/px-core/src/policy/options.rs",
            "timeout_ms: 4000",
        ),
        (
            "px_first_party_cache",
            "off",
            "src/conf/compile.rs",
            "values.first_party_cache.clone().flatten()",
        ),
        (
            "px_csp_no_updates_max_interval_minutes",
            "60",
            "src/conf/compile.rs",
            "csp_no_updates_max_interval.unwrap_or(60 * 60_000)",
        ),
        (
            "px_csp_policy_refresh_interval_minutes",
            "5",
            "src/conf/compile.rs",
            "csp_policy_refresh_interval.unwrap_or(5 * 60_000)",
        ),
        (
            "px_csp_data_url",
            "https://api.perimeterx.com/v1/enforcer-data",
            "crates/px-core/src/csp.rs",
            "\"https://api.perimeterx.com/v1/enforcer-data\"",
        ),
        (
            "px_snippet_provider_cache_ttl_seconds",
            "600",
            "src/conf/compile.rs",
            "snippet_provider_cache_ttl.unwrap_or(600_000)",
        ),
        (
            "px_remote_config_max_fetch_attempts",
            "5",
            "src/conf/compile.rs",
            "remote_config_max_fetch_attempts.unwrap_or(5)",
        ),
        (
            "px_remote_config_retry_interval_ms",
            "1s",
            "src/conf/compile.rs",
            "remote_config_retry_interval_ms.unwrap_or(1000)",
        ),
        (
            "px_remote_config_refresh_interval",
            "10m",
            "src/conf/compile.rs",
            "remote_config_refresh_interval.unwrap_or(10 * 60_000)",
        ),
        (
            "px_remote_config_cache",
            "off",
            "src/conf/compile.rs",
            "remote_config_cache.clone().flatten()",
        ),
        (
            "px_initial_telemetry_enabled",
            "on",
            "src/conf/compile.rs",
            "initial_telemetry_enabled.unwrap_or(true)",
        ),
        (
            "px_wallarm_node_address",
            "off",
            "src/values.rs",
            "self.wallarm_node_address.as_ref()?.as_ref()",
        ),
        ("px_wallarm_blocking", "on", NODE, "wallarm_blocking.unwrap_or(true)"),
        ("px_wallarm_timeout_ms", "500ms", NODE, "wallarm_timeout_ms.unwrap_or(500)"),
        ("px_wallarm_fail_open", "on", NODE, "wallarm_fail_open.unwrap_or(true)"),
        ("px_wallarm_max_body_size", "1m", NODE, "wallarm_max_body_size.unwrap_or(1024 * 1024)"),
        ("px_wallarm_max_inflight", "256", NODE, "wallarm_max_inflight.unwrap_or(256)"),
        ("px_wallarm_keepalive", "16", NODE, "const NODE_KEEPALIVE: usize = 16;"),
        ("px_wallarm_ssl_verify", "on", NODE, "wallarm_ssl_verify.unwrap_or(true)"),
        ("px_wallarm_filter_extensions", "off", NODE, "wallarm_filter_extensions.unwrap_or(false)"),
    ] {
        assert_eq!(entries[name].default.as_deref(), Some(default), "{name}");
        assert!(read(path).contains(text), "{name}: {path} no longer says {text}");
    }
}

#[test]
fn every_variable_is_documented_with_its_older_spelling() {
    let source = read("src/variables.rs");
    let constant = |name: &str| {
        let (_, rest) = source.split_once(&format!("const {name}: &str = \"")).expect("a constant");
        rest.split('"').next().expect("a text").to_owned()
    };
    // Name and text function, in the source's order.
    let in_code: Vec<(String, String)> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("of(")?.strip_suffix("),"))
        .map(|row| {
            let (name, text) = row.split_once(", ").expect("a function");
            let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
            (quoted.map_or_else(|| constant(name), str::to_owned), text.to_owned())
        })
        .collect();
    let text_of = |name: &str| {
        let found = in_code.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("${name} is documented only")).1
    };

    let mut documented = BTreeSet::new();
    for line in read("docs/variables.md").lines().filter(|line| line.starts_with("| `$")) {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let name = cells[1].strip_prefix('$').expect("a variable");
        assert!(documented.insert(name.to_owned()), "${name} stands twice");
        let text = text_of(name);
        if let Some(older) = cells[2].strip_prefix('$') {
            assert_eq!(text_of(older), text, "${name} ${older}");
            documented.insert(older.to_owned());
        }
        assert!(!cells[3].is_empty(), "${name} is not explained");
    }
    let in_code: BTreeSet<String> = in_code.into_iter().map(|(name, _)| name).collect();
    assert_eq!(documented, in_code);
}

/// Every message that the module can write is explained: the fixed parts of the texts in `src/`
/// stand in the troubleshooting page.
#[test]
fn every_message_is_explained() {
    let page = read("docs/troubleshooting.md");
    let mut seen = 0;
    let entries = ["src", "src/directives"].map(|dir| fs::read_dir(repository().join(dir)));
    for entry in entries.into_iter().flat_map(|entries| entries.expect("the sources are there")) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source");
        for text in literals(&source) {
            let begins = [
                "px: ",
                "holds a",
                "names a",
                "is missing where",
                "contradicts ",
                "has more than",
                "must be \"Basic",
                "is deprecated",
                "has no effect",
                "is shorter than",
            ];
            let is_message = begins.iter().any(|begin| text.starts_with(begin));
            if !is_message || text.len() < 8 {
                continue;
            }
            seen += 1;
            for part in fixed_parts(&text) {
                assert!(page.contains(&part), "{}: {text:?}: {part:?}", path.display());
            }
        }
    }
    assert!(seen > 25, "{seen} messages");
}

/// The string literals of a source text, continued lines joined.
fn literals(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut rest = code.as_str();
    while let Some((_, begin)) = rest.split_once('"') {
        let mut text = String::new();
        let mut letters = begin.char_indices();
        let mut end = begin.len();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match letters.next() {
                    Some((_, '\n')) => {
                        while letters.clone().next().is_some_and(|(_, c)| c.is_whitespace()) {
                            letters.next();
                        }
                    }
                    Some((_, escaped)) => text.push(escaped),
                    None => {}
                },
                _ => text.push(letter),
            }
        }
        found.push(text);
        rest = begin.get(end..).unwrap_or_default();
    }
    found
}

/// The parts of a format string between its arguments, without blanks around them; those too short
/// to tell anything are left out.
fn fixed_parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for piece in text.split('{') {
        let fixed = piece.split_once('}').map_or(piece, |(_, fixed)| fixed);
        let fixed = fixed.trim_matches(|c: char| !c.is_alphanumeric());
        if fixed.len() > 7 {
            parts.push(fixed.to_owned());
        }
    }
    parts
}
