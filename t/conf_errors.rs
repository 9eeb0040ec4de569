//! Tests for the px module: what is wrong in the configuration stops `nginx -t` with a text that
//! names directive, value, what is allowed, and the place.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use px_sandbox::Sandbox;
use support::{BROWSER, Nginx, Origin, get, protect};

/// What a directive does when it stands twice at one level.
#[derive(Clone, Copy, PartialEq)]
enum Twice {
    IsDuplicate,
    Appends,
    MustAgree,
}
use Twice::{Appends, IsDuplicate, MustAgree};

/// One directive of the table in `src/directives.rs`.
struct Row {
    name: &'static str,
    twice: Twice,
    /// Arguments that are accepted without a word.
    good: &'static str,
    /// Arguments and what is said about them; `{}` is the directive's name.
    bad: &'static [(&'static str, &'static str)],
    /// A number of arguments that is refused.
    arity: &'static str,
}

const fn row(
    name: &'static str,
    twice: Twice,
    good: &'static str,
    bad: &'static [(&'static str, &'static str)],
    arity: &'static str,
) -> Row {
    Row { name, twice, good, bad, arity }
}

macro_rules! invalid {
    ($value:literal, $reason:expr) => {
        ($value, concat!("invalid value \"", $value, "\" in \"{}\" directive, ", $reason))
    };
}

const FLAG: &[(&str, &str)] = &[
    invalid!("yes", "it must be \"on\" or \"off\""),
    ("\"\"", "invalid value \"\" in \"{}\" directive, it must be \"on\" or \"off\""),
];
const STATUS: &[(&str, &str)] = &[
    invalid!("xml", "it must be \"json\" or \"prometheus\""),
    ("\"\"", "invalid value \"\" in \"{}\" directive, it must be \"json\" or \"prometheus\""),
];
const APP_ID: &[(&str, &str)] = &[
    invalid!("abcd1234", "it must be the application id, \"PX\" followed by letters and digits"),
    invalid!("PX", "it must be the application id, \"PX\" followed by letters and digits"),
    invalid!("PXab/cd", "it must be the application id, \"PX\" followed by letters and digits"),
    invalid!("PX$app", "it must be the application id, \"PX\" followed by letters and digits"),
];
const SECRET: &[(&str, &str)] = &[
    ("\"\"", "\"{}\" directive holds an empty secret"),
    ("\"se\\tcret\"", "\"{}\" directive holds a secret with a control character"),
];
const HEADER: &[(&str, &str)] = &[
    invalid!("x:y", "it must be a header name"),
    ("\"x y\"", "invalid value \"x y\" in \"{}\" directive, it must be a header name"),
];
const HEADERS: &[(&str, &str)] = &[
    ("x-one x:two", "invalid value \"x:two\" in \"{}\" directive, it must be a header name"),
    ("x-one \"\"", "\"{}\" directive holds an empty value among others"),
];
const TEXTS: &[(&str, &str)] = &[("/a \"\"", "\"{}\" directive holds an empty value among others")];
const ROUTES: &[(&str, &str)] = &[
    ("/a \"\"", "\"{}\" directive holds an empty value among others"),
    (
        "\"~^/a(?=b)\"",
        "invalid value \"~^/a(?=b)\" in \"{}\" directive, look-ahead and look-behind are not \
         supported, because expressions are matched in linear time (at character 4 of \"^/a(?=b)\")",
    ),
    (
        "/ok \"~*/a(b\"",
        "invalid value \"~*/a(b\" in \"{}\" directive, unclosed group (at character 3 of \"/a(b\")",
    ),
    ("\"~\"", "invalid value \"~\" in \"{}\" directive, the regular expression is empty"),
];
const REGEXES: &[(&str, &str)] = &[
    ("a \"\"", "\"{}\" directive holds an empty value among others"),
    (
        "\"/(?<!a)b/i\"",
        "invalid value \"/(?<!a)b/i\" in \"{}\" directive, look-ahead and look-behind are not \
         supported, because expressions are matched in linear time (at character 1 of \"(?<!a)b\")",
    ),
    (
        "\"(a)\\\\1\"",
        "invalid value \"(a)\\1\" in \"{}\" directive, back-references are not supported, because \
         expressions are matched in linear time (at character 4 of \"(a)\\1\")",
    ),
    (
        "[z-a]",
        "invalid value \"[z-a]\" in \"{}\" directive, invalid character class range, the start \
         must be <= the end (at character 2 of \"[z-a]\")",
    ),
    (
        "\"(a{1000}){1000}\"",
        "invalid value \"(a{1000}){1000}\" in \"{}\" directive, it needs more than 10 MiB once \
         compiled (\"(a{1000}){1000}\")",
    ),
];
const NETWORKS: &[(&str, &str)] = &[
    (
        "10.0.0.0/8 office",
        "invalid value \"office\" in \"{}\" directive, \"office\" is neither an IPv4 nor an IPv6 \
         address; write an address, a network like \"192.0.2.0/24\" or \"2001:db8::/32\", or \"unix:\"",
    ),
    invalid!("10.0.0.0/33", "prefix length \"/33\" is not a number from 0 to 32"),
    invalid!("2001:db8::/129", "prefix length \"/129\" is not a number from 0 to 128"),
];
const URL: &[(&str, &str)] = &[
    invalid!("sapi.example.net", "it must look like \"https://host[:port][/path]\""),
    invalid!("ftp://sapi.example.net", "it must look like \"https://host[:port][/path]\""),
    invalid!("https://", "its host is empty or holds characters that no host name has"),
    invalid!("https://$host", "its host is empty or holds characters that no host name has"),
    invalid!("https://sapi.example.net:0", "its port is not a number from 1 to 65535"),
    invalid!("https://[::1:443", "it must look like \"https://host[:port][/path]\""),
    invalid!("https://[::z]", "its IPv6 address is not valid"),
    invalid!(
        "https://sapi.example.net/a?b",
        "its path holds characters other than letters, digits and \"/._~-%\""
    ),
];
const COMPLEX: &[(&str, &str)] = &[("$px_no_such", "unknown \"px_no_such\" variable")];

