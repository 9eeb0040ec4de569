//! Tests for the px module: beside the Lua module, the one loaded before the other and the other way
//! round. Lua steers the module before the verdict, reads it afterwards, and nobody is judged twice.

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use px_sandbox::{Behaviour, Endpoint, Reply, Sandbox};
use serde_json::{Value, json};
use support::h2::H2;
use support::{BROWSER, Connection, Nginx, Origin, Response, SOON, client, protect, request};

const BOT: &str = "User-Agent: PhantomJS/1.0";
const UUID: &str = "11111111-2222-4333-8444-555555555555";

/// Which of the two modules is loaded first; nginx runs handlers and filters accordingly.
#[derive(Clone, Copy, Debug)]
enum First {
    Px,
    Lua,
}

/// The directives that load the Lua module; none where nginx has it built in, as OpenResty has.
fn load_lua() -> String {
    let output = Command::new(support::nginx::binary()).arg("-V").output();
    let output = output.expect("nginx can be run");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    if told.contains("/ngx_lua-") {
        return String::new();
    }
    let dir = told.split_once("--modules-path=").map(|(_, rest)| rest);
    let dir = dir.and_then(|rest| rest.split_whitespace().next()).unwrap_or("modules");
    let load = ["ndk_http_module.so", "ngx_http_lua_module.so"].map(|name| {
        let file = PathBuf::from(dir).join(name);
        assert!(file.exists(), "{} is missing: make behaviour installs it", file.display());
        format!("load_module {};\n", file.display())
    });
    load.concat()
}

struct Site {
    sandbox: Sandbox,
    origin: Origin,
    nginx: Nginx,
}

/// Runs a test in both load orders.
fn in_both_orders(test: impl Fn(First) + Sync) {
    std::thread::scope(|scope| {
        for first in [First::Px, First::Lua] {
            let test = &test;
            scope.spawn(move || test(first));
        }
    });
}

impl Site {
    /// A protected server; `ORIGIN` stands for the origin's `proxy_pass`.
    fn start(first: First, http: &str, server: &str) -> Self {
        Self::start_with(first, http, server, "")
    }

    fn start_with(first: First, http: &str, server: &str, listen: &str) -> Self {
        let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
        let server = server.replace("ORIGIN", &origin.proxy_pass());
        let builder = Nginx::builder()
            .http(&format!("lua_shared_dict seen 1m; {http}"))
            .listen(listen)
            .server(&format!(
                "{} px_batch_activities_timeout_ms 10;
                 # A slow machine must not make passes of blocks.
                 px_s2s_timeout 10s;
                 location = /seen {{
                     px_enabled off;
                     rewrite_by_lua_block {{ local none }} access_by_lua_block {{ local none }}
                     header_filter_by_lua_block {{ local none }} body_filter_by_lua_block {{ local none }}
                     log_by_lua_block {{ local none }}
                     content_by_lua_block {{ ngx.print(ngx.shared.seen:get(ngx.var.arg_key) or 0) }}
                 }}
                 {server}",
                protect(&sandbox)
            ));
        let nginx = match first {
            First::Px => builder.main(&load_lua()),
            First::Lua => builder.before_module(&load_lua()),
        };
        Self { sandbox, origin, nginx: nginx.start() }
    }

    fn get(&self, path: &str, headers: &[&str]) -> Response {
        support::get(self.nginx.addr(), path, headers)
    }

    fn post(&self, path: &str, headers: &[&str], body: &[u8]) -> Response {
        request(self.nginx.addr(), "POST", path, headers, body)
    }

    /// What Lua has put or counted under this key.
    fn seen(&self, key: &str) -> String {
        self.get(&format!("/seen?key={key}"), &[]).text()
    }

    fn good_cookie(&self) -> String {
        format!("Cookie: {}", self.sandbox.mint(BROWSER).uuid(UUID).score(7).cookie())
    }

    /// The activities of everything so far, which are `count`, and as many calls as `calls`; types
    /// in order of the alphabet. Afterwards nothing is known of them.
    #[track_caller]
    fn assert_visits(&self, calls: usize, types: &[&str], what: &str) -> Vec<Value> {
        let activities = self.sandbox.wait_for_activities(types.len(), SOON);
        let mut found: Vec<&str> = activities.iter().filter_map(|a| a["type"].as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, types, "{what}");
        assert_eq!(self.sandbox.risk_calls().len(), calls, "{what}");
        self.sandbox.assert_no_complaints();
        self.sandbox.clear();
        activities
    }

    /// Ends nginx and makes sure that no activity came after those that were looked at.
    fn quit(self) -> String {
        let log = self.nginx.quit();
        assert_eq!(self.sandbox.activities(), [Value::Null; 0]);
        assert_eq!(self.sandbox.risk_calls().len(), 0);
        assert!(!log.contains("lua entry thread aborted"), "{log}");
        log
    }
}

