//! The steps of a `_px3` token: risk-token.md § 4.2.

use serde_json::{Map, Value};

use super::{Outcome, Reading, Steps, judge_time_and_score, ordinal};
use crate::cookie::signed_by_selector;
use crate::crypto;

pub(super) fn walk(token: &str, reading: &Reading, steps: &mut Steps) -> Outcome {
    if token.len() > reading.max_length {
        steps.fail(format!("{} bytes, at most {} allowed", token.len(), reading.max_length));
        return Outcome::DecryptionFailed;
    }
    let parts: Vec<&str> = token.split(':').collect();
    let [hmac, salt, iterations, ciphertext] = parts[..] else {
        steps.fail(format!("{} parts between colons, 4 expected", parts.len()));
        return Outcome::DecryptionFailed;
    };
    steps.ok("four parts: hmac, salt, iterations, ciphertext");

    let Some((secret, position, text, payload)) =
        open(salt, iterations, ciphertext, reading, steps, required)
    else {
        return Outcome::DecryptionFailed;
    };
    steps.ok(format!("decrypted with {}: {text}", ordinal(position)));

    let rest = &token[hmac.len() + 1..];
    let Some((signed, what)) = signed_text(&payload, reading, steps) else {
        return Outcome::ValidationFailed;
    };
    if crypto::hmac_hex(secret, &[rest.as_bytes(), signed.as_bytes()]) != hmac {
        steps.fail(format!("the HMAC does not match over salt:iterations:ciphertext + {what}"));
        guess(hmac, rest, secret, reading, steps);
        return Outcome::ValidationFailed;
    }
    steps.ok(format!("the HMAC matches, signed with {what}"));

    let score = payload.get("s").and_then(Value::as_f64).unwrap_or_default();
    let action = payload.get("a").and_then(Value::as_str).unwrap_or_default();
    judge_time_and_score(
        payload.get("t").and_then(Value::as_f64).unwrap_or_default(),
        score >= reading.blocking_score,
        &format!("score {score}, blocking from {}, action {action:?}", reading.blocking_score),
        reading,
        steps,
    )
}

/// The checks and the decryption that `_px3` and `_px` share. Gives the secret that worked, its
/// position, the payload's text and the payload.
pub(super) fn open<'r>(
    salt: &str,
    iterations: &str,
    ciphertext: &str,
    reading: &'r Reading,
    steps: &mut Steps,
    required: fn(&Map<String, Value>) -> Result<(), String>,
) -> Option<(&'r str, usize, String, Map<String, Value>)> {
    let iterations = read_iterations(iterations, reading, steps)?;
    if salt.is_empty() || salt.len() > 100 {
        steps.fail(format!("the salt has {} characters, 1 to 100 allowed", salt.len()));
        return None;
    }
    if ciphertext.is_empty() {
        steps.fail("the ciphertext is empty");
        return None;
    }
    let (Some(salt), Some(ciphertext)) =
        (crypto::from_base64(salt), crypto::from_base64(ciphertext))
    else {
        steps.fail("salt or ciphertext is not base64");
        return None;
    };
    steps.ok(format!("salt of {} bytes, ciphertext of {} bytes", salt.len(), ciphertext.len()));
    if reading.secrets.is_empty() {
        steps.fail("no secret given");
    }
    for (position, secret) in reading.usable_secrets() {
        let keys = crypto::derive(secret, &salt, iterations);
        match payload(crypto::decrypt(&keys, &ciphertext), required) {
            Ok((text, payload)) => return Some((secret, position, text, payload)),
            Err(why) => steps.fail(format!("with {}: {why}", ordinal(position))),
        }
    }
    None
}

fn read_iterations(text: &str, reading: &Reading, steps: &mut Steps) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(iterations) = text.parse::<u32>().ok().filter(|_| digits) else {
        steps.fail(format!("iterations {text:?} are not a plain decimal number"));
        return None;
    };
    let allowed = reading.min_iterations.max(1)..=reading.max_iterations;
    if !allowed.contains(&iterations) {
        steps.fail(format!(
            "{iterations} iterations, {} to {} allowed",
            allowed.start(),
            allowed.end()
        ));
        return None;
    }
    steps.ok(format!("{iterations} iterations"));
    Some(iterations)
}

