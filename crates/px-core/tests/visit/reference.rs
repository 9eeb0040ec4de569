//! Risk tokens read a second time, in the plain order of risk-token.md: decrypt, then check; no fast
//! way, no memory, no budget. What the enforcer makes of a request's token must be what this makes of it.

use std::collections::HashMap;
use std::net::IpAddr;

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit as _};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use px_core::policy::{Options, TokenVersion};
use serde_json::{Map, Value};
use sha2::Sha256;

/// What a request's token, and its visitor's id, come to.
#[derive(Debug)]
pub struct Reading {
    pub is_mobile: bool,
    pub state: State,
    /// Index of the secret that decrypted a token of version 3.
    pub used_secret: Option<usize>,
    /// With its source.
    pub vid: Option<(String, &'static str)>,
    pub odd_vid: Option<String>,
    pub has_pxhd: bool,
    pub original: Option<Original>,
}

#[derive(Debug)]
pub enum State {
    None,
    MobileError(String),
    Undecryptable(String),
    /// With what a token of version 1 says all the same.
    Invalid(String, Option<Token>),
    Valid(Token),
}

#[derive(Debug)]
pub struct Token {
    pub score: f64,
    pub is_high: bool,
    pub action: String,
    pub uuid: String,
    pub vid: String,
    pub expires: f64,
    pub approved: bool,
    pub payload: String,
    pub hmac: String,
}

/// A mobile SDK's original token: as sent, decoded, and what is wrong with it.
#[derive(Debug)]
pub struct Original {
    pub text: String,
    pub decoded: Option<String>,
    pub error: Option<&'static str>,
}

/// What a token of any version turns out to be, with the index of the secret that decrypted it.
enum Checked {
    Undecryptable,
    Invalid(Option<usize>, Option<Token>),
    Valid(Option<usize>, Token),
}

/// What decides before anybody is asked (§ 10).
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    Pass,
    Block,
    /// With the reason.
    Ask(String),
}

/// What a request's token is judged by.
pub struct Judge<'a> {
    pub options: &'a Options,
    pub headers: &'a [(Vec<u8>, Vec<u8>)],
    pub client_ip: &'a str,
    pub now: u64,
}

impl Reading {
    pub fn token(&self) -> Option<&Token> {
        match &self.state {
            State::Valid(token) => Some(token),
            State::Invalid(_, unverified) => unverified.as_ref(),
            _ => None,
        }
    }

    /// § 10, from the top.
    pub fn decision(&self, now: u64, needs_call: bool) -> Decision {
        let ask = |reason: &str| Decision::Ask(reason.to_owned());
        match &self.state {
            State::MobileError(number) => ask(&format!("mobile_error_{number}")),
            State::None if !self.is_mobile && self.has_pxhd => ask("no_cookie_w_vid"),
            State::None => ask("no_cookie"),
            State::Undecryptable(_) => ask("cookie_decryption_failed"),
            State::Invalid(..) => ask("cookie_validation_failed"),
            State::Valid(token) if token.is_expired(now) => ask("cookie_expired"),
            State::Valid(token) if token.is_high => Decision::Block,
            State::Valid(_) if needs_call => ask("sensitive_route"),
            State::Valid(_) => Decision::Pass,
        }
    }

    /// What `additional` and `details` say of tokens and visitor ids (§§ 4.6, 3.2, 7).
    pub fn report(&self, options: &Options) -> Map<String, Value> {
        let mut report = Map::new();
        let mut set = |key: &str, value: &str| report.insert(key.to_owned(), value.into());
        set("cookie_origin", if self.is_mobile { "header" } else { "cookie" });
        match &self.state {
            State::None | State::MobileError(_) => {}
            State::Undecryptable(text) | State::Invalid(text, _) => {
                set("px_orig_cookie", text);
            }
            State::Valid(token) => {
                set("px_cookie", &token.payload);
                set("px_cookie_hmac", &token.hmac);
            }
        }
        if let Some(index) = self.used_secret {
            let secret: Vec<char> = options.cookie_secrets[index].expose().chars().collect();
            let shown: String = secret[secret.len().saturating_sub(3)..].iter().collect();
            set("used_cookie_secret", &format!("***{shown}"));
        }
        if let Some((_, source)) = &self.vid {
            set("enforcer_vid_source", source);
        }
        if let Some(vid) = &self.odd_vid {
            set("orig_cookie_vid", vid);
        }
        if let Some(original) = &self.original {
            set("original_token", &original.text);
            original.decoded.as_ref().map(|text| set("px_decoded_original_token", text));
            original.error.map(|error| set("original_token_error", error));
        }
        report
    }
}