#[test]
fn rewrite_by_lua_comes_first_and_steers_the_module() {
    in_both_orders(|first| {
        let site = Site::start(
            first,
            "",
            "set $skip ''; set $addr ''; set $monitored '';
             px_custom_is_filtered_request $skip;
             px_custom_is_monitored_request $monitored;
             px_client_ip $addr;
             px_custom_parameter 1 $tenant;
             set $tenant '';
             location / {
                 rewrite_by_lua_block {
                     ngx.var.skip = ngx.var.arg_skip
                     ngx.var.monitored = ngx.var.arg_monitored
                     ngx.var.addr = ngx.var.arg_addr
                     ngx.var.tenant = 'tenant of ' .. ngx.var.host
                     if ngx.var.arg_bot then
                         ngx.req.set_header('User-Agent', 'PhantomJS/1.0')
                         ngx.req.clear_header('Cookie')
                     end
                     -- What is looked at too early is not remembered.
                     assert(ngx.var.px_verdict == '' or ngx.var.px_verdict == nil)
                 }
                 add_header X-Verdict $px_verdict;
                 ORIGIN
             }",
        );
        assert_eq!(site.get("/?skip=1", &[BOT]).status, 200);
        site.assert_visits(0, &[], "filtered");
        let monitored = site.get("/?monitored=1", &[BOT]);
        assert_eq!(monitored.status, 200);
        assert_eq!(monitored.header("x-verdict"), Some("simulated_block"), "{first:?}");
        let activity = site.assert_visits(1, &["block"], "monitored").remove(0);
        assert_eq!(activity["details"]["simulated_block"], true);
        assert_eq!(site.get("/?bot=1", &[&site.good_cookie()]).status, 403);
        site.assert_visits(1, &["block"], "a header set, another cleared");
        assert_eq!(site.get("/?addr=192.0.2.7", &[]).status, 200);
        let call = site.sandbox.risk_calls()[0].json();
        assert_eq!(call["request"]["socket_ip"], "192.0.2.7");
        assert_eq!(call["additional"]["custom_param1"], "tenant of site.test");
        site.assert_visits(1, &["page_requested"], "an address");
        site.quit();
    });
}

/// Sees the verdict wherever it looks, or counts an error.
const LOOK: &str = "ngx.shared.seen:incr('access', 1, 0)
    for _, name in ipairs {'verdict', 'pass_reason', 'call_reason', 'score', 'uuid', 'risk_mode',
                           'request_id', 'client_ip', 's2s_error_reason'} do
        ngx.header['X-' .. name] = ngx.var['px_' .. name]
    end
    local headers = ngx.req.get_headers()
    ngx.header['X-Origin-Score'] = headers['x-px-score']
    ngx.header['X-Origin-Uuid'] = headers['x-px-uuid']";

#[test]
fn access_by_lua_runs_after_a_pass_sees_the_verdict_and_never_runs_after_a_block() {
    for postpone in ["", "access_by_lua_no_postpone on;"] {
        in_both_orders(|first| {
            let site = Site::start(
                first,
                postpone,
                &format!(
                    "px_score_header_enabled on; px_upstream_score_header_name x-px-score;
                     px_identifier_header_name x-px-uuid;
                     access_by_lua_block {{ {LOOK} }}
                     location / {{ ORIGIN }}
                     location /short/ {{ px_s2s_timeout 300ms; ORIGIN }}
                     location /monitor/ {{ px_module_mode monitor; ORIGIN }}
                     location /off/ {{ px_enabled off; ORIGIN }}"
                ),
            );
            let forged = ["X-PX-Score: 55", "x-px-uuid: forged"];
            let seen = |path: &str, more: &[&str]| {
                let response = site.get(path, &[more, &forged[..]].concat());
                assert_eq!(response.status, 200, "{first:?} {postpone} {path}");
                move |name: &str| response.header(name).unwrap_or_default().to_owned()
            };
            let by_cookie = seen("/", &[&site.good_cookie()]);
            for (name, value) in [
                ("x-verdict", "pass"),
                ("x-pass-reason", "cookie"),
                ("x-score", "7"),
                ("x-uuid", UUID),
                ("x-risk-mode", "active_blocking"),
                ("x-client-ip", "127.0.0.1"),
                ("x-origin-score", "7"),
                ("x-origin-uuid", UUID),
            ] {
                assert_eq!(by_cookie(name), value, "{first:?} {postpone} {name}");
            }
            let activity = site.assert_visits(0, &["page_requested"], "by cookie").remove(0);
            assert_eq!(activity["details"]["request_id"], by_cookie("x-request-id"));

            site.sandbox.answer_risk_next(Reply::risk(20, "c"));
            let by_call = seen("/", &[]);
            assert_eq!(by_call("x-pass-reason"), "s2s");
            assert_eq!(by_call("x-call-reason"), "no_cookie");
            assert_eq!((by_call("x-score"), by_call("x-origin-score")), ("20".into(), "20".into()));
            site.assert_visits(1, &["page_requested"], "by call");

            // Whatever fails lets the visitor, and Lua, go on.
            for (behaviour, reason) in [
                (Behaviour::Hang, "s2s_timeout"),
                (Behaviour::Status(503), "s2s_error"),
                (Behaviour::Reset, "s2s_error"),
            ] {
                site.sandbox.behave(behaviour);
                let failed = seen("/short/", &[]);
                assert_eq!(failed("x-pass-reason"), reason);
                site.sandbox.behave_well();
                site.sandbox.wait_for_activities(1, SOON);
                site.sandbox.clear();
            }
            assert_eq!(seen("/monitor/", &[BOT])("x-verdict"), "simulated_block");
            site.assert_visits(1, &["block"], "monitored");
            assert_eq!(seen("/a.css", &[])("x-verdict"), "filtered");
            assert_eq!(seen("/off/", &[BOT])("x-verdict"), "");
            site.assert_visits(0, &[], "not judged");

            let (before, requests) = (site.seen("access"), site.origin.requests().len());
            for headers in [&[BOT][..], &[BOT, &site.good_cookie()]] {
                let response = site.get("/", headers);
                assert_eq!(response.status, 403, "{first:?} {postpone}");
                assert_eq!(response.header("x-verdict"), None, "{first:?} {postpone}");
            }
            site.assert_visits(2, &["block", "block"], "blocked");
            assert_eq!(site.seen("access"), before, "{first:?} {postpone}");
            assert_eq!(site.origin.requests().len(), requests);
            site.quit();
        });
    }
}