fn payload(
    plaintext: Option<Vec<u8>>,
    required: fn(&Map<String, Value>) -> Result<(), String>,
) -> Result<(String, Map<String, Value>), String> {
    let plaintext = plaintext.ok_or("bad padding or length: another secret, or damaged")?;
    let text = String::from_utf8(plaintext).map_err(|_| "the plaintext is not UTF-8")?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(payload)) => required(&payload).map(|()| (text, payload)),
        Ok(_) => Err("the payload is no JSON object".into()),
        Err(why) => Err(format!("the payload is not JSON: {why}")),
    }
}

fn required(payload: &Map<String, Value>) -> Result<(), String> {
    type Test = fn(&Value) -> bool;
    let members: [(&str, Test); 5] = [
        ("a", Value::is_string),
        ("s", Value::is_number),
        ("t", Value::is_number),
        ("u", Value::is_string),
        ("v", Value::is_string),
    ];
    for (name, is_right) in members {
        match payload.get(name) {
            None | Some(Value::Null) => return Err(format!("the payload has no {name:?}")),
            Some(value) if !is_right(value) => {
                return Err(format!("the payload's {name:?} is of the wrong type: {value}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// risk-token.md § 4.3: the text signed behind the token, and its description.
fn signed_text(
    payload: &Map<String, Value>,
    reading: &Reading,
    steps: &mut Steps,
) -> Option<(String, String)> {
    if reading.mobile {
        return Some((String::new(), "nothing (mobile)".into()));
    }
    let user_agent = reading.signed_user_agent();
    match payload.get("x") {
        None | Some(Value::Null) => {
            let what = format!("the user agent {user_agent:?}");
            Some((user_agent, what))
        }
        Some(Value::String(selector)) if selector.is_empty() => {
            let what = format!("the user agent {user_agent:?} (x is empty)");
            Some((user_agent, what))
        }
        Some(Value::String(selector)) => {
            let what = format!(
                "x={selector:?} of user agent {user_agent:?} and client address {:?}",
                reading.ip
            );
            Some((signed_by_selector(selector, &user_agent, &reading.ip), what))
        }
        Some(other) => {
            steps.fail(format!("the payload's x is no text: {other}"));
            None
        }
    }
}

/// Tries what else the token may have been signed with.
fn guess(hmac: &str, rest: &str, secret: &str, reading: &Reading, steps: &mut Steps) {
    let (user_agent, ip) = (reading.signed_user_agent(), reading.ip.as_str());
    let tries = [
        (String::new(), "nothing: a mobile token, or one made without a user agent"),
        (user_agent.clone(), "this user agent alone: x does not say what was signed"),
        (ip.to_owned(), "this client address alone: x does not say what was signed"),
        (format!("{user_agent}{ip}"), "user agent, then address: x does not say so"),
        (format!("{ip}{user_agent}"), "address, then user agent: x does not say so"),
        (reading.user_agent.clone(), "the user agent without cutting it"),
    ];
    for (signed, what) in tries {
        if crypto::hmac_hex(secret, &[rest.as_bytes(), signed.as_bytes()]) == hmac {
            steps.note(format!("it does match when signed with {what}"));
            return;
        }
    }
    if hmac.len() != 64 || !hmac.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        steps.note("the HMAC part is not 64 lower-case hexadecimal digits");
        return;
    }
    for (position, other) in reading.usable_secrets().filter(|(_, other)| *other != secret) {
        if crypto::hmac_hex(other, &[rest.as_bytes(), user_agent.as_bytes()]) == hmac {
            steps.note(format!("it does match with {}", ordinal(position)));
            return;
        }
    }
    steps.note("made for another user agent or client address, or altered");
}
