//! Tests for the px module: what is wrong in the configuration stops `nginx -t` with a text that
//! names directive, value, what is allowed, and the place.

#[path = "conf_errors/rows.rs"]
mod rows;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use px_sandbox::Sandbox;
use rows::Twice::{Appends, IsDuplicate, MustAgree};
use rows::{COMPLEX, FLAG, ROWS, Row, SYNONYMS, WARNED};
use support::conf_check::{Files, check, check_with};
use support::{BROWSER, Nginx, Origin, get, protect};

/// Directives that stand in locations only.
const IN_LOCATIONS: &[&str] = &["px_status"];

/// Lines of a directive where it may stand, the first of them in the same line of the file.
fn at_its_place(name: &str, lines: &str) -> String {
    if IN_LOCATIONS.contains(&name) {
        format!("server {{ location / {{ {lines}\n}} }}")
    } else {
        lines.to_owned()
    }
}

#[track_caller]
fn assert_refused(conf: &str, expected: &str) {
    let (accepted, said) = check(conf);
    assert!(!accepted, "{conf} is accepted");
    assert_eq!(said, [format!("[emerg] {expected}")], "{conf}");
}

#[track_caller]
fn assert_accepted(conf: &str) {
    let (accepted, said) = check(conf);
    assert!(accepted && said.is_empty(), "{conf}\n{}", said.join("\n"));
}

/// Runs `case` for every item, two at a time: each starts an nginx of its own.
fn for_each<T: Sync>(items: &[T], case: impl Fn(&T) + Sync) {
    let (even, odd): (Vec<_>, Vec<_>) = items.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    thread::scope(|scope| {
        for half in [even, odd] {
            let case = &case;
            scope.spawn(move || half.into_iter().for_each(|(_, item)| case(item)));
        }
    });
}

/// The names in the table of `src/directives.rs`, in its order.
fn names_in_source() -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/directives.rs");
    let source = fs::read_to_string(source).expect("the source is there");
    let rows = source.lines().filter_map(|line| line.trim().strip_prefix("row(c\""));
    rows.filter_map(|row| row.split('"').next()).map(str::to_owned).collect()
}

/// The warning that comes with a directive whatever its value, if there is one.
fn warning(name: &str) -> Option<&'static str> {
    WARNED.iter().find(|(warned, _)| *warned == name).map(|(_, text)| *text)
}

/// Good arguments of a directive, with the files they name.
fn good(row: &Row, files: &Files) -> String {
    row.good
        .replace("SECRET_FILE", &files.secret("secret", "one\n"))
        .replace("PROXY_FILE", &files.secret("proxy", "Basic dXNlcjpwYXNz\n"))
        .replace("CA_FILE", "/etc/ssl/certs/ca-certificates.crt")
}

/// As many names as a directive has at most.
const SPELLINGS: usize = 3;

/// Whether this is the name with this number of its directive, or the last where it has fewer.
fn is_spelling(name: &str, number: usize) -> bool {
    let first = SYNONYMS.iter().find(|(_, other)| *other == name).map_or(name, |(first, _)| first);
    let others = SYNONYMS.iter().filter(|(own, _)| *own == first).map(|(_, other)| *other);
    let names: Vec<&str> = std::iter::once(first).chain(others).collect();
    assert!(names.len() <= SPELLINGS, "{names:?}");
    names[number.min(names.len() - 1)] == name
}

/// A good line for every directive but those that `skip` and those that warn.
fn good_lines(files: &Files, skip: impl Fn(&str) -> bool) -> String {
    let quiet = |name: &str| !IN_LOCATIONS.contains(&name) && warning(name).is_none();
    let rows = ROWS.iter().filter(|row| !skip(row.name) && quiet(row.name));
    rows.map(|row| format!("{} {};\n", row.name, good(row, files))).collect()
}

#[test]
fn this_file_knows_every_directive() {
    let here: Vec<String> = ROWS.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(here, names_in_source());
    let distinct: BTreeSet<&String> = here.iter().collect();
    assert_eq!(distinct.len(), here.len());
}