#[test]
fn filters_and_log_by_lua_see_the_verdict_of_block_pages_too() {
    in_both_orders(|first| {
        let site = Site::start(
            first,
            "",
            "rewrite_by_lua_block { ngx.ctx.since_rewrite = 'kept' }
             header_filter_by_lua_block {
                 ngx.header['X-Verdict'] = ngx.var.px_verdict
                 ngx.header['X-Since'] = ngx.ctx.since_rewrite
             }
             body_filter_by_lua_block {
                 ngx.ctx.bytes = (ngx.ctx.bytes or 0) + #(ngx.arg[1] or '')
             }
             log_by_lua_block {
                 ngx.shared.seen:set('log', table.concat({ngx.status, ngx.var.px_verdict,
                     ngx.var.px_block_reason or '', ngx.ctx.bytes or 0, ngx.ctx.since_rewrite}, ' '))
                 ngx.shared.seen:incr('logs', 1, 0)
             }
             location / { ORIGIN }
             location /longer {
                 header_filter_by_lua_block {
                     ngx.header.content_length = nil
                     ngx.header['Set-Cookie'] = 'lua=1'
                 }
                 body_filter_by_lua_block {
                     if ngx.arg[2] then ngx.arg[1] = (ngx.arg[1] or '') .. '<!-- Lua -->' end
                 }
                 ORIGIN
             }",
        );
        let mut logs = 0;
        let mut logged = || {
            logs += 1;
            support::wait_until("a line of Lua's", || site.seen("logs") == logs.to_string());
            site.seen("log")
        };
        for (method, agent) in [("GET", BOT), ("HEAD", BOT), ("GET", "User-Agent: x")] {
            let response = request(site.nginx.addr(), method, "/", &[agent], b"");
            let len = response.body.len();
            let is_bot = agent == BOT;
            let verdict = if is_bot { "block" } else { "pass" };
            assert_eq!(response.status, if is_bot { 403 } else { 200 }, "{method} {agent}");
            assert_eq!(response.header("x-verdict"), Some(verdict), "{method} {agent}");
            assert_eq!(response.header("x-since"), Some("kept"), "{method} {agent}");
            let log = logged();
            if method == "GET" {
                assert_eq!(response.header("content-length"), Some(&*len.to_string()));
                let reason = if is_bot { "s2s_high_score" } else { "" };
                assert_eq!(log, format!("{} {verdict} {reason} {len} kept", response.status));
            } else {
                assert!(response.header("content-length").is_some_and(|length| length != "0"));
            }
        }
        site.assert_visits(3, &["block", "block", "page_requested"], "each once");

        // A page that Lua makes longer.
        site.sandbox.answer_risk_next(Reply::json(json!({
            "status": 0, "score": 100, "action": "c", "uuid": UUID, "pxhd": "hidden",
        })));
        let response = site.get("/longer", &[]);
        assert_eq!(response.status, 403);
        assert!(response.text().ends_with("<!-- Lua -->"), "{}", response.text());
        assert!(response.headers("set-cookie").contains(&"lua=1"), "{:?}", response.headers);
        site.assert_visits(1, &["block"], "longer");
        site.quit();
    });
}

/// What stands at `http` level is for the site's answers: those of the module's own calls it never
/// sees.
#[test]
fn lua_never_sees_the_answers_of_the_risk_api() {
    in_both_orders(|first| {
        let site = Site::start(
            first,
            "header_filter_by_lua_block {
                 ngx.shared.seen:incr('answers', 1, 0)
                 ngx.header['X-Answers'] = ngx.shared.seen:get('answers')
             }
             body_filter_by_lua_block {
                 ngx.ctx.body = (ngx.ctx.body or '') .. ngx.arg[1]
                 if string.find(ngx.ctx.body, UUID, 1, true) then ngx.arg[1] = 'ruined' end
             }
             log_by_lua_block { ngx.shared.seen:incr('logs', 1, 0) }"
                .replace("UUID", &format!("'{UUID}'"))
                .as_str(),
            "location / { ORIGIN }",
        );
        site.sandbox.answer_risk(Reply::json(json!({
            "status": 0, "score": 3, "action": "c", "uuid": UUID,
        })));
        for visit in ["1", "2", "3"] {
            let response = site.get("/", &[]);
            assert_eq!(response.header("x-answers"), Some(visit), "{first:?}");
            let activity = site.assert_visits(1, &["page_requested"], "a call").remove(0);
            assert_eq!(activity["details"]["pass_reason"], "s2s", "{first:?}: {activity}");
        }
        support::wait_until("three lines", || site.seen("logs").parse::<u32>().unwrap() >= 3);
        site.quit();
    });
}

