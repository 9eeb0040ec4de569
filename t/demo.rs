//! `make demo`: the module at work against the sandbox, told step by step.
//!
//! Starts the sandbox, an origin and a real nginx with the module, sends one visitor after the
//! other and prints what happened. Ends by itself; exits non-zero if anything was not as told.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use px_sandbox::Sandbox;
use support::{BROWSER, Nginx, Origin, Response, get, protect};

/// One line of the table.
struct Step {
    visitor: &'static str,
    answer: String,
    decided: String,
    as_told: bool,
}

fn main() -> ExitCode {
    let sandbox = Sandbox::start().expect("the sandbox starts");
    let origin = Origin::start();
    origin.answer(200, &["Content-Type: text/html"], b"<h1>Welcome to the shop</h1>\n");
    let conf = format!(
        "{}px_enable_json_response on;\nlocation / {{ {} }}",
        protect(&sandbox),
        origin.proxy_pass()
    );
    let nginx = Nginx::start(&conf);
    let app = sandbox.app();

    println!("A shop behind nginx, protected by this:\n");
    for line in protect(&sandbox).lines() {
        println!("    {line}");
    }
    println!(
        "\n  nginx    http://{}\n  sandbox  {}   stands in for HUMAN's backend\n",
        nginx.addr(),
        sandbox.url()
    );

    let mut steps = Vec::new();
    let mut visit = |visitor, headers: &[&str], path: &str, told: &dyn Fn(&Response) -> bool| {
        let calls = sandbox.risk_calls().len();
        let response = get(nginx.addr(), path, headers);
        let asked = sandbox.risk_calls().len() > calls;
        let log = nginx.wait_for_access_log(steps.len() + 1);
        let line = log.last().cloned().unwrap_or_default();
        steps.push(Step {
            visitor,
            answer: describe(&response),
            decided: decision(&line, asked),
            as_told: told(&response),
        });
    };

    visit("a first visit", &[], "/", &|r| r.status == 200);
    let cookie = format!("Cookie: {}", sandbox.mint(BROWSER).cookie());
    visit("the same visitor, now with a risk cookie", &[&cookie], "/account", &|r| r.status == 200);
    let stolen = format!("Cookie: {}", sandbox.mint("Another Browser/1.0").cookie());
    visit("a cookie stolen from another browser", &[&stolen], "/account", &|r| r.status == 200);
    let bot = "User-Agent: PhantomJS/1.0";
    visit("a bad bot", &[bot], "/", &|r| r.status == 403 && r.text().contains("px-captcha"));
    let json = "Accept: application/json";
    visit("a bad bot that speaks JSON", &[bot, json], "/api", &|r| {
        r.status == 403 && r.json()["appId"] == app.id.as_str()
    });
    let scored = format!("Cookie: {}", sandbox.mint(BROWSER).score(100).cookie());
    visit("a cookie that already says \"bot\"", &[&scored], "/", &|r| r.status == 403);
    visit("a style sheet", &[bot], "/shop.css", &|r| r.status == 200);
    sandbox.go_down();
    visit("a visitor while HUMAN's backend is down", &[], "/", &|r| r.status == 200);
    sandbox.come_back().expect("the sandbox comes back");

    println!("  {:<42} {:<26} decided by", "visitor", "got");
    println!("  {:-<42} {:-<26} {:-<44}", "", "", "");
    for step in &steps {
        let mark = if step.as_told { " " } else { "!" };
        println!("{mark} {:<42} {:<26} {}", step.visitor, step.answer, step.decided);
    }

    // All but the style sheet are reported.
    let reported = steps.len() - 1;
    let activities = sandbox.wait_for_activities(reported, Duration::from_secs(10));
    let kind = |kind: &str| activities.iter().filter(|a| a["type"] == kind).count();
    println!(
        "\n  The collector received {} activities: {} page_requested, {} block.",
        activities.len(),
        kind("page_requested"),
        kind("block")
    );
    println!("  The origin saw {} of {} visits.", origin.requests().len(), steps.len());
    let complaints = sandbox.complaints();
    match complaints.len() {
        0 => println!(
            "  The sandbox checked every message against the specification: no complaints."
        ),
        n => println!("  The sandbox has {n} complaints:\n    {}", complaints.join("\n    ")),
    }
    nginx.quit();

    let as_told = steps.iter().all(|step| step.as_told);
    if as_told && complaints.is_empty() && activities.len() == reported {
        println!("\n  Everything went as told. Next: docs/quick-start.md.");
        ExitCode::SUCCESS
    } else {
        println!("\n  Not everything went as told (see the lines marked with \"!\").");
        ExitCode::FAILURE
    }
}

fn describe(response: &Response) -> String {
    let what = match response.header("content-type") {
        Some("application/json") => "JSON answer",
        Some("text/html") if response.status == 403 => "captcha page",
        _ => "the origin's page",
    };
    format!("{} {what}", response.status)
}

/// Reads the access log line of a request.
fn decision(line: &str, asked: bool) -> String {
    let field = |name: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .filter(|value| *value != "-")
    };
    let reason = field("pass").or(field("block")).or(field("filter")).unwrap_or("?");
    let mut text = format!("{} ({reason})", field("verdict").unwrap_or("?"));
    if let Some(score) = field("score") {
        text.push_str(&format!(", score {score}"));
    }
    if asked {
        text.push_str(", Risk API asked");
        if let Some(call) = field("call") {
            text.push_str(&format!(": {call}"));
        }
    }
    text
}