macro_rules! number {
    ($min:literal, $max:literal, $below:literal, $above:literal) => {
        &[
            invalid!($below, concat!("it must be a whole number from ", $min, " to ", $max)),
            invalid!($above, concat!("it must be a whole number from ", $min, " to ", $max)),
            invalid!("1.5", concat!("it must be a whole number from ", $min, " to ", $max)),
            (
                "\"\"",
                concat!(
                    "invalid value \"\" in \"{}\" directive, it must be a whole number from ",
                    $min,
                    " to ",
                    $max
                ),
            ),
        ]
    };
}

macro_rules! time {
    ($min:literal, $max:literal, $below:literal, $above:literal) => {
        &[
            invalid!(
                $below,
                concat!(
                    "it must be a time from ",
                    $min,
                    "ms to ",
                    $max,
                    "ms, such as \"500ms\" or \"1s\""
                )
            ),
            invalid!(
                $above,
                concat!(
                    "it must be a time from ",
                    $min,
                    "ms to ",
                    $max,
                    "ms, such as \"500ms\" or \"1s\""
                )
            ),
            invalid!(
                "soon",
                concat!(
                    "it must be a time from ",
                    $min,
                    "ms to ",
                    $max,
                    "ms, such as \"500ms\" or \"1s\""
                )
            ),
        ]
    };
}

