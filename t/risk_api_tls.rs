//! Tests for the px module: TLS to the Risk API and the collector.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use px_sandbox::{CertificateFault, OnAccept, Sandbox};
use support::{BROWSER, Nginx, Origin, SOON, get, protect_as, wait_until};

const BOT: &[&str] = &["User-Agent: PhantomJS/1.0"];

fn tls_sandbox(fault: CertificateFault) -> Sandbox {
    Sandbox::builder().certificate_fault(fault).start().unwrap()
}

/// By name: certificates are checked against host names.
fn https(sandbox: &Sandbox) -> String {
    format!("https://localhost:{}", sandbox.port())
}

fn protect(risk_api: &str, collector: &str) -> String {
    protect_as(&px_sandbox::App::default(), risk_api, collector)
}

/// nginx with this server and, beside its configuration, the authorities of these sandboxes as
/// `ca0.pem`, `ca1.pem` …
fn start(server: &str, authorities: &[&Sandbox]) -> Nginx {
    let write = |dir: &Path| {
        for (n, sandbox) in authorities.iter().enumerate() {
            fs::write(dir.join(format!("ca{n}.pem")), sandbox.ca_pem().unwrap()).unwrap();
        }
    };
    Nginx::builder().server(server).start_with(write)
}

/// The lines an operator has to look at.
fn errors(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("[error]") || line.contains("[warn]")).collect()
}

#[test]
fn calls_and_activities_travel_over_verified_tls() {
    let (risk_api, collector) =
        (tls_sandbox(CertificateFault::None), tls_sandbox(CertificateFault::None));
    let origin = Origin::start();
    // One bundle with both authorities.
    let write = |dir: &Path| {
        let bundle = [risk_api.ca_pem().unwrap(), collector.ca_pem().unwrap()].concat();
        fs::write(dir.join("bundle.pem"), bundle).unwrap();
    };
    let nginx = Nginx::builder()
        .server(&format!(
            "{} px_ssl_trusted_certificate bundle.pem; location / {{ {} }}",
            protect(&https(&risk_api), &https(&collector)),
            origin.proxy_pass()
        ))
        .start_with(write);
    for _ in 0..5 {
        assert_eq!(get(nginx.addr(), "/", BOT).status, 403);
    }
    let calls = risk_api.risk_calls();
    assert_eq!((calls.len(), risk_api.connections()), (5, 1));
    let posts = || collector.activity_posts();
    assert_eq!(collector.wait_for_activities(5, SOON).len(), 5);
    for received in calls.iter().chain(&posts()) {
        assert_eq!(received.server_name.as_deref(), Some("localhost"));
        assert!(received.tls_version.as_deref().is_some_and(|version| version >= "TLSv1.2"));
    }
    risk_api.assert_no_complaints();
    collector.assert_no_complaints();
    let log = nginx.quit();
    assert_eq!(errors(&log), [""; 0]);
}

#[test]
fn nothing_is_said_to_a_server_that_cannot_prove_who_it_is() {
    let stranger = tls_sandbox(CertificateFault::None);
    for (fault, cause) in [
        (CertificateFault::WrongName, "does not match \"localhost\""),
        (CertificateFault::Expired, "certificate has expired"),
        (CertificateFault::UnknownIssuer, "certificate verify error"),
        // A good certificate, of an authority that is not the configured one.
        (CertificateFault::None, "certificate verify error"),
    ] {
        let risk_api = tls_sandbox(fault);
        let (collector, origin) = (Sandbox::start().unwrap(), Origin::start());
        let authority = if fault == CertificateFault::None { &stranger } else { &risk_api };
        let nginx = start(
            &format!(
                "{} px_ssl_trusted_certificate ca0.pem; location / {{ {} }}",
                protect(&https(&risk_api), &collector.url()),
                origin.proxy_pass()
            ),
            &[authority],
        );
        for _ in 0..5 {
            assert_eq!(get(nginx.addr(), "/", BOT).status, 200, "{fault:?}");
        }
        for line in nginx.wait_for_access_log(5) {
            assert!(line.contains("pass=s2s_error"), "{fault:?}: {line}");
            assert!(line.contains("error=unknown_error"), "{fault:?}: {line}");
        }
        assert!(risk_api.received().is_empty(), "{fault:?}");
        assert_eq!(collector.wait_for_activities(5, SOON).len(), 5);
        collector.assert_no_complaints();
        // nginx says what is wrong, the module what follows from it; once for all five.
        let log = nginx.quit();
        let lines = errors(&log);
        assert_eq!(lines.len(), 2, "{fault:?}: {}", lines.join("\n"));
        assert!(lines[0].contains(cause), "{fault:?}: {}", lines[0]);
        assert!(lines[1].contains("px: Risk API call failed"), "{fault:?}: {}", lines[1]);
    }
}