#[test]
fn good_values_are_accepted_in_http_server_and_location() {
    let files = Files::new();
    for spelling in 0..SPELLINGS {
        let lines = good_lines(&files, |name| !is_spelling(name, spelling));
        let conf = format!(
            "{lines} server {{ {lines} location / {{ {lines} location /in {{ {lines} }} }} }}"
        );
        assert_accepted(&conf);
    }
}

#[test]
fn wrong_values_are_refused_with_the_whole_story() {
    for_each(ROWS, |row| {
        for (arguments, expected) in row.bad {
            let lines = at_its_place(row.name, &format!("{} {arguments};\n", row.name));
            let conf = format!("# a comment\n{lines}");
            // nginx looks variables up when it has read everything, and no longer knows where.
            let place = if row.bad == COMPLEX { "" } else { " in px.conf:2" };
            assert_refused(&conf, &(expected.replace("{}", row.name) + place));
        }
    });
}

#[test]
fn a_wrong_number_of_arguments_is_refused() {
    for_each(ROWS, |row| {
        assert_refused(
            &at_its_place(row.name, &format!("{} {};", row.name, row.arity)),
            &format!("invalid number of arguments in \"{}\" directive in px.conf:1", row.name),
        );
    });
}

#[test]
fn every_flag_takes_the_words_of_all_documents() {
    let flags: Vec<&Row> = ROWS.iter().filter(|row| row.bad == FLAG).collect();
    assert_eq!(flags.len(), 55);
    for word in ["on", "off", "true", "false", "1", "0", "On", "OFF", "True", "FALSE"] {
        let of = |spelling: usize| {
            let rows = flags.iter().filter(|row| is_spelling(row.name, spelling));
            rows.map(|row| format!("{} {word};\n", row.name)).collect::<String>()
        };
        // Where a flag switches everything on, or warns, others make it complete and quiet.
        let identity = "px_app_id PXabcd1234; px_auth_token t; px_cookie_secret s;\n\
             px_api_protection_block_url /b; px_api_protection_default_redirect_url /c;\n";
        for lines in (0..SPELLINGS).map(of) {
            let (accepted, said) = check(format!("{identity}{lines}"));
            assert!(accepted, "{word}: {}", said.join("\n"));
        }
    }
}

#[test]
fn a_scalar_may_stand_once_and_a_list_often() {
    for_each(ROWS, |row| {
        let files = Files::new();
        let good = good(row, &files);
        let conf = at_its_place(row.name, &format!("{0} {good};\n{0} {good};\n", row.name));
        match row.twice {
            IsDuplicate => {
                let expected = format!("\"{}\" directive is duplicate in px.conf:2", row.name);
                let (accepted, mut said) = check(&conf);
                said.retain(|line| !line.starts_with("[warn]") || warning(row.name).is_none());
                assert_eq!(
                    (accepted, said),
                    (false, vec![format!("[emerg] {expected}")]),
                    "{conf}"
                );
            }
            Appends | MustAgree if warning(row.name).is_some() => assert!(check(&conf).0, "{conf}"),
            Appends | MustAgree => assert_accepted(&conf),
        }
    });
}

#[test]
fn two_names_of_one_directive_are_one_directive() {
    for (first, second) in SYNONYMS {
        let files = Files::new();
        let line = |name: &str| {
            let row = ROWS.iter().find(|row| row.name == name).expect("in the table");
            format!("{name} {};\n", good(row, &files))
        };
        let twice = ROWS.iter().find(|row| row.name == *first).expect("in the table").twice;
        for (one, other) in [(first, second), (second, first)] {
            let conf = line(one) + &line(other);
            if twice == IsDuplicate {
                assert_refused(&conf, &format!("\"{other}\" directive is duplicate in px.conf:2"));
            } else {
                assert_accepted(&conf);
            }
        }
    }
}

#[test]
fn what_other_enforcers_need_and_nginx_does_not_is_accepted_with_a_warning() {
    for_each(WARNED, |(name, text)| {
        let row = ROWS.iter().find(|row| row.name == *name).expect("in the table");
        let (accepted, said) = check(format!("\n{name} {};", row.good));
        assert!(accepted, "{name}");
        assert_eq!(said, [format!("[warn] \"{name}\" {text} in px.conf:2")]);
    });
}

