//! Tests for the px module: secrets, wherever they could come to light while the module works.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use px_sandbox::{Endpoint, NodeMode, Received, Sandbox};
use serde_json::json;
use support::{BROWSER, Nginx, Origin, SOON, get, protect_apart, request, wait_until};

const SECRETS: [(&str, &str); 7] = [
    ("px_auth_token", "auth-token-0123456789"),
    ("px_cookie_secret", "cookie-secret-0123456789"),
    ("px_cookie_secret_old", "former-secret-0123456789"),
    ("px_remote_config_auth_token", "config-token-0123456789"),
    ("px_logger_auth_token", "logger-token-0123456789"),
    ("px_proxy_authorization", "Basic cHJveHk6c2VjcmV0LTAxMjM0NTY3ODk="),
    ("px_auth_token_file", "former-token-0123456789"),
];

/// Of visitors, in requests of every kind.
const VISITORS: [&str; 4] =
    ["session-of-a-visitor", "password-of-a-visitor", "bearer-of-a-visitor", "name-of-a-visitor"];

/// Nothing that the module has said, or that can be seen of its processes, holds a secret; and the
/// lines of the module hold nothing of visitors either, whatever the level.
#[test]
fn a_debug_log_of_everything_the_module_does_tells_no_secret() {
    let token = SECRETS[0].1;
    let of = |builder: px_sandbox::Builder| {
        builder.auth_token(token).secret(SECRETS[1].1).remote_config_token(SECRETS[3].1)
    };
    let sandbox = of(Sandbox::builder()).logger_token(SECRETS[4].1).start().unwrap();
    let collector = of(Sandbox::builder()).start().unwrap();
    let (node, origin) =
        (Sandbox::builder().node(NodeMode::Blocking).start().unwrap(), Origin::start());
    sandbox.set_remote_config("rc-1", 1, json!({"px_remote_config_enabled": true}));
    let spool = support::nginx::fresh_dir();
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o777)).unwrap();
    let mut own = protect_apart(&sandbox, &collector)
        .replace("px_initial_telemetry_enabled off", "px_initial_telemetry_enabled on");
    for (name, value) in [("px_auth_token", token), ("px_cookie_secret", SECRETS[1].1)] {
        own = own.replace(&format!("{name} {value};"), "");
    }
    let nginx = Nginx::builder()
        .workers(2)
        .error_log_level("debug")
        .server(&format!(
            "{own} px_auth_token_file conf.0; px_cookie_secret_file conf.1;
             px_cookie_secret_old_file conf.2; px_remote_config_auth_token_file conf.3;
             px_remote_config_id rc-1; px_logger_auth_token_file conf.4; px_debug on;
             px_wallarm_node_address {node}; px_max_activity_batch_size 1;
             px_activity_spool path={spool}/spool max_size=1m;
             px_enable_login_creds_extraction on;
             px_login_credentials_extraction path=/login method=post sent_through=body
                 user_field=u pass_field=p;
             location / {{ {pass} }}
             location = /px-status {{ px_status; }}
             location /proxied {{ px_proxy_url http://{proxy}; px_proxy_authorization_file conf.5; {pass} }}",
            node = node.url(),
            spool = spool.display(),
            proxy = support::nginx::free_addr(),
            pass = origin.proxy_pass(),
        ))
        .start_with(|dir| {
            for (at, (_, secret)) in SECRETS.iter().enumerate() {
                let path = dir.join(format!("conf.{at}"));
                let text = match at {
                    0 => format!("{secret}\n{}\n", SECRETS[6].1),
                    _ => format!("{secret}\n"),
                };
                fs::write(&path, text).expect("a file can be written");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
            }
        });
    let [session, password, bearer, name] = VISITORS;
    let good = sandbox.mint(BROWSER).cookie();
    let cookies = format!("Cookie: session={session}; {good}");
    let broken = format!("Cookie: session={session}; _px3=x:{}", &good[10..]);
    let authorization = format!("Authorization: Bearer {bearer}");
    let mobile = format!("X-PX-AUTHORIZATION: {}", sandbox.mint("").mobile().mobile_header());
    let login = format!("u={name}&p={password}");
    let form = "Content-Type: application/x-www-form-urlencoded";
    let push = format!("x-px-pushdata: {}", Sandbox::sign(SECRETS[3].1, u64::MAX >> 12));
    let command =
        format!("x-px-enforcer-telemetry: {}", Sandbox::sign(SECRETS[1].1, u64::MAX >> 12));
    let everything = || {
        for path in ["/", "/px-sandbox/block", "/proxied", "/sandbox1/init.js", "/sandbox1/xhr/a"] {
            for line in [&cookies, &broken, &mobile, &command] {
                get(nginx.addr(), path, &[line, &authorization]);
            }
        }
        request(nginx.addr(), "POST", "/login", &[form, &cookies], login.as_bytes());
        request(nginx.addr(), "POST", "/", &["x-px-feature: enforcer_config", &push], b"{}");
    };
    everything();
    wait_until("telemetry", || {
        !collector.telemetry().is_empty() || !sandbox.telemetry().is_empty()
    });
    collector.wait_for_activities(5, SOON);
    collector.go_down();
    sandbox.go_down();
    node.go_down();
    everything();
    nginx.wait_for_error_log("kept in");
    nginx.wait_for_error_log("/proxied");

    let mut seen: Vec<(String, String)> = vec![
        ("the status page".into(), get(nginx.addr(), "/px-status", &[]).text()),
        ("the status page".into(), get(nginx.addr(), "/px-status?format=prometheus", &[]).text()),
    ];
    for pid in nginx.workers().into_iter().chain([nginx.pid()]) {
        for file in ["cmdline", "environ", "comm"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            seen.push((file.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    let dump = Command::new(support::nginx::binary())
        .args(["-T", "-p"])
        .arg(nginx.dir())
        .args(["-c", "nginx.conf"])
        .output()
        .expect("nginx can be run");
    seen.push(("nginx -T".to_owned(), String::from_utf8_lossy(&dump.stdout).into_owned()));
    seen.push(("nginx -T".to_owned(), String::from_utf8_lossy(&dump.stderr).into_owned()));
    seen.push(("the access log".to_owned(), nginx.access_log().join("\n")));
    // What backends were sent: each token only in the header that is for it.
    let of_humans: Vec<_> = sandbox.received().into_iter().chain(collector.received()).collect();
    for received in &of_humans {
        let told = |of: &Received| format!("{} {}", of.target, of.text());
        seen.push((format!("what {:?} was sent", received.endpoint), told(received)));
        for (name, value) in &received.headers {
            let own = match received.endpoint {
                Endpoint::RemoteConfig => SECRETS[3].1,
                Endpoint::EnforcerLogs => SECRETS[4].1,
                Endpoint::Sensor | Endpoint::Xhr | Endpoint::Captcha => "",
                _ => token,
            };
            let is_own = !own.is_empty() && *value == format!("Bearer {own}");
            if !(is_own && name.eq_ignore_ascii_case("authorization")) {
                seen.push((format!("{name} of {:?}", received.endpoint), value.clone()));
            }
        }
    }
    assert!(of_humans.len() > 10);
    for received in node.received() {
        seen.push(("what the node was sent".to_owned(), format!("{received:?}")));
    }
    seen.extend(origin.texts().into_iter().map(|text| ("what the origin was sent".into(), text)));
    let log = nginx.quit();
    assert!(log.contains("[debug]") && log.contains("px: pass, reason cookie"), "no debug log");
    seen.extend(log.lines().map(|line| ("the log".to_owned(), line.to_owned())));
    for (place, text) in &seen {
        for (directive, secret) in SECRETS {
            let secret = secret.rsplit(' ').next().unwrap_or_default();
            assert!(!text.contains(secret), "{directive} in {place}: {text}");
        }
    }
    for line in log.lines().filter(|line| line.contains(" px: ")) {
        for visitor in VISITORS {
            // nginx itself adds the request line, whose query is the site's affair.
            assert!(!line.contains(visitor), "{line}");
        }
        assert!(!line.contains(&good[10..40]), "{line}");
    }
    let reported: Vec<String> = of_humans.iter().map(|received| received.text()).collect();
    // `Authorization` is a header like others unless `px_sensitive_headers` names it.
    for visitor in [session, password] {
        assert!(!reported.iter().any(|text| text.contains(visitor)), "HUMAN is told {visitor}");
    }
    let _ = fs::remove_dir_all(spool);
}

/// What a visitor sends does not draw lines of its own in the error log, nor colours in a terminal.
#[test]
fn no_visitor_writes_lines_into_the_log() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .error_log_level("info")
        .server(&format!(
            "{} px_debug on; location / {{ {} }}",
            protect_apart(&sandbox, &sandbox),
            origin.proxy_pass()
        ))
        .start();
    let forged = "[forged] line";
    for line in [
        format!("User-Agent: a\x1b[31m{forged}"),
        format!("Cookie: _px3=\x1b]0;x\x07\t{forged}"),
        format!("X-PX-AUTHORIZATION: 3:\x08\x1b[2J{forged}"),
        "X-PX-AUTHORIZATION: 99999999999999999999".to_owned(),
        format!("Referer: \u{85}\u{9b}31m{forged}"),
        format!("Content-Encoding: \x1b{forged}"),
    ] {
        for path in ["/a%0a%1b[31m", "/px-sandbox/block?%0d%0a\u{9b}", "/"] {
            get(nginx.addr(), path, &[&line]);
        }
    }
    let log = nginx.quit();
    let own: Vec<&str> = log.lines().filter(|line| line.contains(" px: ")).collect();
    assert!(own.len() >= 10, "{log}");
    for line in own {
        let text = line.split(", client: ").next().unwrap_or_default();
        assert!(!text.contains(forged) && !text.contains(char::is_control), "{line:?}");
    }
    assert!(!log.lines().any(|line| line.starts_with(forged)), "{log}");
}