#[test]
fn lua_filters_the_operators_block_page_once() {
    in_both_orders(|first| {
        let (sandbox, page) = (Sandbox::start().unwrap(), "<html><head></head>Stop.</html>");
        let builder = Nginx::builder()
            .http(
                "header_filter_by_lua_block { ngx.header.content_length = nil }
                 body_filter_by_lua_block {
                     if ngx.arg[2] then ngx.arg[1] = ngx.arg[1] .. '<!-- Lua -->' end
                 }",
            )
            .server(&format!(
                "{} px_s2s_timeout 10s; px_custom_block_url /stop.html; location / {{ }}",
                protect(&sandbox)
            ));
        let nginx = match first {
            First::Px => builder.main(&load_lua()),
            First::Lua => builder.before_module(&load_lua()),
        };
        let nginx = nginx.start_with(|dir| fs::write(dir.join("html/stop.html"), page).unwrap());
        let response = support::get(nginx.addr(), "/", &[BOT]);
        assert_eq!(response.status, 403);
        let text = response.text();
        assert!(text.ends_with("Stop.</html><!-- Lua -->"), "{first:?}: {text}");
        assert!(text.contains("window._px"), "{first:?}: {text}");
        assert_eq!(text.matches("Lua").count(), 1, "{first:?}: {text}");
        nginx.quit();
    });
}

#[test]
fn wherever_lua_sends_a_request_it_is_judged_once() {
    in_both_orders(|first| {
        let site = Site::start(
            first,
            "",
            "location /access-named { access_by_lua_block { ngx.exec('@app') } ORIGIN }
             location /access-plain { access_by_lua_block { ngx.exec('/app', {a = 1}) } ORIGIN }
             location /rewrite-named { rewrite_by_lua_block { ngx.exec('@app') } ORIGIN }
             location /rewrite-plain { rewrite_by_lua_block { ngx.exec('/app') } ORIGIN }
             location /content-named { content_by_lua_block { ngx.exec('@app') } }
             location /content-plain { content_by_lua_block { ngx.exec('/app') } }
             location /to-monitor { access_by_lua_block { ngx.exec('@monitor') } ORIGIN }
             location /to-off { access_by_lua_block { ngx.exec('@off') } ORIGIN }
             location /twice { access_by_lua_block { ngx.exec('/access-named') } ORIGIN }
             location /rewritten { rewrite_by_lua_block { ngx.req.set_uri('/app', true) } ORIGIN }
             location /renamed { access_by_lua_block { ngx.req.set_uri('/other') } ORIGIN }
             location /asleep {
                 rewrite_by_lua_block { ngx.sleep(0.005) }
                 access_by_lua_block { ngx.sleep(0.005) ngx.exec('@app') }
                 ORIGIN
             }
             location /app { ORIGIN }
             location @app {
                 add_header X-Verdict $px_verdict; add_header X-Score $px_score; ORIGIN
             }
             location @monitor { px_module_mode monitor; ORIGIN }
             location @off { px_enabled off; add_header X-Verdict $px_verdict; ORIGIN }",
        );
        for path in [
            "/access-named",
            "/access-plain",
            "/rewrite-named",
            "/rewrite-plain",
            "/content-named",
            "/content-plain",
            "/to-monitor",
            "/to-off",
            "/twice",
            "/rewritten",
            "/renamed",
            "/asleep",
        ] {
            let response = site.get(path, &[]);
            assert_eq!((response.status, &*response.text()), (200, "origin"), "{first:?} {path}");
            if let Some(verdict) = response.header("x-verdict") {
                assert_eq!(verdict, "pass", "{first:?} {path}");
            }
            let activity = site.assert_visits(1, &["page_requested"], path).remove(0);
            assert_eq!(activity["url"], format!("http://site.test{path}"), "{first:?}");
            let requests = site.origin.requests().len();
            assert_eq!(site.get(path, &[BOT]).status, 403, "{first:?} {path}");
            site.assert_visits(1, &["block"], path);
            assert_eq!(site.origin.requests().len(), requests, "{first:?} {path}");

            let response = site.get(path, &[&site.good_cookie()]);
            assert_eq!(response.status, 200, "{first:?} {path}");
            site.assert_visits(0, &["page_requested"], path);
        }
        assert_eq!(site.get("/to-off", &[]).header("x-verdict"), Some("pass"));
        site.assert_visits(1, &["page_requested"], "the verdict stays readable");
        site.quit();
    });
}