#[test]
fn without_a_bundle_of_ones_own_the_systems_is_used() {
    let (risk_api, collector, origin) =
        (tls_sandbox(CertificateFault::None), Sandbox::start().unwrap(), Origin::start());
    let protect = protect(&https(&risk_api), &collector.url());
    let nginx = start(&format!("{protect} location / {{ {} }}", origin.proxy_pass()), &[]);
    assert_eq!(get(nginx.addr(), "/", BOT).status, 200);
    assert!(risk_api.received().is_empty());
    nginx.wait_for_error_log("certificate verify error");
}

#[test]
fn verification_can_be_switched_off() {
    for fault in
        [CertificateFault::WrongName, CertificateFault::Expired, CertificateFault::UnknownIssuer]
    {
        let (sandbox, origin) = (tls_sandbox(fault), Origin::start());
        let protect = protect(&https(&sandbox), &https(&sandbox));
        let server =
            format!("{protect} px_ssl_verify off; location / {{ {} }}", origin.proxy_pass());
        let nginx = start(&server, &[]);
        assert_eq!(get(nginx.addr(), "/", BOT).status, 403, "{fault:?}");
        assert_eq!(sandbox.wait_for_activities(1, SOON).len(), 1, "{fault:?}");
        sandbox.assert_no_complaints();
    }
}

#[test]
fn activities_are_not_given_to_a_stranger_and_the_loss_is_said_once() {
    for fault in
        [CertificateFault::WrongName, CertificateFault::Expired, CertificateFault::UnknownIssuer]
    {
        let (risk_api, collector, origin) =
            (Sandbox::start().unwrap(), tls_sandbox(fault), Origin::start());
        let nginx = start(
            &format!(
                "{} px_ssl_trusted_certificate ca0.pem; px_max_activity_batch_size 0; \
                 location / {{ {} }}",
                protect(&risk_api.url(), &https(&collector)),
                origin.proxy_pass()
            ),
            &[&collector],
        );
        for _ in 0..5 {
            assert_eq!(get(nginx.addr(), "/", BOT).status, 403, "{fault:?}");
        }
        nginx.wait_for_error_log("activities could not be delivered");
        let log = nginx.quit();
        assert_eq!(errors(&log).len(), 1, "{fault:?}: {}", errors(&log).join("\n"));
        assert!(collector.received().is_empty(), "{fault:?}");
    }
}

