//! From the configuration of another enforcer to nginx directives.
//!
//! Whatever the input names appears in the output: as a directive, or as a comment that says why
//! it is none.

mod cursor;
mod js;
mod kong;
mod lua;
mod lua_pattern;
mod mapping;
mod setconf;
mod value;
mod vcl;
mod write;
mod yaml;

pub use cursor::Fault;
pub use value::{Entry, Value};
pub(crate) use write::quote;
pub use yaml::documents as yaml_documents;

use crate::documented::directives;
use mapping::Rule;
use write::Written;

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Setconf,
    Lua,
    Kong,
    Js,
    Fastly,
}

impl Format {
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "setconf" => Self::Setconf,
            "lua" => Self::Lua,
            "kong" => Self::Kong,
            "js" => Self::Js,
            "fastly" => Self::Fastly,
            _ => return None,
        })
    }

    /// What the text looks like.
    pub fn guess(text: &str) -> Self {
        let begin = text.trim_start_matches('\u{feff}').trim_start();
        if begin.starts_with('{') {
            let kong_names = ["\"config\"", "\"config.", "\"auth_token\"", "\"cookie_secret\""];
            return if kong_names.iter().any(|name| text.contains(name)) {
                Self::Kong
            } else {
                Self::Js
            };
        }
        if text.contains("setconf") {
            return Self::Setconf;
        }
        for line in text.lines().map(str::trim_start) {
            if ["_format_version", "config:", "plugins:", "services:"]
                .iter()
                .any(|word| line.starts_with(word))
            {
                return Self::Kong;
            }
            if line.starts_with("table ") || line.starts_with("sub px_") {
                return Self::Fastly;
            }
            if ["_M", "--", "local "].iter().any(|word| line.starts_with(word)) {
                return Self::Lua;
            }
        }
        Self::Js
    }

    fn title(self) -> &'static str {
        match self {
            Self::Setconf => "px_module.setconf calls",
            Self::Lua => "pxconfig.lua of the Lua plugin",
            Self::Kong => "the Kong plugin's configuration",
            Self::Js => "a JavaScript enforcer's configuration",
            Self::Fastly => "the Fastly enforcer's tables",
        }
    }
}

/// The directives for `text`, which is guessed about where no format is given.
///
/// # Errors
///
/// What is wrong with the text, and where.
pub fn convert(text: &str, format: Option<Format>) -> Result<String, Fault> {
    let format = format.unwrap_or_else(|| Format::guess(text));
    let mut output = Output { format, lines: Vec::new() };
    let entries = match format {
        Format::Setconf => setconf::read(text)?,
        Format::Lua => lua::read(text)?,
        Format::Kong => {
            let found = kong::read(text)?;
            for (place, value) in found.others {
                output.comment("by hand", &Entry::new(place, value), kong::ANOTHER);
            }
            if let Some(place) = found.place {
                output.lines.push(Line::Comment(format!("by hand: {place}: {}", kong::NOT_GLOBAL)));
            }
            found.options
        }
        Format::Js => js::read(text)?,
        Format::Fastly => vcl::read(text)?,
    };
    for entry in &entries {
        output.entry(entry);
    }
    Ok(output.finish())
}

/// What an option of the Kong or Lua plugin is called here, and what has to be known about it. The
/// directive is empty where there is none.
pub fn kong_option(name: &str) -> Option<(&'static str, &'static str)> {
    let (directive, rule, note) =
        Output { format: Format::Kong, lines: Vec::new() }.meaning(name)?;
    let note = match rule {
        _ if !note.is_empty() => note,
        Rule::LuaPatterns => "patterns of Lua there, regular expressions here",
        Rule::Host => "a host name there, a URL here",
        Rule::Millis => "a bare number is milliseconds here, too",
        Rule::Seconds => "a bare number is seconds there, milliseconds here",
        _ => "",
    };
    Some((directive, note))
}