#[test]
fn what_lua_captures_is_not_judged() {
    in_both_orders(|first| {
        let site = Site::start(
            first,
            "",
            "location /inner { ORIGIN }
             location /inner-lua { access_by_lua_block { ngx.req.get_headers() }
                 content_by_lua_block { ngx.print('lua:', ngx.var.px_verdict) } }
             location /access { access_by_lua_block {
                     local one = ngx.location.capture('/inner?a')
                     assert(one.status == 200 and one.body == 'origin')
                 } ORIGIN }
             location /rewrite { rewrite_by_lua_block {
                     local one = ngx.location.capture('/inner')
                     assert(one.status == 200 and one.body == 'origin')
                 } ORIGIN }
             location /several { access_by_lua_block {
                     local one, two, three = ngx.location.capture_multi {
                         {'/inner'}, {'/inner-lua'}, {'/inner', {method = ngx.HTTP_POST, body = 'b'}}}
                     assert(one.body == 'origin' and two.body == 'lua:pass' and three.body == 'origin')
                 } ORIGIN }
             location /content { content_by_lua_block {
                     local one, two = ngx.location.capture_multi {{'/inner'}, {'/inner-lua'}}
                     ngx.print('origin') assert(one.body == 'origin' and two.body == 'lua:pass')
                 } }
             location /threads { access_by_lua_block {
                     local function fetch() return ngx.location.capture('/inner') end
                     local one, two = ngx.thread.spawn(fetch), ngx.thread.spawn(fetch)
                     for _, thread in ipairs {one, two} do
                         local ok, got = ngx.thread.wait(thread)
                         assert(ok and got.body == 'origin')
                     end
                 } ORIGIN }",
        );
        for (path, fetched) in
            [("/access", 1), ("/rewrite", 1), ("/several", 2), ("/content", 1), ("/threads", 2)]
        {
            site.origin.clear();
            let response = site.get(path, &[]);
            assert_eq!((response.status, &*response.text()), (200, "origin"), "{first:?} {path}");
            site.assert_visits(1, &["page_requested"], path);
            let own = usize::from(path != "/content");
            assert_eq!(site.origin.requests().len(), fetched + own, "{path}");
            // Nothing is fetched for somebody who is blocked, but what comes before the verdict.
            site.origin.clear();
            assert_eq!(site.get(path, &[BOT]).status, 403, "{first:?} {path}");
            site.assert_visits(1, &["block"], path);
            assert_eq!(site.origin.requests().len(), usize::from(path == "/rewrite"), "{path}");
            // With a cookie nothing is waited for.
            assert_eq!(site.get(path, &[&site.good_cookie()]).text(), "origin", "{first:?} {path}");
            site.assert_visits(0, &["page_requested"], path);
        }
        site.quit();
    });
}

const LOGIN: &str = "px_enable_login_creds_extraction on;
    px_login_credentials_extraction path=^/login path_type=regex method=post sent_through=body
        user_field=username pass_field=password;";

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

