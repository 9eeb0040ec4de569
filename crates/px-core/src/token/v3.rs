//! Risk token version 3, `_px3`: encrypted payload, HMAC over the wire text.
//!
//! Source: risk-token.md § 4, DECISIONS 16. The HMAC needs no key derivation, so it comes first;
//! only what it does not authenticate takes the slow way of § 4.2, within the budget.

use std::borrow::Cow;

use serde_json::Value;

use super::payload::Payload;
use super::remembered::Proof;
use super::{Checked, Client, Failure, Token, Verifier, Version};
use crate::crypto::{CIPHER_BLOCK_LENGTH, CookieSecret, MacState, Tag, decode_base64};
use crate::policy::Options;
use crate::score::Score;

/// Characters of base64 text.
const MAX_SALT_LENGTH: usize = 100;

/// What `x` may name besides rarities, the usual first (§ 4.3).
const WEB_SELECTORS: [&str; 5] = ["u", "", "s", "us", "su"];
/// Mobile tokens sign nothing but themselves, whatever `x` says.
const MOBILE_SELECTORS: [&str; 1] = [""];

/// Checks a token text completely, but for expiry and score.
pub(super) fn check(text: &str, verifier: &mut Verifier<'_, '_>) -> Result<Checked, Failure> {
    let wire = Wire::parse(text, verifier.options).ok_or(Failure::Decryption)?;
    let authentic = authenticate(&wire, verifier);
    if let Some((secret, selector)) = authentic {
        verifier.budget.note_authentic();
        if let Some(payload) = wire.sealed.open(secret).and_then(|json| read_payload(&json)) {
            return judge(&wire, secret, Some(selector), &payload, verifier);
        }
    }
    let tried = authentic.map(|(secret, _)| secret.index());
    slow_way(&wire, tried, verifier)
}

/// `<hmac>:<salt>:<iterations>:<ciphertext>`, within all bounds.
struct Wire<'t> {
    hmac: &'t str,
    /// Everything after the first colon, which is what the HMAC covers.
    rest: &'t str,
    sealed: Sealed,
}

impl<'t> Wire<'t> {
    fn parse(text: &'t str, options: &Options) -> Option<Self> {
        let (hmac, rest) = text.split_once(':')?;
        Some(Self { hmac, rest, sealed: Sealed::parse(rest, options)? })
    }
}

/// The selector of the signed fields that the HMAC proves, and the secret it was made with.
fn authenticate<'v>(
    wire: &Wire<'_>,
    verifier: &Verifier<'v, '_>,
) -> Option<(&'v CookieSecret, &'static str)> {
    let tag = Tag::from_hex(wire.hmac.as_bytes())?;
    let selectors: &[&'static str] = match verifier.client {
        Client::Web { .. } => &WEB_SELECTORS,
        Client::Mobile { .. } => &MOBILE_SELECTORS,
    };
    verifier.secrets.iter().find_map(|secret| {
        let state = secret.mac().update(wire.rest.as_bytes());
        let proven =
            |selector: &&&str| sign(state.clone(), selector, &verifier.client).matches(&tag);
        selectors.iter().find(proven).map(|selector| (secret, *selector))
    })
}

/// § 4.2, steps 5 and 6: finds the secret that decrypts, then checks the HMAC with it. `tried` is
/// the index of a secret that is known not to decrypt.
fn slow_way(
    wire: &Wire<'_>,
    tried: Option<usize>,
    verifier: &mut Verifier<'_, '_>,
) -> Result<Checked, Failure> {
    let secrets = verifier.secrets;
    for secret in secrets.iter().filter(|secret| Some(secret.index()) != tried) {
        if !verifier.may_derive() {
            return Err(Failure::Validation { used_secret: None, unverified: None });
        }
        if let Some(payload) = wire.sealed.open(secret).and_then(|json| read_payload(&json)) {
            return judge(wire, secret, None, &payload, verifier);
        }
    }
    Err(Failure::Decryption)
}

