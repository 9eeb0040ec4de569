//! The report on a login and its result: `additional_s2s`, sent by the module, or handed to the
//! origin in two headers for it to complete and send.
//!
//! Source: credential-intelligence.md §§ 5 to 8.

use crate::activity;
use crate::enforce::{Action, LoginResult, OriginResponse, Verdict};
use crate::json;
use crate::policy::Policy;
use crate::report;

/// Headers of header mode (§ 8).
pub(crate) const ACTIVITY_HEADER: &str = "px-additional-activity";
pub(crate) const ACTIVITY_URL_HEADER: &str = "px-additional-activity-url";

/// Appends the activity to `out` as one JSON object; false, and nothing appended, if none is to be
/// sent (§ 7). `now` is the time in ms.
pub(crate) fn write(
    verdict: &Verdict<'_>,
    policy: &Policy,
    response: &OriginResponse<'_>,
    now: u64,
    out: &mut Vec<u8>,
) -> bool {
    let options = &policy.options().credentials;
    let is_sent = options.automatic_additional_s2s && !options.additional_s2s_header;
    if !is_sent || !concerns(verdict) || response.status.is_none() {
        return false;
    }
    append(verdict, policy, Some(response), now, out);
    true
}

/// The values of both headers, if the operator wants the origin to report.
pub(crate) fn headers(verdict: &Verdict<'_>, policy: &Policy, now: u64) -> Option<[String; 2]> {
    let options = &policy.options().credentials;
    if !options.additional_s2s_header || !concerns(verdict) {
        return None;
    }
    let mut out = Vec::new();
    append(verdict, policy, None, now, &mut out);
    Some([ascii(&String::from_utf8(out).ok()?), policy.activities_url().to_owned()])
}

/// Credentials were found, and the visitor passed.
fn concerns(verdict: &Verdict<'_>) -> bool {
    verdict.action == Action::Pass && verdict.has_credentials()
}

fn append(
    verdict: &Verdict<'_>,
    policy: &Policy,
    response: Option<&OriginResponse<'_>>,
    now: u64,
    out: &mut Vec<u8>,
) {
    let facts = &verdict.facts;
    let is_compromised = verdict.credentials_compromised() == Some(true);
    json::object(out, |activity| {
        activity.word("type", "additional_s2s");
        activity.text("px_app_id", &policy.options().app_id);
        activity.joined_text("url", facts.url.normalised().parts());
        activity::write_visitor(activity, verdict, policy, now);
        activity.object("details", |details| {
            report::write(details, facts, policy);
            activity::write_call(details, verdict);
            if let Some(response) = response {
                details.optional_number("http_status_code", response.status.map(u64::from));
                match response.login {
                    LoginResult::Known(successful) => details.flag("login_successful", successful),
                    LoginResult::Unknown => details.null("login_successful"),
                }
            }
            let may_have_succeeded =
                response.is_none_or(|response| response.login != LoginResult::Known(false));
            let sends_name = policy.options().credentials.send_raw_username;
            if sends_name && is_compromised && may_have_succeeded {
                let credentials = facts.extracted().and_then(|found| found.credentials());
                let name = credentials.and_then(|found| found.raw_username.as_ref());
                details.optional_text("raw_username", name.map(|name| name.as_str()));
            }
        });
    });
}

/// JSON in which everything that is not ASCII is written as `\uXXXX`, so that a header may hold it.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_plain_ascii_and_the_same_json() {
        let json = "{\"a\":\"\u{c5}pple \u{1f34e}\"}";
        let text = ascii(json);
        assert_eq!(text, "{\"a\":\"\\u00c5pple \\ud83c\\udf4e\"}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(read(&text), read(json));
    }
}