const MODE: &[(&str, &str)] = &[
    invalid!("blocking", "it must be \"monitor\" or \"active_blocking\""),
    invalid!("on", "it must be \"monitor\" or \"active_blocking\""),
];
const TOKEN_VERSION: &[(&str, &str)] = &[
    invalid!("v4", "it must be \"v3\", \"v3 v1\" or \"v2\""),
    invalid!("v1", "it must be \"v3\", \"v3 v1\" or \"v2\""),
    invalid!("v2 v1", "it must be \"v3\", \"v3 v1\" or \"v2\""),
];
const SPOOL: &[(&str, &str)] = &[
    invalid!("on", "it must be \"off\" or \"path=directory max_size=size\""),
    (
        "path=/tmp max_size=1k",
        "invalid value \"max_size=1k\" in \"{}\" directive, it must be a size of 1m or more",
    ),
    ("path=/tmp", "\"{}\" directive needs both \"path\" and \"max_size\""),
    ("max_size=1m", "\"{}\" directive needs both \"path\" and \"max_size\""),
];
const TOKEN_CACHE: &[(&str, &str)] = &[
    invalid!("on", "it must be \"off\" or \"zone=name:size\""),
    invalid!("zone=px", "it must be \"off\" or \"zone=name:size\""),
    invalid!("zone=:8m", "its zone needs a name of letters, digits, \"_\" and \"-\""),
    invalid!("zone=px:1k", "its size must be 512k or more"),
    invalid!("zone=px:much", "its size must be 512k or more"),
];
const EXTENSIONS: &[(&str, &str)] = &[
    (
        ".css /a.js",
        "invalid value \"/a.js\" in \"{}\" directive, it must be a file extension such as \".css\"",
    ),
    (".", "invalid value \".\" in \"{}\" directive, it must be a file extension such as \".css\""),
];
const METHODS: &[(&str, &str)] = &[(
    "HEAD \"P OST\"",
    "invalid value \"P OST\" in \"{}\" directive, it must be a request method",
)];
const HEADER_PAIR: &[(&str, &str)] = &[
    ("x:y z", "invalid value \"x:y\" in \"{}\" directive, it must be a header name"),
    ("\"\" z", "invalid value \"\" in \"{}\" directive, it must be a header name"),
    ("x-name", "\"{}\" directive needs a header name and its value"),
];
const FILE: &[(&str, &str)] = &[(
    "/nonexistent/px",
    "\"{}\" directive cannot read \"/nonexistent/px\": No such file or directory (os error 2)",
)];
const CA_FILE: &[(&str, &str)] = &[
    (
        "/nonexistent/px",
        "\"{}\" directive cannot read \"/nonexistent/px\": No such file or directory (os error 2)",
    ),
    ("/tmp/a$b", "\"{}\" directive names a file with quotes, \"\\\" or \"$\""),
];