#[test]
fn what_is_wrong_in_a_credentials_file_is_refused_with_its_place() {
    const ITEM: &str = r#"{"id":1,"path":"/login","method":"post","sent_through":"body",
        "user_field":"u","pass_field":"p"}"#;
    for (from, to, expected) in [
        (
            "\"body\"",
            "\"boddy\"",
            ".sent_through: \"boddy\" is not one of body, header, query-param, custom",
        ),
        ("\"u\"", "5", ".user_field: it is not a text or a list of texts"),
        ("\"/login\"", "\"login\"", ".path: \"login\" does not begin with \"/\""),
        (
            "\"method\"",
            "\"pass\"",
            ".pass is unknown; an item may hold id, path, path_type, method, \
          sent_through, user_field, pass_field, protocol, login_successful_reporting_method, \
          login_successful_statuses, login_successful_body_regex, login_successful_header_name, \
          login_successful_header_value",
        ),
    ] {
        let items = format!("{ITEM},{}", ITEM.replace(":1,", ":2,").replace(from, to));
        let file = format!("{{\"features\":{{\"credentials\":{{\"items\":[{items}]}}}}}}");
        let conf = "\npx_login_creds_settings_filename DIR/creds.json;";
        let (accepted, said) =
            check_with(conf, |files| drop(files.file("creds.json", file, 0o644)));
        assert!(!accepted, "{to}");
        let expected = format!(
            "[emerg] \"px_login_creds_settings_filename\" directive names \"creds.json\", where \
             features.credentials.items[1]{expected} in px.conf:2"
        );
        assert_eq!(said, [expected]);
    }
}

#[test]
fn a_level_that_contradicts_its_own_severity_is_refused() {
    for (conf, second) in [
        ("px_debug on;\npx_logger_severity error;", "px_logger_severity"),
        ("px_logger_severity none;\npx_debug off;", "px_debug"),
    ] {
        assert_refused(
            conf,
            &format!(
                "\"{second}\" directive contradicts \"px_debug\" or \"px_logger_severity\" at the \
                 same level in px.conf:2"
            ),
        );
    }
    assert_accepted("px_debug on; px_logger_severity debug; server { px_debug off; }");
}

#[test]
fn a_level_that_contradicts_its_own_mode_is_refused() {
    for (conf, second, first) in [
        ("px_block_enabled on;\npx_module_mode monitor;", "px_module_mode", "active_blocking"),
        (
            "px_module_mode active_blocking;\npx_block_enabled off;",
            "px_block_enabled",
            "active_blocking",
        ),
        ("px_module_mode 0;\npx_module_mode 1;", "px_module_mode", "monitor"),
        ("px_block_enabled 0;\npx_block_enabled 1;", "px_block_enabled", "monitor"),
    ] {
        assert_refused(
            conf,
            &format!(
                "\"{second}\" directive contradicts the mode \"{first}\" that \"px_module_mode\" or \
                 \"px_block_enabled\" sets at the same level in px.conf:2"
            ),
        );
    }
    assert_accepted("px_block_enabled true; px_module_mode 1; server { px_module_mode monitor; }");
}

#[test]
fn directives_stand_in_http_server_and_location_only() {
    let names: Vec<String> = names_in_source();
    for_each(&names, |name| {
        let row = ROWS.iter().find(|row| row.name == *name).expect("in the table");
        let conf =
            format!("server {{\nlocation / {{ if ($arg_a) {{\n{name} {}; }} }} }}", row.good);
        assert_refused(&conf, &format!("\"{name}\" directive is not allowed here in px.conf:3"));
    });
    for name in IN_LOCATIONS {
        for conf in [format!("\n{name};"), format!("server {{\n{name}; }}")] {
            let expected = format!("\"{name}\" directive is not allowed here in px.conf:2");
            assert_refused(&conf, &expected);
        }
        assert_accepted(&format!(
            "server {{ location / {{ {name}; location /in {{ {name}; }} }} }}"
        ));
    }
    for (main, expected) in [
        ("px_enabled on;", "[emerg] \"px_enabled\" directive is not allowed here in nginx.conf:6"),
        ("px_appid PXa;", "[emerg] unknown directive \"px_appid\" in nginx.conf:6"),
    ] {
        assert_eq!(Files::new().check(main, "", &[]), (false, vec![expected.to_owned()]));
    }
}

