//! Whether a login was successful (credential-intelligence.md § 6).

use regex::bytes::{Regex, RegexBuilder};

use crate::routes::RegexPattern;

/// What of the origin's response says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoginMethod {
    /// Nothing: no login is successful.
    #[default]
    None,
    Status,
    Header,
    Body,
    /// The operator's expression.
    Custom,
}

impl LoginMethod {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "none" => Self::None,
            "status" => Self::Status,
            "header" => Self::Header,
            "body" => Self::Body,
            "custom" => Self::Custom,
            _ => return None,
        })
    }
}

/// `px_login_successful_*`.
#[derive(Clone, Debug)]
pub struct LoginOptions {
    pub method: LoginMethod,
    pub statuses: Vec<u16>,
    pub header_name: String,
    /// Empty: any.
    pub header_value: String,
    pub body_regex: Option<BodyRegex>,
}

impl Default for LoginOptions {
    fn default() -> Self {
        Self {
            method: LoginMethod::None,
            statuses: vec![200],
            header_name: "x-px-login-successful".to_owned(),
            header_value: "1".to_owned(),
            body_regex: None,
        }
    }
}

/// What an endpoint has of its own.
#[derive(Clone, Debug, Default)]
pub struct LoginOverrides {
    pub method: Option<LoginMethod>,
    pub statuses: Option<Vec<u16>>,
    pub header_name: Option<String>,
    pub header_value: Option<String>,
    pub body_regex: Option<BodyRegex>,
}

impl LoginOverrides {
    /// These, and the options' for what they lack.
    pub fn over<'a>(&'a self, options: &'a LoginOptions) -> LoginRule<'a> {
        LoginRule { own: self, options }
    }
}

/// How responses of one endpoint are judged.
#[derive(Clone, Copy)]
pub struct LoginRule<'a> {
    own: &'a LoginOverrides,
    options: &'a LoginOptions,
}

impl<'a> LoginRule<'a> {
    pub fn method(&self) -> LoginMethod {
        self.own.method.unwrap_or(self.options.method)
    }

    pub fn by_status(&self, status: u16) -> bool {
        self.own.statuses.as_ref().unwrap_or(&self.options.statuses).contains(&status)
    }

    pub fn header_name(&self) -> &'a str {
        self.own.header_name.as_ref().unwrap_or(&self.options.header_name)
    }

    /// `value` is that of the header, if the response has it.
    pub fn by_header(&self, value: Option<&[u8]>) -> bool {
        let expected = self.own.header_value.as_ref().unwrap_or(&self.options.header_value);
        value.is_some_and(|value| expected.is_empty() || value == expected.as_bytes())
    }

    /// What is searched in the body; `None`: nothing is found anywhere.
    pub fn body_regex(&self) -> Option<&'a BodyRegex> {
        self.own.body_regex.as_ref().or(self.options.body_regex.as_ref())
    }

    /// What the operator's expression says; `None`: it does not know.
    pub fn by_custom(&self, text: &str) -> Option<bool> {
        match text {
            "1" | "true" | "on" => Some(true),
            "0" | "false" | "off" => Some(false),
            _ => None,
        }
    }
}

/// An expression that is searched in a body, whatever its bytes.
#[derive(Clone, Debug)]
pub struct BodyRegex(Regex);

impl BodyRegex {
    /// Reads a bare expression, or `/expression/flags`. The error is a phrase for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Other enforcers take an empty expression, which is found in everything.
        let source = match text {
            "" => String::new(),
            _ => RegexPattern::parse(text)?.inline(),
        };
        let built = RegexBuilder::new(&source).build();
        built.map(Self).map_err(|error| error.to_string())
    }

    pub fn is_match(&self, body: &[u8]) -> bool {
        self.0.is_match(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_override_counts_for_itself() {
        let options = LoginOptions { method: LoginMethod::Status, ..LoginOptions::default() };
        let own = LoginOverrides {
            header_value: Some(String::new()),
            statuses: Some(vec![302]),
            ..LoginOverrides::default()
        };
        let rule = own.over(&options);
        assert_eq!(
            (rule.method(), rule.header_name()),
            (LoginMethod::Status, "x-px-login-successful")
        );
        assert!(rule.by_status(302) && !rule.by_status(200));
        assert!(rule.by_header(Some(b"anything")) && !rule.by_header(None));
        let plain = LoginOverrides::default();
        let rule = plain.over(&options);
        assert!(rule.by_header(Some(b"1")) && !rule.by_header(Some(b"1 ")));
    }

    #[test]
    fn an_expression_that_says_neither_is_unknown() {
        let (own, options) = (LoginOverrides::default(), LoginOptions::default());
        let rule = own.over(&options);
        for (text, expected) in
            [("1", Some(true)), ("on", Some(true)), ("off", Some(false)), ("", None), ("yes", None)]
        {
            assert_eq!(rule.by_custom(text), expected, "{text}");
        }
    }

    #[test]
    fn bodies_of_any_bytes_are_searched() {
        let regex = BodyRegex::parse("/WELCOME/i").expect("valid");
        assert!(regex.is_match(b"\xff welcome \xfe") && !regex.is_match(b"bye"));
        assert!(BodyRegex::parse("").expect("valid").is_match(b""));
        assert!(BodyRegex::parse("(").expect_err("invalid").contains("unclosed group"));
    }
}
