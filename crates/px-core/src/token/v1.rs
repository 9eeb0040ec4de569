//! Risk token version 1, `_px`, of very old sensors: encrypted, with its HMAC inside.
//!
//! Source: risk-token.md § 6. Judged in the order of the enforcers that still know it: expiry,
//! score, HMAC. So a token that decrypts may cause a block or a Risk API call on its word alone;
//! to pass, it needs its HMAC.

use std::borrow::Cow;

use serde_json::Value;

use super::payload::Payload;
use super::remembered::Proof;
use super::v3::Sealed;
use super::{Checked, Client, Failure, Token, Verifier, Version, json_text};
use crate::crypto::{CookieSecret, Tag};
use crate::score::Score;

/// Checks a token text. Every token costs a key derivation, since nothing outside it is signed.
/// Forged ones are kept in bounds by the budget, which gets back what a genuine one took: honest
/// visitors never use it up, and beyond it a token is only as good as one with a wrong HMAC.
pub(super) fn check(text: &str, verifier: &mut Verifier<'_, '_>) -> Result<Checked, Failure> {
    let sealed = Sealed::parse(text, verifier.options).ok_or(Failure::Decryption)?;
    let secrets = verifier.secrets;
    for (derivations, secret) in (1..).zip(secrets.iter()) {
        if !verifier.may_derive() {
            return Err(Failure::Validation { used_secret: None, unverified: None });
        }
        let payload = sealed.open(secret).and_then(|json| Payload::parse(&json));
        if let Some((token, signed)) = payload.as_ref().and_then(read_payload) {
            let signs_ip = authenticate(&token.hmac, &signed, secret, &verifier.client);
            let proof = signs_ip.map(|signs_ip| Proof {
                secret: secret.fingerprint(),
                signs_user_agent: true,
                signs_ip,
                iterations: sealed.iterations(),
            });
            if proof.is_some() {
                verifier.budget.give_back(derivations);
            }
            return judge(Checked { token, proof }, verifier);
        }
    }
    Err(Failure::Decryption)
}

fn judge(checked: Checked, verifier: &Verifier<'_, '_>) -> Result<Checked, Failure> {
    let token = &checked.token;
    let cannot_pass =
        token.is_expired(verifier.now_ms) || token.is_high_score(verifier.options.blocking_score);
    if checked.proof.is_some() || cannot_pass {
        Ok(checked)
    } else {
        Err(Failure::Validation { used_secret: None, unverified: Some(Box::new(checked.token)) })
    }
}

/// Whether the address is signed, which only trying tells; `None` if the HMAC fits neither way.
fn authenticate(
    hmac: &str,
    signed: &str,
    secret: &CookieSecret,
    client: &Client<'_>,
) -> Option<bool> {
    let tag = Tag::from_hex(hmac.as_bytes())?;
    let state = secret.mac().update(signed.as_bytes());
    let (ip, user_agent) = (client.ip().as_bytes(), client.user_agent());
    if state.clone().update(user_agent).matches(&tag) {
        Some(false)
    } else {
        state.update(ip).update(user_agent).matches(&tag).then_some(true)
    }
}

/// The token and the text its HMAC begins with. `None` unless `t`, `s.a`, `s.b`, `u`, `v` and `h`
/// are there in their types.
fn read_payload(payload: &Payload) -> Option<(Token<'static>, String)> {
    let expires_ms = payload.number("t")?;
    let Some(Value::Object(scores)) = payload.get("s") else { return None };
    let [bot, blocking] = [scores.get("a")?.as_f64()?, scores.get("b")?.as_f64()?];
    let [uuid, vid, hmac] = [payload.text("u")?, payload.text("v")?, payload.text("h")?];
    let [t, a, b] = [expires_ms, bot, blocking].map(json_text::number);
    let signed = format!("{t}{a}{b}{uuid}{vid}");
    let token = Token {
        version: Version::V1,
        score: Score(blocking),
        action: None,
        uuid: payload.non_empty("u"),
        vid: payload.non_empty("v"),
        expires_ms,
        cpa: false,
        payload: payload.compact(),
        hmac: Cow::Owned(hmac.to_owned()),
        used_secret: None,
    };
    Some((token, signed))
}

#[cfg(test)]
mod tests {
    use super::super::minted::*;
    use super::*;

    const ALIVE: u64 = NOW + 1;
    const EXPIRED: u64 = NOW - 1;