#[test]
fn the_modules_own_directive_is_not_for_operators() {
    assert_refused(
        "upstream u {\npx_internal_backend 0;\nserver 127.0.0.1; }",
        "\"px_internal_backend\" is reserved for the module in px.conf:2",
    );
    assert_refused(
        "px_internal_backend 0;",
        "\"px_internal_backend\" directive is not allowed here in px.conf:1",
    );
    assert_refused("px_no_such on;", "unknown directive \"px_no_such\" in px.conf:1");
}

/// The `[emerg]` lines of messages that nginx reads the whole configuration for: the place of the
/// directive is in the text, and nginx adds where `http` ends.
#[track_caller]
fn assert_refused_at_the_end(conf: &str, expected: &str) {
    let (accepted, said) = check(conf);
    assert!(!accepted, "{conf} is accepted");
    let [line] = said.as_slice() else { panic!("{conf}: {said:?}") };
    let (text, at) = line.rsplit_once(" in nginx.conf:").expect("nginx adds a place");
    assert_eq!(text, format!("[emerg] px: {expected}"), "{conf}");
    assert!(at.parse::<u32>().is_ok(), "{line}");
}

#[test]
fn where_enabled_nothing_of_the_identity_may_be_missing() {
    let id = "px_app_id PXabcd1234;";
    let token = "px_auth_token t;";
    let secret = "px_cookie_secret s;";
    for (present, missing) in [
        (String::new(), "\"px_app_id\" is missing"),
        (format!("{token} {secret}"), "\"px_app_id\" is missing"),
        (format!("{id} {secret}"), "\"px_auth_token\" or \"px_auth_token_file\" is missing"),
        (format!("{id} {token}"), "\"px_cookie_secret\" or \"px_cookie_secret_file\" is missing"),
    ] {
        for (conf, line) in [
            (format!("{present}\n\npx_enabled on;"), 3),
            (format!("server {{ {present}\npx_enabled on; }}"), 2),
            (
                format!(
                    "server {{ location / {{ {present}\nlocation /a {{\npx_enabled on; }} }} }}"
                ),
                3,
            ),
            // Put together from levels: the place is the innermost that says anything.
            (format!("px_enabled on;\nserver {{\n{present} px_debug on; }}"), 3),
        ] {
            assert_refused_at_the_end(
                &conf,
                &format!("{missing} where \"px_enabled\" is in effect, px.conf:{line}"),
            );
        }
    }
    assert_refused_at_the_end(
        "px_active_header_name x-px-active;",
        "\"px_app_id\" is missing where \"px_active_header_name\" is in effect, px.conf:1",
    );
    // What is not enabled needs nothing, nor does a level that only others inherit from.
    assert_accepted("px_app_id PXabcd1234;");
    assert_accepted(&format!("px_enabled off; {token}"));
    assert_accepted(&format!(
        "px_backend_url http://127.0.0.1:1; px_backend_collector_url http://127.0.0.1:1;
         px_cookie_secret_old s; px_enabled on;
         server {{ {id} {token} listen 127.0.0.1:1; }} server {{ px_enabled off; }} {id} {token}"
    ));
}

#[test]
fn answers_that_lack_what_they_need_are_refused() {
    let identity = "px_app_id PXabcd1234; px_auth_token t; px_cookie_secret s; px_enabled on;
        px_backend_url http://127.0.0.1:1; px_backend_collector_url http://127.0.0.1:1;";
    for (conf, expected) in [
        (
            "px_api_protection_mode on; px_api_protection_default_redirect_url /;",
            "\"px_api_protection_block_url\" is missing where \"px_api_protection_mode\" is on, px.conf:1",
        ),
        (
            "px_api_protection_mode on; px_api_protection_block_url /;",
            "\"px_api_protection_default_redirect_url\" is missing where \"px_api_protection_mode\" is \
             on, px.conf:1",
        ),
        (
            "px_custom_block_url @ours; px_redirect_on_custom_url on;",
            "\"px_redirect_on_custom_url\" needs a path or a URL in \"px_custom_block_url\", not the \
             named location \"@ours\", px.conf:1",
        ),
        (
            "px_custom_block_url https://www.example.com/blocked;",
            "\"px_custom_block_url\" names another site: that works with \
             \"px_redirect_on_custom_url on\" only, px.conf:1",
        ),
    ] {
        assert_refused_at_the_end(&format!("{identity} {conf}"), expected);
    }
}