/// `SECRET_FILE` and `CA_FILE` are replaced by files that are there.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("px_app_id", IsDuplicate, "PXabcd1234", APP_ID, "PXa PXb"),
    row("px_appId", IsDuplicate, "PXabcd1234", APP_ID, ""),
    row("px_auth_token", IsDuplicate, "\"to $ken\"", SECRET, "a b"),
    row("px_auth_token_file", IsDuplicate, "SECRET_FILE", FILE, ""),
    row("px_cookie_secret", IsDuplicate, "new old", SECRET, "a b c"),
    row("px_cookie_secret_file", IsDuplicate, "SECRET_FILE", FILE, "a b"),
    row("px_cookie_secret_old", IsDuplicate, "old", SECRET, "a b"),
    row("px_cookie_secret_old_file", IsDuplicate, "SECRET_FILE", FILE, "a b"),
    row("px_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_module_enabled", IsDuplicate, "off", FLAG, "on off"),
    row("px_active_header_name", IsDuplicate, "x-px-active", HEADER, "a b"),
    row("px_block_enabled", MustAgree, "on", FLAG, ""),
    row("px_module_mode", MustAgree, "active_blocking", MODE, ""),
    row("px_blocking_score", IsDuplicate, "0", number!("0", "100", "-1", "101"), ""),
    row("px_bypass_monitor_header", IsDuplicate, "x-px-block", HEADER, ""),
    row("px_s2s_timeout", IsDuplicate, "2000", time!("1", "60000", "0", "61s"), ""),
    row("px_debug", IsDuplicate, "off", FLAG, ""),
    row("px_variables_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_url_decode_reserved_characters", IsDuplicate, "on", FLAG, ""),

    row("px_enabled_routes", Appends, "/a =/b ~c ~*d", ROUTES, ""),
    row("px_whitelist_uri_full", Appends, "/a /b?c=1", TEXTS, ""),
    row("px_whitelist_uri_prefixes", Appends, "/a /b", TEXTS, ""),
    row("px_whitelist_uri_suffixes", Appends, "/a .b", TEXTS, ""),
    row("px_whitelist_uri_pattern", Appends, "/a/.+", REGEXES, ""),
    row("px_whitelist_ip_addresses", Appends, "10.0.0.0/8 2001:db8::1 unix:", NETWORKS, ""),
    row("px_filter_by_ip", Appends, "192.0.2.1 ::ffff:192.0.2.0/120", NETWORKS, ""),
    row("px_whitelist_ua_full", Appends, "\"A b/1.0\"", TEXTS, ""),
    row("px_whitelist_ua_sub", Appends, "bot", TEXTS, ""),
    row("px_whitelist_hosts", Appends, "a.test b.test", TEXTS, ""),
    row("px_filter_by_route", Appends, "/a =/b ~c ~*d", ROUTES, ""),
    row("px_filter_by_domain", Appends, "\\.test$", REGEXES, ""),
    row("px_filter_by_extension", Appends, ".css js", EXTENSIONS, ""),
    row("px_filter_by_http_method", Appends, "options HEAD", METHODS, ""),
    row("px_filter_by_user_agent", Appends, "Probe/ ~*monitor", ROUTES, ""),
    row("px_filter_by_header", Appends, "x-probe 1", HEADER_PAIR, "a b c"),
    row("px_filter_strict", IsDuplicate, "off", FLAG, ""),

    row("px_enforced_routes", Appends, "/a ^/b =/c ~d", ROUTES, ""),
    row("px_enforced_routes_exclusive", IsDuplicate, "off", FLAG, ""),
    row("px_monitored_routes", Appends, "/a ^/b =/c ~d", ROUTES, ""),
    row("px_sensitive_routes", Appends, "/a =/b ~c ~*d", ROUTES, ""),
    row("px_sensitive_routes_prefix", Appends, "/a /b", TEXTS, ""),
    row("px_sensitive_routes_suffix", Appends, "/a /b", TEXTS, ""),
    row("px_sensitive_routes_regex", Appends, "/.*\\/enforced\\/regex$/ ^/b", REGEXES, ""),

    row("px_ip_headers", Appends, "X-True-IP X-Forwarded-For", HEADERS, ""),
    row("px_sensitive_headers", Appends, "cookie authorization", HEADERS, ""),
    row("px_custom_cookie_header", IsDuplicate, "x-px-cookies", HEADER, ""),
    row("px_data_enrichment_header_name", IsDuplicate, "x-px-de", HEADER, ""),
    row("px_pxde_header_name", IsDuplicate, "x-px-de", HEADER, ""),
    row("px_enable_pxde", IsDuplicate, "on", FLAG, ""),
    row("px_secured_pxhd_enabled", IsDuplicate, "on", FLAG, ""),

    row("px_enable_json_response", IsDuplicate, "on", FLAG, ""),
    row("px_advanced_blocking_response_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_custom_logo", IsDuplicate, "https://$host/logo.png", COMPLEX, ""),
    row("px_css_ref", IsDuplicate, "/block.css", COMPLEX, ""),
    row("px_js_ref", IsDuplicate, "/block.js", COMPLEX, ""),
    row("px_client_host", IsDuplicate, "https://client.example.net", URL, ""),
    row("px_captcha_script_host", IsDuplicate, "//captcha.example.net", URL, ""),

    row("px_send_async_activities_enabled", IsDuplicate, "off", FLAG, ""),
    row("px_compression_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_compression_level", IsDuplicate, "9", number!("1", "9", "0", "10"), ""),
    row("px_max_activity_batch_size", IsDuplicate, "0", number!("0", "1000", "-1", "1001"), ""),
    row("px_batch_activities_timeout_ms", IsDuplicate, "1s", time!("10", "60000", "9", "60001"), ""),
    row("px_async_timeout", IsDuplicate, "500ms", time!("10", "60000", "0", "2h"), ""),

    row("px_activity_spool", IsDuplicate, "off", SPOOL, "a b c"),

    row("px_backend_url", IsDuplicate, "https://sapi.example.net/base/", URL, ""),
    row("px_backend_collector_url", IsDuplicate, "http://127.0.0.1:9000", URL, ""),
    row("px_max_errors_threshold", IsDuplicate, "0", number!("0", "1000000", "-1", "1000001"), ""),
    row("px_errors_count_interval", IsDuplicate, "60s", time!("100", "3600000", "99", "2h"), ""),
    row("px_ssl_verify", IsDuplicate, "on", FLAG, ""),
    row("px_ssl_verify_depth", IsDuplicate, "5", number!("1", "20", "0", "21"), ""),
    row("px_ssl_trusted_certificate", IsDuplicate, "CA_FILE", CA_FILE, ""),
    row("px_token_version", IsDuplicate, "v3 v1", TOKEN_VERSION, ""),
    row("px_risk_cookie_max_length", IsDuplicate, "4096", number!("1", "65536", "0", "65537"), ""),
    row("px_risk_cookie_min_iterations", IsDuplicate, "1", number!("1", "1000000", "0", "1000001"), ""),
    row("px_risk_cookie_max_iterations", IsDuplicate, "10000", number!("1", "1000000", "0", "1000001"), ""),
    row("px_user_agent_max_length", IsDuplicate, "1024", number!("1", "65536", "0", "65537"), ""),
    row("px_token_cache", IsDuplicate, "zone=px:8m", TOKEN_CACHE, ""),
    row("px_forged_cookie_budget", IsDuplicate, "0", number!("0", "100000", "-1", "100001"), ""),

    row("px_status", IsDuplicate, "prometheus", STATUS, "json prometheus"),
];

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