#[test]
fn locations_that_verify_differently_never_share_a_connection() {
    let (risk_api, stranger) =
        (tls_sandbox(CertificateFault::None), tls_sandbox(CertificateFault::None));
    let (collector, origin) = (Sandbox::start().unwrap(), Origin::start());
    let pass = origin.proxy_pass();
    let nginx = start(
        &format!(
            "{} px_ssl_trusted_certificate ca0.pem;\n\
             location / {{ {pass} }}\n\
             location /same {{ px_ssl_trusted_certificate ca0.pem; {pass} }}\n\
             location /stranger {{ px_ssl_trusted_certificate ca1.pem; {pass} }}\n\
             location /unverified {{ px_ssl_verify off; {pass} }}\n\
             location /shallow {{ px_ssl_verify_depth 1; {pass} }}",
            protect(&https(&risk_api), &collector.url()),
        ),
        &[&risk_api, &stranger],
    );
    for _ in 0..3 {
        for (path, status) in [
            ("/", 403),
            ("/same", 403),
            ("/stranger", 200),
            ("/unverified", 403),
            ("/shallow", 403),
        ] {
            assert_eq!(get(nginx.addr(), path, BOT).status, status, "{path}");
        }
    }
    let kept: Vec<(String, u64)> = risk_api
        .risk_calls()
        .iter()
        .map(|call| (call.json()["request"]["url"].to_string(), call.connection))
        .collect();
    let connections = |path: &str| {
        let url = format!("\"http://site.test/{path}\"");
        let mut found: Vec<u64> =
            kept.iter().filter(|(u, _)| *u == url).map(|(_, connection)| *connection).collect();
        found.dedup();
        found
    };
    let verified = connections("");
    assert_eq!(verified.len(), 1, "{kept:?}");
    // The same settings, written twice, are the same.
    assert_eq!(connections("same"), verified);
    assert!(connections("stranger").is_empty(), "{kept:?}");
    for path in ["unverified", "shallow"] {
        let own = connections(path);
        assert_eq!(own.len(), 1, "{path}: {kept:?}");
        assert_ne!(own, verified, "{path}");
    }
    assert_ne!(connections("unverified"), connections("shallow"));
}

#[test]
fn a_handshake_that_never_ends_is_within_the_timeout() {
    let (risk_api, collector, origin) =
        (tls_sandbox(CertificateFault::None), Sandbox::start().unwrap(), Origin::start());
    risk_api.on_accept(OnAccept::Hang);
    let nginx = start(
        &format!(
            "{} px_ssl_trusted_certificate ca0.pem; px_s2s_timeout 100ms; location / {{ {} }}",
            protect(&https(&risk_api), &collector.url()),
            origin.proxy_pass()
        ),
        &[&risk_api],
    );
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    assert!(nginx.wait_for_access_log(1)[0].contains("pass=s2s_timeout"));
    wait_until("the connection is closed", || risk_api.open_connections() == 0);
}

#[test]
fn a_server_without_tls_under_an_https_address_is_a_failed_call() {
    let (plain, origin) = (Sandbox::start().unwrap(), Origin::start());
    let collector = Sandbox::start().unwrap();
    let server = format!(
        "{} px_ssl_verify off; location / {{ {} }}",
        protect(&https(&plain), &collector.url()),
        origin.proxy_pass()
    );
    let nginx = start(&server, &[]);
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    assert!(nginx.wait_for_access_log(1)[0].contains("error=unknown_error"));
}

#[test]
fn a_slow_answer_over_tls_is_within_the_timeout() {
    let (risk_api, collector, origin) =
        (tls_sandbox(CertificateFault::None), Sandbox::start().unwrap(), Origin::start());
    let nginx = start(
        &format!(
            "{} px_ssl_trusted_certificate ca0.pem; px_s2s_timeout 150ms; location / {{ {} }}",
            protect(&https(&risk_api), &collector.url()),
            origin.proxy_pass()
        ),
        &[&risk_api],
    );
    risk_api.behave(px_sandbox::Behaviour::Trickle(Duration::from_millis(20)));
    let cookie = format!("Cookie: {}", risk_api.mint(BROWSER).cookie());
    assert_eq!(get(nginx.addr(), "/", &[]).status, 200);
    assert_eq!(get(nginx.addr(), "/", &[&cookie]).status, 200);
    let lines = nginx.wait_for_access_log(2);
    assert!(lines[0].contains("pass=s2s_timeout"), "{lines:?}");
    assert!(lines[1].contains("pass=cookie"), "{lines:?}");
    wait_until("the connection is closed", || risk_api.open_connections() == 0);
}