#[test]
fn the_host_of_a_node_must_be_found_unless_there_is_a_resolver() {
    let url = "px_wallarm_node_address https://no-such-host.invalid;";
    let reason = "the host \"no-such-host.invalid\" of \"px_wallarm_node_address\" cannot be resolved, and \
         no \"resolver\" is in effect";
    assert_refused_at_the_end(url, &format!("{reason}, px.conf:1"));
    let below = format!("server {{ listen 127.0.0.1:1; location / {{\n{url} }} }}");
    assert_refused_at_the_end(&below, &format!("{reason}, px.conf:2"));
    for accepted in [
        format!("resolver 127.0.0.1; {url}"),
        format!("{url} server {{ resolver 127.0.0.1; listen 127.0.0.1:1; }} resolver 127.0.0.1;"),
        format!("{url} px_wallarm_node_address off;").replacen(url, "", 1),
        "px_wallarm_node_address https://localhost;".to_owned(),
    ] {
        assert_accepted(&accepted);
    }
}

#[test]
fn a_node_that_others_can_listen_to_or_that_nobody_waits_for_is_warned_about() {
    for (conf, said) in [
        (
            "px_wallarm_node_address http://127.0.0.1:5000;",
            "\"px_wallarm_node_address\" names an \"http://\" URL: requests can be read on their way to \
             the node in px.conf:1",
        ),
        (
            "px_wallarm_ssl_verify off;",
            "\"px_wallarm_ssl_verify\" is off: anybody between this server and the backends can answer \
             for them in px.conf:1",
        ),
    ] {
        let (accepted, found) = check(conf);
        assert!(accepted, "{conf}");
        assert_eq!(found, [format!("[warn] {said}")]);
    }
    let closed = "px_wallarm_node_address https://127.0.0.1; px_wallarm_fail_open off;";
    let (accepted, found) = check(format!("{closed} px_wallarm_blocking off;"));
    assert!(accepted);
    let [line] = &found[..] else { panic!("{found:?}") };
    let expected = "[warn] px: \"px_wallarm_fail_open\" has no effect where \"px_wallarm_blocking\" is off: \
         nobody waits for a decision, px.conf:1";
    assert!(line.starts_with(expected), "{line}");
    assert_accepted(closed);
    // It has an effect somewhere.
    assert_accepted(&format!("{closed} server {{ listen 127.0.0.1:1; px_wallarm_blocking off; }}"));
}

#[test]
fn a_named_location_must_be_there_in_every_server() {
    let identity = "px_app_id PXabcd1234; px_auth_token t; px_cookie_secret s;
        px_backend_url http://127.0.0.1:1; px_backend_collector_url http://127.0.0.1:1;
        px_cors_support_enabled on; px_enable_json_response on;";
    for directive in [
        "px_custom_block_url",
        "px_custom_web_block_page_response",
        "px_custom_create_advanced_blocking_response",
        "px_custom_rate_limit_block_page",
        "px_custom_verification_handler",
        "px_cors_custom_preflight_handler",
        "px_additional_activity_handler",
    ] {
        let with = |location: &str| {
            format!(
                "{identity} server {{ listen 127.0.0.1:1; px_enabled on;\n{directive} @ours; {location} }}
                 server {{ listen 127.0.0.1:1; server_name b; location @ours {{ }} }}"
            )
        };
        assert_accepted(&with("location @ours { return 200; }"));
        assert_refused_at_the_end(
            &with("location @other { return 200; }"),
            &format!(
                "\"{directive}\" names \"@ours\", but the server has no such location, px.conf:3"
            ),
        );
    }
}

