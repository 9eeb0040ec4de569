//! Merging the levels as nginx does, and what looks wrong on each.

use std::collections::BTreeMap;

use super::Report;
use super::conf::Statement;
use crate::documented::{Directive, directives};

/// A directive's lines on the level that sets it.
#[derive(Debug, Clone, Default)]
struct Setting {
    values: Vec<Vec<String>>,
    place: String,
}

type Settings = BTreeMap<&'static str, Setting>;

pub(crate) fn report(tree: &[Statement]) -> Report {
    let mut walk = Walk { report: Report::default(), idle: BTreeMap::new() };
    // A file without http is one to include there.
    let is_whole = tree.iter().any(|s| matches!(s.name(), "http" | "events" | "stream"));
    match is_whole {
        true => walk.level(tree, "main", "main", &Settings::new()),
        false => walk.level(tree, "http", "taken as included in http", &Settings::new()),
    }
    for ((place, name), why) in std::mem::take(&mut walk.idle) {
        if let Some(why) = why {
            walk.problem(&place, &format!("\"{name}\" has no effect: {why}"));
        }
    }
    walk.report
}

struct Walk {
    report: Report,
    /// By place and name, why a directive has no effect; `None` where it has on some level.
    idle: BTreeMap<(String, &'static str), Option<&'static str>>,
}

/// Directives that do nothing while another has a certain value.
const WITHOUT_EFFECT: &[(&str, &str, &str, &str)] = &[
    ("px_compression_level", "px_compression_enabled", "off", "compression is off"),
    ("px_ssl_verify_depth", "px_ssl_verify", "off", "certificates are not verified"),
    ("px_ssl_trusted_certificate", "px_ssl_verify", "off", "certificates are not verified"),
    ("px_active_header_name", "px_enabled", "on", "the module is on without it"),
    ("px_data_enrichment_header_name", "px_enable_pxde", "off", "data enrichment is off"),
    ("px_sensitive_headers", "px_sensitive_headers_enabled", "off", "they are switched off"),
    ("px_score_header_name", "px_score_header_enabled", "off", "score headers are off"),
    ("px_upstream_score_header_name", "px_score_header_enabled", "off", "score headers are off"),
    ("px_redirect_to_referer", "px_redirect_on_custom_url", "off", "there is no redirect"),
    ("px_api_protection_block_url", "px_api_protection_mode", "off", "API protection is off"),
    (
        "px_api_protection_default_redirect_url",
        "px_api_protection_mode",
        "off",
        "API protection is off",
    ),
    (
        "px_custom_create_advanced_blocking_response",
        "px_enable_json_response",
        "off",
        "JSON responses are off",
    ),
    (
        "px_cors_preflight_request_filter_enabled",
        "px_cors_support_enabled",
        "off",
        "CORS support is off",
    ),
    ("px_cors_custom_preflight_handler", "px_cors_support_enabled", "off", "CORS support is off"),
    ("px_cors_block_response_header", "px_cors_support_enabled", "off", "CORS support is off"),
];

const REQUIRED: &[(&str, &[&str])] = &[
    ("px_app_id", &["px_app_id"]),
    ("px_auth_token", &["px_auth_token", "px_auth_token_file"]),
    ("px_cookie_secret", &["px_cookie_secret", "px_cookie_secret_file"]),
];

impl Walk {
    fn problem(&mut self, place: &str, what: &str) {
        self.report.problems.push(format!("{place}: {what}"));
    }

    fn level(&mut self, block: &[Statement], context: &str, title: &str, outer: &Settings) {
        let mut own = Settings::new();
        for statement in block.iter().filter(|statement| statement.name().starts_with("px")) {
            self.directive(statement, context, &mut own);
        }
        let mut merged = outer.clone();
        merged.extend(own.iter().map(|(name, setting)| (*name, setting.clone())));
        if matches!(context, "http" | "server" | "location") {
            self.in_effect(title, &own, &merged);
            // What http lacks, its servers may have; what a server lacks is said once.
            let said = context == "location" && is_active(outer);
            if context != "http" && is_active(&merged) {
                self.missing(title, &merged, if said { Some(outer) } else { None });
            }
        }
        for statement in block {
            let Some(inner) = &statement.block else { continue };
            if ["map", "geo", "types", "split_clients"].contains(&statement.name()) {
                continue;
            }
            let title = match statement.name() {
                "server" => {
                    let names = inner.iter().find(|s| s.name() == "server_name");
                    let names = names.map_or(String::new(), |s| s.arguments().join(" "));
                    format!("server {names}")
                }
                _ => statement.words.join(" "),
            };
            let title = format!("{} ({})", title.trim(), statement.place());
            self.level(inner, statement.name(), &title, &merged);
        }
    }

