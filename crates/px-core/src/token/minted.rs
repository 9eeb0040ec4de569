//! Tokens minted for unit tests, from the wire format alone: nothing here calls the verifier's
//! parts, so that both cannot be wrong together. (The vectors come from elsewhere altogether.)

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Client, Failure, Token, Verifier, Version};
use crate::crypto::{Budget, Secrets};
use crate::policy::{Options, Secret};
use crate::request::Request;
use crate::token_memory::NoMemory;
use crate::visitor::{self, Visitor};

pub(crate) const SECRET: &str = "current secret";
pub(crate) const OLD_SECRET: &str = "previous secret";
pub(crate) const USER_AGENT: &str = "Mozilla/5.0 (Test)";
pub(crate) const IP: &str = "203.0.113.77";
pub(crate) const UUID: &str = "7f9c24e8-3b12-4fef-91e0-56a2d5a7c1aa";
pub(crate) const VID: &str = "c0ffee00-1d2e-4f30-8a4b-5c6d7e8f9a0b";
pub(crate) const NOW: u64 = 1_750_000_000_000;
pub(crate) const WEB: Client<'_> = Client::Web { user_agent: USER_AGENT.as_bytes(), ip: IP };
pub(crate) const MOBILE: Client<'_> = Client::Mobile { ip: IP };

/// A good v3 payload with `more` members at its end (`,"x":"s"`).
pub(crate) fn v3_payload(more: &str) -> String {
    format!(r#"{{"u":"{UUID}","v":"{VID}","t":{},"s":0,"a":"c"{more}}}"#, NOW + 1000)
}

/// `<salt>:<iterations>:<ciphertext>`
pub(crate) fn sealed(secret: &str, payload: &[u8]) -> String {
    let (salt, iterations) = (b"salt", 500);
    let mut material = [0; 48];
    pbkdf2::pbkdf2_hmac::<Sha256>(secret.as_bytes(), salt, iterations, &mut material);
    let (key, iv) = material.split_at(32);
    let cipher = cbc::Encryptor::<Aes256>::new_from_slices(key, iv).expect("lengths fit");
    let ciphertext = STANDARD.encode(cipher.encrypt_padded_vec::<Pkcs7>(payload));
    format!("{}:{iterations}:{ciphertext}", STANDARD.encode(salt))
}

pub(crate) fn hmac(secret: &str, message: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length fits");
    Mac::update(&mut mac, message.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts the HMAC over the text and the signed fields before the text.
pub(crate) fn signed(secret: &str, rest: &str, fields: &str) -> String {
    format!("{}:{rest}", hmac(secret, &format!("{rest}{fields}")))
}

pub(crate) fn v3(secret: &str, payload: &str, fields: &str) -> String {
    signed(secret, &sealed(secret, payload.as_bytes()), fields)
}

pub(crate) fn v2(payload: &str) -> String {
    STANDARD.encode(payload)
}

/// What a verifier needs and keeps.
pub(crate) struct Desk {
    pub(crate) options: Options,
    pub(crate) secrets: Secrets,
    pub(crate) budget: Budget,
    memory: NoMemory,
}

impl Desk {
    pub(crate) fn new(secrets: &[&str]) -> Self {
        let cookie_secrets = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        let options = Options { cookie_secrets, ..Options::default() };
        let secrets = Secrets::new(&options.cookie_secrets);
        Self { options, secrets, budget: Budget::default(), memory: NoMemory }
    }

    pub(crate) fn verifier<'a, 'r>(&'a mut self, client: Client<'a>) -> Verifier<'a, 'r> {
        Verifier {
            options: &self.options,
            secrets: &self.secrets,
            client,
            budget: &mut self.budget,
            memory: &mut self.memory,
            now_ms: NOW,
        }
    }

    /// The token of a text, as a mobile header would hold it.
    pub(crate) fn verify<'t>(
        &mut self,
        client: Client<'_>,
        version: Version,
        text: &'t str,
    ) -> Result<Token<'t>, Failure> {
        self.verifier(client).verify_header(version, text.as_bytes())
    }

    /// The token of a text, as a browser's cookie would hold it.
    pub(crate) fn verify_cookie<'t>(
        &mut self,
        version: Version,
        text: &'t str,
    ) -> Result<Token<'t>, Failure> {
        self.verifier(WEB).verify_cookie(version, text.as_bytes())
    }

    /// What the visitor who sent `request` from [`IP`] brought.
    pub(crate) fn read<'r>(&mut self, request: &Request<'r>) -> Visitor<'r> {
        let Self { options, secrets, budget, memory } = self;
        visitor::read(request, IP, options, secrets, budget, memory, NOW)
    }

    /// Key derivations that forged tokens can still cost in this second.
    pub(crate) fn derivations_left(&self) -> u32 {
        let mut budget = self.budget;
        (0..).find(|_| !budget.take(NOW, self.options.forged_cookie_budget)).unwrap_or_default()
    }
}
