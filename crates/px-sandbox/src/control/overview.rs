//! The page for people: what came in, what was wrong with it, what the sandbox was told.

use std::fmt::Write;

use crate::endpoint::Endpoint;
use crate::reply::Reply;
use crate::server::Server;

const SHOWN: usize = 50;
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;\
    padding:0 1rem;color:#223}table{border-collapse:collapse;width:100%}th,td{text-align:left;\
    padding:.25rem .75rem;border-bottom:1px solid #dde;vertical-align:top}td{overflow-wrap:anywhere}\
    .bad{color:#a11}code{background:#f2f3f8;padding:0 .25rem}";

pub(super) fn page(server: &Server) -> Reply {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>px-sandbox</title>\
         <style>{STYLE}</style></head><body><h1>px-sandbox</h1>"
    );
    counts(server, &mut html);
    lines("Orders", &server.plan.describe(), "Everything is answered by the rules.", &mut html);
    let complaints = server.journal.complaints();
    let newest: Vec<String> = complaints.into_iter().rev().take(SHOWN).collect();
    lines("Complaints", &newest, "None: everything received is as specified.", &mut html);
    requests(server, &mut html);
    html.push_str("</body></html>\n");
    Reply::bytes("text/html; charset=utf-8", html).header("Cache-Control", "no-store")
}

fn counts(server: &Server, html: &mut String) {
    html.push_str("<p>");
    for endpoint in Endpoint::ALL {
        let total = server.journal.total(endpoint);
        if total > 0 {
            let _ = write!(html, "{}: <b>{total}</b> &nbsp; ", endpoint.word());
        }
    }
    let _ = write!(html, "connections: <b>{}</b></p>", server.connections());
    html.push_str(
        "<p>As JSON: <a href=\"/_sandbox/received?last=20\">received</a>, \
         <a href=\"/_sandbox/activities\">activities</a>, \
         <a href=\"/_sandbox/logs\">logs</a>, \
         <a href=\"/_sandbox/complaints\">complaints</a>, \
         <a href=\"/_sandbox/behaviour\">behaviour</a></p>",
    );
}

fn lines(title: &str, lines: &[String], none: &str, html: &mut String) {
    let _ = write!(html, "<h2>{title}</h2>");
    if lines.is_empty() {
        let _ = write!(html, "<p>{none}</p>");
        return;
    }
    html.push_str("<ul>");
    for line in lines {
        let _ = write!(html, "<li>{}</li>", escape(line));
    }
    html.push_str("</ul>");
}

fn requests(server: &Server, html: &mut String) {
    html.push_str(
        "<h2>Requests, newest first</h2><table><tr><th>#</th><th>Endpoint</th><th>Request</th>\
         <th>About</th><th>Connection</th></tr>",
    );
    for received in server.journal.received().iter().rev().take(SHOWN) {
        let class = if received.complaints.is_empty() { "" } else { " class=\"bad\"" };
        let _ = write!(
            html,
            "<tr{class}><td>{}</td><td>{}</td><td><code>{} {}</code></td><td>{}</td>\
             <td>{} / {}</td></tr>",
            received.number,
            received.endpoint.word(),
            escape(&received.method),
            escape(&received.target),
            escape(&received.subject()),
            received.connection,
            received.on_connection,
        );
    }
    html.push_str("</table>");
}

/// Everything shown came from the network.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