/// § 4.2, step 6: the payload says which fields are signed, and those must be what the HMAC
/// covers. `proven` is a selector for which that is known.
fn judge(
    wire: &Wire<'_>,
    secret: &CookieSecret,
    proven: Option<&str>,
    payload: &SealedPayload,
    verifier: &Verifier<'_, '_>,
) -> Result<Checked, Failure> {
    let selector = payload.selector(&verifier.client).filter(|selector| {
        // Another selector than the proven one may still sign the same bytes: the user agent may be
        // empty, and unknown letters sign nothing.
        proven == Some(*selector)
            || Tag::from_hex(wire.hmac.as_bytes()).is_some_and(|tag| {
                let state = secret.mac().update(wire.rest.as_bytes());
                sign(state, selector, &verifier.client).matches(&tag)
            })
    });
    let Some(selector) = selector else {
        let used_secret = Some(secret.index());
        return Err(Failure::Validation { used_secret, unverified: None });
    };
    let proof = Proof {
        secret: secret.fingerprint(),
        signs_user_agent: selector.contains('u'),
        signs_ip: selector.contains('s'),
        iterations: wire.sealed.iterations(),
    };
    Ok(Checked { token: payload.token(wire.hmac, secret.index()), proof: Some(proof) })
}

/// Adds the signed fields in the order of the selector's characters (§ 4.3).
fn sign(state: MacState, selector: &str, client: &Client<'_>) -> MacState {
    let Client::Web { user_agent, ip } = *client else { return state };
    selector.chars().fold(state, |state, field| match field {
        'u' => state.update(user_agent),
        's' => state.update(ip.as_bytes()),
        _ => state,
    })
}

/// `<salt>:<iterations>:<ciphertext>`, decoded: the encrypted part, which v1 has in common.
pub(super) struct Sealed {
    salt: Vec<u8>,
    iterations: u32,
    ciphertext: Vec<u8>,
}

impl Sealed {
    /// § 4.2, steps 2 to 4: checks every bound before anything is derived.
    pub(super) fn parse(text: &str, options: &Options) -> Option<Self> {
        let mut parts = text.split(':');
        let (salt, iterations, ciphertext) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || salt.is_empty() || salt.len() > MAX_SALT_LENGTH {
            return None;
        }
        let iterations = parse_iterations(iterations, options)?;
        let ciphertext = decode_base64(ciphertext)?;
        if ciphertext.is_empty() || ciphertext.len() % CIPHER_BLOCK_LENGTH != 0 {
            return None;
        }
        Some(Self { salt: decode_base64(salt)?, iterations, ciphertext })
    }

    /// Whether a location with these options may spend so many iterations.
    pub(super) fn allows(iterations: u32, options: &Options) -> bool {
        let least = options.risk_cookie_min_iterations.max(1);
        (least..=options.risk_cookie_max_iterations).contains(&iterations)
    }

    pub(super) fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Costs a key derivation.
    pub(super) fn open(&self, secret: &CookieSecret) -> Option<Vec<u8>> {
        secret.decrypt(&self.salt, self.iterations, &self.ciphertext)
    }
}

/// ASCII digits only: JavaScript's `parseInt` takes more (DECISIONS, tag `js_parse_int`).
fn parse_iterations(text: &str, options: &Options) -> Option<u32> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|iterations| Sealed::allows(*iterations, options))
}

/// A payload with all required fields in their types (§ 4.4).
struct SealedPayload {
    payload: Payload,
    score: f64,
    expires_ms: f64,
}

/// `None` unless it is an object with `a`, `s`, `t`, `u` and `v` (§ 4.2, step 5.4). A field of the
/// wrong type makes it invalid (DECISIONS, tag `js_type_coercion`).
fn read_payload(json: &[u8]) -> Option<SealedPayload> {
    let payload = Payload::parse(json)?;
    let (score, expires_ms) = (payload.number("s")?, payload.number("t")?);
    let _texts = (payload.text("a")?, payload.text("u")?, payload.text("v")?);
    Some(SealedPayload { payload, score, expires_ms })
}

