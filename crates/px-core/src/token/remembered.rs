//! An authenticated token as it is remembered, in bytes, and how it is recognised.
//!
//! Source: DECISIONS 17. An entry holds the fields that the HMAC covers besides the token's text, so
//! that recognising a token is as strict as computing its HMAC again. Limits that differ from
//! location to location are checked again; expiry and score are not judged here at all.

use std::borrow::Cow;

use super::v3::Sealed;
use super::{Client, Token, Version};
use crate::policy::Options;
use crate::score::Score;
use crate::token_memory::{Fingerprint, Key, TokenMemory};

/// What authenticated a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) secret: Fingerprint,
    /// Whether the HMAC covers the client's user agent.
    pub(super) signs_user_agent: bool,
    /// Whether the HMAC covers the client's address.
    pub(super) signs_ip: bool,
    /// Of the key derivation.
    pub(super) iterations: u32,
}

/// To be raised whenever entries read otherwise, or tokens that were taken no longer are.
const FORMAT: u8 = 1;

const IS_V1: u8 = 1;
const IS_MOBILE: u8 = 1 << 1;
const SIGNS_USER_AGENT: u8 = 1 << 2;
const SIGNS_IP: u8 = 1 << 3;
const HAS_CPA: u8 = 1 << 4;
const ALL_FLAGS: u8 = (1 << 5) - 1;

/// After flags and numbers come the lengths of these, and then these: the user agent and the address
/// as far as they are signed, action, uuid, vid, payload, HMAC. Numbers are little-endian.
const PARTS: usize = 7;

/// Remembers the token that `value` was found to be when `client` sent it.
pub(super) fn store(
    memory: &mut dyn TokenMemory<'_>,
    value: &[u8],
    token: &Token<'_>,
    proof: &Proof,
    client: &Client<'_>,
) {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = flag(token.version == Version::V1, IS_V1)
        | flag(client.is_mobile(), IS_MOBILE)
        | flag(proof.signs_user_agent, SIGNS_USER_AGENT)
        | flag(proof.signs_ip, SIGNS_IP)
        | flag(token.cpa, HAS_CPA);
    let parts: [&[u8]; PARTS] = [
        if proof.signs_user_agent { client.user_agent() } else { b"" },
        if proof.signs_ip { client.ip().as_bytes() } else { b"" },
        token.action.as_deref().unwrap_or_default().as_bytes(),
        token.uuid.as_deref().unwrap_or_default().as_bytes(),
        token.vid.as_deref().unwrap_or_default().as_bytes(),
        token.payload.as_bytes(),
        token.hmac.as_bytes(),
    ];
    let mut lengths = [[0; 2]; PARTS];
    for (length, part) in lengths.iter_mut().zip(parts) {
        let Ok(bytes) = u16::try_from(part.len()) else { return };
        *length = bytes.to_le_bytes();
    }
    let head = [FORMAT, flags];
    let iterations = proof.iterations.to_le_bytes();
    let (score, expires_ms) = (token.score.0.to_le_bytes(), token.expires_ms.to_le_bytes());
    let mut entry = vec![&head[..], &iterations, &score, &expires_ms, lengths.as_flattened()];
    entry.extend(parts);
    let is_mobile = client.is_mobile();
    memory.store(&Key { secret: proof.secret, is_mobile, token: value }, &entry);
}

/// The token that was remembered as `entry`, if `client` may send it and it is within the limits of
/// `options`. [`Token::used_secret`] is left to the caller.
pub(super) fn recognise<'r>(
    entry: &'r [u8],
    version: Version,
    client: &Client<'_>,
    options: &Options,
) -> Option<Token<'r>> {
    let mut entry = Entry(entry);
    let [format, flags] = entry.array()?;
    let is = |flag| flags & flag != 0;
    let is_of_this_kind = format == FORMAT
        && flags & !ALL_FLAGS == 0
        && is(IS_V1) == (version == Version::V1)
        && is(IS_MOBILE) == client.is_mobile();
    let iterations = u32::from_le_bytes(entry.array()?);
    if !is_of_this_kind || !Sealed::allows(iterations, options) {
        return None;
    }
    let (score, expires_ms) = (entry.number()?, entry.number()?);
    let lengths: [u8; 2 * PARTS] = entry.array()?;
    let mut lengths = lengths.chunks_exact(2);
    let mut next_length =
        || Some(usize::from(u16::from_le_bytes(lengths.next()?.try_into().ok()?)));

    let (user_agent, rest) = entry.0.split_at_checked(next_length()?)?;
    let (ip, rest) = rest.split_at_checked(next_length()?)?;
    if (is(SIGNS_USER_AGENT) && user_agent != client.user_agent())
        || (is(SIGNS_IP) && ip != client.ip().as_bytes())
    {
        return None;
    }
    let mut texts = std::str::from_utf8(rest).ok()?;
    let mut next_text = || {
        let (text, rest) = texts.split_at_checked(next_length()?)?;
        texts = rest;
        Some(text)
    };
    let [action, uuid, vid] = [next_text()?, next_text()?, next_text()?].map(non_empty);
    let [payload, hmac] = [next_text()?, next_text()?].map(Cow::Borrowed);
    texts.is_empty().then_some(Token {
        version,
        score: Score(score),
        action,
        uuid,
        vid,
        expires_ms,
        cpa: is(HAS_CPA),
        payload,
        hmac,
        used_secret: None,
    })
}

/// An empty text stands for "not set".
fn non_empty(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

/// What is left of the head of an entry that is being read.
struct Entry<'e>(&'e [u8]);

impl Entry<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// A token's numbers come from JSON, which knows no others than these.
    fn number(&mut self) -> Option<f64> {
        Some(f64::from_le_bytes(self.array()?)).filter(|number| number.is_finite())
    }
}
