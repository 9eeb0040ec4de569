//! `credentials-extraction.json`, `credentials-file.json` and `credentials-hashing.json`.

use px_core::credentials::{self, Credentials, Endpoint, EndpointPath, Endpoints, Protocol, Raw};
use px_core::hooks::Hooks;
use px_core::request::{Header, Request, Tls};
use px_core::url::RequestUrl;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::compare;
use super::tokens::OVERRIDDEN;

/// The endpoints of a vector, which are items of a credentials file.
pub fn endpoints(list: &Value) -> Result<Vec<Endpoint>, String> {
    let file = json!({"features": {"credentials": {"items": list}}});
    Endpoint::all_of_file(&file.to_string())
}

pub fn run_extraction(case: &Value) -> Result<(), String> {
    let endpoints = Endpoints::new(endpoints(&case["endpoints"])?);
    let given = &case["request"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let headers: Vec<_> = given["headers"].as_array().into_iter().flatten().collect();
    let headers: Vec<_> = headers.iter().map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() })
        .collect();
    let (method, target) = (text(&given["method"]), text(&given["url"]));
    let request = Request {
        method: method.as_bytes(),
        scheme: "https",
        host: b"shop.example.com",
        target: target.as_bytes(),
        http_version: "1.1",
        headers: &headers,
        peer_ip: "203.0.113.77",
        request_id: "",
        tls: Tls::default(),
        hooks: &Hooks::NONE,
        extracted: None,
    };
    let url = RequestUrl::new(&request, false);
    let body = given["body"].as_str().map(str::as_bytes);
    let found = endpoints.find(request.method, url.path()).and_then(|(index, endpoint)| {
        let raw = credentials::extract(endpoint, &request, url.raw_query(), body, ("", ""))?;
        let mut found = Map::new();
        found.insert("endpoint_index".to_owned(), json!(index));
        for (name, text) in [("user", &raw.user), ("pass", &raw.pass)] {
            if let Some(text) = text {
                found.insert(name.to_owned(), json!(**text));
            }
        }
        Some(Value::Object(found))
    });
    let actual = found.unwrap_or_default();
    let Err(difference) = compare::equal(&case["expected"], &actual) else { return Ok(()) };
    // What such a body holds is found all the same.
    let body = given["body"].as_str().unwrap_or_default().replace("\\\"", "\"");
    let is_of_the_body = ["user", "pass"].iter().all(|name| {
        let text = actual[*name].as_str();
        text.is_none_or(|text| !text.is_empty() && body.contains(text))
    });
    match case["quirk"].as_str() {
        Some(tag @ ("content_type_case" | "multipart_single_line"))
            if actual["user"].is_string() && actual["pass"].is_string() && is_of_the_body =>
        {
            Err(format!("{OVERRIDDEN} (tag {tag}): {difference}"))
        }
        _ => Err(difference),
    }
}

pub fn run_file(case: &Value) -> Result<(), String> {
    let read = Endpoint::all_of_file(case["file"].as_str().unwrap_or_default());
    let actual = match read {
        Err(_) => json!({"error": true}),
        Ok(endpoints) => json!({"endpoints": endpoints.iter().map(shown).collect::<Vec<_>>()}),
    };
    let expected = &case["expected"];
    // The text of a regex is not kept as it was written.
    compare::equal(&without_regex_paths(expected), &actual)
}

fn shown(endpoint: &Endpoint) -> Value {
    let (path, path_type) = match &endpoint.path {
        EndpointPath::Exact(path) => (Some(path), "exact"),
        EndpointPath::Regex(_) => (None, "regex"),
    };
    let mut shown = json!({
        "method": endpoint.method,
        "path_type": path_type,
        "sent_through": endpoint.sent_through.as_str(),
        "user_field": endpoint.user_fields,
        "pass_field": endpoint.pass_fields,
    });
    if let Some(path) = path {
        shown["path"] = json!(path);
    }
    shown
}

fn without_regex_paths(expected: &Value) -> Value {
    let mut expected = expected.clone();
    for endpoint in expected["endpoints"].as_array_mut().into_iter().flatten() {
        if endpoint["path_type"] == "regex"
            && let Some(members) = endpoint.as_object_mut()
        {
            members.remove("path");
        }
    }
    match expected.as_object_mut() {
        Some(members) if members["endpoints"].is_null() => drop(members.remove("endpoints")),
        _ => {}
    }
    expected
}

pub fn run_hashing(case: &Value) -> Result<(), String> {
    let input = &case["input"];
    let text = |name: &str| input[name].as_str().map(|text| Zeroizing::new(text.to_owned()));
    let protocol = input["protocol"].as_str().and_then(Protocol::parse).ok_or("no protocol")?;
    let raw = Raw { user: text("user"), pass: text("pass") };
    let actual = credentials::hashed(raw, protocol).map_or(Value::Null, |found| reported(&found));
    compare::equal(&case["expected"], &actual)
}

fn reported(credentials: &Credentials) -> Value {
    let mut found = json!({"ci_version": credentials.version.as_str()});
    for (name, text) in [
        ("user", credentials.user.as_ref().map(|text| text.as_str())),
        ("pass", credentials.pass.as_deref()),
        ("sso_step", credentials.sso_step.map(|step| step.as_str())),
        ("raw_username", credentials.raw_username.as_ref().map(|text| text.as_str())),
    ] {
        if let Some(text) = text {
            found[name] = json!(text);
        }
    }
    found
}
