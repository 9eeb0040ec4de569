//! Tests for the px module: what a visitor with a real browser sees and does.

mod support;

use std::fs;
use std::path::PathBuf;

use px_sandbox::{Endpoint, Reply, Sandbox};
use serde_json::json;
use support::{Browser, Nginx, Origin, SOON, protect, protect_as};

/// The Risk API blocks it, score 100, action c.
const BOT: &str = "Mozilla/5.0 (X11; Linux x86_64) PhantomJS/1.0";
/// A path that the Risk API blocks whoever asks for it.
const BAD_PATH: &str = "/px-sandbox/captcha";

const CHALLENGE: &str = "#px-captcha-sandbox";
const BUTTON: &str = "#px-captcha-sandbox button";

/// A shop behind nginx, with HUMAN on the other side.
struct Site {
    sandbox: Sandbox,
    origin: Origin,
    nginx: Nginx,
}

impl Site {
    /// Scripts and messages go through nginx, and on to HUMAN over TLS. The browser does not know
    /// the authority of HUMAN's certificate here: on its own it would not even get there.
    fn first_party() -> Self {
        let sandbox = Sandbox::builder().tls(true).start().unwrap();
        let url = format!("https://localhost:{}", sandbox.port());
        let protect = protect_as(sandbox.app(), &url, &url);
        Self::start(
            sandbox,
            &format!("{protect} px_ssl_trusted_certificate ca.pem;"),
            "/sandbox1/init.js",
        )
    }

    /// Scripts and messages go from the browser to HUMAN.
    fn third_party() -> Self {
        let sandbox = Sandbox::start().unwrap();
        let protect = protect(&sandbox);
        let sensor = format!("{}/{}/main.min.js", sandbox.url(), sandbox.app().id);
        Self::start(sandbox, &format!("{protect} px_first_party_enabled off;"), &sensor)
    }

    fn start(sandbox: Sandbox, directives: &str, sensor: &str) -> Self {
        let origin = Origin::start();
        let page = format!(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Shop</title>\
             <script src=\"{sensor}\" async></script></head>\
             <body><h1>Welcome to the shop</h1></body></html>"
        );
        origin.answer(200, &["Content-Type: text/html"], page.as_bytes());
        let server = format!("{directives} location / {{ {} }}", origin.proxy_pass());
        let nginx = Nginx::builder().server(&server).start_with(|dir| {
            if let Some(authority) = sandbox.ca_pem() {
                fs::write(dir.join("ca.pem"), authority).unwrap();
            }
        });
        Self { sandbox, origin, nginx }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.nginx.addr())
    }

    /// How often the shop itself was asked for `path`.
    fn visits(&self, path: &str) -> usize {
        let line = format!("GET {path} ");
        self.origin.texts().iter().filter(|request| request.starts_with(&line)).count()
    }

    /// A bad visitor comes to `path`, is challenged, solves the challenge and sees the shop.
    fn is_entered_by_solving_the_challenge(&self, browser: &Browser, path: &str, name: &str) {
        browser.open(&self.url(path));
        assert_eq!(browser.status(), 403);
        assert_eq!(browser.evaluate("document.title"), "Access to this page has been denied");
        browser.wait_for(&format!("document.querySelector('{BUTTON}')"));
        let activities = self.sandbox.wait_for_activities(1, SOON);
        assert_eq!(activities[0]["type"], "block");
        let text = browser.evaluate(&format!("document.querySelector('{CHALLENGE}').innerText"));
        let reference = activities[0]["details"]["client_uuid"].as_str().expect("a uuid");
        assert!(text.as_str().unwrap().contains(reference), "{text} {activities:?}");
        assert_eq!(self.visits(path), 0);
        assert_eq!(self.sandbox.risk_calls().len(), 1);
        browser.screenshot(&artifacts().join(format!("{name}-1-challenge.png")));

        browser.click(BUTTON);
        browser.wait_for("document.title === 'Shop' && document.readyState === 'complete'");
        assert_eq!(browser.status(), 200);
        assert_eq!(
            browser.evaluate("document.querySelector('h1').innerText"),
            "Welcome to the shop"
        );
        browser.wait_for("/(^|; )_px3=/.test(document.cookie)");
        browser.screenshot(&artifacts().join(format!("{name}-2-shop.png")));
        assert_eq!(self.visits(path), 1);

        // And so it stays.
        browser.reload();
        assert_eq!((browser.status(), self.visits(path)), (200, 2));
        let activities = self.sandbox.wait_for_activities(3, SOON);
        for passed in &activities[1..] {
            assert_eq!(passed["type"], "page_requested");
            assert_eq!(passed["details"]["pass_reason"], "cookie");
        }
        // The cookie says it all.
        assert_eq!(self.sandbox.risk_calls().len(), 1);
    }
}

