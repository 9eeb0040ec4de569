//! What every input is read into.

/// A value of any of the languages.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    /// A regular expression literal: source and flags.
    Regex(String, String),
    List(Vec<Self>),
    Table(Vec<Entry>),
    /// A function or an expression: its source. It is shown, never executed.
    Code(String),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub name: String,
    pub value: Value,
}

impl Entry {
    pub(crate) fn new(name: impl Into<String>, value: Value) -> Self {
        Self { name: name.into(), value }
    }
}

impl Value {
    /// The member of this name, where the value has members.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Self::Table(entries) = self else { return None };
        entries.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
    }

    /// The text, where the value is one.
    pub fn as_text(&self) -> Option<&str> {
        let Self::Text(text) = self else { return None };
        Some(text)
    }

    /// The items, where the value is a list.
    pub fn items(&self) -> &[Self] {
        let Self::List(items) = self else { return &[] };
        items
    }

    /// The value in one line, for a comment.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(value) => value.to_string(),
            Self::Number(text) => text.clone(),
            Self::Text(text) => format!("{text:?}"),
            Self::Regex(source, flags) => format!("/{source}/{flags}"),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::line).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Table(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|entry| format!("{}: {}", entry.name, entry.value.line()))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
            Self::Code(source) => {
                let words: Vec<&str> = source.split_whitespace().collect();
                words.join(" ")
            }
        }
    }
}