    fn payload(t: u64, score: &str, hmac: &str) -> String {
        format!(r#"{{"t":{t},"s":{{"a":7,"b":{score}}},"u":"{UUID}","v":"{VID}","h":"{hmac}"}}"#)
    }

    fn token(secret: &str, t: u64, score: &str, fields: &str) -> String {
        let hmac = hmac(secret, &format!("{t}7{score}{UUID}{VID}{fields}"));
        sealed(secret, payload(t, score, &hmac).as_bytes())
    }

    #[derive(Debug, PartialEq)]
    enum Outcome {
        Taken,
        Decryption,
        Validation,
        Unexamined,
    }

    fn outcome(result: Result<Token<'_>, Failure>) -> Outcome {
        match result {
            Ok(_) => Outcome::Taken,
            Err(Failure::Decryption) => Outcome::Decryption,
            Err(Failure::Validation { used_secret: None, unverified: Some(_) }) => {
                Outcome::Validation
            }
            Err(Failure::Validation { .. }) => Outcome::Unexamined,
        }
    }

    #[test]
    fn only_its_hmac_makes_a_token_pass() {
        let ip_ua = &[IP, USER_AGENT].concat();
        let ua_ip = &[USER_AGENT, IP].concat();
        for (client, secret, fields, expected) in [
            (WEB, SECRET, USER_AGENT, Outcome::Taken),
            (WEB, SECRET, ip_ua, Outcome::Taken),
            (WEB, OLD_SECRET, USER_AGENT, Outcome::Taken),
            (WEB, SECRET, ua_ip, Outcome::Validation),
            (WEB, SECRET, "", Outcome::Validation),
            (WEB, SECRET, IP, Outcome::Validation),
            (WEB, "third", USER_AGENT, Outcome::Decryption),
            (MOBILE, SECRET, "", Outcome::Taken),
            (MOBILE, SECRET, IP, Outcome::Taken),
            (MOBILE, SECRET, USER_AGENT, Outcome::Validation),
            (MOBILE, SECRET, ip_ua, Outcome::Validation),
        ] {
            let text = token(secret, ALIVE, "99", fields);
            let mut desk = Desk::new(&[SECRET, OLD_SECRET]);
            assert_eq!(outcome(desk.verify(client, Version::V1, &text)), expected, "{fields}");
        }
    }

    #[test]
    fn expiry_and_score_are_believed_without_hmac() {
        for (t, score, expected) in [
            (EXPIRED, "0", Outcome::Taken),
            (NOW, "0", Outcome::Validation),
            (ALIVE, "99.5", Outcome::Validation),
            (ALIVE, "100", Outcome::Taken),
            (EXPIRED, "100", Outcome::Taken),
        ] {
            let text = token(SECRET, t, score, "another browser");
            let mut desk = Desk::new(&[SECRET]);
            let result = desk.verify(WEB, Version::V1, &text);
            if let Ok(token) = &result {
                assert!(token.is_expired(NOW) || token.is_high_score(100));
            }
            assert_eq!(outcome(result), expected, "{t} {score}");
        }
    }

    #[test]
    fn payload_becomes_a_token() {
        let text = token(SECRET, ALIVE, "42", USER_AGENT);
        let hmac = hmac(SECRET, &format!("{ALIVE}742{UUID}{VID}{USER_AGENT}"));
        let expected = Token {
            version: Version::V1,
            score: Score(42.0),
            action: None,
            uuid: Some(UUID.into()),
            vid: Some(VID.into()),
            expires_ms: 1_750_000_000_001.0,
            cpa: false,
            payload: payload(ALIVE, "42", &hmac).into(),
            hmac: Cow::Owned(hmac),
            used_secret: None,
        };
        assert_eq!(Desk::new(&[SECRET]).verify(WEB, Version::V1, &text), Ok(expected));
    }

    #[test]
    fn malformed_tokens_are_not_decrypted() {
        let good = token(SECRET, ALIVE, "0", USER_AGENT);
        for text in [
            "",
            "garbage",
            "::",
            &format!("{good}:x"),
            &good.replacen(":500:", ":499:", 1),
            &good.replacen(":500:", ":500abc:", 1),
            &good.replacen(":500:", "::", 1),
            &v3(SECRET, &v3_payload(""), USER_AGENT),
        ] {
            let mut desk = Desk::new(&[SECRET]);
            assert_eq!(desk.verify(WEB, Version::V1, text), Err(Failure::Decryption), "{text}");
            assert_eq!(desk.derivations_left(), 50);
        }
        let good = payload(ALIVE, "0", "");
        for (from, to) in [
            ("\"t\"", "\"T\""),
            ("\"s\"", "\"S\""),
            ("\"u\"", "\"U\""),
            ("\"v\"", "\"V\""),
            ("\"h\"", "\"H\""),
            ("\"a\"", "\"A\""),
            ("\"b\"", "\"B\""),
            ("\"b\":0", "\"b\":\"0\""),
            ("{\"a\":7,\"b\":0}", "0"),
            ("\"t\":", "\"t\":\"x\",\"q\":"),
            ("\"h\":\"\"", "\"h\":1"),
            ("{", "["),
        ] {
            let text = sealed(SECRET, good.replacen(from, to, 1).as_bytes());
            let mut desk = Desk::new(&[SECRET]);
            assert_eq!(desk.verify(WEB, Version::V1, &text), Err(Failure::Decryption), "{to}");
        }
    }

    #[test]
    fn genuine_tokens_never_use_up_the_budget() {
        let genuine = token(OLD_SECRET, ALIVE, "0", USER_AGENT);
        let forged = token(OLD_SECRET, ALIVE, "0", "another browser");
        let mut desk = Desk::new(&[SECRET, OLD_SECRET]);
        desk.options.forged_cookie_budget = 4;
        for _ in 0..10 {
            assert_eq!(outcome(desk.verify(WEB, Version::V1, &genuine)), Outcome::Taken);
            assert_eq!(desk.derivations_left(), 4);
        }
        for expected in [Outcome::Validation, Outcome::Validation, Outcome::Unexamined] {
            assert_eq!(outcome(desk.verify(WEB, Version::V1, &forged)), expected);
        }
    }
}
