//! Login endpoints: where credentials are (credential-intelligence.md § 1).

use super::hashing::Protocol;
use super::login::{BodyRegex, LoginMethod, LoginOverrides};
use crate::routes::RegexPattern;

/// Requests of one kind that log somebody in.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub path: EndpointPath,
    /// In upper case.
    pub method: String,
    pub sent_through: SentThrough,
    /// The first name under which there is a text counts; dots lead into nested JSON.
    pub user_fields: Vec<String>,
    pub pass_fields: Vec<String>,
    /// `None`: `px_credentials_intelligence_version`.
    pub protocol: Option<Protocol>,
    pub login: LoginOverrides,
}

/// Compared with the normalised path.
#[derive(Clone, Debug)]
pub enum EndpointPath {
    Exact(String),
    /// Found anywhere in it.
    Regex(RegexPattern),
}

/// Where a request carries its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentThrough {
    Body,
    Header,
    QueryParam,
    /// The operator's expressions say what they are.
    Custom,
}

impl SentThrough {
    pub const ALL: [Self; 4] = [Self::Body, Self::Header, Self::QueryParam, Self::Custom];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Header => "header",
            Self::QueryParam => "query-param",
            Self::Custom => "custom",
        }
    }
}

impl Endpoint {
    /// Whether the request's body is needed.
    pub fn reads_body(&self) -> bool {
        self.sent_through == SentThrough::Body
    }

    fn matches(&self, method: &[u8], path: &str) -> bool {
        self.method.as_bytes() == method
            && match &self.path {
                EndpointPath::Exact(own) => own == path,
                EndpointPath::Regex(pattern) => pattern.is_found_in(path),
            }
    }

    /// Reads the words `key=value` of `px_login_credentials_extraction` (options.md § 9). Lists are
    /// written as one word per name, or, of statuses, with commas. What `user`, `pass` and
    /// `login_successful` say is the caller's affair. The error is a phrase for the operator.
    pub fn of_words(words: &[&str]) -> Result<Self, String> {
        let mut draft = Draft::default();
        let mut expressions: Vec<&str> = Vec::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("holds \"{word}\", which is not of the form key=value"))?;
            let told = |reason| format!("holds an invalid \"{key}\": {reason}");
            match key {
                "user" | "pass" | "login_successful" if expressions.contains(&key) => {
                    return Err(format!("holds \"{key}\" twice"));
                }
                "user" | "pass" | "login_successful" => expressions.push(key),
                "user_field" => draft.user_fields.push(field_name(value).map_err(told)?),
                "pass_field" => draft.pass_fields.push(field_name(value).map_err(told)?),
                "login_successful_statuses" => {
                    let statuses = value
                        .split(',')
                        .map(|text| status(text).ok_or_else(|| format!("\"{text}\" is no status")));
                    let statuses = statuses.collect::<Result<_, _>>().map_err(told)?;
                    draft.set_statuses(statuses).map_err(told)?;
                }
                _ => draft.set_text(key, value).map_err(|refused| match refused {
                    Refused::Unknown => format!("holds \"{key}\", which is none of {WORDS}"),
                    Refused::Invalid(reason) => told(reason),
                })?,
            }
        }
        let is_custom = draft.sent_through == Some(SentThrough::Custom);
        for key in ["user", "pass"] {
            if !is_custom && expressions.contains(&key) {
                return Err(format!("holds \"{key}\", which is for sent_through=custom"));
            }
        }
        if is_custom && !expressions.iter().any(|key| matches!(*key, "user" | "pass")) {
            return Err("needs \"user\", \"pass\" or both where sent_through is custom".to_owned());
        }
        draft.finish().map_err(|unfinished| match unfinished {
            Unfinished::Lacks(part) => format!("lacks \"{part}\""),
            Unfinished::InvalidPath(reason) => format!("holds an invalid \"path\": {reason}"),
        })
    }
}

/// What an endpoint of the configuration may hold.
const WORDS: &str = "path, path_type, method, sent_through, user_field, pass_field, protocol, user, \
    pass, login_successful_reporting_method, login_successful_statuses, \
    login_successful_body_regex, login_successful_header_name, login_successful_header_value, \
    login_successful";