/// The fields of [`Reading::report`].
pub const REPORTED: [&str; 10] = [
    "cookie_origin",
    "px_cookie",
    "px_cookie_hmac",
    "px_orig_cookie",
    "used_cookie_secret",
    "original_token",
    "px_decoded_original_token",
    "original_token_error",
    "enforcer_vid_source",
    "orig_cookie_vid",
];

impl Token {
    pub fn is_expired(&self, now: u64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "exact for this clock")]
        let now = now as f64;
        now > self.expires
    }
}

impl Judge<'_> {
    pub fn read(&self) -> Reading {
        let cookies = self.cookies();
        let cookie = |name: &str| cookies.get(name.as_bytes());
        let mut reading = Reading {
            is_mobile: false,
            state: State::None,
            used_secret: None,
            vid: None,
            odd_vid: None,
            has_pxhd: false,
            original: None,
        };
        if let Some(header) = self.non_empty("x-px-authorization") {
            reading.is_mobile = true;
            match self.mobile_token(header) {
                Some((version, text)) => {
                    let checked = self.check(version, text, true);
                    reading.judge(lossy(text), checked);
                }
                None if header.iter().all(u8::is_ascii_digit) => {
                    reading.state = State::MobileError(lossy(header));
                }
                None => {}
            }
            self.read_original(&mut reading);
        } else {
            let versions: &[_] = match self.options.token_version {
                TokenVersion::V2 => &[(2, "_px2")],
                TokenVersion::V3 => &[(3, "_px3")],
                TokenVersion::V3OrV1 => &[(3, "_px3"), (1, "_px")],
            };
            let found = versions.iter().find_map(|(version, name)| Some((*version, cookie(name)?)));
            if let Some((version, text)) = found {
                let checked = self.check_cookie(version, text);
                reading.judge(lossy(text), checked);
            }
            reading.has_pxhd = cookie("_pxhd").is_some();
            if let Some(vid) = cookie("_pxvid").map(|vid| lossy(vid)) {
                match is_uuid(&vid) {
                    true => reading.vid = Some((vid, "vid_cookie")),
                    false => reading.odd_vid = Some(vid),
                }
            }
        }
        let vid = reading.token().map(|token| token.vid.clone()).filter(|vid| !vid.is_empty());
        if let Some(vid) = vid {
            reading.vid = Some((vid, "risk_cookie"));
        }
        reading
    }

    fn read_original(&self, reading: &mut Reading) {
        let header = self.non_empty("x-px-original-token");
        let Some((version, text)) = header.and_then(|header| self.mobile_token(header)) else {
            return;
        };
        let mut original = Original { text: lossy(text), decoded: None, error: None };
        if matches!(reading.state, State::MobileError(_)) {
            match self.check(version, text, true) {
                Checked::Undecryptable => original.error = Some("cookie_decryption_failed"),
                Checked::Invalid(used, _) => {
                    original.error = Some("cookie_validation_failed");
                    reading.used_secret = used;
                }
                Checked::Valid(used, token) => {
                    original.decoded = Some(token.payload);
                    reading.used_secret = used;
                }
            }
        }
        reading.original = Some(original);
    }

    /// `<version>:<token>` of a version that is read here (§ 3.1).
    fn mobile_token<'h>(&self, header: &'h [u8]) -> Option<(u8, &'h [u8])> {
        let colon = header.iter().position(|byte| *byte == b':')?;
        let (version, token) = (&header[..colon], &header[colon + 1..]);
        let version = match (self.options.token_version, version) {
            (TokenVersion::V3 | TokenVersion::V3OrV1, b"3") => 3,
            (TokenVersion::V3OrV1, b"1") => 1,
            (TokenVersion::V2, b"2") => 2,
            _ => return None,
        };
        (!token.is_empty()).then_some((version, token))
    }

    /// § 2: pieces between semicolons, the last of a name, the custom header's before all others.
    fn cookies(&self) -> HashMap<Vec<u8>, Vec<u8>> {
        let mut cookies = HashMap::new();
        for name in ["cookie", &self.options.custom_cookie_header] {
            for value in self.all(name) {
                for piece in value.split(|byte| *byte == b';') {
                    let is_blank = |byte: &u8| b"\t\n\x0b\x0c\r ".contains(byte);
                    let Some(start) = piece.iter().position(|byte| !is_blank(byte)) else {
                        continue;
                    };
                    let end = piece.iter().rposition(|byte| !is_blank(byte)).unwrap_or(start);
                    let piece = &piece[start..=end];
                    let Some(equals) = piece.iter().position(|byte| *byte == b'=') else {
                        continue;
                    };
                    if equals > 0 && equals + 1 < piece.len() {
                        cookies.insert(piece[..equals].to_vec(), piece[equals + 1..].to_vec());
                    }
                }
            }
        }
        cookies
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &Vec<u8>> {
        let is_it = move |header: &&(Vec<u8>, _)| header.0.eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().filter(is_it).map(|(_, value)| value)
    }

    fn non_empty(&self, name: &str) -> Option<&[u8]> {
        self.all(name).find(|value| !value.is_empty()).map(Vec::as_slice)
    }

    /// The first header, as far as it is signed (§ 4.3).
    fn user_agent(&self) -> Vec<u8> {
        let user_agent = self.all("user-agent").next().cloned().unwrap_or_default();
        let limit = self.options.user_agent_max_length;
        match String::from_utf8(user_agent) {
            Ok(text) => text.chars().take(limit).collect::<String>().into_bytes(),
            Err(error) => error.into_bytes().into_iter().take(limit).collect(),
        }
    }

    /// DECISIONS 10: what does not split into its parts may have been encoded, once.
    fn check_cookie(&self, version: u8, value: &[u8]) -> Checked {
        let text = lossy(value);
        let is_whole = match version {
            1 => text.split(':').count() == 3,
            2 => true,
            _ => text.split(':').count() == 4,
        };
        let decodes = text.contains('%') && (version == 2 || !is_whole);
        if decodes && text.chars().count() <= self.options.risk_cookie_max_length {
            return self.check(version, &percent_decoded(text.as_bytes()), false);
        }
        self.check(version, value, false)
    }

    fn check(&self, version: u8, value: &[u8], is_mobile: bool) -> Checked {
        let text = lossy(value);
        if text.chars().count() > self.options.risk_cookie_max_length {
            return Checked::Undecryptable;
        }
        let user_agent = if is_mobile { Vec::new() } else { self.user_agent() };
        match version {
            1 => self.check_v1(&text, is_mobile, &user_agent),
            2 => self.check_v2(&text, &user_agent),
            _ => self.check_v3(&text, is_mobile, &user_agent),
        }
    }

    /// The first two, empty ones left out, with their places.
    fn secrets(&self) -> impl Iterator<Item = (usize, &str)> {
        let secrets = self.options.cookie_secrets.iter().take(2).enumerate();
        secrets.map(|(at, secret)| (at, secret.expose())).filter(|(_, secret)| !secret.is_empty())
    }

    /// § 4.2.
    fn check_v3(&self, text: &str, is_mobile: bool, user_agent: &[u8]) -> Checked {
        let parts: Vec<&str> = text.split(':').collect();
        let &[sent, salt, iterations, ciphertext] = parts.as_slice() else {
            return Checked::Undecryptable;
        };
        let rest = format!("{salt}:{iterations}:{ciphertext}");
        for (index, secret) in self.secrets() {
            let Some(payload) = self.decrypted(&rest, secret) else { continue };
            let (Some(action), Some(uuid), Some(vid)) =
                (text_of(&payload, "a"), text_of(&payload, "u"), text_of(&payload, "v"))
            else {
                continue;
            };
            let (Some(score), Some(expires)) = (payload["s"].as_f64(), payload["t"].as_f64())
            else {
                continue;
            };
            let mut signed = rest.into_bytes();
            match payload.get("x") {
                _ if is_mobile => {}
                None | Some(Value::Null) => signed.extend(user_agent),
                Some(Value::String(selector)) if selector.is_empty() => signed.extend(user_agent),
                Some(Value::String(selector)) => {
                    for field in selector.chars() {
                        match field {
                            'u' => signed.extend(user_agent),
                            's' => signed.extend(self.client_ip.as_bytes()),
                            _ => {}
                        }
                    }
                }
                Some(_) => return Checked::Invalid(Some(index), None),
            }
            if hmac(secret, &signed) != sent {
                return Checked::Invalid(Some(index), None);
            }
            let token = Token {
                score,
                is_high: score >= f64::from(self.options.blocking_score),
                action,
                uuid,
                vid,
                expires,
                approved: is_true(payload.get("cpa")),
                payload: written(&payload),
                hmac: sent.to_owned(),
            };
            return Checked::Valid(Some(index), token);
        }
        Checked::Undecryptable
    }

    /// § 5.
    fn check_v2(&self, text: &str, user_agent: &[u8]) -> Checked {
        let payload = base64_decoded(text).and_then(|bytes| object(&bytes));
        let is_there = |payload: &Value| {
            ["t", "u", "v", "h"].iter().all(|key| payload.get(key).is_some_and(|v| !v.is_null()))
        };
        let Some(payload) = payload.filter(is_there) else { return Checked::Undecryptable };
        let (Some(uuid), Some(vid), Some(sent)) =
            (text_of(&payload, "u"), text_of(&payload, "v"), text_of(&payload, "h"))
        else {
            return Checked::Invalid(None, None);
        };
        let Some(expires) = payload["t"].as_f64() else { return Checked::Invalid(None, None) };
        if !is_uuid(&uuid) || !is_uuid(&vid) {
            return Checked::Invalid(None, None);
        }
        for (_, secret) in self.secrets() {
            for (verdict, score) in [("0", 0.0), ("1", 100.0)] {
                let signed = format!("{}{uuid}{vid}{verdict}", number(expires));
                if hmac(secret, &[signed.as_bytes(), user_agent].concat()) == sent {
                    let token = Token {
                        score,
                        is_high: verdict == "1",
                        action: String::new(),
                        uuid,
                        vid,
                        expires,
                        approved: false,
                        payload: written(&payload),
                        hmac: sent,
                    };
                    return Checked::Valid(None, token);
                }
            }
        }
        Checked::Invalid(None, None)
    }

    /// § 6: expired or high, it is taken at its word.
    fn check_v1(&self, text: &str, is_mobile: bool, user_agent: &[u8]) -> Checked {
        for (_, secret) in self.secrets() {
            let Some(payload) = self.decrypted(text, secret) else { continue };
            let numbers = (
                payload["t"].as_f64(),
                payload["s"].get("a").and_then(Value::as_f64),
                payload["s"].get("b").and_then(Value::as_f64),
            );
            let (Some(expires), Some(bot), Some(score)) = numbers else { continue };
            let texts = (text_of(&payload, "u"), text_of(&payload, "v"), text_of(&payload, "h"));
            let (Some(uuid), Some(vid), Some(sent)) = texts else { continue };
            let start = [number(expires), number(bot), number(score), uuid.clone(), vid.clone()];
            let start = start.concat();
            let is_signed = [&b""[..], self.client_ip.as_bytes()].into_iter().any(|ip| {
                let user_agent = if is_mobile { b"" } else { user_agent };
                hmac(secret, &[start.as_bytes(), ip, user_agent].concat()) == sent
            });
            let token = Token {
                score,
                is_high: score >= f64::from(self.options.blocking_score),
                action: String::new(),
                uuid,
                vid,
                expires,
                approved: false,
                payload: written(&payload),
                hmac: sent,
            };
            return match is_signed || token.is_high || token.is_expired(self.now) {
                true => Checked::Valid(None, token),
                false => Checked::Invalid(None, Some(token)),
            };
        }
        Checked::Undecryptable
    }

    /// `<salt>:<iterations>:<ciphertext>` as a JSON object (§ 4.2, steps 2 to 5.4).
    fn decrypted(&self, text: &str, secret: &str) -> Option<Value> {
        let parts: Vec<&str> = text.split(':').collect();
        let &[salt, iterations, ciphertext] = parts.as_slice() else { return None };
        if salt.is_empty() || salt.chars().count() > 100 || ciphertext.is_empty() {
            return None;
        }
        if iterations.is_empty() || !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let iterations: u32 = iterations.parse().ok()?;
        if iterations == 0
            || iterations < self.options.risk_cookie_min_iterations
            || iterations > self.options.risk_cookie_max_iterations
        {
            return None;
        }
        let (salt, mut bytes) = (base64_decoded(salt)?, base64_decoded(ciphertext)?);
        if bytes.is_empty() || bytes.len() % 16 != 0 {
            return None;
        }
        let mut material = [0; 48];
        pbkdf2::pbkdf2_hmac::<Sha256>(secret.as_bytes(), &salt, iterations, &mut material);
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(&material[..32], &material[32..]);
        let plain = cipher.expect("lengths fit").decrypt_padded::<Pkcs7>(&mut bytes).ok()?;
        object(plain)
    }
}