#[test]
fn a_login_body_is_the_same_for_module_lua_and_origin() {
    in_both_orders(|first| {
        let read = "ngx.req.read_body()
            local body = ngx.req.get_body_data()
            if not body then
                local file = assert(io.open(ngx.req.get_body_file(), 'rb'))
                body = file:read('*a') file:close()
            end
            ngx.header['X-Body'] = ngx.crc32_long(body) .. ' ' .. #body";
        let capture = "ngx.req.read_body()
            local got = ngx.location.capture('/echo', {method = ngx.HTTP_POST, \
                always_forward_body = true})
            ngx.header['X-Body'] = got.body";
        let echo = read.replace("ngx.header['X-Body'] =", "ngx.print(") + ")";
        let server = format!(
            "{LOGIN} client_body_buffer_size 1k;
             location /login/access {{ access_by_lua_block {{ {read} }} ORIGIN }}
             location /login/rewrite {{ rewrite_by_lua_block {{ {read} }} ORIGIN }}
             location /login/needed {{ lua_need_request_body on;
                 access_by_lua_block {{ {read} }} ORIGIN }}
             location /login/content {{ content_by_lua_block {{ {read} ngx.print('origin') }} }}
             location /login/captured {{ access_by_lua_block {{ {capture} }} ORIGIN }}
             location /login/exec {{ access_by_lua_block {{ {read} ngx.exec('@app') }} ORIGIN }}
             location /login/changed {{ access_by_lua_block {{ {read}
                 ngx.req.set_body_data('changed') }} ORIGIN }}
             location /login/socket {{ access_by_lua_block {{
                 local socket, why = ngx.req.socket()
                 ngx.header['X-Why'] = why }} ORIGIN }}
             location @app {{ header_filter_by_lua_block {{ ngx.header['X-Body'] = 'exec' }} ORIGIN }}
             location /echo {{ internal; content_by_lua_block {{ {echo} }} }}"
        );
        let site = Site::start(first, "", &server);
        let h2 = Site::start_with(first, "", &server, "http2");
        for len in [0, 100, 900, 40_000] {
            let body = format!("username=Visitor&password=secret&x={}", "y".repeat(len));
            let expected = format!("{} {}", crc32(body.as_bytes()), body.len());
            for path in ["access", "rewrite", "needed", "content", "captured", "exec", "changed"] {
                let path = format!("/login/{path}");
                let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
                for (headers, sent) in
                    [(&[FORM][..], &body), (&[FORM, "Transfer-Encoding: chunked"], &chunked)]
                {
                    site.origin.clear();
                    let response = site.post(&path, headers, sent.as_bytes());
                    let what = format!("{first:?} {path} {len} {headers:?}");
                    assert_eq!((response.status, &*response.text()), (200, "origin"), "{what}");
                    let told = if path == "/login/exec" { "exec" } else { &*expected };
                    assert_eq!(response.header("x-body"), Some(told), "{what}");
                    let call = site.sandbox.wait_for_risk_calls(1, SOON)[0].json();
                    assert_eq!(call["additional"]["ci_version"], "v2", "{what}");
                    let types = ["additional_s2s", "page_requested"];
                    site.assert_visits(1, &types, &what);
                    let received = site.origin.texts().pop().unwrap_or_default();
                    let end = if path == "/login/changed" { "changed" } else { &*body };
                    let reached = received.split_once("\r\n\r\n").map(|(_, end)| end);
                    let expected = (path != "/login/content").then_some(end);
                    assert_eq!(reached, expected, "{what}");
                }
                // The Lua module captures nothing for HTTP/2.
                if path == "/login/captured" {
                    continue;
                }
                let mut visitor = H2::open(h2.nginx.addr());
                let form = [("content-type", "application/x-www-form-urlencoded")];
                visitor.request(1, "POST", &path, &form, false);
                for (n, part) in body.as_bytes().chunks(9000).enumerate() {
                    visitor.data(1, part, (n + 1) * 9000 >= body.len());
                }
                let answer = visitor.receive(1);
                assert_eq!((answer.status, &answer.body[..]), (200, &b"origin"[..]), "h2 {path}");
                let call = h2.sandbox.wait_for_risk_calls(1, SOON)[0].json();
                assert_eq!(call["additional"]["ci_version"], "v2", "h2 {first:?} {path} {len}");
                h2.assert_visits(1, &["additional_s2s", "page_requested"], &path);
            }
        }
        // What has been read cannot be read from the connection again.
        let response = site.post("/login/socket", &[FORM], b"username=a&password=b");
        assert_eq!(response.header("x-why"), Some("request body already exists"));
        assert_eq!(response.text(), "origin");
        site.assert_visits(1, &["additional_s2s", "page_requested"], "socket");
        // A bot's login reaches neither Lua nor the origin.
        site.origin.clear();
        let response = site.post("/login/access", &[FORM, BOT], b"username=a&password=b");
        assert_eq!((response.status, response.header("x-body")), (403, None));
        assert!(site.origin.requests().is_empty());
        site.sandbox.wait_for_activities(1, SOON);
        site.sandbox.clear();
        site.quit();
        h2.quit();
    });
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn what_lua_answers_is_reported_as_the_visitor_got_it() {
    in_both_orders(|first| {
        let site = Site::start(
            first,
            "",
            "location /refused { access_by_lua_block { ngx.exit(403) } ORIGIN }
             location /redirected { access_by_lua_block { ngx.redirect('/x') } ORIGIN }
             location /answered { access_by_lua_block {
                 ngx.say('own') ngx.exit(ngx.HTTP_OK) } ORIGIN }
             location /done { access_by_lua_block { ngx.exit(ngx.OK) } ORIGIN }
             location /broken { access_by_lua_block { error('on purpose') } ORIGIN }
             location /content { content_by_lua_block { ngx.status = 418 ngx.say('own') } }
             location /content-broken { content_by_lua_block { error('on purpose') } }
             location /paged { error_page 403 /page; access_by_lua_block { ngx.exit(403) } ORIGIN }
             location /page { ORIGIN }
             location /before { rewrite_by_lua_block { ngx.exit(403) } ORIGIN }
             location /before-redirected { rewrite_by_lua_block { ngx.redirect('/x') } ORIGIN }
             location /before-broken { rewrite_by_lua_block { error('on purpose') } ORIGIN }",
        );
        for (path, status) in [
            ("/refused", 403),
            ("/redirected", 302),
            ("/answered", 200),
            ("/done", 200),
            ("/broken", 500),
            ("/content", 418),
            ("/content-broken", 500),
            ("/paged", 403),
        ] {
            let response = site.get(path, &[]);
            assert_eq!(response.status, status, "{first:?} {path}");
            let activity = site.assert_visits(1, &["page_requested"], path).remove(0);
            assert_eq!(activity["details"]["http_status_code"], status, "{first:?} {path}");
            assert_eq!(site.get(path, &[BOT]).status, 403, "{first:?} {path}");
            assert_eq!(site.assert_visits(1, &["block"], path)[0]["details"]["block_score"], 100);
        }
        // What Lua answers before the verdict is as `return` is: nobody's visit.
        for (path, status) in
            [("/before", 403), ("/before-redirected", 302), ("/before-broken", 500)]
        {
            assert_eq!(site.get(path, &[BOT]).status, status, "{first:?} {path}");
        }
        site.assert_visits(0, &[], "before the verdict");
        let log = site.nginx.quit();
        assert_eq!(log.matches("on purpose").count(), 3, "{log}");
        assert_eq!(site.sandbox.activities(), [Value::Null; 0]);
    });
}

#[test]
fn an_error_in_luas_filters_leaves_the_report_right() {
    in_both_orders(|first| {
        let site = Site::start(
            first,
            "",
            "location /header { header_filter_by_lua_block { error('on purpose') } ORIGIN }
             location /body { body_filter_by_lua_block { error('on purpose') } ORIGIN }
             location /log { log_by_lua_block { error('on purpose') } ORIGIN }",
        );
        for path in ["/header", "/body", "/log"] {
            for (agent, kind) in [(BOT, "block"), ("User-Agent: x", "page_requested")] {
                let mut visitor = Connection::open(site.nginx.addr());
                visitor.send(client::text("GET", path, &[agent, "Connection: close"], b""));
                visitor.rest();
                site.assert_visits(1, &[kind], path);
            }
        }
        let log = site.quit();
        assert_eq!(log.matches("on purpose").count(), 6, "{log}");
    });
}

#[test]
fn lua_may_wait_before_and_after_the_module_waits() {
    in_both_orders(|first| {
        let origin = Origin::start();
        let (host, port) = (origin.addr().ip(), origin.addr().port());
        let ask = format!(
            "local socket = ngx.socket.tcp() socket:settimeout(10000)
             assert(socket:connect('{host}', {port}))
             assert(socket:send('GET /lua HTTP/1.0\\r\\n\\r\\n'))
             local all = assert(socket:receive('*a'))
             assert(string.sub(all, -6) == 'origin') socket:close()"
        );
        let site = Site::start(
            first,
            "",
            &format!(
                "location / {{
                     rewrite_by_lua_block {{ {ask} ngx.sleep(0.002) }}
                     access_by_lua_block {{ {ask} ngx.sleep(0.002) }}
                     header_filter_by_lua_block {{ ngx.header['X-Verdict'] = ngx.var.px_verdict }}
                     log_by_lua_block {{ ngx.timer.at(0, function() ngx.shared.seen:incr('timers', 1, 0) end) }}
                     ORIGIN
                 }}"
            ),
        );
        site.sandbox.behave(Behaviour::Delay(Duration::from_millis(20)));
        let addr = site.nginx.addr();
        std::thread::scope(|scope| {
            for n in 0..20 {
                scope.spawn(move || {
                    let agent = if n % 2 == 0 { BOT } else { "User-Agent: x" };
                    let response = support::get(addr, "/", &[agent]);
                    assert_eq!(response.status, if n % 2 == 0 { 403 } else { 200 });
                    let verdict = if n % 2 == 0 { "block" } else { "pass" };
                    assert_eq!(response.header("x-verdict"), Some(verdict));
                });
            }
        });
        let types = [["block"; 10], ["page_requested"; 10]].concat();
        site.assert_visits(20, &types, "twenty at once");
        support::wait_until("timers", || site.seen("timers") == "20");
        // Before the verdict everybody's, afterwards only those who passed.
        assert_eq!(origin.requests().len(), 30);
        site.quit();
    });
}