#[test]
fn what_only_makes_no_sense_together_is_refused() {
    let identity = "px_app_id PXabcd1234; px_auth_token t; px_cookie_secret s; px_enabled on;";
    let collector =
        "px_backend_url http://127.0.0.1:1; px_backend_collector_url http://127.0.0.1:1;";
    assert_refused_at_the_end(
        &format!(
            "{identity} px_risk_cookie_min_iterations 600; px_risk_cookie_max_iterations 500;"
        ),
        "\"px_risk_cookie_min_iterations\" 600 is greater than \"px_risk_cookie_max_iterations\" \
         500, px.conf:1",
    );
    assert_refused_at_the_end(
        &format!("{identity} px_risk_cookie_min_iterations 5001;"),
        "\"px_risk_cookie_min_iterations\" 5001 is greater than \"px_risk_cookie_max_iterations\" \
         5000, px.conf:1",
    );
    assert_refused_at_the_end(
        &format!(
            "px_enabled on; px_app_id PXabcd1234; px_cookie_secret s; {collector}\npx_auth_token é;"
        ),
        "invalid \"px_auth_token\": it holds a character that no header may hold, px.conf:1",
    );
}

#[test]
fn bytes_that_are_no_utf_8_are_refused() {
    for (conf, name) in [
        (&b"px_auth_token a\xff;"[..], "px_auth_token"),
        (&b"px_filter_by_route /a \"/\xe9\";"[..], "px_filter_by_route"),
    ] {
        let (accepted, said) = check(conf);
        assert!(!accepted);
        assert_eq!(
            said,
            [format!(
                "[emerg] \"{name}\" directive holds a value that is not valid UTF-8 in px.conf:1"
            )]
        );
    }
}

#[test]
fn secrets_come_from_files() {
    let enabled = "px_enabled on; px_app_id PXabcd1234; px_backend_url http://127.0.0.1:1;
         px_backend_collector_url http://127.0.0.1:1;";
    let accept = |content: &[u8]| {
        let conf =
            format!("{enabled} px_auth_token_file DIR/token; px_cookie_secret_file DIR/secret;");
        check_with(conf, |files| {
            files.secret("token", content);
            files.secret("secret", content);
        })
    };
    for content in ["s", "s\n", "s\r\n", "new\nold\n", "new\n\nold"] {
        assert_eq!(accept(content.as_bytes()), (true, Vec::new()), "{content:?}");
    }

    let names_a_file = |what: &str| format!("\"NAME\" directive names a file that holds {what}");
    for (content, one, several) in [
        (&b""[..], names_a_file("no secret"), names_a_file("no secret")),
        (b"\n\r\n", names_a_file("no secret"), names_a_file("no secret")),
        (b"a\nb\n", names_a_file("more than one line"), String::new()),
        (b"a\nb\nc", names_a_file("more than two secrets"), names_a_file("more than two secrets")),
        (
            b"a\xff",
            "\"NAME\" directive cannot read \"file\": it is not valid UTF-8".to_owned(),
            "\"NAME\" directive cannot read \"file\": it is not valid UTF-8".to_owned(),
        ),
        (
            b"a\tb",
            "\"NAME\" directive names a file that holds a control character".to_owned(),
            "\"NAME\" directive names a file that holds a control character".to_owned(),
        ),
    ] {
        for (name, expected) in [
            ("px_auth_token_file", &several),
            ("px_cookie_secret_old_file", &one),
            ("px_cookie_secret_file", &several),
        ] {
            let (accepted, said) = check_with(format!("\n{name} DIR/file;"), |files| {
                files.secret("file", content);
            });
            if expected.is_empty() {
                assert_eq!((accepted, said), (true, Vec::new()), "{name} {content:?}");
            } else {
                let expected = format!("[emerg] {} in px.conf:2", expected.replace("NAME", name));
                assert_eq!((accepted, said), (false, vec![expected]), "{content:?}");
            }
        }
    }
    let (accepted, said) = check("px_auth_token_file DIR/;");
    assert!(!accepted);
    assert_eq!(
        said,
        [
            "[emerg] \"px_auth_token_file\" directive cannot read \"\": Is a directory (os error 21) in \
          px.conf:1"
        ]
    );
}