impl Reading {
    fn judge(&mut self, text: String, checked: Checked) {
        (self.state, self.used_secret) = match checked {
            Checked::Undecryptable => (State::Undecryptable(text), None),
            Checked::Invalid(used, unverified) => (State::Invalid(text, unverified), used),
            Checked::Valid(used, token) => (State::Valid(token), used),
        };
    }
}

/// DECISIONS 9.
pub fn client_ip(
    headers: &[(Vec<u8>, Vec<u8>)],
    own: &str,
    names: &[String],
    peer: &str,
) -> String {
    let is_address = |text: &&str| text.parse::<IpAddr>().is_ok();
    let of = |value: &str| value.split([',', ' ', '\t']).find(is_address).map(str::to_owned);
    let mut candidates = vec![of(own)];
    for name in names {
        for (other, value) in headers {
            if other.eq_ignore_ascii_case(name.as_bytes()) {
                candidates.push(of(&lossy(value)));
            }
        }
    }
    candidates.into_iter().flatten().next().unwrap_or_else(|| peer.to_owned())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// HMAC-SHA256 in lower-case hex.
pub fn hmac(secret: &str, message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length fits");
    mac.update(message);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// § 7.
fn is_uuid(text: &str) -> bool {
    let places: Vec<char> = text.chars().collect();
    places.len() == 36
        && places.iter().enumerate().all(|(at, letter)| match at {
            8 | 13 | 18 | 23 => *letter == '-',
            14 => ('1'..='5').contains(letter),
            19 => "89ab".contains(*letter),
            _ => "0123456789abcdef".contains(*letter),
        })
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(16 * high + low).expect("two digits"));
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// The tag `lenient_base64` of DECISIONS.
fn base64_decoded(text: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text: String = text
        .chars()
        .map(|c| [c, '+', '/'][usize::from(c == '-') + 2 * usize::from(c == '_')])
        .collect();
    GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(text).ok()
}

fn object(json: &[u8]) -> Option<Value> {
    serde_json::from_str::<Value>(&lossy(json)).ok().filter(Value::is_object)
}

fn text_of(payload: &Value, key: &str) -> Option<String> {
    payload.get(key)?.as_str().map(str::to_owned)
}

/// JavaScript's truth.
fn is_true(value: Option<&Value>) -> bool {
    let zero = Value::from(0.0);
    match value {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Number(number)) => number.as_f64() != zero.as_f64(),
        Some(value) => value != "",
    }
}

/// As `JSON.stringify` writes it (ECMA-262 § 25.5.2).
fn written(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(any) => number(any.as_f64().expect("a number of JSON")),
        Value::String(text) => quoted(text),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(written).collect::<Vec<_>>().join(","))
        }
        Value::Object(fields) => {
            let pair =
                |(key, value): (&String, &Value)| format!("{}:{}", quoted(key), written(value));
            format!("{{{}}}", fields.iter().map(pair).collect::<Vec<_>>().join(","))
        }
    }
}

