//! Tests for the px module: `px_risk_backend`, a Risk API chosen request by request.

mod support;

use px_sandbox::{Behaviour, Reply, Sandbox};
use support::{Nginx, Origin, get, protect_apart};

/// Two regions and a default; the collector is the default's.
struct Regions {
    default: Sandbox,
    eu: Sandbox,
    us: Sandbox,
    nginx: Nginx,
    _origin: Origin,
}

fn regions(directives: &str) -> Regions {
    let (default, origin) = (Sandbox::start().unwrap(), Origin::start());
    let like = || Sandbox::builder().app(default.app().clone()).start().unwrap();
    let (eu, us) = (like(), like());
    let nginx = Nginx::builder()
        .http(&format!(
            "upstream risk_eu {{ server {}; keepalive 4; }}
             map $http_x_region $risk_backend {{
                 default \"\";
                 eu      http://risk_eu;
                 us      http://{};
                 odd     not-a-url;
                 none    http://127.0.0.1:1;
             }}",
            eu.addr(),
            us.addr()
        ))
        .server(&format!(
            "{} px_risk_backend $risk_backend; {directives}
             location / {{ {} add_header X-Reason $px_pass_reason; }}",
            protect_apart(&default, &default),
            origin.proxy_pass()
        ))
        .start();
    Regions { default, eu, us, nginx, _origin: origin }
}

impl Regions {
    fn visit(&self, region: &str) -> String {
        let response = get(self.nginx.addr(), "/", &[&format!("X-Region: {region}")]);
        assert_eq!(response.status, 200);
        response.header("x-reason").unwrap_or_default().to_owned()
    }

    fn calls(&self) -> [usize; 3] {
        [&self.default, &self.eu, &self.us].map(|sandbox| sandbox.risk_calls().len())
    }
}

#[test]
fn each_request_asks_the_backend_its_expression_names() {
    let site = regions("");
    for (region, calls) in [
        ("eu", [0, 1, 0]),
        ("eu", [0, 2, 0]),
        ("us", [0, 2, 1]),
        ("", [1, 2, 1]),
        // No URL: the call goes where it goes without the expression, and the log says so.
        ("odd", [2, 2, 1]),
    ] {
        assert_eq!(site.visit(region), "s2s", "{region}");
        assert_eq!(site.calls(), calls, "{region}");
    }
    let call = &site.eu.risk_calls()[0];
    assert_eq!(call.header("host"), Some("risk_eu"));
    assert_eq!(call.path(), "/api/v3/risk");
    assert_eq!(site.eu.connections(), 1, "the upstream block keeps its connection");
    for sandbox in [&site.default, &site.eu, &site.us] {
        sandbox.assert_no_complaints();
    }
    let log = site.nginx.quit();
    assert_eq!(log.matches("px: \"px_risk_backend\" gives \"not-a-url\"").count(), 1, "{log}");
}

#[test]
fn a_chosen_backend_that_fails_lets_visitors_pass_and_has_a_breaker_of_its_own() {
    let mut site = regions("px_max_errors_threshold 2;");
    site.nginx.lenient();
    for _ in 0..3 {
        assert_eq!(site.visit("none"), "s2s_error");
    }
    site.eu.behave(Behaviour::Reset);
    for _ in 0..5 {
        assert_eq!(site.visit("eu"), "s2s_error");
    }
    let asked = site.eu.risk_calls().len();
    assert!(asked <= 2, "{asked}: the breaker is open");
    // The others are asked as ever.
    site.us.answer_risk(Reply::risk(0, "c"));
    assert_eq!(site.visit("us"), "s2s");
    assert_eq!(site.visit(""), "s2s");
    site.nginx.wait_for_error_log("too many failures of the Risk API at \"http://risk_eu\"");
}

#[test]
fn the_total_time_limit_holds_for_a_chosen_backend() {
    let site = regions("px_s2s_timeout 200ms;");
    site.eu.behave(Behaviour::Delay(std::time::Duration::from_secs(8)));
    assert_eq!(site.visit("eu"), "s2s_timeout");
}

#[test]
fn a_location_may_choose_where_others_do_not() {
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    // The two need certificates verified in different ways, and share a backend without any.
    let nginx = Nginx::start(&format!(
        "{} location / {{ {1} }} location /own/ {{ px_risk_backend $http_x_none; {1} }}",
        protect_apart(&sandbox, &sandbox),
        origin.proxy_pass()
    ));
    for path in ["/", "/own/"] {
        assert_eq!(get(nginx.addr(), path, &[]).status, 200);
    }
    assert_eq!(sandbox.risk_calls().len(), 2);
}
