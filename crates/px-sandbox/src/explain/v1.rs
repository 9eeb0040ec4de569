//! The steps of a legacy `_px` token: risk-token.md § 6. Expiry and score are judged before the
//! HMAC here, as the enforcers that still read it do.

use serde_json::{Map, Value};

use super::{Outcome, Reading, Steps, judge_time_and_score, ordinal, v3};
use crate::crypto;

pub(super) fn walk(token: &str, reading: &Reading, steps: &mut Steps) -> Outcome {
    let parts: Vec<&str> = token.split(':').collect();
    let [salt, iterations, ciphertext] = parts[..] else {
        steps.fail(format!("{} parts between colons, 3 expected", parts.len()));
        return Outcome::DecryptionFailed;
    };
    steps.ok("three parts: salt, iterations, ciphertext");
    let Some((secret, position, text, payload)) =
        v3::open(salt, iterations, ciphertext, reading, steps, required)
    else {
        return Outcome::DecryptionFailed;
    };
    steps.ok(format!("decrypted with {}: {text}", ordinal(position)));

    let number = |value: Option<&Value>| value.cloned().unwrap_or_default();
    let (score_a, score_b) = (
        number(payload.get("s").and_then(|score| score.get("a"))),
        number(payload.get("s").and_then(|score| score.get("b"))),
    );
    let score = score_b.as_f64().unwrap_or_default();
    let time = number(payload.get("t"));
    let judged = judge_time_and_score(
        time.as_f64().unwrap_or_default(),
        score >= reading.blocking_score,
        &format!("score {score}, blocking from {}", reading.blocking_score),
        reading,
        steps,
    );
    if judged != Outcome::Pass {
        return judged;
    }
    let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
    let base = format!("{time}{score_a}{score_b}{}{}", text("u"), text("v"));
    let (user_agent, ip) = (reading.signed_user_agent(), reading.ip.as_str());
    let tries = if reading.mobile {
        [(String::new(), "nothing (mobile)"), (ip.to_owned(), "the client address (mobile)")]
    } else {
        [(user_agent.clone(), "the user agent"), (format!("{ip}{user_agent}"), "address + agent")]
    };
    for (signed, what) in tries {
        let expected = crypto::hmac_hex(secret, &[base.as_bytes(), signed.as_bytes()]);
        if expected.eq_ignore_ascii_case(text("h")) {
            steps.ok(format!("h matches, signed with {what}"));
            return Outcome::Pass;
        }
    }
    steps.fail("h matches neither without nor with the client address");
    Outcome::ValidationFailed
}

fn required(payload: &Map<String, Value>) -> Result<(), String> {
    let score = payload.get("s").and_then(Value::as_object).ok_or("the payload has no object s")?;
    for (name, value) in [("s.a", score.get("a")), ("s.b", score.get("b")), ("t", payload.get("t"))]
    {
        if !value.is_some_and(Value::is_number) {
            return Err(format!("the payload has no number {name}"));
        }
    }
    match ["u", "v", "h"].into_iter().find(|name| !payload.get(*name).is_some_and(Value::is_string))
    {
        Some(name) => Err(format!("the payload has no text {name:?}")),
        None => Ok(()),
    }
}
