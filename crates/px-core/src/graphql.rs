//! GraphQL: which operations a request asks for, and whether they are sensitive.
//!
//! Source: graphql.md. Queries are scanned as the official enforcers scan them, not parsed
//! (DECISIONS 13, `regex_parser`): whoever tells HUMAN something else than they do is misunderstood.

mod scan;

use crate::body::document::Document;
use crate::body::form;
use crate::json::{List, Object};
use crate::request::Request;
use crate::routes::{Expressions, RegexPattern, RoutePattern, Routes};

/// Operations of a batch that are reported at most; all of them are judged.
const MAX_OPERATIONS: usize = 100;
/// Keywords of one operation that are reported at most (§ 4), and of one request.
const MAX_KEYWORDS: usize = 500;
const MAX_KEYWORDS_OF_REQUEST: usize = 2000;
/// Characters of a keyword that are reported, in UTF-16 units (§ 4).
const MAX_KEYWORD_LENGTH: usize = 100;
/// Bytes of a request's variable names that are reported; further names are left out.
const MAX_VARIABLE_BYTES: usize = 32 << 10;

#[derive(Clone, Debug)]
pub struct GraphqlOptions {
    pub enabled: bool,
    pub routes: Vec<RoutePattern>,
    /// Operations in the query string of GET requests are read too, which no other enforcer does.
    pub get_enabled: bool,
    pub sensitive_operation_types: Vec<String>,
    /// Found in an operation's name or in one of its keywords.
    pub sensitive_operation_names: Vec<RegexPattern>,
    pub keywords: Vec<RegexPattern>,
}

impl Default for GraphqlOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            routes: vec![RoutePattern::Prefix("/graphql".to_owned())],
            get_enabled: false,
            sensitive_operation_types: Vec::new(),
            sensitive_operation_names: Vec::new(),
            keywords: Vec::new(),
        }
    }
}

/// The options, ready for use.
#[derive(Debug)]
pub struct Graphql {
    routes: Routes,
    get_enabled: bool,
    sensitive_types: Vec<String>,
    sensitive_names: Expressions,
    keywords: Vec<RegexPattern>,
}

/// The operations of a request, in the order of its batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// The first of them.
    reported: Vec<Operation>,
    is_sensitive: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Operation {
    kind: Option<&'static str>,
    name: Option<String>,
    /// `None`: none are looked for.
    keywords: Option<Vec<String>>,
    is_sensitive: bool,
    variables: Option<Vec<String>>,
}

/// What may still be reported of one request.
struct Budget {
    keywords: usize,
    variable_bytes: usize,
}

impl Graphql {
    /// The error is a phrase for the operator.
    pub fn new(options: &GraphqlOptions) -> Result<Self, String> {
        Ok(Self {
            routes: Routes::new(&options.routes)?,
            get_enabled: options.get_enabled,
            sensitive_types: options.sensitive_operation_types.clone(),
            sensitive_names: Expressions::new(&options.sensitive_operation_names)?,
            keywords: options.keywords.clone(),
        })
    }

    /// Whether operations may stand in the body of a request for `path`, normalised; `is_route` is
    /// the operator's own opinion.
    pub fn wants_body(&self, request: &Request<'_>, path: &str, is_route: bool) -> bool {
        request.method == b"POST" && (is_route || self.routes.matches(path))
    }

    /// As [`wants_body`](Self::wants_body), of the query string.
    pub fn wants_query(&self, request: &Request<'_>, path: &str, is_route: bool) -> bool {
        self.may_want_query(request) && (is_route || self.routes.matches(path))
    }

    pub(crate) fn may_want_query(&self, request: &Request<'_>) -> bool {
        self.get_enabled && request.method == b"GET"
    }

    /// The operations in a query string without its `?`: its parameters `query`, `operationName` and
    /// `variables`, as GraphQL over HTTP has them. `keywords` are the operator's, between commas.
    pub fn read_query(&self, query: &str, keywords: &str) -> Operations {
        let parameter = |name| form::first(query.as_bytes(), name);
        let (text, name) = (parameter("query"), parameter("operationName"));
        if text.is_none() && name.is_none() {
            return Operations::default();
        }
        let variables = parameter("variables");
        let variables = variables.as_ref().and_then(|text| Document::parse(text.as_bytes()));
        let mut budget = Budget::whole();
        let text = text.as_ref().map(|text| text.as_str());
        let name = name.as_ref().map(|name| name.as_str());
        let operation = self.operation(text, name, variables.as_ref(), keywords, &mut budget);
        Operations { is_sensitive: operation.is_sensitive, reported: vec![operation] }
    }

