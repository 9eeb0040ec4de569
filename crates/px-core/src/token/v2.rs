//! Risk token version 2, `_px2`: a base64 payload that carries its own HMAC and a verdict, no score.
//!
//! Source: risk-token.md § 5. The verdict is what the HMAC signs: nothing in the payload tells it.

use std::borrow::Cow;

use super::payload::Payload;
use super::{Checked, Failure, Token, Verifier, Version, is_uuid, json_text};
use crate::crypto::{Tag, decode_base64};
use crate::score::Score;

const LOW_RISK: Score = Score(0.0);
const HIGH_RISK: Score = Score(100.0);

/// Checks a token text completely, but for expiry and score.
pub(super) fn check(text: &str, verifier: &Verifier<'_, '_>) -> Result<Checked, Failure> {
    let payload = decode_base64(text)
        .and_then(|json| Payload::parse(&json))
        .filter(|payload| payload.has_all(&["t", "u", "v", "h"]))
        .ok_or(Failure::Decryption)?;
    let token = judge(&payload, verifier);
    let token = token.ok_or(Failure::Validation { used_secret: None, unverified: None })?;
    Ok(Checked { token, proof: None })
}

fn judge(payload: &Payload, verifier: &Verifier<'_, '_>) -> Option<Token<'static>> {
    let expires_ms = payload.number("t")?;
    let [uuid, vid] = [payload.text("u")?, payload.text("v")?];
    if !is_uuid(uuid.as_bytes()) || !is_uuid(vid.as_bytes()) {
        return None;
    }
    let hmac = payload.text("h")?;
    let tag = Tag::from_hex(hmac.as_bytes())?;
    let signed_fields = verifier.client.user_agent();
    let signed = format!("{}{uuid}{vid}", json_text::number(expires_ms));
    let score = verifier.secrets.iter().find_map(|secret| {
        let state = secret.mac().update(signed.as_bytes());
        let signs = |bit: &[u8]| state.clone().update(bit).update(signed_fields).matches(&tag);
        if signs(b"0") { Some(LOW_RISK) } else { signs(b"1").then_some(HIGH_RISK) }
    })?;
    Some(Token {
        version: Version::V2,
        score,
        action: None,
        uuid: Some(Cow::Owned(uuid.to_owned())),
        vid: Some(Cow::Owned(vid.to_owned())),
        expires_ms,
        cpa: false,
        payload: payload.compact(),
        hmac: Cow::Owned(hmac.to_owned()),
        used_secret: None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Client;
    use super::super::minted::*;
    use super::*;

    const FAILED: Failure = Failure::Validation { used_secret: None, unverified: None };

    fn payload(t: &str, hmac: &str) -> String {
        format!(r#"{{"t":{t},"u":"{UUID}","v":"{VID}","h":"{hmac}"}}"#)
    }

    /// A token as HUMAN signs it: `t` is the number's text as JavaScript writes it.
    fn token(secret: &str, t: &str, bit: &str, fields: &str) -> String {
        let t = if t == "1e3" { "1000" } else { t };
        v2(&payload(t, &hmac(secret, &format!("{t}{UUID}{VID}{bit}{fields}"))))
    }

    fn verify(client: Client<'_>, text: &str) -> Result<f64, Failure> {
        let mut desk = Desk::new(&[SECRET, OLD_SECRET, "third"]);
        desk.verify(client, Version::V2, text).map(|token| token.score.0)
    }

    #[test]
    fn verdict_is_what_the_hmac_signs() {
        for (client, secret, bit, fields, outcome) in [
            (WEB, SECRET, "0", USER_AGENT, Ok(0.0)),
            (WEB, SECRET, "1", USER_AGENT, Ok(100.0)),
            (WEB, OLD_SECRET, "0", USER_AGENT, Ok(0.0)),
            (WEB, OLD_SECRET, "1", USER_AGENT, Ok(100.0)),
            (WEB, SECRET, "2", USER_AGENT, Err(FAILED)),
            (WEB, SECRET, "", USER_AGENT, Err(FAILED)),
            (WEB, "third", "0", USER_AGENT, Err(FAILED)),
            (WEB, SECRET, "0", "", Err(FAILED)),
            (WEB, SECRET, "0", IP, Err(FAILED)),
            (MOBILE, SECRET, "0", "", Ok(0.0)),
            (MOBILE, SECRET, "1", "", Ok(100.0)),
            (MOBILE, SECRET, "0", USER_AGENT, Err(FAILED)),
        ] {
            assert_eq!(verify(client, &token(secret, "17", bit, fields)), outcome);
        }
    }

    #[test]
    fn payload_becomes_a_token() {
        let hmac = hmac(SECRET, &format!("1000{UUID}{VID}0{USER_AGENT}"));
        let json = format!(
            r#"{{"z":"\u00e9", "t":1e3, "u":"{UUID}", "v":"{VID}", "h":"{hmac}", "a":"b", "cpa":1}}"#
        );
        let mut desk = Desk::new(&[SECRET]);
        let expected = Token {
            version: Version::V2,
            score: Score(0.0),
            action: None,
            uuid: Some(UUID.into()),
            vid: Some(VID.into()),
            expires_ms: 1000.0,
            cpa: false,
            payload: format!(
                r#"{{"z":"é","t":1000,"u":"{UUID}","v":"{VID}","h":"{hmac}","a":"b","cpa":1}}"#
            )
            .into(),
            hmac: Cow::Owned(hmac),
            used_secret: None,
        };
        assert_eq!(desk.verify(WEB, Version::V2, &v2(&json)), Ok(expected));
        assert_eq!(desk.derivations_left(), 50);
    }

    #[test]
    fn what_is_missing_is_told_from_what_is_wrong() {
        let good = payload("1", &"0".repeat(64));
        for (from, to, failure) in [
            ("\"t\":1", "\"t\":null", Failure::Decryption),
            ("\"t\":1", "\"T\":1", Failure::Decryption),
            ("\"u\"", "\"U\"", Failure::Decryption),
            ("\"v\"", "\"V\"", Failure::Decryption),
            ("\"h\"", "\"H\"", Failure::Decryption),
            ("{", "[{", Failure::Decryption),
            ("\"t\":1", "\"t\":\"1\"", FAILED),
            ("\"t\":1", "\"t\":true", FAILED),
            ("\"t\":1", "\"t\":{}", FAILED),
            ("\"7f9c24e8", "\"7F9C24E8", FAILED),
            ("\"c0ffee00-1d2e-4f", "\"c0ffee00-1d2e-6f", FAILED),
            ("\"c0ffee00", "\"", FAILED),
            ("0000\"", "0000\",\"h\":\"\"", FAILED),
            ("0000\"", "0000\",\"h\":5", FAILED),
            ("0000\"", "0000\",\"h\":[]", FAILED),
            ("0000\"", "000A\"", FAILED),
            ("\"t\":1", "\"t\":1", FAILED),
        ] {
            let json = good.replacen(from, to, 1);
            assert_eq!(verify(WEB, &v2(&json)), Err(failure), "{json}");
        }
    }

    #[test]
    fn what_is_no_base64_of_json_is_not_decrypted() {
        let good = token(SECRET, "1", "0", USER_AGENT);
        for text in [
            "%%%",
            "garbage",
            "aGVsbG8=",
            "bnVsbA==",
            &format!("{good}!"),
            &format!("\"{good}\""),
            &format!("{good}{}", "A".repeat(2048)),
            &"A".repeat(1_000_000),
        ] {
            assert_eq!(verify(WEB, text), Err(Failure::Decryption));
        }
        assert_eq!(verify(WEB, good.trim_end_matches('=')), Ok(0.0));
    }
}