#[test]
fn a_secret_that_everybody_can_read_is_warned_about() {
    for name in ["px_auth_token_file", "px_cookie_secret_file", "px_cookie_secret_old_file"] {
        for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            let (accepted, said) = check_with(format!("{name} DIR/file;"), |files| {
                files.file("file", "a", mode);
            });
            let expected = format!(
                "[warn] \"{name}\" names \"file\", which every user of this machine can read: chmod \
                 o-r it in px.conf:1"
            );
            assert!(accepted);
            assert_eq!(said, if warned { vec![expected] } else { Vec::new() }, "{mode:o}");
        }
    }
}

#[test]
fn urls_and_checks_that_give_privacy_up_are_warned_about() {
    let readable = |name: &str| {
        format!(
            "[warn] \"{name}\" names an \"http://\" URL: what is sent there can be read on its way in \
             px.conf:1"
        )
    };
    for name in
        ["px_backend_url", "px_backend_collector_url", "px_client_host", "px_captcha_script_host"]
    {
        for (url, warned) in [
            ("http://sapi.example.net", true),
            ("http://192.0.2.1:8080/x", true),
            ("http://[2001:db8::1]", true),
            ("http://localhost:8080", false),
            ("http://127.0.0.2", false),
            ("http://[::1]:80", false),
            ("https://sapi.example.net", false),
        ] {
            let (accepted, said) = check(format!("{name} {url};"));
            assert!(accepted, "{said:?}");
            assert_eq!(said, if warned { vec![readable(name)] } else { Vec::new() }, "{url}");
        }
    }
    let (accepted, said) = check("px_ssl_verify off;");
    assert!(accepted);
    assert_eq!(
        said,
        [
            "[warn] \"px_ssl_verify\" is off: anybody between this server and the backends can answer \
          for them in px.conf:1"
        ]
    );
}

/// Everything that is needed but the backend, which is HUMAN's own.
const ENABLED: &str = "px_enabled on; px_app_id PXabcd1234; px_auth_token t; px_cookie_secret s;";

#[test]
fn a_certificate_bundle_without_certificates_is_refused() {
    for content in ["", "-----BEGIN NOTHING-----\n"] {
        let (accepted, said) =
            check_with(format!("{ENABLED}\npx_ssl_trusted_certificate DIR/ca.pem;"), |files| {
                files.secret("ca.pem", content);
            });
        assert!(!accepted, "{content:?}");
        assert_eq!(
            said,
            ["[emerg] \"px_ssl_trusted_certificate\" directive names \"ca.pem\", which holds no \
              certificate in px.conf:2"],
            "{content:?}"
        );
    }
}

/// Needs a mount namespace, which root has everywhere but in the strictest containers.
#[test]
fn without_any_certificate_bundle_an_https_backend_is_refused() {
    let namespaces = Command::new("unshare").args(["-m", "true"]).status();
    if !namespaces.is_ok_and(|status| status.success()) {
        eprintln!("not run: mount namespaces are not permitted here");
        return;
    }
    let hidden = "for dir in /etc/ssl /etc/pki; do \
                  if test -d $dir; then mount -t tmpfs none $dir || exit 99; fi; done; exec \"$@\"";
    let run =
        |lines: &str| Files::new().check("", lines, &["unshare", "-m", "sh", "-c", hidden, "sh"]);
    assert_eq!(
        run(ENABLED),
        (
            false,
            vec![
                "[emerg] px: no certificate bundle was found to verify the backends with: install \
                 your distribution's ca-certificates or set \"px_ssl_trusted_certificate\", \
                 nginx.conf:9 in nginx.conf:10"
                    .to_owned()
            ]
        )
    );
    let plain = "px_backend_url http://127.0.0.1:1; px_backend_collector_url http://127.0.0.1:1; \
         px_client_host http://127.0.0.1:1; px_captcha_script_host http://127.0.0.1:1;";
    assert_eq!(run(&format!("{ENABLED} {plain}")), (true, Vec::new()));
    let (accepted, said) = run(&format!("{ENABLED} px_ssl_verify off;"));
    assert!(accepted, "{said:?}");
}

#[test]
fn a_name_that_does_not_resolve_yet_is_no_error() {
    assert_accepted(&format!(
        "{ENABLED} px_backend_url https://sapi.invalid; px_backend_collector_url https://c.invalid;"
    ));
}