    /// The operations of a body (§ 2).
    pub(crate) fn read_body(&self, body: &Document<'_>, keywords: &str) -> Operations {
        let mut operations = Operations::default();
        let batch = match body {
            Document::List(batch) => batch.as_slice(),
            single if single.is_truthy() => std::slice::from_ref(single),
            _ => return operations,
        };
        let is_readable = |item: &Document<'_>| {
            !matches!(item, Document::Null)
                && item.member("query").is_none_or(|query| query.as_text().is_some())
        };
        let is_reported = batch.iter().all(is_readable);
        let mut budget = Budget::whole();
        // An origin may well carry out the rest of a batch with one unreadable operation: it is not
        // reported, but judged.
        for item in batch {
            let text = |name| item.member(name).and_then(Document::as_text);
            let variables = item.member("variables");
            let (query, name) = (text("query"), text("operationName"));
            let operation = self.operation(query, name, variables, keywords, &mut budget);
            operations.is_sensitive |= operation.is_sensitive;
            if is_reported && operations.reported.len() < MAX_OPERATIONS {
                operations.reported.push(operation);
            }
        }
        operations
    }

    fn operation(
        &self,
        query: Option<&str>,
        operation_name: Option<&str>,
        variables: Option<&Document<'_>>,
        keywords: &str,
        budget: &mut Budget,
    ) -> Operation {
        let query = query.unwrap_or_default();
        let known = scan::operations(query);
        let name = operation_name.filter(|name| !name.is_empty()).or_else(|| known.only_name());
        let kind = known.kind_of(name, query);
        let mut is_sensitive = kind
            .is_some_and(|kind| self.sensitive_types.iter().any(|known| known == kind))
            || name.is_some_and(|name| self.sensitive_names.is_found_in(name));
        let mut reported = Vec::new();
        let mut count = 0;
        let mut take = |keyword: &str| {
            count += 1;
            is_sensitive = is_sensitive || self.sensitive_names.is_found_in(keyword);
            if count <= MAX_KEYWORDS && budget.keywords > 0 {
                budget.keywords -= 1;
                reported.push(cut(keyword.trim_matches(scan::is_space)).to_owned());
            }
        };
        let mut own = keywords.split(',').filter(|keyword| !keyword.trim().is_empty()).peekable();
        let are_wanted = own.peek().is_some() || !self.keywords.is_empty();
        if own.peek().is_some() {
            own.for_each(&mut take);
        } else {
            // Each search may look at all of the rest: without an end to them, some expressions would
            // take quadratic time.
            let found = self.keywords.iter().flat_map(|pattern| pattern.all_in(query));
            found.take(MAX_KEYWORDS + 1).for_each(&mut take);
        }
        // Where not all keywords were looked at, one of them may be sensitive.
        is_sensitive |= count > MAX_KEYWORDS && !self.sensitive_names.is_empty();
        Operation {
            kind,
            name: name.map(str::to_owned),
            keywords: are_wanted.then_some(reported),
            is_sensitive,
            variables: variables.and_then(|variables| names(variables, budget)),
        }
    }
}

impl Budget {
    fn whole() -> Self {
        Self { keywords: MAX_KEYWORDS_OF_REQUEST, variable_bytes: MAX_VARIABLE_BYTES }
    }
}

/// The first hundred UTF-16 units; a character that they would split is left out.
fn cut(text: &str) -> &str {
    let mut units = 0;
    let end = text.char_indices().find_map(|(at, character)| {
        units += character.len_utf16();
        (units > MAX_KEYWORD_LENGTH).then_some(at)
    });
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// The names of variables as dotted paths (§ 6); `None` of what is neither object nor list.
fn names(variables: &Document<'_>, budget: &mut Budget) -> Option<Vec<String>> {
    let mut found = Vec::new();
    match variables {
        Document::Object(_) | Document::List(_) => {
            collect_names(variables, &mut String::new(), &mut found, budget);
            Some(found)
        }
        _ => None,
    }
}

/// Depth is that of the document, which is bounded.
fn collect_names(
    value: &Document<'_>,
    path: &mut String,
    found: &mut Vec<String>,
    budget: &mut Budget,
) {
    let mut visit = |name: &str, value: &Document<'_>| {
        if budget.variable_bytes == 0 {
            return;
        }
        let before = path.len();
        if before != 0 {
            path.push('.');
        }
        path.push_str(name);
        match value {
            Document::Object(members) if !members.is_empty() => {
                collect_names(value, path, found, budget);
            }
            Document::List(items) if !items.is_empty() => {
                collect_names(value, path, found, budget);
            }
            _ => match budget.variable_bytes.checked_sub(path.len().max(1)) {
                Some(rest) => {
                    budget.variable_bytes = rest;
                    found.push(path.clone());
                }
                None => budget.variable_bytes = 0,
            },
        }
        path.truncate(before);
    };
    match value {
        Document::Object(members) => {
            members.iter().for_each(|(name, value)| visit(name.as_str(), value));
        }
        Document::List(items) => {
            items.iter().enumerate().for_each(|(at, item)| visit(&at.to_string(), item));
        }
        _ => {}
    }
}

impl Operations {
    pub fn is_empty(&self) -> bool {
        self.reported.is_empty()
    }

    /// Whether one of them makes the request sensitive (§ 5).
    pub fn is_sensitive(&self) -> bool {
        self.is_sensitive
    }

    pub fn first_name(&self) -> Option<&str> {
        self.reported.first()?.name.as_deref()
    }

