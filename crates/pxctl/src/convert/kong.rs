//! The configuration of Kong's plugin: the `config` object alone, the plugin around it, a declarative
//! configuration with all of Kong's entities, or the resource `KongPlugin`; in JSON or YAML.

use super::cursor::Fault;
use super::mapping;
use super::value::{Entry, Value};
use super::{js, yaml};

/// What stands behind a second configuration of the plugin.
pub(crate) const ANOTHER: &str = "another configuration of the plugin: services and routes of Kong are \
                                  no locations of nginx; see px_enabled_if and px_enabled_routes";
/// What stands behind the place of one that is not for everything.
pub(crate) const NOT_GLOBAL: &str = "the plugin is there for a part of the traffic, the directives are \
                                     for all of it; px_enabled_if or px_enabled_routes narrow it";

/// Kong's entities in a declarative configuration.
const ENTITIES: [&str; 6] =
    ["_format_version", "plugins", "services", "routes", "consumers", "consumer_groups"];

pub(crate) struct Found {
    pub(crate) options: Vec<Entry>,
    /// Where the plugin is configured, if not for everything.
    pub(crate) place: Option<String>,
    /// Further configurations of the plugin, by their places.
    pub(crate) others: Vec<(String, Value)>,
}

pub(crate) fn read(text: &str) -> Result<Found, Fault> {
    if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
        return choose(vec![Value::Table(js::read(text)?)]);
    }
    choose(yaml::documents(text)?)
}

fn choose(documents: Vec<Value>) -> Result<Found, Fault> {
    let nothing = || Fault { line: 1, column: 1, what: "there is no configuration object".into() };
    let mut found = Vec::new();
    let mut whole = None;
    for document in documents {
        let Value::Table(entries) = document else { return Err(nothing()) };
        if entries.iter().any(|entry| ENTITIES.contains(&entry.name.as_str())) {
            plugins("", Value::Table(entries), &mut found);
        } else if whole.is_none() {
            whole = Some(entries);
        } else {
            found.push(("another document".to_owned(), Value::Table(entries)));
        }
    }
    if let Some(entries) = whole {
        return Ok(Found { options: members(entries), place: None, others: found });
    }
    // The plugin for everything first.
    let first = found.iter().position(|(place, _)| place.starts_with("plugins")).unwrap_or(0);
    if found.is_empty() {
        return Err(nothing());
    }
    let (place, plugin) = found.remove(first);
    let Value::Table(entries) = plugin else { return Err(nothing()) };
    let place = Some(place).filter(|place| !place.starts_with("plugins"));
    Ok(Found { options: members(entries), place, others: found })
}

/// Collects the plugin's configurations with their places.
fn plugins(place: &str, value: Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Table(entries) if is_plugin(&entries) => {
            found.push((place.to_owned(), Value::Table(entries)));
        }
        Value::Table(entries) => {
            for entry in entries {
                let place =
                    if place.is_empty() { entry.name } else { format!("{place}.{}", entry.name) };
                plugins(&place, entry.value, found);
            }
        }
        Value::List(items) => {
            for (at, item) in items.into_iter().enumerate() {
                let name = match &item {
                    Value::Table(entries) => entries.iter().find(|entry| entry.name == "name"),
                    _ => None,
                };
                let label = match name.map(|entry| &entry.value) {
                    Some(Value::Text(name)) => name.clone(),
                    _ => at.to_string(),
                };
                plugins(&format!("{place}[{label}]"), item, found);
            }
        }
        _ => {}
    }
}

/// Whether a `config` is there that holds one of the enforcer's own options.
fn is_plugin(entries: &[Entry]) -> bool {
    entries.iter().filter(|entry| entry.name == "config").any(|entry| match &entry.value {
        Value::Table(options) => options.iter().any(|option| {
            let own = option.name.starts_with("px_") || option.name == "cookie_secret";
            own && mapping::find(&option.name).is_some()
        }),
        _ => false,
    })
}

/// The members of `config`, also of members called `config.name`; the others stay.
fn members(entries: Vec<Entry>) -> Vec<Entry> {
    let mut all = Vec::new();
    for mut entry in entries {
        match entry.value {
            Value::Table(inner) if matches!(entry.name.as_str(), "config" | "whitelist") => {
                all.extend(members(inner));
            }
            value => {
                if let Some(name) = entry.name.strip_prefix("config.") {
                    entry.name = name.to_owned();
                }
                all.push(Entry::new(entry.name, value));
            }
        }
    }
    all
}
