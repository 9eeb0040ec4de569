//! The steps of a `_px2` token: risk-token.md § 5.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Outcome, Reading, Steps, judge_time_and_score, ordinal};
use crate::crypto;

pub(super) fn walk(token: &str, reading: &Reading, steps: &mut Steps) -> Outcome {
    if token.len() > reading.max_length {
        steps.fail(format!("{} bytes, at most {} allowed", token.len(), reading.max_length));
        return Outcome::DecryptionFailed;
    }
    let payload = match payload(token) {
        Ok(payload) => payload,
        Err(why) => {
            steps.fail(why);
            return Outcome::DecryptionFailed;
        }
    };
    steps.ok(format!("payload {}", Value::Object(payload.clone())));
    let (Some(time), Some(uuid), Some(vid), Some(hmac)) = (
        payload.get("t").filter(|time| time.is_number()),
        payload.get("u").and_then(Value::as_str).filter(|text| is_uuid(text)),
        payload.get("v").and_then(Value::as_str).filter(|text| is_uuid(text)),
        payload.get("h").and_then(Value::as_str).filter(|text| !text.is_empty()),
    ) else {
        steps.fail("t must be a number, u and v lower-case UUIDs, h a text that is not empty");
        return Outcome::ValidationFailed;
    };
    let user_agent = if reading.mobile { String::new() } else { reading.signed_user_agent() };
    for (position, secret) in reading.usable_secrets() {
        for (bit, high_score) in [("0", false), ("1", true)] {
            let signed = format!("{time}{uuid}{vid}{bit}{user_agent}");
            if crypto::hmac_hex(secret, &[signed.as_bytes()]) == hmac {
                steps.ok(format!("h matches {} with the bit {bit}", ordinal(position)));
                let score = if high_score { "block bit set, score 100" } else { "score 0" };
                let expires_at = time.as_f64().unwrap_or_default();
                return judge_time_and_score(expires_at, high_score, score, reading, steps);
            }
        }
    }
    steps.fail(format!("h matches no secret, neither bit, with the user agent {user_agent:?}"));
    Outcome::ValidationFailed
}

fn payload(token: &str) -> Result<Map<String, Value>, String> {
    let bytes = crypto::from_base64(token).ok_or("not base64")?;
    let Value::Object(payload) =
        serde_json::from_slice(&bytes).map_err(|why| format!("the payload is not JSON: {why}"))?
    else {
        return Err("the payload is no JSON object".into());
    };
    match ["t", "u", "v", "h"]
        .into_iter()
        .find(|name| payload.get(*name).is_none_or(Value::is_null))
    {
        Some(name) => Err(format!("the payload has no {name:?}")),
        None => Ok(payload),
    }
}

/// risk-token.md § 7: lower case, versions 1 to 5, variant 8, 9, a or b.
pub(crate) fn is_uuid(text: &str) -> bool {
    let Ok(uuid) = Uuid::try_parse(text) else { return false };
    uuid.hyphenated().to_string() == text
        && (1..=5).contains(&uuid.get_version_num())
        && matches!(text.as_bytes().get(19), Some(b'8' | b'9' | b'a' | b'b'))
}