#[test]
fn a_visitor_who_leaves_while_lua_watches_leaves_nothing_behind() {
    // With the check the visitor's end is the call's: nobody waits for its limit.
    for (check, limit) in [("lua_check_client_abort on;", "60s"), ("", "300ms")] {
        in_both_orders(|first| {
            let site = Site::start(
                first,
                check,
                &"location / {
                     px_s2s_timeout LIMIT;
                     rewrite_by_lua_block { ngx.req.get_headers() ngx.sleep(0.001) }
                     access_by_lua_block { ngx.shared.seen:incr('access', 1, 0) }
                     log_by_lua_block { ngx.shared.seen:incr('logs', 1, 0) }
                     ORIGIN
                 }
                 location /told {
                     px_s2s_timeout 300ms;
                     rewrite_by_lua_block {
                         ngx.on_abort(function()
                             ngx.shared.seen:incr('aborts', 1, 0) ngx.exit(499) end)
                     }
                     log_by_lua_block { ngx.shared.seen:incr('logs', 1, 0) }
                     ORIGIN
                 }
                 location /later {
                     access_by_lua_block { ngx.shared.seen:incr('later', 1, 0) ngx.sleep(0.3) }
                     log_by_lua_block { ngx.shared.seen:incr('logs', 1, 0) }
                     ORIGIN
                 }"
                .replace("LIMIT", limit),
            );
            site.sandbox.behave(Behaviour::Hang);
            let leave = |path: &str| {
                let mut visitor = Connection::open(site.nginx.addr());
                visitor.send(client::text("GET", path, &[], b""));
                visitor
            };
            // `ngx.on_abort` needs the check.
            let paths = if check.is_empty() { &["/"][..] } else { &["/", "/told"] };
            let visitors: Vec<Connection> =
                (0..10).map(|n| leave(paths[n % paths.len()])).collect();
            site.sandbox.wait_for_risk_calls(10, SOON);
            drop(visitors);
            support::wait_until("ten to be logged", || site.seen("logs") == "10");
            site.sandbox.behave_well();
            site.sandbox.clear();
            // Those who leave after the verdict were visitors.
            let visitor = leave("/later");
            support::wait_until("the pass", || site.seen("later") == "1");
            drop(visitor);
            support::wait_until("one more", || site.seen("logs") == "11");
            support::wait_until("its report", || {
                let activities = site.sandbox.activities();
                activities.iter().any(|activity| activity["details"]["pass_reason"] == "s2s")
            });
            assert_eq!(site.get("/later", &[]).status, 200, "{first:?} {check}");
            assert_eq!(site.get("/later", &[BOT]).status, 403, "{first:?} {check}");
            let risk_api = &site.sandbox;
            support::wait_until("calls to end", || risk_api.open_connections() <= 2);
            site.nginx.quit();
        });
    }
}

#[test]
fn http2_streams_are_judged_each_once() {
    in_both_orders(|first| {
        let site = Site::start_with(
            first,
            "",
            "access_by_lua_block {
                 ngx.sleep(0.001)
                 if ngx.var.arg_exec then ngx.exec('@app') end
             }
             header_filter_by_lua_block { ngx.header['X-Verdict'] = ngx.var.px_verdict }
             location / { ORIGIN }
             location @app { access_by_lua_block { local none } ORIGIN }",
            "http2",
        );
        let mut visitor = H2::open(site.nginx.addr());
        let all = [
            (1, "/", BROWSER, 200),
            (3, "/", "PhantomJS/1.0", 403),
            (5, "/?exec=1", BROWSER, 200),
            (7, "/?exec=1", "PhantomJS/1.0", 403),
        ];
        for (stream, path, agent, _) in all {
            visitor.request(stream, "GET", path, &[("user-agent", agent)], true);
        }
        for (stream, path, _, status) in all {
            let answer = visitor.receive(stream);
            assert_eq!(answer.status, status, "{first:?} {path}");
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(text == "origin" || text.contains("px-captcha"), "{text}");
        }
        let types = ["block", "block", "page_requested", "page_requested"];
        site.assert_visits(4, &types, "streams");

        // Streams that are given up while the Risk API, or Lua, is busy.
        site.sandbox.behave(Behaviour::Delay(Duration::from_millis(50)));
        for stream in [9, 11, 13] {
            visitor.request(stream, "GET", "/", &[], true);
        }
        site.sandbox.wait_for_risk_calls(3, SOON);
        visitor.reset(9);
        visitor.reset(11);
        assert_eq!(visitor.receive(13).status, 200);
        drop(visitor);
        site.nginx.quit();
    });
}