/// Where pictures for people go.
fn artifacts() -> PathBuf {
    std::env::var_os("PX_ARTIFACTS").map_or_else(
        || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots"),
        PathBuf::from,
    )
}

/// The browser asked nobody but the site itself.
#[track_caller]
fn assert_asked_the_site_only(browser: &Browser, site: &Site) {
    let own = site.url("/");
    let asked = browser.asked_for();
    assert!(!asked.is_empty() && asked.iter().all(|url| url.starts_with(&own)), "{asked:?}");
}

#[test]
fn a_good_visitors_page_loads_the_sensor_and_reports_through_the_site_itself() {
    let site = Site::first_party();
    let browser = Browser::start(None);
    browser.open(&site.url("/account?x=1"));
    assert_eq!(browser.status(), 200);
    assert_eq!(browser.evaluate("document.querySelector('h1').innerText"), "Welcome to the shop");
    assert_eq!(site.visits("/account?x=1"), 1);

    let scripts = site.sandbox.wait_for(Endpoint::Sensor, 1, SOON);
    let messages = site.sandbox.wait_for(Endpoint::Xhr, 1, SOON);
    assert_eq!(messages[0].json()["page"], site.url("/account?x=1"));
    let agent = browser.evaluate("navigator.userAgent");
    for received in [&scripts[..], &messages[..]].concat() {
        assert!(received.is_first_party(), "{received:?}");
        assert_eq!(received.header("user-agent"), agent.as_str());
    }
    browser.wait_for("/(^|; )_pxvid=/.test(document.cookie)");
    browser.screenshot(&artifacts().join("good-visitor-shop.png"));

    assert_asked_the_site_only(&browser, &site);
    assert_eq!(site.sandbox.risk_calls().len(), 1);
    assert!(browser.script_errors().is_empty(), "{:?}", browser.script_errors());
    site.sandbox.assert_no_complaints();
}

#[test]
fn who_solves_the_challenge_on_the_site_itself_sees_the_page_without_another_risk_api_call() {
    let site = Site::first_party();
    for (path, user_agent, name) in
        [("/account", Some(BOT), "bad-browser"), (BAD_PATH, None, "bad-path")]
    {
        site.sandbox.clear();
        let browser = Browser::start(user_agent);
        site.is_entered_by_solving_the_challenge(&browser, path, name);

        for endpoint in [Endpoint::Captcha, Endpoint::Solve] {
            let received = site.sandbox.received_at(endpoint);
            assert_eq!(received.len(), 1, "{endpoint:?}");
            assert!(received[0].is_first_party(), "{received:?}");
        }
        assert_asked_the_site_only(&browser, &site);
        assert!(browser.script_errors().is_empty(), "{:?}", browser.script_errors());
        site.sandbox.assert_no_complaints();
    }
}

#[test]
fn without_first_party_who_solves_the_challenge_sees_the_page_just_so() {
    let site = Site::third_party();
    let browser = Browser::start(Some(BOT));
    site.is_entered_by_solving_the_challenge(&browser, "/account", "third-party");

    for endpoint in [Endpoint::Captcha, Endpoint::Solve, Endpoint::Sensor] {
        let received = site.sandbox.wait_for(endpoint, 1, SOON);
        assert!(!received[0].is_first_party(), "{received:?}");
    }
    let (own, humans) = (site.url("/"), format!("{}/", site.sandbox.url()));
    for url in browser.asked_for() {
        assert!(url.starts_with(&own) || url.starts_with(&humans), "{url}");
    }
    assert!(browser.script_errors().is_empty(), "{:?}", browser.script_errors());
    site.sandbox.assert_no_complaints();
}

#[test]
fn who_cannot_load_the_challenge_is_told_what_to_do() {
    let site = Site::first_party();
    site.sandbox.answer_at(Endpoint::Captcha, Reply::json(json!({})).status(404));
    let browser = Browser::start(Some(BOT));
    browser.open(&site.url("/account"));
    // The backup is out of reach, too: names lead nowhere in this browser.
    browser.wait_for("document.activeElement.matches('[role=alert]')");
    let text = browser.evaluate("document.activeElement.innerText");
    let text = text.as_str().unwrap();
    let activities = site.sandbox.wait_for_activities(1, SOON);
    let reference = activities[0]["details"]["client_uuid"].as_str().expect("a uuid");
    for part in ["could not be loaded", "disable your ad-blocker", reference] {
        assert!(text.contains(part), "{part}: {text}");
    }
    browser.screenshot(&artifacts().join("challenge-not-loaded.png"));
    let backup = "https://captcha.px-cloud.net/PXsandbox1/captcha.js";
    let asked = browser.asked_for();
    assert_eq!(asked.iter().filter(|url| url.starts_with(backup)).count(), 1, "{asked:?}");
    site.sandbox.assert_no_complaints();
}
