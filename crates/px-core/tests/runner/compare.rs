//! Comparing JSON values: key order is irrelevant, an absent key must be absent.

use serde_json::{Map, Value};

/// Names every place in which `actual` differs from `expected`.
pub fn equal(expected: &Value, actual: &Value) -> Result<(), String> {
    let mut found = Vec::new();
    collect("", expected, actual, &mut found);
    if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
}

/// The members of `object` that `names` lists.
pub fn only(object: &Value, names: &[&str]) -> Map<String, Value> {
    let members = object.as_object().into_iter().flatten();
    let listed = members.filter(|(name, _)| names.contains(&name.as_str()));
    listed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn collect(place: &str, expected: &Value, actual: &Value, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(left), Value::Object(right)) => {
            for (name, value) in left {
                let place = format!("{place}/{name}");
                match right.get(name) {
                    Some(other) => collect(&place, value, other, found),
                    None => found.push(format!("{place}: {value} expected, absent")),
                }
            }
            for (name, value) in right.iter().filter(|(name, _)| !left.contains_key(*name)) {
                found.push(format!("{place}/{name}: {value}, expected to be absent"));
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (value, other)) in left.iter().zip(right).enumerate() {
                collect(&format!("{place}/{index}"), value, other, found);
            }
        }
        // JSON has one kind of number.
        (Value::Number(left), Value::Number(right)) if left.as_f64() == right.as_f64() => {}
        (expected, actual) if expected == actual => {}
        (expected, actual) => found.push(format!("{place}: {expected} expected, got {actual}")),
    }
}
