//! Tests for the px module: the client's address (DECISIONS 9).

mod support;

use px_sandbox::Sandbox;
use support::{BROWSER, Connection, Nginx, Origin, SOON, client, get, protect};

/// A site whose answers say in `X-IP` which address was taken for the client's.
fn site(sandbox: &Sandbox, origin: &Origin, directives: &str) -> Nginx {
    Nginx::start(&format!(
        "{} {directives} add_header X-IP $px_client_ip; location / {{ {} }}",
        protect(sandbox),
        origin.proxy_pass()
    ))
}

#[track_caller]
fn assert_ip(nginx: &Nginx, headers: &[&str], expected: &str) {
    let response = get(nginx.addr(), "/", headers);
    assert_eq!(response.header("x-ip"), Some(expected), "{headers:?}");
}

/// The address this program connects from; each test's nginx listens on a loopback address of its own.
const PEER: &str = "127.0.0.1";

#[test]
fn without_a_trusted_header_the_connections_address_counts() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "");
    for headers in [
        &[][..],
        &["X-Forwarded-For: 203.0.113.7"],
        &["X-Real-IP: 203.0.113.7", "Forwarded: for=203.0.113.7"],
        &["X-PX-Enforcer-True-IP: 203.0.113.7"],
    ] {
        assert_ip(&nginx, headers, PEER);
    }
    assert_eq!(sandbox.risk_calls()[0].json()["request"]["socket_ip"], PEER);
    assert_eq!(sandbox.wait_for_activities(4, SOON)[0]["socket_ip"], PEER);
}

#[test]
fn the_first_listed_header_with_a_valid_address_counts() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_ip_headers X-True-IP X-Forwarded-For;");
    for (headers, expected) in [
        (&["X-True-IP: 203.0.113.7"][..], "203.0.113.7"),
        (&["x-true-ip: 203.0.113.7", "X-FORWARDED-FOR: 203.0.113.8"], "203.0.113.7"),
        (&["X-Forwarded-For: 203.0.113.8", "X-True-IP: 203.0.113.7"], "203.0.113.7"),
        (&["X-True-IP: unknown", "X-Forwarded-For: 203.0.113.8"], "203.0.113.8"),
        (&["X-True-IP:", "X-Forwarded-For: 203.0.113.8"], "203.0.113.8"),
        (&["X-Real-IP: 203.0.113.9"], PEER),
        (&[], PEER),
    ] {
        assert_ip(&nginx, headers, expected);
    }
}

#[test]
fn of_a_list_the_first_valid_element_counts() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_ip_headers X-Forwarded-For;");
    for (value, expected) in [
        ("203.0.113.7, 10.0.0.1", "203.0.113.7"),
        ("203.0.113.7,10.0.0.1", "203.0.113.7"),
        ("  203.0.113.7  ", "203.0.113.7"),
        ("203.0.113.7 10.0.0.1", "203.0.113.7"),
        ("unknown, 203.0.113.7", "203.0.113.7"),
        ("-, , 203.0.113.7", "203.0.113.7"),
        ("2001:db8::7, 10.0.0.1", "2001:db8::7"),
        ("2001:DB8:0:0::7", "2001:DB8:0:0::7"),
        ("::ffff:203.0.113.7", "::ffff:203.0.113.7"),
    ] {
        assert_ip(&nginx, &[&format!("X-Forwarded-For: {value}")], expected);
    }
    assert_ip(&nginx, &["X-Forwarded-For: x", "X-Forwarded-For: 203.0.113.7"], "203.0.113.7");
    assert_ip(
        &nginx,
        &["X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 203.0.113.8"],
        "203.0.113.7",
    );
}

#[test]
fn garbage_is_no_address() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_ip_headers X-Forwarded-For;");
    for value in [
        "",
        "unknown",
        "203.0.113.7:8080",
        "[2001:db8::7]",
        "[2001:db8::7]:443",
        "203.0.113",
        "203.0.113.7.1",
        "203.0.113.256",
        "0xcb.0.113.7",
        "203.0.113.07",
        "fe80::1%eth0",
        "for=203.0.113.7",
        "203.0.113.7/24",
        "203.0.113.7;",
        "\"203.0.113.7\"",
        "1e1000",
        ",,,,",
        "<script>alert(1)</script>",
    ] {
        assert_ip(&nginx, &[&format!("X-Forwarded-For: {value}")], PEER);
    }
    let long = format!("X-Forwarded-For: {}", "9".repeat(6000));
    assert_ip(&nginx, &[&long], PEER);
    // Bytes that are no text.
    let mut connection = Connection::open(nginx.addr());
    let mut bytes = client::text("GET", "/", &["X-Forwarded-For: @"], b"");
    let at = bytes.iter().position(|byte| *byte == b'@').expect("just written");
    bytes[at] = 0xff;
    connection.send(&bytes);
    assert_eq!(connection.receive().header("x-ip"), Some(PEER));
    for call in sandbox.risk_calls() {
        assert_eq!(call.json()["request"]["socket_ip"], PEER);
    }
    sandbox.assert_no_complaints();
}