/// An endpoint while its parts are read, in whatever order they come.
#[derive(Default)]
pub(super) struct Draft {
    path: Option<String>,
    is_regex: Option<bool>,
    method: Option<String>,
    pub(super) sent_through: Option<SentThrough>,
    pub(super) user_fields: Vec<String>,
    pub(super) pass_fields: Vec<String>,
    protocol: Option<Protocol>,
    login: LoginOverrides,
}

/// Why there is no endpoint although each of its parts is fine.
pub(super) enum Unfinished {
    Lacks(&'static str),
    InvalidPath(String),
}

/// Why a part is refused.
pub(super) enum Refused {
    Unknown,
    Invalid(String),
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}

/// Sets what has not been set.
fn once<T>(field: &mut Option<T>, value: T) -> Result<(), Refused> {
    if field.is_some() {
        return Err("it is given twice".to_owned().into());
    }
    *field = Some(value);
    Ok(())
}

/// One of some words.
fn one_of<T>(text: &str, value: Option<T>, words: &str) -> Result<T, Refused> {
    value.ok_or_else(|| format!("\"{text}\" is not one of {words}").into())
}

/// The name of a field.
pub(super) fn field_name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A number without a sign.
fn status(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn token(text: &str) -> Result<&str, Refused> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_fit) {
        true => Ok(text),
        false => Err(format!("\"{text}\" is no name").into()),
    }
}

impl Draft {
    pub(super) fn set_text(&mut self, key: &str, text: &str) -> Result<(), Refused> {
        match key {
            "path" => once(&mut self.path, text.to_owned()),
            "path_type" => {
                let is_regex = match text {
                    "exact" => Some(false),
                    "regex" => Some(true),
                    _ => None,
                };
                once(&mut self.is_regex, one_of(text, is_regex, "exact, regex")?)
            }
            "method" => once(&mut self.method, token(text)?.to_ascii_uppercase()),
            "sent_through" => {
                let words = "body, header, query-param, custom";
                once(&mut self.sent_through, one_of(text, SentThrough::parse(text), words)?)
            }
            "protocol" => {
                let words = "v1, v2, multistep_sso, both";
                once(&mut self.protocol, one_of(text, Protocol::parse(text), words)?)
            }
            "login_successful_reporting_method" => {
                let words = "none, status, header, body, custom";
                once(&mut self.login.method, one_of(text, LoginMethod::parse(text), words)?)
            }
            "login_successful_body_regex" => {
                once(&mut self.login.body_regex, BodyRegex::parse(text)?)
            }
            "login_successful_header_name" => {
                once(&mut self.login.header_name, token(text)?.to_ascii_lowercase())
            }
            "login_successful_header_value" => once(&mut self.login.header_value, text.to_owned()),
            _ => Err(Refused::Unknown),
        }
    }

    pub(super) fn set_statuses(&mut self, statuses: Vec<u16>) -> Result<(), String> {
        if let Some(status) = statuses.iter().find(|status| !(100..=599).contains(*status)) {
            return Err(format!("{status} is no status"));
        }
        match once(&mut self.login.statuses, statuses) {
            Ok(()) => Ok(()),
            Err(Refused::Invalid(reason)) => Err(reason),
            Err(Refused::Unknown) => Err("it is unknown".to_owned()),
        }
    }

    /// The endpoint, or what is missing or wrong.
    pub(super) fn finish(self) -> Result<Endpoint, Unfinished> {
        use Unfinished::{InvalidPath, Lacks};
        let sent_through = self.sent_through.ok_or(Lacks("sent_through"))?;
        let path = self.path.ok_or(Lacks("path"))?;
        let path = match self.is_regex {
            Some(true) => EndpointPath::Regex(RegexPattern::parse(&path).map_err(InvalidPath)?),
            _ if path.starts_with('/') => EndpointPath::Exact(path),
            _ => return Err(InvalidPath(format!("\"{path}\" does not begin with \"/\""))),
        };
        let needs_fields = sent_through != SentThrough::Custom;
        if needs_fields && self.user_fields.is_empty() {
            return Err(Lacks("user_field"));
        }
        if needs_fields && self.pass_fields.is_empty() {
            return Err(Lacks("pass_field"));
        }
        Ok(Endpoint {
            path,
            method: self.method.ok_or(Lacks("method"))?,
            sent_through,
            user_fields: self.user_fields,
            pass_fields: self.pass_fields,
            protocol: self.protocol,
            login: self.login,
        })
    }
}

