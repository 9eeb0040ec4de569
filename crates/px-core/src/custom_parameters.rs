//! Custom parameters: values the operator attaches to HUMAN's view of a request.
//!
//! Source: custom-parameters.md. Nothing is looked up where none are configured.

use std::borrow::Cow;

use crate::cookies;
use crate::crypto::decode_base64;
use crate::hooks::{CustomParameter, ParameterValue};
use crate::json::Object;
use crate::policy::Options;
use crate::request::Request;

/// Slots that the request fills; those after them are the response's.
pub const REQUEST_SLOTS: u8 = 10;

/// The names under which they are reported.
const KEYS: [&str; 20] = [
    "custom_param1",
    "custom_param2",
    "custom_param3",
    "custom_param4",
    "custom_param5",
    "custom_param6",
    "custom_param7",
    "custom_param8",
    "custom_param9",
    "custom_param10",
    "custom_param11",
    "custom_param12",
    "custom_param13",
    "custom_param14",
    "custom_param15",
    "custom_param16",
    "custom_param17",
    "custom_param18",
    "custom_param19",
    "custom_param20",
];

/// Writes those of the request, each from the first source that has a value for its slot: an
/// expression, a header, a cookie.
pub(crate) fn write_of_request(report: &mut Object<'_>, request: &Request<'_>, options: &Options) {
    let given = request.hooks.custom_parameters;
    let (headers, names) = (&options.custom_parameters, &options.cookie_custom_parameters);
    if given.is_empty() && headers.is_empty() && names.is_empty() {
        return;
    }
    for (at, (slot, key)) in (1..=REQUEST_SLOTS).zip(KEYS).enumerate() {
        if given.iter().any(|parameter| parameter.slot == slot && write(report, parameter)) {
            continue;
        }
        let of_header = headers.get(at).and_then(|name| request.header(name));
        let value = of_header.filter(|value| !value.is_empty()).map(Cow::Borrowed);
        let value =
            value.or_else(|| names.get(at).and_then(|name| of_cookie(request, options, name)));
        report.optional_text(key, value);
    }
}

/// Writes those of the response.
pub(crate) fn write_of_response(report: &mut Object<'_>, given: &[CustomParameter<'_>]) {
    for parameter in given.iter().filter(|parameter| parameter.slot > REQUEST_SLOTS) {
        write(report, parameter);
    }
}

/// False, and nothing written, if there is no value.
fn write(report: &mut Object<'_>, parameter: &CustomParameter<'_>) -> bool {
    let Some(key) = usize::from(parameter.slot).checked_sub(1).and_then(|at| KEYS.get(at)) else {
        return false;
    };
    match parameter.value {
        ParameterValue::Text("") => return false,
        ParameterValue::Text(text) => report.text(key, text),
        ParameterValue::Json(json) => report.json(key, json),
    }
    true
}

/// The decoded value of a cookie, if it is base64 of some text.
fn of_cookie<'r>(request: &Request<'r>, options: &Options, name: &str) -> Option<Cow<'r, [u8]>> {
    if name.is_empty() {
        return None;
    }
    let value = cookies::value_of(request, &options.custom_cookie_header, name)?;
    let text = decode_base64(std::str::from_utf8(value).ok()?)?;
    let is_text = !text.is_empty() && std::str::from_utf8(&text).is_ok();
    is_text.then_some(Cow::Owned(text))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::hooks::Hooks;
    use crate::sample::{self, headers};

    fn reported(options: &Options, request: &Request<'_>) -> Value {
        let mut out = Vec::new();
        crate::json::object(&mut out, |object| write_of_request(object, request, options));
        serde_json::from_slice(&out).expect("JSON")
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_expression_wins_over_a_header_and_that_over_a_cookie() {
        let options = Options {
            custom_parameters: list(&["X-A", "", "x-c", "x-d"]),
            cookie_custom_parameters: list(&["_a", "_b", "_c", "_d"]),
            ..Options::default()
        };
        let text = |slot, text| CustomParameter { slot, value: ParameterValue::Text(text) };
        let hooks = Hooks {
            custom_parameters: &[
                text(1, "expression"),
                text(3, ""),
                CustomParameter { slot: 10, value: ParameterValue::Json("[1]") },
                text(11, "of the response"),
                text(0, "no slot"),
            ],
            ..Hooks::NONE
        };
        let headers = headers(&[
            ("x-a", "header"),
            ("X-C", "header"),
            ("cookie", "_a=YQ==; _b=Yg; _c=Yw==; _d=not base64!"),
        ]);
        let request = Request { hooks: &hooks, ..sample::request(&headers) };
        let expected = json!({
            "custom_param1": "expression",
            "custom_param2": "b",
            "custom_param3": "header",
            "custom_param10": [1],
        });
        assert_eq!(reported(&options, &request), expected);
    }

    #[test]
    fn a_cookie_that_is_no_text_is_no_value() {
        for (cookie, expected) in [
            ("_a=", json!({})),
            ("_a=====", json!({})),
            ("_a=/w==", json!({})),
            ("_a=w6k", json!({"custom_param1": "\u{e9}"})),
            ("_a=YQ==; _a=Yg==", json!({"custom_param1": "b"})),
        ] {
            let options = Options { cookie_custom_parameters: list(&["_a"]), ..Options::default() };
            let headers = headers(&[("cookie", cookie)]);
            assert_eq!(reported(&options, &sample::request(&headers)), expected, "{cookie}");
        }
    }
}