#[test]
fn the_realip_module_is_heard_first() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(
        &sandbox,
        &origin,
        "set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For; real_ip_recursive on;",
    );
    assert_ip(&nginx, &["X-Forwarded-For: 198.51.100.1, 203.0.113.7"], "203.0.113.7");
    assert_ip(&nginx, &["X-Forwarded-For: 2001:db8::7"], "2001:db8::7");
    assert_ip(&nginx, &[], PEER);
    assert_eq!(sandbox.risk_calls()[0].json()["request"]["socket_ip"], "203.0.113.7");
    drop(nginx);

    let nginx = site(
        &sandbox,
        &origin,
        "set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For; px_ip_headers X-True-IP;",
    );
    assert_ip(&nginx, &["X-Forwarded-For: 203.0.113.7"], "203.0.113.7");
    assert_ip(&nginx, &["X-Forwarded-For: 203.0.113.7", "X-True-IP: 203.0.113.9"], "203.0.113.9");
}

#[test]
fn the_proxy_protocol_is_heard_through_the_realip_module() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = Nginx::builder()
        .listen("proxy_protocol")
        .server(&format!(
            "{} set_real_ip_from 127.0.0.0/8; real_ip_header proxy_protocol;
             add_header X-IP $px_client_ip; location / {{ {} }}",
            protect(&sandbox),
            origin.proxy_pass()
        ))
        .start();
    let mut connection = Connection::open(nginx.addr());
    connection.send("PROXY TCP4 203.0.113.7 192.0.2.1 4000 80\r\n");
    connection.send(client::text("GET", "/", &[], b""));
    assert_eq!(connection.receive().header("x-ip"), Some("203.0.113.7"));
}

/// nginx opens its sockets one after the other; only the first is known to be open.
fn wait_until_listening(addr: std::net::SocketAddr) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while std::net::TcpStream::connect(addr).is_err() {
        assert!(std::time::Instant::now() < until, "nobody listens on {addr}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_client_of_the_other_family_is_a_client() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        eprintln!("not run: this machine has no IPv6");
        return;
    };
    let addr = probe.local_addr().expect("bound");
    drop(probe);
    let nginx = site(&sandbox, &origin, &format!("listen {addr}; px_filter_by_ip ::1;"));
    wait_until_listening(addr);
    let response = get(addr, "/", &["User-Agent: PhantomJS/1.0"]);
    assert_eq!(response.status, 200);
    let log = nginx.wait_for_access_log(1);
    assert!(log[0].contains("filter=ip"), "{log:?}");
    drop(nginx);

    let nginx = site(&sandbox, &origin, &format!("listen {addr};"));
    wait_until_listening(addr);
    assert_eq!(get(addr, "/", &[]).header("x-ip"), Some("::1"));
    assert_eq!(sandbox.risk_calls()[0].json()["request"]["socket_ip"], "::1");
    nginx.quit();
}

/// A token that is signed for an address is good for the address the operator's header names.
#[test]
fn a_token_is_checked_against_the_same_address() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let nginx = site(&sandbox, &origin, "px_ip_headers X-Forwarded-For;");
    let mint = sandbox.mint(BROWSER).ip("203.0.113.7").signed_fields("us");
    let cookie = format!("Cookie: {}", mint.cookie());
    for (address, reason) in [
        ("203.0.113.7", None),
        ("203.0.113.8", Some("cookie_validation_failed")),
        ("none", Some("cookie_validation_failed")),
    ] {
        sandbox.clear();
        get(nginx.addr(), "/", &[&cookie, &format!("X-Forwarded-For: {address}")]);
        let calls = sandbox.risk_calls();
        let told = calls.first().map(|call| call.json()["additional"]["s2s_call_reason"].clone());
        assert_eq!(told, reason.map(Into::into), "{address}");
    }
}
