//! What each directive takes and refuses: the table of `src/directives.rs` from the operator's side.

/// What a directive does when it stands twice at one level.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Twice {
    IsDuplicate,
    Appends,
    MustAgree,
}
use Twice::{Appends, IsDuplicate, MustAgree};

/// One directive of the table in `src/directives.rs`.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) twice: Twice,
    /// Arguments that are accepted without a word.
    pub(crate) good: &'static str,
    /// Arguments and what is said about them; `{}` is the directive's name.
    pub(crate) bad: &'static [(&'static str, &'static str)],
    /// A number of arguments that is refused.
    pub(crate) arity: &'static str,
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

pub(crate) const FLAG: &[(&str, &str)] = &[
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
pub(crate) const COMPLEX: &[(&str, &str)] = &[("$px_no_such", "unknown \"px_no_such\" variable")];

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

const ENDPOINT: &[(&str, &str)] = &[
    ("path", "\"{}\" directive holds \"path\", which is not of the form key=value"),
    (
        "path=/a method=post sent_through=boddy",
        "\"{}\" directive holds an invalid \"sent_through\": \"boddy\" is not one of body, header, \
         query-param, custom",
    ),
    ("path=/a method=post sent_through=body user_field=u", "\"{}\" directive lacks \"pass_field\""),
    (
        "path=/a method=post sent_through=custom",
        "\"{}\" directive needs \"user\", \"pass\" or both where sent_through is custom",
    ),
    ("path=/a path=/b", "\"{}\" directive holds an invalid \"path\": it is given twice"),
];
const PROTOCOL: &[(&str, &str)] =
    &[invalid!("v3", "it must be \"v1\", \"v2\", \"multistep_sso\" or \"both\"")];
const LOGIN_METHOD: &[(&str, &str)] =
    &[invalid!("cookie", "it must be \"none\", \"status\", \"header\", \"body\" or \"custom\"")];
const STATUSES: &[(&str, &str)] = &[
    ("200 99", "invalid value \"99\" in \"{}\" directive, it must be a status from 100 to 599"),
    ("ok", "invalid value \"ok\" in \"{}\" directive, it must be a status from 100 to 599"),
];
const REGEX: &[(&str, &str)] = &[(
    "\"(a\"",
    "invalid value \"(a\" in \"{}\" directive, unclosed group (at character 1 of \"(a\")",
)];
const OPERATION_TYPES: &[(&str, &str)] = &[(
    "query fragment",
    "invalid value \"fragment\" in \"{}\" directive, it must be \"query\", \"mutation\" or \
     \"subscription\"",
)];
const COOKIE: &[(&str, &str)] = &[invalid!("a=b", "it must be the name of a cookie")];
const FIELD: &[(&str, &str)] = &[
    ("name", "\"{}\" directive needs a field name and its value"),
    ("\"\" value", "\"{}\" directive has an empty field name"),
];
const PATH: &[(&str, &str)] = &[invalid!("mcp", "it must be a path such as \"/mcp\"")];
const BODY_SIZE: &[(&str, &str)] = &[
    invalid!("0", "it must be a size from 1 to 64m, such as \"64k\""),
    invalid!("65m", "it must be a size from 1 to 64m, such as \"64k\""),
    invalid!("large", "it must be a size from 1 to 64m, such as \"64k\""),
];
const NODE_URL: &[(&str, &str)] = &[
    invalid!("node.example.com", "it must be \"off\" or look like \"https://host[:port][/path]\""),
    invalid!(
        "//node.example.com",
        "it must be \"off\" or look like \"https://host[:port][/path]\""
    ),
    invalid!("ftp://h", "it must be \"off\" or look like \"https://host[:port][/path]\""),
    invalid!("https://user@h", "its host is empty or holds characters that no host name has"),
    invalid!("https://h?x", "its host is empty or holds characters that no host name has"),
    invalid!(
        "https://h/a?x",
        "its path holds characters other than letters, digits and \"/._~-%\""
    ),
    invalid!(
        "https://h/a#x",
        "its path holds characters other than letters, digits and \"/._~-%\""
    ),
    invalid!("https://h:0", "its port is not a number from 1 to 65535"),
    invalid!("https://h:65536", "its port is not a number from 1 to 65535"),
];
const NODE_BODY_SIZE: &[(&str, &str)] = &[
    invalid!("65m", "it must be a size from 0 to 64m, such as \"64k\""),
    invalid!("large", "it must be a size from 0 to 64m, such as \"64k\""),
];
const SEVERITY: &[(&str, &str)] =
    &[invalid!("info", "it must be \"none\", \"error\" or \"debug\"")];
const NAMED: &[(&str, &str)] = &[
    invalid!("block", "it must be \"off\" or a named location of this server, such as \"@block\""),
    invalid!("@a/b", "it must be \"off\" or a named location of this server, such as \"@block\""),
    invalid!("@", "it must be \"off\" or a named location of this server, such as \"@block\""),
];
const TARGET: &[(&str, &str)] = &[invalid!(
    "block",
    "it must be a named location such as \"@block\" or a URI such as \"/block.html\""
)];
const BLOCK_URL: &[(&str, &str)] = &[
    invalid!(
        "block.html",
        "it must be a path such as \"/block.html\", a named location such as \"@block\" or a URL \
         such as \"https://www.example.com/block.html\""
    ),
    invalid!("@a/b", "it must be \"off\" or a named location of this server, such as \"@block\""),
];
const COOKIE_NAMES: &[(&str, &str)] =
    &[("a b=c", "invalid value \"b=c\" in \"{}\" directive, it must be the name of a cookie")];
const SLOTS: &[(&str, &str)] = &[
    ("x-a \"\" x:b", "invalid value \"x:b\" in \"{}\" directive, it must be a header name"),
    ("a b c d e f g h i j k", "\"{}\" directive has more than 10 values at this level"),
];
const SLOT: &[(&str, &str)] = &[
    ("0 x", "invalid value \"0\" in \"{}\" directive, it must be a whole number from 1 to 20"),
    ("21 x", "invalid value \"21\" in \"{}\" directive, it must be a whole number from 1 to 20"),
    ("a x", "invalid value \"a\" in \"{}\" directive, it must be a whole number from 1 to 20"),
];
const PROXY: &[(&str, &str)] = &[
    invalid!("https://127.0.0.1:3128", "it must look like \"http://host:port\""),
    invalid!("http://127.0.0.1:3128/path", "it must look like \"http://host:port\""),
    invalid!("127.0.0.1:3128", "it must look like \"https://host[:port][/path]\""),
];
const BASIC: &[(&str, &str)] = &[
    ("\"\"", "\"{}\" directive holds an empty secret"),
    ("\"Bearer x\"", "\"{}\" directive must be \"Basic \" and user:password in base64"),
    ("\"Basic dXNlcg==\"", "\"{}\" directive must be \"Basic \" and user:password in base64"),
];
const NOTHING: &[(&str, &str)] = &[];
const FIRST_PARTY_PATH: &[(&str, &str)] = &[
    invalid!(
        "botdefense",
        "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
    ),
    invalid!(
        "/",
        "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
    ),
    invalid!(
        "/a?b",
        "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
    ),
    invalid!(
        "/a//b",
        "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
    ),
    invalid!(
        "/a/../b",
        "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
    ),
    (
        "\"/a b\"",
        "invalid value \"/a b\" in \"{}\" directive, it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces",
    ),
];
const FIRST_PARTY_PREFIX: &[(&str, &str)] = &[
    invalid!(
        "/",
        "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
    ),
    invalid!(
        "a?b",
        "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
    ),
    invalid!(
        "../b",
        "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
    ),
];
const FIRST_PARTY_CACHE: &[(&str, &str)] = &[
    invalid!("a/b", "it must be \"off\" or the name of a cache zone"),
    ("zone never", "invalid value \"never\" in \"{}\" directive, it must be a time from 1s to 1d"),
    ("zone 2d", "invalid value \"2d\" in \"{}\" directive, it must be a time from 1s to 1d"),
];
const MINUTES: &[(&str, &str)] = &[
    invalid!("0", "it must be a number of minutes, or a time with its unit, from 1s to 30d"),
    invalid!("500ms", "it must be a number of minutes, or a time with its unit, from 1s to 30d"),
    invalid!("often", "it must be a number of minutes, or a time with its unit, from 1s to 30d"),
    invalid!("50000", "it must be a number of minutes, or a time with its unit, from 1s to 30d"),
];
const SECONDS: &[(&str, &str)] = &[
    invalid!("0", "it must be a number of seconds, or a time with its unit, from 1s to 30d"),
    invalid!("31d", "it must be a number of seconds, or a time with its unit, from 1s to 30d"),
];
const DIRECTORY: &[(&str, &str)] = &[("\"\"", "\"{}\" directive names no directory")];

/// Directives that are accepted with a warning, and what it says.
pub(crate) const WARNED: &[(&str, &str)] = &[
    (
        "px_filter_on_cache_hit_enabled",
        "has no effect: nginx looks into its cache after this module has decided; put the enforcer \
         where the cache is filled",
    ),
    (
        "px_custom_cookie_header_enabled",
        "is deprecated: an empty \"px_custom_cookie_header\" switches the header off",
    ),
    (
        "px_enable_pre_clean",
        "has no effect: nothing has to be cleaned; use \"proxy_set_header\" with the $px_* variables",
    ),
    ("px_async_activities_logger", "has no effect: the module posts activities itself"),
    ("px_telemetry_activity_logger", "has no effect: the module posts telemetry itself"),
    (
        "px_debug_syslog_name",
        "has no effect: lines go to nginx's \"error_log\", which knows syslog",
    ),
    (
        "px_error_syslog_name",
        "has no effect: lines go to nginx's \"error_log\", which knows syslog",
    ),
    (
        "px_proxy_url",
        "is for activities and telemetry: nginx sends no Risk API call through a proxy",
    ),
    ("px_ssl_enabled", OF_THE_URLS),
    ("px_port", OF_THE_URLS),
    ("px_collector_port_overide", OF_THE_URLS),
    ("px_client_port_overide", OF_THE_URLS),
    ("px_cookie_encrypted", "has no effect: risk cookies are always encrypted"),
    ("px_client_timeout", "has no effect: use \"px_async_timeout\""),
    ("px_dynamic_configurations", POLLED),
    ("px_configuration_server", POLLED),
    ("px_configuration_server_port", POLLED),
    ("px_load_interval", POLLED),
];
const POLLED: &str = "has no effect: the older, polled configuration is not supported; use \
     \"px_remote_config_id\"";
const OF_THE_URLS: &str = "has no effect: scheme and port belong to \"px_backend_url\" and \
     \"px_backend_collector_url\"";

/// `SECRET_FILE`, `PROXY_FILE` and `CA_FILE` are replaced by files that are there.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("px_app_id", IsDuplicate, "PXabcd1234", APP_ID, "PXa PXb"),
    row("px_appId", IsDuplicate, "PXabcd1234", APP_ID, ""),
    row("px_auth_token", IsDuplicate, "\"to $ken\" old", SECRET, "a b c"),
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
    row("px_enforce_timeout", IsDuplicate, "2s", time!("1", "60000", "0", "61s"), ""),
    row("px_debug", MustAgree, "on", FLAG, ""),
    row("px_logger_severity", MustAgree, "debug", SEVERITY, ""),
    row("px_debug_probability", IsDuplicate, "10", number!("1", "1000000", "0", "1000001"), ""),
    row("px_bot_enforcer", IsDuplicate, "on", FLAG, ""),
    row("px_enabled_if", Appends, "$arg_a 0", COMPLEX, ""),
    row("px_enable_server_calls", IsDuplicate, "on", FLAG, ""),
    row("px_pre_enforce_handler", Appends, "$arg_a 0", COMPLEX, ""),
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
    row("px_custom_is_filtered_request", Appends, "$arg_a 0", COMPLEX, ""),
    row("px_filter_on_cache_hit_enabled", Appends, "on", NOTHING, ""),

    row("px_enforced_routes", Appends, "/a ^/b =/c ~d", ROUTES, ""),
    row("px_enforced_routes_exclusive", IsDuplicate, "off", FLAG, ""),
    row("px_custom_is_enforced_request", Appends, "$arg_a 0", COMPLEX, ""),
    row("px_monitored_routes", Appends, "/a ^/b =/c ~d", ROUTES, ""),
    row("px_custom_is_monitored_request", Appends, "$arg_a 0", COMPLEX, ""),
    row("px_sensitive_routes", Appends, "/a =/b ~c ~*d", ROUTES, ""),
    row("px_sensitive_routes_prefix", Appends, "/a /b", TEXTS, ""),
    row("px_sensitive_routes_suffix", Appends, "/a /b", TEXTS, ""),
    row("px_sensitive_routes_regex", Appends, "/.*\\/enforced\\/regex$/ ^/b", REGEXES, ""),
    row("px_custom_is_sensitive_request", Appends, "$arg_a 0", COMPLEX, ""),

    row("px_ip_headers", Appends, "X-True-IP X-Forwarded-For", HEADERS, ""),
    row("px_custom_client_ip_extraction", IsDuplicate, "$http_x_ip", COMPLEX, ""),
    row("px_client_ip", IsDuplicate, "$http_x_ip", COMPLEX, ""),
    row("px_anonymize_ip", IsDuplicate, "on", FLAG, ""),
    row("px_sensitive_headers", Appends, "cookie authorization", HEADERS, ""),
    row("px_sensitive_headers_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_allowed_cookies", Appends, "lang plan", TEXTS, ""),
    row("px_custom_cookie_header", IsDuplicate, "x-px-cookies", HEADER, ""),
    row("px_custom_cookie_header_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_activity_header", Appends, "X-Region eu-$host", HEADER_PAIR, "a b c"),
    row("px_custom_activity_headers", Appends, "X-Region eu-$host", HEADER_PAIR, "a b c"),
    row("px_custom_parameters", Appends, "X-A \"\"", SLOTS, ""),
    row("px_cookie_custom_parameters", Appends, "a \"\"", COOKIE_NAMES, ""),
    row("px_custom_parameter", Appends, "11 $status", SLOT, "1"),

    row("px_score_header_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_score_header_name", IsDuplicate, "x-px-own", HEADER, ""),
    row("px_upstream_score_header_name", IsDuplicate, "x-px-own", HEADER, ""),
    row("px_identifier_header_name", IsDuplicate, "x-px-own", HEADER, ""),
    row("px_add_block_result_header", IsDuplicate, "on", FLAG, ""),
    row("px_enable_pre_clean", Appends, "on", NOTHING, ""),
    row("px_data_enrichment_header_name", IsDuplicate, "x-px-de", HEADER, ""),
    row("px_pxde_header_name", IsDuplicate, "x-px-de", HEADER, ""),
    row("px_enable_pxde", IsDuplicate, "on", FLAG, ""),
    row("px_secured_pxhd_enabled", IsDuplicate, "on", FLAG, ""),

    row("px_enable_json_response", IsDuplicate, "on", FLAG, ""),
    row("px_advanced_blocking_response_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_custom_logo", IsDuplicate, "https://$host/logo.png", COMPLEX, ""),
    row("px_css_ref", IsDuplicate, "/block.css", COMPLEX, ""),
    row("px_js_ref", IsDuplicate, "/block.js", COMPLEX, ""),
    row("px_custom_block_url", IsDuplicate, "$arg_page", BLOCK_URL, ""),
    row("px_redirect_on_custom_url", IsDuplicate, "on", FLAG, ""),
    row("px_redirect_to_referer", IsDuplicate, "on", FLAG, ""),
    row("px_api_protection_mode", IsDuplicate, "on", FLAG, ""),
    row("px_api_protection_block_url", IsDuplicate, "https://www.example.com/", COMPLEX, ""),
    row("px_api_protection_default_redirect_url", IsDuplicate, "https://www.example.com/", COMPLEX, ""),
    row("px_block_size_exceeded_15k_headers_size", IsDuplicate, "on", FLAG, ""),
    row("px_custom_block_page_content", IsDuplicate, "\"<p>$host</p>\"", COMPLEX, ""),
    row("px_custom_web_block_page_response", IsDuplicate, "off", NAMED, ""),
    row("px_custom_create_synthetic_web_response", IsDuplicate, "off", NAMED, ""),
    row("px_custom_create_advanced_blocking_response", IsDuplicate, "off", NAMED, ""),
    row("px_custom_rate_limit_block_page", IsDuplicate, "off", NAMED, ""),
    row("px_custom_verification_handler", IsDuplicate, "off", NAMED, ""),
    row("px_client_host", IsDuplicate, "https://client.example.net", URL, ""),
    row("px_backend_client_url", IsDuplicate, "https://client.example.net", URL, ""),
    row("px_captcha_script_host", IsDuplicate, "//captcha.example.net", URL, ""),
    row("px_backend_captcha_url", IsDuplicate, "//captcha.example.net", URL, ""),

    row("px_hype_sale", Appends, "$arg_a 0", COMPLEX, ""),
    row("px_hypesale_host", IsDuplicate, "https://captcha.example.net", URL, ""),
    row("px_hype_sale_fail_open", IsDuplicate, "on", FLAG, ""),

    row("px_first_party_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_reverse_xhr_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_custom_first_party_prefix", IsDuplicate, "fp", FIRST_PARTY_PREFIX, ""),
    row("px_custom_first_party_sensor_endpoint", IsDuplicate, "/botdefense", FIRST_PARTY_PATH, ""),
    row("px_custom_first_party_xhr_endpoint", IsDuplicate, "/beacon", FIRST_PARTY_PATH, ""),
    row("px_custom_first_party_captcha_endpoint", IsDuplicate, "/human", FIRST_PARTY_PATH, ""),
    row("px_first_party_timeout_ms", IsDuplicate, "4s", time!("1", "60000", "0", "61s"), ""),
    row("px_first_party_cache", IsDuplicate, "off", FIRST_PARTY_CACHE, "a b c"),

    row("px_code_enforcer", IsDuplicate, "on", FLAG, ""),
    row("px_csp_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_csp_no_updates_max_interval_minutes", IsDuplicate, "90", MINUTES, ""),
    row("px_csp_policy_refresh_interval_minutes", IsDuplicate, "10s", MINUTES, ""),
    row("px_csp_data_url", IsDuplicate, "https://api.example.net/v1/data", URL, ""),
    row("px_csp_nonce", IsDuplicate, "$request_id", COMPLEX, ""),

    row("px_snippet_provider_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_sensor_inject_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_snippet_injection_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_snippet_provider_cache_ttl_seconds", IsDuplicate, "60", SECONDS, ""),
    row("px_snippet_provider_url", IsDuplicate, "https://snippets.example.net/a", URL, ""),
    row("px_create_custom_snippet", IsDuplicate, "<script></script>", COMPLEX, ""),

    row("px_remote_config_id", IsDuplicate, "rc-1", &[], ""),
    row("px_remote_config_auth_token", IsDuplicate, "token", SECRET, "a b"),
    row("px_remote_config_auth_token_file", IsDuplicate, "SECRET_FILE", FILE, ""),
    row("px_remote_config_max_fetch_attempts", IsDuplicate, "5", number!("1", "100", "0", "101"), ""),
    row("px_remote_config_retry_interval_ms", IsDuplicate, "1000", time!("10", "600000", "9", "11m"), ""),
    row("px_remote_config_refresh_interval", IsDuplicate, "off", time!("1000", "86400000", "999", "25h"), ""),
    row("px_remote_config_cache", IsDuplicate, "off", DIRECTORY, ""),
    row("px_initial_telemetry_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_logger_auth_token", IsDuplicate, "token", SECRET, "a b"),
    row("px_logger_auth_token_file", IsDuplicate, "SECRET_FILE", FILE, ""),
    row("px_dynamic_configurations", Appends, "on", NOTHING, ""),
    row("px_configuration_server", Appends, "on", NOTHING, ""),
    row("px_configuration_server_port", Appends, "on", NOTHING, ""),
    row("px_load_interval", Appends, "on", NOTHING, ""),

    row("px_enable_login_creds_extraction", IsDuplicate, "on", FLAG, ""),
    row("px_login_credentials_extraction_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_login_creds_settings_filename", IsDuplicate, "\"\"", FILE, ""),
    row("px_login_credentials_extraction", Appends, "path=/login method=post sent_through=body user_field=u pass_field=p", ENDPOINT, ""),
    row("px_credentials_intelligence_version", IsDuplicate, "both", PROTOCOL, ""),
    row("px_compromised_credentials_header", IsDuplicate, "x-breached", HEADER, ""),
    row("px_credentials_intelligence_query_string", IsDuplicate, "on", FLAG, ""),
    row("px_compromised_credentials_returned_status_response", IsDuplicate, "403", number!("200", "599", "199", "600"), ""),
    row("px_login_successful_reporting_method", IsDuplicate, "custom", LOGIN_METHOD, ""),
    row("px_login_successful_status", Appends, "200 302", STATUSES, ""),
    row("px_login_successful_header_name", IsDuplicate, "x-ok", HEADER, ""),
    row("px_login_successful_header_value", IsDuplicate, "yes", &[], ""),
    row("px_login_successful_body_regex", IsDuplicate, "Welcome", REGEX, ""),
    row("px_login_successful_custom", IsDuplicate, "$upstream_http_x_ok", COMPLEX, ""),
    row("px_login_successful_custom_callback", IsDuplicate, "$upstream_http_x_ok", COMPLEX, ""),
    row("px_send_raw_username_on_additional_s2s_activity", IsDuplicate, "on", FLAG, ""),
    row("px_automatic_additional_s2s_activity_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_additional_s2s_activity_header_enabled", IsDuplicate, "on", FLAG, ""),

    row("px_graphql_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_graphql_routes", Appends, "/gql =/api", ROUTES, ""),
    row("px_graphql_get_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_custom_is_graphql_route", Appends, "$arg_a 0", COMPLEX, ""),
    row("px_sensitive_graphql_operation_types", Appends, "query mutation", OPERATION_TYPES, ""),
    row("px_sensitive_graphql_operation_names", Appends, "^Login$ /pay/i", REGEXES, ""),
    row("px_graphql_keywords", Appends, "card iban", REGEXES, ""),
    row("px_extract_graphql_keywords", IsDuplicate, "$arg_k", COMPLEX, ""),
    row("px_custom_extract_graphql_keywords", IsDuplicate, "$arg_k", COMPLEX, ""),

    row("px_jwt_cookie_name", IsDuplicate, "auth", COOKIE, ""),
    row("px_jwt_cookie_user_id_field_name", IsDuplicate, "user.id", &[], ""),
    row("px_jwt_cookie_additional_field_names", Appends, "plan org.id", TEXTS, ""),
    row("px_jwt_header_name", IsDuplicate, "authorization", HEADER, ""),
    row("px_jwt_header_user_id_field_name", IsDuplicate, "sub", &[], ""),
    row("px_jwt_header_additional_field_names", Appends, "plan org.id", TEXTS, ""),
    row("px_jwt_additional_field", Appends, "plan $arg_plan", FIELD, "a b c"),
    row("px_custom_extract_jwt_additional_fields", Appends, "plan $arg_plan", FIELD, "a b c"),

    row("px_agentic_trust_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_agentic_trust_mcp_endpoint_path", IsDuplicate, "/mcp", PATH, ""),

    row("px_cors_support_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_cors_preflight_request_filter_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_cors_custom_preflight_handler", IsDuplicate, "off", NAMED, ""),
    row("px_custom_cors_preflight_handler", IsDuplicate, "off", NAMED, ""),
    row("px_cors_preflight_handler_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_cors_block_response_header", Appends, "X-Own $host", HEADER_PAIR, "a b c"),
    row("px_cors_create_custom_block_response_headers", Appends, "X-Own $host", HEADER_PAIR, "a b c"),
    row("px_custom_cors_set_custom_block_response_headers", Appends, "X-Own $host", HEADER_PAIR, "a b c"),
    row("px_cors_create_custom_block_response_headers_enabled", IsDuplicate, "on", FLAG, ""),

    row("px_send_async_activities_enabled", IsDuplicate, "off", FLAG, ""),
    row("px_send_page_requested_activity", IsDuplicate, "on", FLAG, ""),
    row("px_deferred_activities", IsDuplicate, "on", FLAG, ""),
    row("px_additional_activity_handler", IsDuplicate, "/told", TARGET, ""),
    row("px_custom_additional_activity_handler", IsDuplicate, "/told", TARGET, ""),
    row("px_additional_activity_handler_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_telemetry_header", IsDuplicate, "x-px-enforcer-telemetry", HEADER, ""),
    row("px_async_activities_logger", Appends, "on", NOTHING, ""),
    row("px_telemetry_activity_logger", Appends, "on", NOTHING, ""),
    row("px_debug_syslog_name", Appends, "on", NOTHING, ""),
    row("px_error_syslog_name", Appends, "on", NOTHING, ""),
    row("px_compression_enabled", IsDuplicate, "on", FLAG, ""),
    row("px_compression_level", IsDuplicate, "9", number!("1", "9", "0", "10"), ""),
    row("px_max_activity_batch_size", IsDuplicate, "0", number!("0", "1000", "-1", "1001"), ""),
    row("px_batch_activities_timeout_ms", IsDuplicate, "1s", time!("10", "60000", "9", "60001"), ""),
    row("px_async_timeout", IsDuplicate, "500ms", time!("10", "60000", "0", "2h"), ""),
    row("px_activity_spool", IsDuplicate, "off", SPOOL, "a b c"),

    row("px_backend_url", IsDuplicate, "https://sapi.example.net/base/", URL, ""),
    row("px_backend_collector_url", IsDuplicate, "http://127.0.0.1:9000", URL, ""),
    row("px_risk_backend", IsDuplicate, "$http_x_backend", COMPLEX, ""),
    row("px_set_custom_risk_backend_overwrite", IsDuplicate, "$http_x_backend", COMPLEX, ""),
    row("px_proxy_url", IsDuplicate, "http://127.0.0.1:3128", PROXY, ""),
    row("px_proxy_authorization", IsDuplicate, "\"Basic dXNlcjpwYXNz\"", BASIC, ""),
    row("px_proxy_authorization_file", IsDuplicate, "PROXY_FILE", FILE, ""),
    row("px_ssl_enabled", Appends, "on", NOTHING, ""),
    row("px_port", Appends, "on", NOTHING, ""),
    row("px_collector_port_overide", Appends, "on", NOTHING, ""),
    row("px_client_port_overide", Appends, "on", NOTHING, ""),
    row("px_cookie_encrypted", Appends, "on", NOTHING, ""),
    row("px_client_timeout", Appends, "on", NOTHING, ""),
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
    row("px_max_body_size", IsDuplicate, "64k", BODY_SIZE, ""),
    row("px_token_cache", IsDuplicate, "zone=px:8m", TOKEN_CACHE, ""),
    row("px_forged_cookie_budget", IsDuplicate, "0", number!("0", "100000", "-1", "100001"), ""),

    row("px_wallarm_node_address", IsDuplicate, "https://127.0.0.1:4443/in", NODE_URL, "a b"),
    row("px_wallarm_blocking", IsDuplicate, "on", FLAG, ""),
    row("px_wallarm_timeout_ms", IsDuplicate, "500", time!("1", "60000", "0", "61s"), ""),
    row("px_wallarm_fail_open", IsDuplicate, "on", FLAG, ""),
    row("px_wallarm_max_body_size", IsDuplicate, "0", NODE_BODY_SIZE, ""),
    row("px_wallarm_max_inflight", IsDuplicate, "256", number!("1", "65536", "0", "65537"), ""),
    row("px_wallarm_keepalive", IsDuplicate, "16", number!("1", "1024", "0", "1025"), ""),
    row("px_wallarm_ssl_verify", IsDuplicate, "on", FLAG, ""),
    row("px_wallarm_ssl_trusted_certificate", IsDuplicate, "CA_FILE", CA_FILE, ""),
    row("px_wallarm_filter_extensions", IsDuplicate, "on", FLAG, ""),
    row("px_wallarm_if", Appends, "$arg_a 0", COMPLEX, ""),

    row("px_status", IsDuplicate, "prometheus", STATUS, "json prometheus"),
];