fn quoted(text: &str) -> String {
    let letter = |letter: char| match letter {
        '"' => "\\\"".to_owned(),
        '\\' => "\\\\".to_owned(),
        '\u{8}' => "\\b".to_owned(),
        '\u{c}' => "\\f".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        '\0'..='\u{1f}' => format!("\\u{:04x}", u32::from(letter)),
        _ => letter.to_string(),
    };
    format!("\"{}\"", text.chars().map(letter).collect::<String>())
}

/// `Number::toString` (ECMA-262 § 6.1.6.1.20), in its own letters: `k` digits, the value is
/// 0.digits times ten to the `n`.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if value < 0.0 {
        return format!("-{}", number(-value));
    }
    let shortest = format!("{value:e}");
    let (mantissa, exponent) = shortest.split_once('e').expect("an exponent");
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().expect("a number");
    let (k, n) = (i32::try_from(digits.len()).expect("few digits"), exponent + 1);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).expect("not negative"));
    if k <= n && n <= 21 {
        format!("{digits}{}", zeros(n - k))
    } else if 0 < n && n <= 21 {
        let (whole, fraction) = digits.split_at(usize::try_from(n).expect("positive"));
        format!("{whole}.{fraction}")
    } else if -6 < n && n <= 0 {
        format!("0.{}{digits}", zeros(-n))
    } else {
        let sign = if n > 0 { '+' } else { '-' };
        let (first, others) = digits.split_at(1);
        let point = if others.is_empty() { "" } else { "." };
        format!("{first}{point}{others}e{sign}{}", (n - 1).abs())
    }
}
