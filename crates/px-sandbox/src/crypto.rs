//! The cryptography of risk tokens, written for the sandbox alone.
//!
//! This is a second implementation on purpose: tests of the enforcer that use tokens made here
//! mean something only while the two share no code. risk-token.md § 4.2 and § 9.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use base64::Engine;
use base64::alphabet::STANDARD as STANDARD_ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Key and initialisation vector of AES-256-CBC: the 48 bytes PBKDF2 is asked for.
pub(crate) struct Keys {
    key: [u8; 32],
    iv: [u8; 16],
}

/// `PBKDF2-HMAC-SHA256(secret, salt, iterations)`, cut into key and initialisation vector.
pub(crate) fn derive(secret: &str, salt: &[u8], iterations: u32) -> Keys {
    let mut material = [0u8; 48];
    pbkdf2::pbkdf2_hmac::<Sha256>(secret.as_bytes(), salt, iterations, &mut material);
    let (mut key, mut iv) = ([0u8; 32], [0u8; 16]);
    key.copy_from_slice(&material[..32]);
    iv.copy_from_slice(&material[32..]);
    Keys { key, iv }
}

/// AES-256-CBC with PKCS#7 padding.
pub(crate) fn encrypt(keys: &Keys, plaintext: &[u8]) -> Vec<u8> {
    cbc::Encryptor::<Aes256>::new(&keys.key.into(), &keys.iv.into())
        .encrypt_padded_vec::<Pkcs7>(plaintext)
}

/// The plaintext, or `None` where the length is no multiple of the block or the padding is wrong.
pub(crate) fn decrypt(keys: &Keys, ciphertext: &[u8]) -> Option<Vec<u8>> {
    cbc::Decryptor::<Aes256>::new(&keys.key.into(), &keys.iv.into())
        .decrypt_padded_vec::<Pkcs7>(ciphertext)
        .ok()
}

/// Lower-case hexadecimal HMAC-SHA256 over the parts, one after the other, without separator.
pub(crate) fn hmac_hex(secret: &str, parts: &[&[u8]]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Standard alphabet, with padding.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Standard or URL-safe alphabet, padding optional, as js-core's decoder has it; foreign
/// characters are refused.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let tolerant = GeneralPurpose::new(
        &STANDARD_ALPHABET,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    tolerant.decode(text.replace('-', "+").replace('_', "/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decrypts_what_it_encrypted_and_nothing_else() {
        let keys = derive("secret", b"salt", 500);
        let sealed = encrypt(&keys, b"plaintext");
        assert_eq!(decrypt(&keys, &sealed).as_deref(), Some(&b"plaintext"[..]));
        assert_eq!(decrypt(&keys, &sealed[..15]), None);
        assert_eq!(decrypt(&keys, b""), None);
        assert_ne!(
            decrypt(&derive("other", b"salt", 500), &sealed).as_deref(),
            Some(&b"plaintext"[..])
        );
    }

    #[test]
    fn matches_the_published_hmac_vector() {
        // RFC 4231, test case 2
        assert_eq!(
            hmac_hex("Jefe", &[b"what do ya want ", b"for nothing?"]),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn reads_base64_of_both_alphabets_with_and_without_padding() {
        for (text, bytes) in [
            ("+/8=", Some(vec![0xfb, 0xff])),
            ("-_8", Some(vec![0xfb, 0xff])),
            ("", Some(vec![])),
            ("a*b=", None),
            ("a", None),
        ] {
            assert_eq!(from_base64(text), bytes, "{text}");
        }
    }
}