enum Line {
    Comment(String),
    /// A directive's name, and for each line of it the arguments.
    Directive {
        name: &'static str,
        from: String,
        lines: Vec<Vec<String>>,
        note: String,
    },
}

struct Output {
    format: Format,
    lines: Vec<Line>,
}

impl Output {
    fn comment(&mut self, kind: &str, entry: &Entry, why: &str) {
        let mut text = format!("{kind}: {} = {}", entry.name, write::short(&entry.value.line()));
        if !why.is_empty() {
            text = format!("{text} ({why})");
        }
        self.lines.push(Line::Comment(text));
    }

    fn entry(&mut self, entry: &Entry) {
        if self.format == Format::Kong
            && matches!(
                entry.name.as_str(),
                "name"
                    | "plugin"
                    | "apiVersion"
                    | "kind"
                    | "metadata"
                    | "protocols"
                    | "tags"
                    | "id"
                    | "route"
                    | "service"
                    | "consumer"
                    | "created_at"
                    | "updated_at"
                    | "instance_name"
            )
        {
            return self.comment("of Kong, not of the enforcer", entry, "");
        }
        let Some((directive, rule, note)) = self.meaning(&entry.name) else {
            return self.comment("unknown", entry, "");
        };
        match (&entry.value, rule) {
            (Value::Null, _) => return self.comment("not set", entry, ""),
            (_, Rule::Nothing) => return self.comment("nothing to write", entry, note),
            (Value::Text(text), Rule::Hint) if text.starts_with(['$', '@']) => {}
            (_, Rule::Hint) => {
                let why =
                    if directive.is_empty() { note.into() } else { format!("{directive}: {note}") };
                return self.comment("by hand", entry, &why);
            }
            (Value::Code(_), _) => {
                let why = format!("{directive}: the value is computed by code, write it by hand");
                return self.comment("by hand", entry, &why);
            }
            _ => {}
        }
        let separates = matches!(self.format, Format::Setconf | Format::Fastly);
        match write::write(rule, &entry.value, separates) {
            Ok(Written { lines, refused, remarks }) => {
                for (value, why) in refused {
                    let left = Entry::new(&entry.name, value);
                    self.comment("by hand", &left, &format!("{directive}: {why}"));
                }
                let mut notes: Vec<&str> = remarks.iter().map(String::as_str).collect();
                notes.extend((!note.is_empty()).then_some(note));
                if !lines.is_empty() {
                    self.directive(directive, &entry.name, rule, lines, &notes.join("; "));
                } else if let Value::List(items) = &entry.value
                    && items.is_empty()
                {
                    self.comment("empty", entry, "nothing to write");
                }
            }
            Err(why) => self.comment("by hand", entry, &format!("{directive}: {why}")),
        }
    }

    /// What a name means in this format: a directive, the form of its value, and a note.
    fn meaning(&self, name: &str) -> Option<(&'static str, Rule, &'static str)> {
        let is_ours = self.format == Format::Setconf;
        if name == "px_score_header_name" && self.format == Format::Js {
            return mapping::find("scoreHeaderName").map(|row| (row.directive, row.rule, row.note));
        }
        if is_ours && matches!(name, "px_enforced_routes" | "px_monitored_routes") {
            // There the values are regular expressions.
            let row = mapping::find(name)?;
            return Some((row.directive, Rule::RegexRoutes, row.note));
        }
        if let Some(row) = mapping::find(name) {
            return Some((row.directive, row.rule, row.note));
        }
        let directive = directives().get(name)?;
        let rule = if directive.is_flag() {
            Rule::Flag
        } else if directive.is_time() {
            Rule::Millis
        } else if directive.is_list {
            Rule::List
        } else {
            Rule::Text
        };
        Some((directive.name.as_str(), rule, ""))
    }