/// Other names of a directive, which share its storage.
const SYNONYMS: &[(&str, &str)] = &[
    ("px_app_id", "px_appId"),
    ("px_auth_token", "px_auth_token_file"),
    ("px_cookie_secret", "px_cookie_secret_file"),
    ("px_cookie_secret_old", "px_cookie_secret_old_file"),
    ("px_enabled", "px_module_enabled"),
    ("px_block_enabled", "px_module_mode"),
    ("px_whitelist_ip_addresses", "px_filter_by_ip"),
    ("px_data_enrichment_header_name", "px_pxde_header_name"),
    ("px_enable_json_response", "px_advanced_blocking_response_enabled"),
];

/// A directory of one test, away when it is over.
struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("px-conf-errors-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory can be made");
        Self(dir)
    }

    /// A file that only its owner can read; its path.
    fn secret(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.file(name, content, 0o600)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode can be set");
        path.display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `nginx -t` says about `conf`, which stands in the file `px.conf` inside `http`: whether it
/// accepts it, and its lines from `[warn]` on, without time and process.
fn check(conf: impl AsRef<[u8]>) -> (bool, Vec<String>) {
    check_with(conf, |_| ())
}

/// As [`check`]; `prepare` may put files beside `px.conf`, which calls their directory `DIR/`.
fn check_with(conf: impl AsRef<[u8]>, prepare: impl FnOnce(&Files)) -> (bool, Vec<String>) {
    let files = Files::new();
    prepare(&files);
    let conf = match std::str::from_utf8(conf.as_ref()) {
        Ok(text) => text.replace("DIR/", &files.prefix()).into_bytes(),
        Err(_) => conf.as_ref().to_vec(),
    };
    files.secret("px.conf", conf);
    files.check("", "include px.conf;", &[])
}

impl Files {
    fn prefix(&self) -> String {
        format!("{}/", self.0.display())
    }

    /// What `nginx -t`, behind the words of `command`, says about a configuration with `main` in its
    /// sixth line and `http` in its ninth. Names of files in here are shown without directory.
    fn check(&self, main: &str, http: &str, command: &[&str]) -> (bool, Vec<String>) {
        let dir = self.prefix();
        let module = support::nginx::module();
        self.secret(
            "nginx.conf",
            format!(
                "load_module {};\npid {dir}pid;\nerror_log stderr;\nevents {{}}\n\n{main}\nhttp {{\n\
                 client_body_temp_path {dir}a; proxy_temp_path {dir}b; fastcgi_temp_path {dir}c; \
                 uwsgi_temp_path {dir}d; scgi_temp_path {dir}e;\n\
                 {http}\nserver {{ listen unix:{dir}s; }} }}\n",
                module.display()
            ),
        );
        let nginx = support::nginx::binary();
        let nginx = nginx.to_str().expect("UTF-8");
        let words: Vec<&str> = command
            .iter()
            .copied()
            .chain([nginx, "-t", "-q", "-p", &dir, "-c", "nginx.conf"])
            .collect();
        let output = Command::new(words[0]).args(&words[1..]).output().expect("nginx can be run");
        let _ = fs::remove_file(self.0.join("s"));
        let said = String::from_utf8_lossy(&output.stderr).replace(&dir, "");
        let lines = lines(&said);
        assert!(output.status.success() || !lines.is_empty(), "{said}");
        (output.status.success(), lines)
    }
}

/// `[level] text` of every line from `[warn]` on, each once: nginx may write to a log and to stderr.
fn lines(said: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in said.lines() {
        let Some(level) = ["[warn]", "[error]", "[crit]", "[alert]", "[emerg]"]
            .into_iter()
            .find(|level| line.contains(level))
        else {
            continue;
        };
        let (_, text) = line.split_once(level).expect("just found");
        let text = text.trim_start();
        let is_pid =
            |(pid, _): &(&str, &str)| pid.bytes().all(|byte| byte.is_ascii_digit() || byte == b'#');
        let text = text.split_once(": ").filter(is_pid).map_or(text, |(_, text)| text);
        let line = format!("{level} {text}");
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
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

fn is_synonym(name: &str) -> bool {
    SYNONYMS.iter().any(|(_, synonym)| *synonym == name)
}

/// A good line for every directive but those that `skip`.
fn good_lines(files: &Files, skip: impl Fn(&str) -> bool) -> String {
    let secret = files.secret("secret", "one\n");
    let rows = ROWS.iter().filter(|row| !skip(row.name) && !IN_LOCATIONS.contains(&row.name));
    rows.map(|row| format!("{} {};\n", row.name, row.good))
        .collect::<String>()
        .replace("SECRET_FILE", &secret)
        .replace("CA_FILE", "/etc/ssl/certs/ca-certificates.crt")
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
    let of_one_spelling = good_lines(&files, is_synonym);
    let with_the_other =
        good_lines(&files, |name| SYNONYMS.iter().any(|(first, _)| *first == name));
    for lines in [of_one_spelling, with_the_other] {
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
    assert_eq!(flags.len(), 15);
    for word in ["on", "off", "true", "false", "1", "0", "On", "OFF", "True", "FALSE"] {
        let of = |one: bool| {
            let rows = flags.iter().filter(|row| is_synonym(row.name) != one);
            rows.map(|row| format!("{} {word};\n", row.name)).collect::<String>()
        };
        // Where a flag switches everything on, or warns, others make it complete and quiet.
        let identity = "px_app_id PXabcd1234; px_auth_token t; px_cookie_secret s;\n";
        for lines in [of(true), of(false)] {
            let (accepted, said) = check(format!("{identity}{lines}"));
            assert!(accepted, "{word}: {}", said.join("\n"));
        }
    }
}

#[test]
fn a_scalar_may_stand_once_and_a_list_often() {
    for_each(ROWS, |row| {
        let files = Files::new();
        let secret = files.secret("secret", "one\n");
        let good = row
            .good
            .replace("SECRET_FILE", &secret)
            .replace("CA_FILE", "/etc/ssl/certs/ca-certificates.crt");
        let conf = at_its_place(row.name, &format!("{0} {good};\n{0} {good};\n", row.name));
        match row.twice {
            IsDuplicate => {
                assert_refused(
                    &conf,
                    &format!("\"{}\" directive is duplicate in px.conf:2", row.name),
                );
            }
            Appends | MustAgree => assert_accepted(&conf),
        }
    });
}

#[test]
fn two_names_of_one_directive_are_one_directive() {
    for (first, second) in SYNONYMS {
        let files = Files::new();
        let secret = files.secret("secret", "one\n");
        let line = |name: &str| {
            let row = ROWS.iter().find(|row| row.name == name).expect("in the table");
            format!("{name} {};\n", row.good.replace("SECRET_FILE", &secret))
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
            files.secret("token", "token\n");
            files.secret("secret", content);
        })
    };
    for content in ["s", "s\n", "s\r\n", "new\nold\n", "new\n\nold"] {
        assert_eq!(accept(content.as_bytes()), (true, Vec::new()), "{content:?}");
    }

    let names_a_file = |what: &str| format!("\"NAME\" directive names a file that holds {what}");
    for (content, token, secret) in [
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
            ("px_auth_token_file", &token),
            ("px_cookie_secret_old_file", &token),
            ("px_cookie_secret_file", &secret),
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
    let plain = "px_backend_url http://127.0.0.1:1; px_backend_collector_url http://127.0.0.1:1;";
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
        ("px_auth_token_file", "hush-hush\nhush-hush"),
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