#[test]
fn first_party_paths_are_served_whatever_lua_does_there() {
    in_both_orders(|first| {
        // A gateway's router in its access code would know no route.
        for (http, seen) in [("", "0"), ("access_by_lua_no_postpone on;", "1")] {
            let site = Site::start(
                first,
                http,
                "rewrite_by_lua_block { ngx.shared.seen:incr('rewrite', 1, 0) }
                 access_by_lua_block { ngx.shared.seen:incr(ngx.var.px_verdict or '', 1, 0) }
                 header_filter_by_lua_block { ngx.header['X-Verdict'] = ngx.var.px_verdict }
                 location / { content_by_lua_block { ngx.print('made by Lua') } }",
            );
            let script = Reply::bytes("application/javascript", "/* the sensor */");
            site.sandbox.answer_at(Endpoint::Sensor, script);
            let sensor = site.get("/sandbox1/init.js", &[]);
            assert_eq!((sensor.status, &*sensor.text()), (200, "/* the sensor */"), "{first:?}");
            assert_eq!(sensor.header("x-verdict"), Some("first_party"));
            assert_eq!(site.get("/", &[]).text(), "made by Lua");
            assert_eq!(site.seen("first_party"), seen, "{http}");
            site.assert_visits(1, &["page_requested"], "the page alone");
            site.quit();
        }
    });
}

#[test]
fn lua_cannot_change_a_verdict() {
    in_both_orders(|first| {
        let site = Site::start(
            first,
            "",
            "location / { rewrite_by_lua_block {
                     for _, name in ipairs {'px_verdict', 'px_score'} do
                         local ok = pcall(function() ngx.var[name] = 'forged' end)
                         assert(not ok)
                     end
                 }
                 add_header X-Verdict $px_verdict; ORIGIN }",
        );
        assert_eq!(site.get("/", &[]).header("x-verdict"), Some("pass"));
        assert_eq!(site.get("/", &[BOT]).status, 403);
        site.assert_visits(2, &["block", "page_requested"], "both");
        site.quit();
    });
}

#[test]
fn the_sample_for_openresty_does_what_it_says() {
    let sample = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("nginx/openresty/nginx.conf");
    let sample = fs::read_to_string(sample).expect("the sample is there");
    let (_, http) = sample.split_once("\nhttp {").expect("an http block");
    let http = http.trim_end().strip_suffix('}').expect("its end");
    let (sandbox, origin) = (Sandbox::start().unwrap(), Origin::start());
    let addr = support::nginx::free_addr();
    let http = http
        .replace("include px.conf;", &protect(&sandbox))
        .replace("listen 8080;", &format!("listen {addr};"))
        .replace("127.0.0.1:3000", &origin.addr().to_string());
    let nginx = Nginx::builder().before_module(&load_lua()).http(&http).start();
    let get = |path: &str, headers: &[&str]| support::get(addr, path, headers);

    assert_eq!(get("/", &[BOT]).status, 403);
    assert!(origin.requests().is_empty());
    assert_eq!(get("/", &[BOT, "X-Probe-Key: change-me"]).status, 200);
    let cookie = |score: u32| format!("Cookie: {}", sandbox.mint(BROWSER).score(score).cookie());
    origin.clear();
    let doubtful = cookie(80);
    assert_eq!(get("/", &[&doubtful, "X-Visitor-Risk: none"]).status, 200);
    let received = origin.texts().pop().expect("a request");
    assert!(received.contains("X-Visitor-Risk: raised\r\n"), "{received}");
    assert!(!received.contains("X-Visitor-Risk: none"), "{received}");
    assert_eq!(request(addr, "POST", "/order", &[&doubtful], b"").status, 429);
    assert_eq!(request(addr, "POST", "/order", &[&cookie(5)], b"").status, 200);
    assert!(!origin.texts().pop().expect("a request").contains("X-Visitor-Risk"));
    support::wait_until("the counters", || {
        let lines = get("/verdicts", &[]).text();
        ["block 1\n", "filtered 1\n", "pass 3\n"].iter().all(|line| lines.contains(line))
    });
    nginx.quit();
}

#[test]
fn the_module_is_loaded_first_and_last() {
    // That the two orders differ at all is what the other tests build on.
    for first in [First::Px, First::Lua] {
        let site = Site::start(first, "", "location / { ORIGIN }");
        let conf = fs::read_to_string(site.nginx.dir().join("nginx.conf")).expect("it is there");
        let at = |name: &str| conf.find(name);
        if let Some(lua) = at("ngx_http_lua_module.so") {
            let px = at("libngx_http_px_module.so").expect("it is loaded");
            assert_eq!(px < lua, matches!(first, First::Px));
        }
    }
}
