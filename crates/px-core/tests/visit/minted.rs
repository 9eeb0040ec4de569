//! Genuine tokens, whatever their payload says. Derived with a single iteration: cheap.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use sha2::Sha256;

use super::reference::hmac;

/// Signed over the text and `fields`.
pub fn v3(secret: &str, payload: &[u8], fields: &[u8]) -> String {
    let sealed = sealed(secret, payload);
    format!("{}:{sealed}", hmac(secret, &[sealed.as_bytes(), fields].concat()))
}

/// Gets its HMAC unless it has one already. The verdict is a pass, or what `"bit"` says.
pub fn v2(secret: &str, payload: &[u8], fields: &[u8]) -> String {
    let signed = with_hmac(payload, |payload| {
        let [t, u, v, bit] = ["t", "u", "v", "bit"].map(|key| text(&payload[key]));
        let bit = if bit.is_empty() { "0" } else { &bit };
        hmac(secret, &[format!("{t}{u}{v}{bit}").as_bytes(), fields].concat())
    });
    BASE64.encode(signed)
}

/// Gets its HMAC unless it has one already.
pub fn v1(secret: &str, payload: &[u8], fields: &[u8]) -> String {
    let signed = with_hmac(payload, |payload| {
        let scores = &payload["s"];
        let signed = [&payload["t"], &scores["a"], &scores["b"], &payload["u"], &payload["v"]];
        let signed = signed.map(text).concat();
        hmac(secret, &[signed.as_bytes(), fields].concat())
    });
    sealed(secret, &signed)
}

/// The payload with an `h`; as it is if it has one or is no JSON object.
fn with_hmac(payload: &[u8], hmac: impl FnOnce(&Value) -> String) -> Vec<u8> {
    match serde_json::from_slice::<Value>(payload) {
        Ok(mut object) if object.is_object() && object["h"].is_null() => {
            object["h"] = hmac(&object).into();
            object.to_string().into_bytes()
        }
        _ => payload.to_vec(),
    }
}

/// As it is signed, of texts and whole numbers.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The value of a `_pxde` cookie.
pub fn data_enrichment(secret: &str, payload: &[u8]) -> String {
    let text = BASE64.encode(payload);
    format!("{}:{text}", hmac(secret, text.as_bytes()))
}

/// The value of a telemetry header.
pub fn telemetry_command(secret: &str, timestamp: &[u8]) -> String {
    let hmac = hmac(secret, timestamp);
    BASE64.encode([timestamp, b":", hmac.as_bytes()].concat())
}

fn sealed(secret: &str, payload: &[u8]) -> String {
    seal(secret, b"salt", 1, payload).join(":1:")
}

/// Salt and ciphertext in base64.
pub fn seal(secret: &str, salt: &[u8], iterations: u32, payload: &[u8]) -> [String; 2] {
    let mut material = [0; 48];
    pbkdf2::pbkdf2_hmac::<Sha256>(secret.as_bytes(), salt, iterations, &mut material);
    let (key, iv) = material.split_at(32);
    let cipher = cbc::Encryptor::<Aes256>::new_from_slices(key, iv).expect("lengths fit");
    [BASE64.encode(salt), BASE64.encode(cipher.encrypt_padded_vec::<Pkcs7>(payload))]
}
