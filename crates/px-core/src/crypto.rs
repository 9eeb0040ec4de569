//! The cryptography of the protocol, as thin use of audited crates: HMAC-SHA256, PBKDF2,
//! AES-256-CBC, base64 and hex, and the budget that bounds what forged tokens may cost.
//!
//! Source: risk-token.md §§ 4.2 and 11, DECISIONS 16. Keys are prepared once, at configuration time.

use std::borrow::Cow;
use std::{fmt, mem};

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::policy::Secret;
use crate::token_memory::Fingerprint;

/// How many secrets count: the current one and the previous one (risk-token.md § 11).
const SECRETS_TRIED: usize = 2;

const KEY_LENGTH: usize = 32;
const IV_LENGTH: usize = 16;
/// Ciphertext of any other length than a multiple of this cannot be decrypted.
pub(crate) const CIPHER_BLOCK_LENGTH: usize = 16;

/// The cookie secrets in the order in which they are tried, ready for use.
#[derive(Clone, Default)]
pub struct Secrets {
    keys: Vec<CookieSecret>,
}

impl Secrets {
    /// Prepares the first two of `secrets`. An empty secret is left out: whoever knows that it is
    /// empty could sign with it.
    pub fn new(secrets: &[Secret]) -> Self {
        let keys = secrets.iter().take(SECRETS_TRIED).enumerate();
        Self { keys: keys.filter_map(|(index, secret)| CookieSecret::new(index, secret)).collect() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &CookieSecret> {
        self.keys.iter()
    }

    /// What may be shown of the secret with this index: `***` and its last three characters.
    pub fn redacted(&self, index: usize) -> Option<&str> {
        self.keys.iter().find(|key| key.index == index).map(|key| key.redacted.as_str())
    }

    /// The HMAC of `message` under the first secret, 64 lower-case hex digits.
    pub fn sign(&self, message: &[u8]) -> Option<String> {
        let keyed = self.keys.first()?.keyed.clone();
        let tag = keyed.chain_update(message).finalize().into_bytes();
        Some(tag.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether `hex`, 64 lower-case digits, is the HMAC of `message` under one of the secrets.
    pub fn authenticate(&self, message: &[u8], hex: &[u8]) -> bool {
        let Some(tag) = Tag::from_hex(hex) else { return false };
        self.keys.iter().any(|key| key.mac().update(message).matches(&tag))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

/// One cookie secret: its HMAC state, its password for key derivation, its redacted text.
#[derive(Clone)]
pub struct CookieSecret {
    index: usize,
    password: Secret,
    keyed: Hmac<Sha256>,
    fingerprint: Fingerprint,
    redacted: String,
}

/// What the fingerprint of a secret is its HMAC of: no token and no command reads like this.
const FINGERPRINTED: &[u8] = b"fingerprint of this cookie secret in a token memory";

impl CookieSecret {
    fn new(index: usize, secret: &Secret) -> Option<Self> {
        let text = secret.expose();
        if text.is_empty() {
            return None;
        }
        let keyed = Hmac::<Sha256>::new_from_slice(text.as_bytes()).ok()?;
        let full = keyed.clone().chain_update(FINGERPRINTED).finalize().into_bytes();
        let fingerprint = *full.first_chunk()?;
        let shown = text.char_indices().rev().nth(2).map_or(0, |(start, _)| start);
        let redacted = format!("***{}", text.get(shown..).unwrap_or_default());
        Some(Self { index, password: secret.clone(), keyed, fingerprint, redacted })
    }

    /// Position in the configured list.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What tells this secret from any other without telling anything about it.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// A fresh HMAC-SHA256 computation under this secret.
    pub fn mac(&self) -> MacState {
        MacState(self.keyed.clone())
    }

    /// Derives the key and decrypts (risk-token.md § 4.2, steps 5.1 to 5.3). Costs `iterations`
    /// twice over; `None` if the padding tells that the key is another.
    pub(crate) fn decrypt(
        &self,
        salt: &[u8],
        iterations: u32,
        ciphertext: &[u8],
    ) -> Option<Vec<u8>> {
        let mut material = [0; KEY_LENGTH + IV_LENGTH];
        let password = self.password.expose().as_bytes();
        pbkdf2::pbkdf2::<Hmac<Sha256>>(password, salt, iterations, &mut material).ok()?;
        let (key, iv) = material.split_at(KEY_LENGTH);
        let cipher = cbc::Decryptor::<Aes256>::new_from_slices(key, iv).ok()?;
        cipher.decrypt_padded_vec::<Pkcs7>(ciphertext).ok()
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieSecret#{}(***)", self.index)
    }
}

/// An HMAC computation under way. A clone goes on from where the original stands.
#[derive(Clone)]
pub struct MacState(Hmac<Sha256>);

impl MacState {
    #[must_use]
    pub fn update(mut self, message: &[u8]) -> Self {
        Mac::update(&mut self.0, message);
        self
    }

    /// Ends the computation and compares, in constant time.
    pub fn matches(self, tag: &Tag) -> bool {
        self.0.verify_slice(&tag.0).is_ok()
    }
}

/// An HMAC-SHA256 that somebody claims.
pub struct Tag([u8; 32]);

impl Tag {
    /// Reads exactly 64 lower-case hex digits: the protocol compares texts, so that upper case is
    /// another text.
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        let mut tag = [0; 32];
        if hex.len() != 2 * tag.len() {
            return None;
        }
        for (byte, digits) in tag.iter_mut().zip(hex.chunks_exact(2)) {
            let &[high, low] = digits else { return None };
            *byte = lower_hex_digit(high)? << 4 | lower_hex_digit(low)?;
        }
        Some(Self(tag))
    }
}

fn lower_hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Key derivations left in the current second for tokens that nothing has authenticated
/// (DECISIONS 16). One per worker; a clock that jumps only starts a new second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    second: u64,
    spent: u32,
    tally: Tally,
}

/// What key derivations came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Derivations, for whatever token.
    pub derivations: u32,
    /// Tokens that were not looked into, because the budget was spent.
    pub over_budget: u32,
}

impl Budget {
    /// Takes one derivation; false if the second that `now_ms` falls into has none left.
    pub fn take(&mut self, now_ms: u64, per_second: u32) -> bool {
        let second = now_ms / 1000;
        if self.second != second {
            *self = Self { second, spent: 0, ..*self };
        }
        if self.spent >= per_second {
            self.tally.over_budget += 1;
            return false;
        }
        self.spent += 1;
        self.tally.derivations += 1;
        true
    }

    /// Notes a derivation for a token that is authenticated: the budget is not for those.
    pub fn note_authentic(&mut self) {
        self.tally.derivations += 1;
    }

    /// What has happened since this was last asked.
    pub fn take_tally(&mut self) -> Tally {
        mem::take(&mut self.tally)
    }

    /// Returns derivations that turned out to have served a genuine token.
    pub fn give_back(&mut self, derivations: u32) {
        self.spent = self.spent.saturating_sub(derivations);
    }
}

const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes base64 as tolerantly as the tag `lenient_base64` in DECISIONS allows: padding may be
/// missing and the URL-safe letters may stand for the standard ones, even mixed; a foreign
/// character is an error.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let standard = if text.contains(['-', '_']) {
        Cow::Owned(text.replace('-', "+").replace('_', "/"))
    } else {
        Cow::Borrowed(text)
    };
    LENIENT_BASE64.decode(standard.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Secrets {
        let texts: Vec<_> = texts.iter().map(|text| Secret::new((*text).to_owned())).collect();
        Secrets::new(&texts)
    }

    #[test]
    fn two_secrets_count_and_empty_ones_do_not() {
        for (texts, indices) in [
            (&["a", "b", "c"][..], &[0, 1][..]),
            (&["a"], &[0]),
            (&["", "b", "c"], &[1]),
            (&["", ""], &[]),
            (&[], &[]),
        ] {
            let secrets = secrets(texts);
            assert_eq!(secrets.iter().map(CookieSecret::index).collect::<Vec<_>>(), indices);
        }
    }

    #[test]
    fn three_characters_of_a_secret_are_shown() {
        for (secret, shown) in [
            ("made-up-0001", "***001"),
            ("abc", "***abc"),
            ("ab", "***ab"),
            ("s\u{e9}cr\u{e9}t\u{e9}", "***\u{e9}t\u{e9}"),
        ] {
            assert_eq!(secrets(&[secret]).redacted(0), Some(shown));
        }
        assert_eq!(secrets(&["abc"]).redacted(1), None);
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let debug = format!("{:?}", secrets(&["made-up-0001", "another-0002"]));
        assert_eq!(debug, "[CookieSecret#0(***), CookieSecret#1(***)]");
    }

    /// RFC 4231 § 4.3.
    const JEFE: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    #[test]
    fn hmac_is_found_under_either_secret_and_must_be_exact() {
        let (message, upper) = (b"what do ya want for nothing?", JEFE.to_uppercase());
        let longer = format!("{JEFE}00");
        for (texts, hex, authentic) in [
            (&["Jefe"][..], JEFE, true),
            (&["new", "Jefe"], JEFE, true),
            (&["new", "newer", "Jefe"], JEFE, false),
            (&["jefe"], JEFE, false),
            (&[], JEFE, false),
            (&["Jefe"], upper.as_str(), false),
            (&["Jefe"], longer.as_str(), false),
            (&["Jefe"], &JEFE[..62], false),
            (&["Jefe"], "", false),
        ] {
            assert_eq!(secrets(texts).authenticate(message, hex.as_bytes()), authentic, "{hex}");
        }
        let flipped = JEFE.replace("843", "842");
        assert!(!secrets(&["Jefe"]).authenticate(message, flipped.as_bytes()));
    }

    #[test]
    fn an_empty_secret_authenticates_nothing() {
        let hmac = crate::token::minted::hmac("", "message");
        assert!(!secrets(&[""]).authenticate(b"message", hmac.as_bytes()));
    }

    #[test]
    fn what_cannot_be_decrypted_is_refused() {
        let secrets = secrets(&["secret"]);
        let secret = secrets.iter().next().expect("one secret");
        for ciphertext in [&[][..], &[0; 15], &[0; 17], &[0; 16], &[0; 48]] {
            assert_eq!(secret.decrypt(b"salt", 1, ciphertext), None);
        }
    }

    #[test]
    fn budget_bounds_each_second() {
        let mut budget = Budget::default();
        let mut taken = |now| (0..100).filter(|_| budget.take(now, 3)).count();
        assert_eq!(taken(0), 3);
        assert_eq!(taken(999), 0);
        assert_eq!(taken(1000), 3);
        assert_eq!(taken(500), 3, "a clock set back starts a new second");
        assert_eq!(taken(u64::MAX), 3);
        assert!(!Budget::default().take(0, 0));
    }

    #[test]
    fn budget_takes_back_no_more_than_it_gave() {
        let mut budget = Budget::default();
        budget.give_back(5);
        assert!(budget.take(0, 1) && !budget.take(0, 1));
        budget.give_back(1);
        assert!(budget.take(0, 1) && !budget.take(0, 1));
    }

    #[test]
    fn budget_tells_what_happened_since_it_was_last_asked() {
        let mut budget = Budget::default();
        for now in [0, 0, 0, 1000] {
            budget.take(now, 2);
        }
        budget.note_authentic();
        budget.give_back(1);
        // What is given back was done all the same.
        assert_eq!(budget.take_tally(), Tally { derivations: 4, over_budget: 1 });
        assert_eq!(budget.take_tally(), Tally::default());
    }

    #[test]
    fn base64_is_lenient_but_not_about_foreign_characters() {
        for (text, decoded) in [
            ("YQ==", Some(&b"a"[..])),
            ("YQ=", Some(b"a")),
            ("YQ", Some(b"a")),
            ("YWJj", Some(b"abc")),
            ("+/+/", Some(b"\xfb\xff\xbf")),
            ("-_-_", Some(b"\xfb\xff\xbf")),
            ("+_-/", Some(b"\xfb\xff\xbf")),
            // Bits left over are not looked at.
            ("YR==", Some(b"a")),
            ("", Some(b"")),
            ("Y", None),
            ("YQ==YQ==", None),
            ("Y Q=", None),
            ("YQ==\n", None),
            ("\"YQ==\"", None),
            ("Y%3D", None),
            ("\u{e9}\u{e9}", None),
        ] {
            assert_eq!(decode_base64(text).as_deref(), decoded, "{text}");
        }
    }
}