    fn directive(
        &mut self,
        name: &'static str,
        from: &str,
        rule: Rule,
        lines: Vec<Vec<String>>,
        note: &str,
    ) {
        let appends = directives().get(name).map_or_else(
            || {
                matches!(
                    rule,
                    Rule::List
                        | Rule::Routes
                        | Rule::RegexRoutes
                        | Rule::Regexes
                        | Rule::LuaPatterns
                        | Rule::Pairs
                )
            },
            |known| known.is_list || rule == Rule::Pairs,
        );
        let known =
            |line: &Line| matches!(line, Line::Directive { name: other, .. } if *other == name);
        let Some(at) = self.lines.iter().position(known) else {
            let (from, note) = (from.to_owned(), note.to_owned());
            self.lines.push(Line::Directive { name, from, lines, note });
            return;
        };
        let Line::Directive { lines: before, .. } = &mut self.lines[at] else { return };
        if appends {
            match (before.last_mut(), rule) {
                (Some(last), rule) if rule != Rule::Pairs => {
                    last.extend(lines.into_iter().flatten())
                }
                _ => before.extend(lines),
            }
        } else if *before != lines {
            let (what, old) = (from.to_owned(), std::mem::replace(before, lines));
            let old = statement(name, &old[0]);
            self.lines
                .push(Line::Comment(format!("{what} is set twice, the last wins; before: {old}")));
        }
    }

    fn has(&self, wanted: &str) -> bool {
        self.lines
            .iter()
            .any(|line| matches!(line, Line::Directive { name, .. } if *name == wanted))
    }

    fn finish(self) -> String {
        let mut text = format!("# Written by pxctl convert from {}.\n", self.format.title());
        text.push_str("# Read every comment: it stands for what needs a decision.\n");
        let mut seen = std::collections::BTreeSet::new();
        if !self.has("px_enabled") {
            text.push_str("px_enabled on; # off by default\n");
        }
        for line in &self.lines {
            match line {
                Line::Comment(comment) => {
                    text.push_str(&format!("# {}\n", write::one_line(comment)))
                }
                Line::Directive { name, from, lines, note } => {
                    let is_known = directives().get(name).is_some();
                    let mut comments = Vec::new();
                    if from != name {
                        comments.push(format!("{from} there"));
                    }
                    if !note.is_empty() {
                        comments.push(note.clone());
                    }
                    if crate::documented::is_secret(name)
                        && directives().get(&format!("{name}_file")).is_some()
                    {
                        comments.push(format!("a secret: better in a file, {name}_file"));
                    }
                    for arguments in lines {
                        let mark = if is_known { "" } else { "# not yet supported: " };
                        text.push_str(&format!("{mark}{}", statement(name, arguments)));
                        if seen.insert(*name) && !comments.is_empty() {
                            text.push_str(&format!(" # {}", write::one_line(&comments.join("; "))));
                        }
                        text.push('\n');
                    }
                }
            }
        }
        for name in ["px_app_id", "px_auth_token", "px_cookie_secret"] {
            if !self.has(name) {
                text.push_str(&format!(
                    "# by hand: {name} is required, and the input has no value\n"
                ));
            }
        }
        for (name, value, why) in self.defaults() {
            if directives().get(name).is_some() && !self.has(name) {
                text.push_str(&format!("{name} {value}; # {why}\n"));
            }
        }
        text
    }

    /// What the other enforcer does without being told, and this module does not.
    fn defaults(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut all = Vec::new();
        if matches!(self.format, Format::Lua | Format::Js | Format::Fastly) {
            all.push(("px_enable_json_response", "on", "the default there, off here"));
        }
        if matches!(self.format, Format::Js | Format::Fastly) && self.has("px_enforced_routes") {
            let why = "there other routes are still handled";
            all.push(("px_enforced_routes_exclusive", "off", why));
        }
        all
    }
}

fn statement(name: &str, arguments: &[String]) -> String {
    let mut text = name.to_owned();
    for argument in arguments {
        text.push(' ');
        text.push_str(&write::quote(argument));
    }
    text.push(';');
    text
}
