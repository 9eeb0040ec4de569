//! What single words may be: times, sizes, names, paths.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nginx_sys::{ngx_int_t, ngx_parse_offset, ngx_parse_time, ngx_str_t};
use px_core::policy::Secret;

use super::Refusal;

/// Milliseconds of a text such as `500ms` or `1m30s`.
pub(super) fn nginx_time(text: &str) -> Option<u64> {
    let mut word = ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
    // SAFETY: nginx reads `len` bytes and changes nothing.
    let time: ngx_int_t = unsafe { ngx_parse_time(&raw mut word, 0) };
    u64::try_from(time).ok()
}

/// Bytes of a text such as `64m`.
pub(super) fn nginx_size(text: &str) -> Option<u64> {
    let mut word = ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
    // SAFETY: nginx reads `len` bytes and changes nothing.
    let size = unsafe { ngx_parse_offset(&raw mut word) };
    u64::try_from(size).ok()
}

/// A header name in lower case.
pub(super) fn header_name(text: &str) -> Result<String, String> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(token) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("it must be a header name".to_owned())
    }
}

/// A file extension with its leading dot.
pub(super) fn extension(text: &str) -> Result<String, String> {
    if text.contains('/') || text == "." {
        return Err("it must be a file extension such as \".css\"".to_owned());
    }
    Ok(if text.starts_with('.') { text.to_owned() } else { format!(".{text}") })
}

/// A request method in upper case.
pub(super) fn http_method(text: &str) -> Result<String, String> {
    if text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-' || b == b'_') {
        Ok(text.to_ascii_uppercase())
    } else {
        Err("it must be a request method".to_owned())
    }
}

/// The name of a named location without its `@`.
pub(super) fn named_location(text: &str) -> Option<String> {
    let name = text.strip_prefix('@')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && name.bytes().all(plain)).then(|| name.to_owned())
}

/// A path, as it stands in a URL.
pub(super) fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && !text.contains(['?', '#']) {
        Ok(text.to_owned())
    } else {
        Err("it must be a path such as \"/mcp\"".to_owned())
    }
}

/// A path as browsers send it, which normalising leaves as it is.
pub(super) fn url_path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@%/".contains(&byte);
    let is_normal = |segment: &str| !matches!(segment, "" | "." | "..");
    match text.strip_prefix('/') {
        Some(rest) if rest.split('/').all(is_normal) && rest.bytes().all(is_plain) => {
            Ok(text.to_owned())
        }
        _ => Err(
            "it must be a path such as \"/botdefense\", without \"?\", \"#\", \"//\" and spaces"
                .to_owned(),
        ),
    }
}

/// A response's status.
pub(super) fn status_code(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let status = digits.then(|| text.parse().ok()).flatten();
    status
        .filter(|status| (100..=599).contains(status))
        .ok_or_else(|| "it must be a status from 100 to 599".to_owned())
}

/// A type of GraphQL operations.
pub(super) fn operation_type(text: &str) -> Result<String, String> {
    match text {
        "query" | "mutation" | "subscription" => Ok(text.to_owned()),
        _ => Err("it must be \"query\", \"mutation\" or \"subscription\"".to_owned()),
    }
}

/// A cookie's name.
pub(super) fn cookie_name(text: &str) -> Result<String, String> {
    let is_fit = |byte: u8| byte > b' ' && byte != 0x7f && !b"=;,".contains(&byte);
    if text.bytes().all(is_fit) {
        Ok(text.to_owned())
    } else {
        Err("it must be the name of a cookie".to_owned())
    }
}

/// `user:password` of an authorization.
pub(super) fn basic_credentials(value: &Secret) -> Result<Secret, Refusal> {
    let encoded = value.expose().strip_prefix("Basic ");
    let decoded = encoded.and_then(|text| BASE64.decode(text.trim()).ok());
    let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let credentials = text.filter(|text| text.contains(':'));
    credentials
        .map(Secret::new)
        .ok_or_else(|| Refusal::Other("must be \"Basic \" and user:password in base64".to_owned()))
}
