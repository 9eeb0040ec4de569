//! The credentials file, `px_login_creds_settings_filename` (credential-intelligence.md § 1.1).

use std::collections::HashSet;

use serde_json::Value;

use super::endpoint::{Draft, Endpoint, Refused, SentThrough, Unfinished, field_name};

/// What an item may hold.
const MEMBERS: &str = "id, path, path_type, method, sent_through, user_field, pass_field, protocol, \
    login_successful_reporting_method, login_successful_statuses, login_successful_body_regex, \
    login_successful_header_name, login_successful_header_value";

impl Endpoint {
    /// The endpoints of a credentials file, `text`. The error says where in the file what is wrong.
    pub fn all_of_file(text: &str) -> Result<Vec<Self>, String> {
        let root: Value =
            serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
        if !root.is_object() {
            return Err("it is not a JSON object".to_owned());
        }
        let mut place = String::new();
        let mut here = Some(root);
        for name in ["features", "credentials", "items"] {
            let Some(value) = here else { return Ok(Vec::new()) };
            let Value::Object(mut members) = value else {
                return Err(format!("{place} is not an object"));
            };
            if !place.is_empty() {
                place.push('.');
            }
            place.push_str(name);
            here = members.remove(name);
        }
        let items = match here {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(format!("{place} is not a list")),
        };
        let mut ids = HashSet::new();
        let mut endpoints = Vec::new();
        for (at, item) in items.iter().enumerate() {
            let place = format!("{place}[{at}]");
            endpoints.push(endpoint(item, &place)?);
            if let Some(id) = item.get("id").map(Value::to_string)
                && !ids.insert(id.clone())
            {
                return Err(format!("{place}.id: {id} is that of another item, too"));
            }
        }
        Ok(endpoints)
    }
}

fn endpoint(item: &Value, place: &str) -> Result<Endpoint, String> {
    let Value::Object(members) = item else { return Err(format!("{place} is not an object")) };
    let mut draft = Draft::default();
    for (name, value) in members {
        read_member(&mut draft, name, value).map_err(|refused| match refused {
            Refused::Unknown => {
                format!("{place}.{name} is unknown; an item may hold {MEMBERS}")
            }
            Refused::Invalid(reason) => format!("{place}.{name}: {reason}"),
        })?;
    }
    if draft.sent_through == Some(SentThrough::Custom) {
        return Err(format!(
            "{place}.sent_through: \"custom\" needs expressions, which only \
             \"px_login_credentials_extraction\" can hold"
        ));
    }
    draft.finish().map_err(|unfinished| match unfinished {
        Unfinished::Lacks(member) => format!("{place} lacks \"{member}\""),
        Unfinished::InvalidPath(reason) => format!("{place}.path: {reason}"),
    })
}

fn read_member(draft: &mut Draft, name: &str, value: &Value) -> Result<(), Refused> {
    let not = |what: &str| Refused::Invalid(format!("it is not {what}"));
    match name {
        "id" => value.is_i64().then_some(()).ok_or_else(|| not("a whole number")),
        "user_field" | "pass_field" => {
            let names = match value {
                Value::String(name) => vec![field_name(name)?],
                Value::Array(names) if !names.is_empty() => {
                    let name = |name: &Value| match name.as_str() {
                        Some(name) => Ok(field_name(name)?),
                        None => Err(not("a list of texts")),
                    };
                    names.iter().map(name).collect::<Result<_, _>>()?
                }
                _ => return Err(not("a text or a list of texts")),
            };
            match name {
                "user_field" => draft.user_fields = names,
                _ => draft.pass_fields = names,
            }
            Ok(())
        }
        "login_successful_statuses" => {
            let status =
                |value: &Value| value.as_u64().and_then(|status| u16::try_from(status).ok());
            let statuses = value.as_array().and_then(|list| list.iter().map(status).collect());
            let statuses = statuses.ok_or_else(|| not("a list of statuses"))?;
            Ok(draft.set_statuses(statuses)?)
        }
        _ => match value.as_str() {
            Some(text) => draft.set_text(name, text),
            // An unknown member is worse than one of the wrong type.
            None => match Draft::default().set_text(name, "") {
                Err(Refused::Unknown) => Err(Refused::Unknown),
                _ => Err(not("a text")),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(items: &str) -> String {
        format!("{{\"features\":{{\"credentials\":{{\"items\":[{items}]}}}}}}")
    }

    const ITEM: &str = r#"{"id":1,"path":"/login","method":"post","sent_through":"body",
        "user_field":"user.name","pass_field":["pw","password"],"protocol":"v1",
        "login_successful_reporting_method":"status","login_successful_statuses":[200,302]}"#;

    #[test]
    fn a_file_can_say_all_that_a_directive_can() {
        let endpoints = Endpoint::all_of_file(&file(ITEM)).expect("valid");
        let [endpoint] = endpoints.as_slice() else { panic!("{endpoints:?}") };
        assert_eq!(endpoint.pass_fields, ["pw", "password"]);
        assert_eq!(endpoint.login.statuses.as_deref(), Some(&[200, 302][..]));
        for nothing in ["{}", r#"{"features":{}}"#, r#"{"features":{"credentials":{}},"x":1}"#] {
            assert!(Endpoint::all_of_file(nothing).expect("valid").is_empty(), "{nothing}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        let changed = |from: &str, to: &str| file(&ITEM.replace(from, to));
        for (text, expected) in [
            ("[]".to_owned(), "it is not a JSON object"),
            (
                "{\n\"features\":".to_owned(),
                "it is not JSON: EOF while parsing a value at line 2 column 11",
            ),
            (r#"{"features":[]}"#.to_owned(), "features is not an object"),
            (
                r#"{"features":{"credentials":{"items":{}}}}"#.to_owned(),
                "features.credentials.items is not a list",
            ),
            (file("5"), "features.credentials.items[0] is not an object"),
            (
                file(&format!("{ITEM},{ITEM}")),
                "features.credentials.items[1].id: 1 is that of another item, too",
            ),
            (
                changed("\"body\"", "\"boddy\""),
                "features.credentials.items[0].sent_through: \"boddy\" is not one of body, header, query-param, custom",
            ),
            (
                changed("\"body\"", "\"custom\""),
                "features.credentials.items[0].sent_through: \"custom\" needs expressions",
            ),
            (
                changed("\"method\"", "\"methode\""),
                "features.credentials.items[0].methode is unknown; an item may hold id, path, ",
            ),
            (changed("\"path\":\"/login\",", ""), "features.credentials.items[0] lacks \"path\""),
            (
                changed("/login", "login"),
                "features.credentials.items[0].path: \"login\" does not begin with \"/\"",
            ),
            (changed("\"/login\"", "5"), "features.credentials.items[0].path: it is not a text"),
            (
                changed("[200,302]", "[200,\"x\"]"),
                "features.credentials.items[0].login_successful_statuses: it is not a list of statuses",
            ),
            (
                changed("[200,302]", "[99]"),
                "features.credentials.items[0].login_successful_statuses: 99 is no status",
            ),
            (
                changed("[\"pw\",\"password\"]", "[]"),
                "features.credentials.items[0].pass_field: it is not a text or a list of texts",
            ),
            (
                changed("\"id\":1", "\"id\":\"1\""),
                "features.credentials.items[0].id: it is not a whole number",
            ),
        ] {
            let error = Endpoint::all_of_file(&text).expect_err(&text);
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