/// Other names of a directive, which share its storage.
pub(crate) const SYNONYMS: &[(&str, &str)] = &[
    ("px_app_id", "px_appId"),
    ("px_auth_token", "px_auth_token_file"),
    ("px_cookie_secret", "px_cookie_secret_file"),
    ("px_cookie_secret_old", "px_cookie_secret_old_file"),
    ("px_enabled", "px_module_enabled"),
    ("px_block_enabled", "px_module_mode"),
    ("px_debug", "px_logger_severity"),
    ("px_whitelist_ip_addresses", "px_filter_by_ip"),
    ("px_custom_client_ip_extraction", "px_client_ip"),
    ("px_activity_header", "px_custom_activity_headers"),
    ("px_data_enrichment_header_name", "px_pxde_header_name"),
    ("px_enable_json_response", "px_advanced_blocking_response_enabled"),
    ("px_custom_web_block_page_response", "px_custom_create_synthetic_web_response"),
    ("px_client_host", "px_backend_client_url"),
    ("px_captcha_script_host", "px_backend_captcha_url"),
    ("px_snippet_provider_enabled", "px_sensor_inject_enabled"),
    ("px_snippet_provider_enabled", "px_snippet_injection_enabled"),
    ("px_remote_config_auth_token", "px_remote_config_auth_token_file"),
    ("px_logger_auth_token", "px_logger_auth_token_file"),
    ("px_cors_custom_preflight_handler", "px_custom_cors_preflight_handler"),
    ("px_cors_block_response_header", "px_cors_create_custom_block_response_headers"),
    ("px_cors_block_response_header", "px_custom_cors_set_custom_block_response_headers"),
    ("px_send_async_activities_enabled", "px_send_page_requested_activity"),
    ("px_additional_activity_handler", "px_custom_additional_activity_handler"),
    ("px_enable_login_creds_extraction", "px_login_credentials_extraction_enabled"),
    ("px_login_successful_custom", "px_login_successful_custom_callback"),
    ("px_extract_graphql_keywords", "px_custom_extract_graphql_keywords"),
    ("px_jwt_additional_field", "px_custom_extract_jwt_additional_fields"),
    ("px_risk_backend", "px_set_custom_risk_backend_overwrite"),
    ("px_proxy_authorization", "px_proxy_authorization_file"),
];