    fn directive(&mut self, statement: &Statement, context: &str, own: &mut Settings) {
        let (name, place) = (statement.name(), statement.place());
        let Some(known) = directives().get(name) else {
            let hint = match directives().nearest(name) {
                Some(near) => format!("unknown directive \"{name}\", did you mean \"{near}\"?"),
                None if name.starts_with("px_") => format!("unknown directive \"{name}\""),
                None => return,
            };
            return self.problem(&place, &hint);
        };
        if !known.contexts.iter().any(|allowed| allowed == context) {
            let allowed = known.contexts.join(", ");
            let what = format!("\"{name}\" is not allowed in {context}, only in {allowed}");
            return self.problem(&place, &what);
        }
        let arguments = statement.arguments();
        if !known.takes(arguments.len()) {
            let forms: Vec<String> =
                known.syntax.iter().map(|form| format!("{} {form};", known.name)).collect();
            let count = arguments.len();
            let what = format!("\"{name}\" with {count} arguments, it is: {}", forms.join(" or "));
            self.problem(&place, &what);
        }
        match own.get_mut(known.name.as_str()) {
            Some(before) if known.is_list => before.values.push(arguments.to_vec()),
            Some(before) => {
                let what = format!("\"{name}\" is a duplicate of {}", before.place);
                self.problem(&place, &what);
            }
            None => {
                own.insert(&known.name, Setting { values: vec![arguments.to_vec()], place });
            }
        }
    }

    fn in_effect(&mut self, title: &str, own: &Settings, merged: &Settings) {
        if !is_active(merged) {
            return;
        }
        self.without_effect(merged);
        if own.is_empty() {
            self.report.levels.push(format!("{title}\n    as its outer level\n"));
            return;
        }
        let mut text = format!("{title}\n");
        for (name, setting) in merged {
            let Some(known) = directives().get(name) else { continue };
            for values in &setting.values {
                let from = if own.contains_key(name) { "" } else { "inherited from " };
                let line = format!("{name} {};", shown(known, values));
                text.push_str(&format!("    {line:<50} # {from}{}\n", setting.place));
            }
        }
        self.report.levels.push(text);
        self.contradiction(own);
    }

    fn missing(&mut self, title: &str, merged: &Settings, said_of: Option<&Settings>) {
        for (what, any_of) in REQUIRED {
            let lacks = |level: &Settings| !any_of.iter().any(|name| level.contains_key(name));
            if lacks(merged) && !said_of.is_some_and(lacks) {
                self.problem(title, &format!("the module is on, but there is no {what}"));
            }
        }
    }

    fn without_effect(&mut self, merged: &Settings) {
        for (name, switch, while_it_is, why) in WITHOUT_EFFECT {
            let is_idle =
                directives().get(switch).is_some() && value(merged, switch) == *while_it_is;
            self.idle(merged, name, is_idle, why);
        }
        let monitors = !blocks(merged);
        let has_monitored = merged.contains_key("px_monitored_routes")
            || merged.contains_key("px_custom_is_monitored_request");
        self.idle(merged, "px_monitored_routes", monitors, "everything is monitored");
        let is_idle = !monitors && !has_monitored;
        self.idle(merged, "px_bypass_monitor_header", is_idle, "nothing is monitored");
        let is_idle = !merged.contains_key("px_custom_block_url");
        self.idle(merged, "px_redirect_on_custom_url", is_idle, "there is no px_custom_block_url");
        let severity = value(merged, "px_logger_severity");
        let is_idle = value(merged, "px_debug") != "on" && severity != "debug";
        self.idle(merged, "px_debug_probability", is_idle, "px_debug is off");
        let is_idle = !merged.contains_key("px_enforced_routes");
        self.idle(merged, "px_enforced_routes_exclusive", is_idle, "there are no enforced routes");
    }

    fn idle(&mut self, merged: &Settings, name: &'static str, is_idle: bool, why: &'static str) {
        let Some(setting) = merged.get(name) else { return };
        let key = (setting.place.clone(), name);
        let known = self.idle.entry(key).or_insert(Some(why));
        if !is_idle {
            *known = None;
        }
    }

    fn contradiction(&mut self, own: &Settings) {
        let pair = (own.get("px_block_enabled"), own.get("px_module_mode"));
        let (Some(block), Some(mode)) = pair else { return };
        if (value(own, "px_block_enabled") == "on") != mode_blocks(own) {
            let what =
                format!("\"px_module_mode\" contradicts \"px_block_enabled\" at {}", block.place);
            let place = mode.place.clone();
            self.problem(&place, &what);
        }
    }
}

/// Whether the module may act on a request.
fn is_active(settings: &Settings) -> bool {
    value(settings, "px_enabled") == "on" || settings.contains_key("px_active_header_name")
}

/// Whether visitors are blocked. The two directives share their storage, so either may have said so.
fn blocks(merged: &Settings) -> bool {
    value(merged, "px_block_enabled") == "on" || mode_blocks(merged)
}

fn mode_blocks(settings: &Settings) -> bool {
    matches!(value(settings, "px_module_mode").as_str(), "active_blocking" | "1")
}

/// The only value, or the default; a flag is `on` or `off`.
fn value(settings: &Settings, name: &str) -> String {
    let set = settings.get(name).and_then(|setting| setting.values.first()?.first().cloned());
    let known = directives().get(name);
    let value = set.or_else(|| known?.default.clone()).unwrap_or_default();
    if !known.is_some_and(Directive::is_flag) {
        return value;
    }
    match value.to_ascii_lowercase().as_str() {
        "on" | "true" | "1" => "on".into(),
        _ => "off".into(),
    }
}

fn shown(known: &Directive, values: &[String]) -> String {
    if known.is_secret() {
        return "(not shown)".into();
    }
    let quoted: Vec<String> = values.iter().map(|text| crate::convert::quote(text)).collect();
    quoted.join(" ")
}