/// No secret stands in the dump of the configuration, in a message, or in a debug log.
#[test]
fn secrets_of_files_are_told_to_nobody() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let app = sandbox.app();
    let (token, secret) = (app.auth_token.clone(), app.secret.clone());
    let server = protect(&sandbox)
        .replace(&format!("px_auth_token {token}"), "px_auth_token_file conf.token")
        .replace(&format!("px_cookie_secret {secret}"), "px_cookie_secret_file conf.secret");
    let nginx = Nginx::builder()
        .server(&format!("{server} px_debug on; location / {{ {} }}", origin.proxy_pass()))
        .error_log_level("debug")
        .start_with(|dir| {
            for (name, text) in [("conf.token", &token), ("conf.secret", &secret)] {
                let path = dir.join(name);
                fs::write(&path, format!("{text}\n")).expect("a file can be written");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
            }
        });
    let cookie = sandbox.mint(BROWSER).cookie();
    let (_, value) = cookie.split_once('=').expect("a cookie");
    // Good, broken, none, blocked, failing: every line the module writes about a request.
    let broken = format!("Cookie: {}x", &cookie[..cookie.len() - 1]);
    assert_eq!(get(nginx.addr(), "/", &[&format!("Cookie: {cookie}")]).status, 200);
    assert_eq!(get(nginx.addr(), "/", &[&broken]).status, 200);
    assert_eq!(get(nginx.addr(), "/px-sandbox/block", &[]).status, 403);
    sandbox.go_down();
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);

    let dump = Command::new(support::nginx::binary())
        .args(["-T", "-p"])
        .arg(nginx.dir())
        .args(["-c", "nginx.conf"])
        .output()
        .expect("nginx can be run");
    let dump =
        String::from_utf8_lossy(&dump.stdout).into_owned() + &String::from_utf8_lossy(&dump.stderr);
    assert!(dump.contains("px_auth_token_file conf.token;"), "{dump}");
    let log = nginx.quit();
    assert!(log.contains("px: pass, reason cookie") && log.contains("px: block"), "{log}");
    for hidden in [token.as_str(), secret.as_str()] {
        assert!(!dump.contains(hidden), "nginx -T shows {hidden}");
        let told = log.lines().find(|line| line.contains(hidden));
        assert_eq!(told, None, "the log shows {hidden}");
    }
    // The first two parts of a cookie are its HMAC and salt.
    assert!(
        !log.lines().filter(|line| line.contains("px:")).any(|line| line.contains(&value[..40]))
    );
}

/// Messages about directives that hold secrets repeat nothing of them.
#[test]
fn no_message_repeats_a_secret() {
    for conf in [
        "px_auth_token hush-hush; px_auth_token hush-hush;",
        "px_auth_token hush-hush px_enabled on;",
        "px_auth_token hush-hush \"\";",
        "px_auth_token \"hush-hush\\t\";",
        "px_auth_token hush-hush;\n px_auth_token_file /nonexistent;",
        "px_cookie_secret hush-hush hush-hush hush-hush;",
        "px_cookie_secret hush-hush \"\";",
        "px_cookie_secret_old hush-hush; px_cookie_secret_old \"\";",
        "px_enabled on; px_app_id PXabcd1234; px_cookie_secret hush-hush; px_auth_token hush-hushé;",
        "px_enabled on; px_auth_token hush-hush; px_cookie_secret hush-hush;",
    ] {
        let (accepted, said) = check(conf);
        assert!(!accepted, "{conf}");
        assert!(!said.concat().contains("hush"), "{conf}: {said:?}");
    }
    for (name, content) in [
        ("px_auth_token_file", "hush-hush\nhush-hush\nhush-hush"),
        ("px_cookie_secret_file", "hush-hush\nhush-hush\nhush-hush"),
        ("px_cookie_secret_old_file", "hush\thush"),
    ] {
        let (accepted, said) = check_with(format!("{name} DIR/file;"), |files| {
            files.secret("file", content);
        });
        assert!(!accepted, "{name}");
        assert!(!said.concat().contains("hush"), "{name}: {said:?}");
    }
}