/// All endpoints, in the order in which they are tried.
#[derive(Debug)]
pub struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        Self(endpoints)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first that a request is of, and its index (§ 1.2). `path` is normalised.
    pub fn find(&self, method: &[u8], path: &str) -> Option<(usize, &Endpoint)> {
        self.0.iter().enumerate().find(|(_, endpoint)| endpoint.matches(method, path))
    }

    pub fn get(&self, index: usize) -> Option<&Endpoint> {
        self.0.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &[&str]) -> String {
        Endpoint::of_words(words).expect_err("refused")
    }

    const LOGIN: [&str; 5] =
        ["path=/login", "method=post", "sent_through=body", "user_field=u", "pass_field=p"];

    #[test]
    fn words_make_an_endpoint() {
        let endpoint = Endpoint::of_words(&LOGIN).expect("valid");
        assert_eq!((endpoint.method.as_str(), endpoint.reads_body()), ("POST", true));
        let words = [&LOGIN[..], &["user_field=email", "protocol=both"]].concat();
        let endpoint = Endpoint::of_words(&words).expect("valid");
        assert_eq!(endpoint.user_fields, ["u", "email"]);
        assert_eq!(endpoint.protocol, Some(Protocol::Both));
        let words = [
            "path_type=regex",
            "path=^/v\\d/login$",
            "method=PUT",
            "sent_through=custom",
            "user=$u",
        ];
        let endpoint = Endpoint::of_words(&words).expect("valid");
        let all = Endpoints::new(vec![endpoint]);
        assert!(all.find(b"PUT", "/v2/login").is_some());
        assert!(all.find(b"POST", "/v2/login").is_none());
        assert!(all.find(b"PUT", "/v2/login/x").is_none());
    }

    #[test]
    fn refusals_name_the_word() {
        for (words, expected) in [
            (vec!["x"], "holds \"x\", which is not of the form key=value"),
            (vec!["pth=/x"], "holds \"pth\", which is none of path, path_type, method, "),
            (vec!["path=/a", "path=/b"], "holds an invalid \"path\": it is given twice"),
            (
                vec!["sent_through=boddy"],
                "holds an invalid \"sent_through\": \"boddy\" is not one of body, ",
            ),
            (
                [&LOGIN[1..], &["path=(", "path_type=regex"]].concat(),
                "holds an invalid \"path\": unclosed group",
            ),
            (
                vec!["login_successful_statuses=+200"],
                "holds an invalid \"login_successful_statuses\": \"+200\"",
            ),
            (vec!["method=PO ST"], "holds an invalid \"method\": "),
            (vec!["user_field="], "holds an invalid \"user_field\": it is empty"),
            (
                vec!["login_successful_statuses=200,abc"],
                "holds an invalid \"login_successful_statuses\": \"abc\"",
            ),
            (
                vec!["login_successful_statuses=7"],
                "holds an invalid \"login_successful_statuses\": 7 is no status",
            ),
            (LOGIN[..4].to_vec(), "lacks \"pass_field\""),
            (LOGIN[1..].to_vec(), "lacks \"path\""),
            (
                [&LOGIN[1..], &["path=login"]].concat(),
                "holds an invalid \"path\": \"login\" does not begin with \"/\"",
            ),
            (
                [&LOGIN[..], &["user=$u"]].concat(),
                "holds \"user\", which is for sent_through=custom",
            ),
            (
                vec!["path=/a", "method=get", "sent_through=custom"],
                "needs \"user\", \"pass\" or both",
            ),
        ] {
            let text = refused(&words);
            assert!(text.starts_with(expected), "{words:?}: {text}");
        }
    }
}