    /// `query`, `mutation` or `subscription`.
    pub fn first_type(&self) -> Option<&'static str> {
        self.reported.first()?.kind
    }

    /// `graphql_operations` (§ 7); nothing where there are none.
    pub(crate) fn write(&self, report: &mut Object<'_>) {
        if !self.reported.is_empty() {
            report.list("graphql_operations", |list| {
                self.reported.iter().for_each(|operation| operation.write(list));
            });
        }
    }
}

impl Operation {
    fn write(&self, list: &mut List<'_>) {
        list.object(|entry| {
            match self.kind {
                Some(kind) => entry.word("type", kind),
                None => entry.null("type"),
            }
            entry.optional_text("name", self.name.as_deref());
            if let Some(keywords) = &self.keywords {
                entry
                    .list("keywords", |list| keywords.iter().for_each(|k| list.text(k.as_bytes())));
            }
            if self.is_sensitive {
                entry.flag("sensitive", true);
            }
            if let Some(variables) = &self.variables {
                entry.list("variables", |list| {
                    variables.iter().for_each(|v| list.text(v.as_bytes()))
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with(change: impl FnOnce(&mut GraphqlOptions)) -> Graphql {
        let mut options = GraphqlOptions::default();
        change(&mut options);
        Graphql::new(&options).expect("valid")
    }

    fn patterns(texts: &[&str]) -> Vec<RegexPattern> {
        texts.iter().map(|text| RegexPattern::parse(text).expect("valid")).collect()
    }

    fn read(graphql: &Graphql, body: &Value) -> Operations {
        let text = body.to_string();
        graphql.read_body(&Document::parse(text.as_bytes()).expect("JSON"), "")
    }

    fn reported(operations: &Operations) -> Value {
        let mut out = Vec::new();
        crate::json::object(&mut out, |report| operations.write(report));
        let mut report: Value = serde_json::from_slice(&out).expect("JSON");
        report["graphql_operations"].take()
    }

    #[test]
    fn padding_does_not_hide_a_sensitive_operation() {
        let graphql = with(|options| {
            options.sensitive_operation_names = patterns(&["^Login$"]);
            options.keywords = patterns(&["[a-z]+"]);
        });
        let mut batch = vec![json!({"query": "{ a }"}); 5000];
        batch.push(json!({"query": "mutation Login { a }"}));
        let operations = read(&graphql, &Value::from(batch));
        assert!(operations.is_sensitive());
        assert_eq!(reported(&operations).as_array().map(Vec::len), Some(MAX_OPERATIONS));
        // Nor do keywords.
        let graphql = with(|options| {
            options.sensitive_operation_names = patterns(&["^pay$"]);
            options.keywords = patterns(&["\\w+"]);
        });
        let query = format!("{{ {} pay }}", "a ".repeat(5000));
        let operations = read(&graphql, &json!({"query": query}));
        assert!(operations.is_sensitive());
        // Nor does an operation that cannot be read.
        let batch = json!([{"query": "{ pay }"}, {"query": 7}, null]);
        assert!(read(&graphql, &batch).is_sensitive() && read(&graphql, &batch).is_empty());
        let query = format!("{{ {} pay }}", "a ".repeat(5000));
        let operations = read(&graphql, &json!({"query": query}));
        let keywords = reported(&operations)[0]["keywords"].take();
        assert_eq!(keywords.as_array().map(Vec::len), Some(MAX_KEYWORDS));
    }

    #[test]
    fn names_of_variables_are_bounded_whatever_their_depth() {
        let mut variables = json!({"x": 1, "y": 2, "z": [1, 2, 3]});
        for _ in 0..100 {
            variables = json!({ "n".repeat(300): variables });
        }
        let body = json!([{"variables": variables.clone()}, {"variables": variables}]);
        let operations = read(&with(|_| ()), &body);
        let written = reported(&operations).to_string();
        assert!(written.len() < MAX_VARIABLE_BYTES + 1000, "{}", written.len());
        assert!(operations.reported.iter().all(|operation| operation.variables.is_some()));
    }

    #[test]
    fn operations_of_get_requests_are_read_where_that_is_on() {
        let graphql = with(|options| options.get_enabled = true);
        let query = "query=mutation%20Pay%20%7Ba%7D&variables=%7B%22sum%22%3A1%7D&operationName=";
        assert_eq!(
            reported(&graphql.read_query(query, "k,l")),
            json!([{
                "type": "mutation", "name": "Pay", "keywords": ["k", "l"], "variables": ["sum"],
            }])
        );
        assert!(graphql.read_query("q=1", "").is_empty());
        let get = crate::sample::request(&[]);
        assert!(graphql.wants_query(&get, "/graphql", false));
        assert!(graphql.wants_query(&get, "/other", true));
        assert!(!graphql.wants_query(&get, "/other", false));
        assert!(!with(|_| ()).wants_query(&get, "/graphql", true));
    }

    #[test]
    fn a_keyword_is_cut_at_a_hundred_units() {
        let long = format!("{}\u{1f34e}x", "a".repeat(99));
        assert_eq!(cut(&long), "a".repeat(99));
        let short = format!("{}\u{1f34e}x", "a".repeat(98));
        assert_eq!(cut(&short), &short[..102]);
    }
}