impl SealedPayload {
    /// Which fields are signed; `None` if `x` is neither text nor null.
    fn selector(&self, client: &Client<'_>) -> Option<&str> {
        match (client, self.payload.get("x")) {
            (Client::Mobile { .. }, _) => Some(""),
            (Client::Web { .. }, None) => Some("u"),
            (Client::Web { .. }, Some(Value::String(text))) if text.is_empty() => Some("u"),
            (Client::Web { .. }, Some(Value::String(text))) => Some(text),
            (Client::Web { .. }, Some(_)) => None,
        }
    }

    fn token(&self, hmac: &str, used_secret: usize) -> Token<'static> {
        Token {
            version: Version::V3,
            score: Score(self.score),
            action: self.payload.non_empty("a"),
            uuid: self.payload.non_empty("u"),
            vid: self.payload.non_empty("v"),
            expires_ms: self.expires_ms,
            cpa: self.payload.is_truthy("cpa"),
            payload: self.payload.compact(),
            hmac: Cow::Owned(hmac.to_owned()),
            used_secret: Some(used_secret),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::minted::*;
    use super::*;

    const FORGED: Failure = Failure::Validation { used_secret: None, unverified: None };

    fn validation_failed(used_secret: usize) -> Failure {
        Failure::Validation { used_secret: Some(used_secret), unverified: None }
    }

    /// Outcome in brief: the index of the used secret, or why not.
    fn verify(desk: &mut Desk, client: Client<'_>, text: &str) -> Result<usize, Failure> {
        desk.verify(client, Version::V3, text).map(|token| token.used_secret.expect("v3"))
    }

    #[test]
    fn payload_becomes_a_token() {
        let payload = format!(r#"{{"a":"b", "s":1e2, "t":5.0, "u":"{UUID}", "v":"", "cpa":1}}"#);
        let text = v3(SECRET, &payload, USER_AGENT);
        let token = Desk::new(&[SECRET]).verify(WEB, Version::V3, &text).expect("valid");
        let expected = Token {
            version: Version::V3,
            score: Score(100.0),
            action: Some("b".into()),
            uuid: Some(UUID.into()),
            vid: None,
            expires_ms: 5.0,
            cpa: true,
            payload: format!(r#"{{"a":"b","s":100,"t":5,"u":"{UUID}","v":"","cpa":1}}"#).into(),
            hmac: Cow::Borrowed(&text[..64]),
            used_secret: Some(0),
        };
        assert_eq!(token, expected);
    }

    #[test]
    fn payload_must_name_the_fields_that_are_signed() {
        let ua_ip = &[USER_AGENT, IP].concat();
        let ip_ua = &[IP, USER_AGENT].concat();
        for (x, fields, valid) in [
            ("", USER_AGENT, true),
            (r#","x":null"#, USER_AGENT, true),
            (r#","x":"""#, USER_AGENT, true),
            (r#","x":"u""#, USER_AGENT, true),
            (r#","x":"uq""#, USER_AGENT, true),
            (r#","x":"s""#, IP, true),
            (r#","x":"us""#, ua_ip, true),
            (r#","x":"su""#, ip_ua, true),
            (r#","x":"q""#, "", true),
            (r#","x":"US""#, "", true),
            (r#","x":"uu""#, &USER_AGENT.repeat(2), true),
            (r#","x":"sqs""#, &IP.repeat(2), true),
            (r#","x":"usu""#, &[USER_AGENT, IP, USER_AGENT].concat(), true),
            ("", "", false),
            ("", IP, false),
            ("", ua_ip, false),
            (r#","x":"s""#, USER_AGENT, false),
            (r#","x":"q""#, USER_AGENT, false),
            (r#","x":"us""#, ip_ua, false),
            (r#","x":"su""#, ua_ip, false),
            (r#","x":"uu""#, USER_AGENT, false),
            (r#","x":5"#, USER_AGENT, false),
            (r#","x":false"#, USER_AGENT, false),
            (r#","x":["u"]"#, USER_AGENT, false),
        ] {
            let text = v3(SECRET, &v3_payload(x), fields);
            let expected = if valid { Ok(0) } else { Err(validation_failed(0)) };
            assert_eq!(verify(&mut Desk::new(&[SECRET]), WEB, &text), expected, "{x} {fields}");
        }
    }

    #[test]
    fn empty_fields_make_selectors_equal() {
        let no_user_agent = Client::Web { user_agent: b"", ip: IP };
        let no_ip = Client::Web { user_agent: USER_AGENT.as_bytes(), ip: "" };
        let neither = Client::Web { user_agent: b"", ip: "" };
        for (client, x, fields) in [
            (no_user_agent, "", ""),
            (no_user_agent, r#","x":"q""#, ""),
            (no_user_agent, r#","x":"us""#, IP),
            (no_user_agent, r#","x":"su""#, IP),
            (no_ip, r#","x":"s""#, ""),
            (no_ip, r#","x":"us""#, USER_AGENT),
            (neither, r#","x":"usus""#, ""),
        ] {
            let text = v3(SECRET, &v3_payload(x), fields);
            let mut desk = Desk::new(&[SECRET]);
            assert_eq!(verify(&mut desk, client, &text), Ok(0), "{x}");
            assert_eq!(desk.derivations_left(), 50, "{x}: not authenticated at once");
        }
    }

    #[test]
    fn mobile_tokens_sign_nothing_whatever_x_says() {
        for (x, fields, valid) in [
            ("", "", true),
            (r#","x":"us""#, "", true),
            (r#","x":5"#, "", true),
            ("", USER_AGENT, false),
            (r#","x":"s""#, IP, false),
        ] {
            let text = v3(SECRET, &v3_payload(x), fields);
            let expected = if valid { Ok(0) } else { Err(validation_failed(0)) };
            assert_eq!(verify(&mut Desk::new(&[SECRET]), MOBILE, &text), expected, "{x}");
        }
    }

    #[test]
    fn either_secret_counts_but_both_steps_need_the_same() {
        let with = |secret: &str| v3(secret, &v3_payload(""), USER_AGENT);
        let sealed_by = |secret: &str| sealed(secret, v3_payload("").as_bytes());
        let both = &[SECRET, OLD_SECRET];
        for (secrets, text, expected) in [
            (&both[..], with(SECRET), Ok(0)),
            (both, with(OLD_SECRET), Ok(1)),
            (both, with("third"), Err(Failure::Decryption)),
            (&["a", "b", SECRET], with(SECRET), Err(Failure::Decryption)),
            (&["", SECRET], with(SECRET), Ok(1)),
            (&[SECRET, SECRET], with(SECRET), Ok(0)),
            (&[""], with(""), Err(Failure::Decryption)),
            (&[], with(SECRET), Err(Failure::Decryption)),
            (both, signed(SECRET, &sealed_by(OLD_SECRET), USER_AGENT), Err(validation_failed(1))),
            (both, signed(OLD_SECRET, &sealed_by(SECRET), USER_AGENT), Err(validation_failed(0))),
            (both, signed(SECRET, &sealed_by("third"), USER_AGENT), Err(Failure::Decryption)),
        ] {
            assert_eq!(verify(&mut Desk::new(secrets), WEB, &text), expected, "{secrets:?}");
        }
    }

    #[test]
    fn hmac_must_be_exact() {
        let text = v3(SECRET, &v3_payload(""), USER_AGENT);
        let (hmac, rest) = text.split_once(':').expect("four parts");
        let mut flipped = hmac.to_owned();
        flipped.replace_range(63.., if hmac.ends_with('0') { "1" } else { "0" });
        for hmac in [
            "",
            &hmac[..62],
            &hmac[..63],
            &format!("{hmac}00"),
            &hmac.to_uppercase(),
            &flipped,
            &"0".repeat(64),
            &"\u{fffd}".repeat(64),
        ] {
            let text = format!("{hmac}:{rest}");
            assert_eq!(
                verify(&mut Desk::new(&[SECRET]), WEB, &text),
                Err(validation_failed(0)),
                "{hmac}"
            );
        }
    }

    #[test]
    fn iterations_are_digits_within_bounds() {
        let sealed = sealed(SECRET, v3_payload("").as_bytes());
        let options = Options::default();
        for (iterations, valid) in [
            ("500", true),
            ("5000", true),
            ("00500", true),
            ("499", false),
            ("5001", false),
            ("0", false),
            ("", false),
            ("-1000", false),
            ("+1000", false),
            (" 1000", false),
            ("1000 ", false),
            ("1000.5", false),
            ("1e3", false),
            ("0x3e8", false),
            ("1000abc", false),
            ("nan", false),
            ("Infinity", false),
            ("4294968296", false),
            ("99999999999999999999999999999999", false),
            ("\u{661}\u{660}\u{660}\u{660}", false),
        ] {
            let text = sealed.replacen(":500:", &format!(":{iterations}:"), 1);
            assert_eq!(Sealed::parse(&text, &options).is_some(), valid, "{iterations}");
        }
        let unbounded = Options {
            risk_cookie_min_iterations: 0,
            risk_cookie_max_iterations: u32::MAX,
            ..Options::default()
        };
        let zero = sealed.replacen(":500:", ":0:", 1);
        assert!(Sealed::parse(&zero, &unbounded).is_none());
    }

    #[test]
    fn malformed_text_costs_no_derivation() {
        let block = "AAAAAAAAAAAAAAAAAAAAAA==";
        let salt = "c2FsdA";
        for text in [
            "",
            ":",
            ":::",
            "garbage",
            &format!("h:{salt}:500"),
            &format!("h:{salt}:500:"),
            &format!("h::500:{block}"),
            &format!("h:{salt}:500:{block}:"),
            &format!("h:{salt}:500:{block}:x"),
            &format!("h:{salt}:500:AAAA"),
            &format!("h:{salt}:500:\u{e9}"),
            &format!("h:{salt}:500:{block}\""),
            &format!("h:s*lt:500:{block}"),
            &format!("h:{salt}:499:{block}"),
            &format!("h:{}:500:{block}", "A".repeat(101)),
            &format!("{}:{salt}:500:{block}", "a".repeat(2048)),
            &"a:".repeat(500_000),
        ] {
            let mut desk = Desk::new(&[SECRET]);
            assert_eq!(verify(&mut desk, WEB, text), Err(Failure::Decryption));
            assert_eq!(desk.derivations_left(), 50);
        }
        let longest_salt = format!("h:{}:500:{block}", "A".repeat(100));
        let mut desk = Desk::new(&[SECRET]);
        assert_eq!(verify(&mut desk, WEB, &longest_salt), Err(Failure::Decryption));
        assert_eq!(desk.derivations_left(), 49);
    }

    #[test]
    fn base64_may_be_unpadded_and_url_safe() {
        let payload = v3_payload(r#","z":"?~?~?~""#);
        let sealed = sealed(SECRET, payload.as_bytes());
        let rest = sealed.replace('+', "-").replace('/', "_").replace('=', "");
        assert_ne!(rest, sealed);
        let text = signed(SECRET, &rest, USER_AGENT);
        assert_eq!(verify(&mut Desk::new(&[SECRET]), WEB, &text), Ok(0));
    }

    #[test]
    fn sealed_payload_must_have_all_fields_in_their_types() {
        for payload in [
            "",
            "hello",
            "null",
            "1",
            "\"text\"",
            "[]",
            "{}",
            r#"{"s":0,"t":1,"u":"","v":""}"#,
            r#"{"a":"","t":1,"u":"","v":""}"#,
            r#"{"a":"","s":0,"u":"","v":""}"#,
            r#"{"a":"","s":0,"t":1,"v":""}"#,
            r#"{"a":"","s":0,"t":1,"u":""}"#,
            r#"{"a":null,"s":0,"t":1,"u":"","v":""}"#,
            r#"{"a":"","s":null,"t":1,"u":"","v":""}"#,
            r#"{"a":"","s":0,"t":1,"u":"","v":null}"#,
            r#"{"a":1,"s":0,"t":1,"u":"","v":""}"#,
            r#"{"a":"","s":"0","t":1,"u":"","v":""}"#,
            r#"{"a":"","s":true,"t":1,"u":"","v":""}"#,
            r#"{"a":"","s":{},"t":1,"u":"","v":""}"#,
            r#"{"a":"","s":0,"t":"1","u":"","v":""}"#,
            r#"{"a":"","s":0,"t":[],"u":"","v":""}"#,
            r#"{"a":"","s":0,"t":1,"u":1,"v":""}"#,
            r#"{"a":"","s":0,"t":1,"u":"","v":{}}"#,
            r#"{"a":"","s":1e400,"t":1,"u":"","v":""}"#,
            r#"{"a":"","s":NaN,"t":1,"u":"","v":""}"#,
            r#"{"a":"","s":0,"t":1,"u":"","v":""} {}"#,
            &"[".repeat(1000),
        ] {
            let text = v3(SECRET, payload, USER_AGENT);
            let outcome = verify(&mut Desk::new(&[SECRET]), WEB, &text);
            assert_eq!(outcome, Err(Failure::Decryption), "{payload}");
        }
    }

    #[test]
    fn odd_values_of_the_right_type_are_taken() {
        for (payload, score, expires_ms) in [
            (r#"{"a":"","s":-1,"t":-1,"u":"","v":""}"#, -1.0, -1.0),
            (r#"{"a":"zzz","s":1e300,"t":0.5,"u":"u","v":"v"}"#, 1e300, 0.5),
            (r#"{"a":"c","s":1,"s":2,"t":3,"u":"","v":"","__proto__":null}"#, 2.0, 3.0),
        ] {
            let text = v3(SECRET, payload, USER_AGENT);
            let mut desk = Desk::new(&[SECRET]);
            let token = desk.verify(WEB, Version::V3, &text).expect(payload);
            assert_eq!((token.score, token.expires_ms), (Score(score), expires_ms));
        }
    }

    #[test]
    fn authentic_tokens_are_free_and_forged_ones_are_not() {
        let good = v3(SECRET, &v3_payload(""), USER_AGENT);
        let forged = v3(SECRET, &v3_payload(""), "another browser");
        let alien = v3("third", &v3_payload(""), USER_AGENT);
        let mut desk = Desk::new(&[SECRET, OLD_SECRET]);
        desk.options.forged_cookie_budget = 3;

        assert_eq!(verify(&mut desk, WEB, &forged), Err(validation_failed(0)));
        assert_eq!(desk.derivations_left(), 2);
        assert_eq!(verify(&mut desk, WEB, &alien), Err(Failure::Decryption));
        assert_eq!(desk.derivations_left(), 0);
        for text in [&forged, &alien] {
            assert_eq!(verify(&mut desk, WEB, text), Err(FORGED));
        }
        assert_eq!(verify(&mut desk, WEB, &good), Ok(0));
    }

    #[test]
    fn a_budget_that_ends_between_two_secrets_tells_no_more_than_forged() {
        let alien = v3("third", &v3_payload(""), USER_AGENT);
        let mut desk = Desk::new(&[SECRET, OLD_SECRET]);
        desk.options.forged_cookie_budget = 1;
        assert_eq!(verify(&mut desk, WEB, &alien), Err(FORGED));
    }
}
