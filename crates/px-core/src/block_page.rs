//! What a blocked visitor gets: captcha, hard block or rate limit page, or JSON for mobile SDKs and
//! scripts.
//!
//! Source: block-response.md §§ 1 to 6 and 10, DECISIONS 11 and 12.

pub(crate) mod custom_page;
mod hype_sale;
mod template;

use std::borrow::Cow;
use std::fmt::Display;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::cors;
use crate::enforce::{Answer, PageAssets, Verdict};
use crate::json;
use crate::policy::Policy;
use crate::reason::BlockReason;
use crate::request::Request;
use template::{fill, html};

pub(crate) use template::js_string;

const CAPTCHA: &str = include_str!("block_page/captcha.html");
const HARD_BLOCK: &str = include_str!("block_page/hard_block.html");
const RATE_LIMIT: &str = include_str!("block_page/rate_limit.html");

/// Kinds of answers to blocked requests (§ 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// The challenge of a hype sale, JSON for browsers and mobile SDKs.
    HypeSale,
    RateLimit,
    HardBlock,
    /// JSON for a mobile SDK.
    Mobile,
    /// JSON for a script: the advanced blocking response.
    AdvancedBlockingResponse,
    /// 307 to the operator's page.
    Redirect,
    /// The operator's page under the URL that was asked for. The caller shows it; where it cannot,
    /// there is the page that would be shown without one.
    CustomPage,
    ApiProtection,
    Captcha,
}

impl BlockKind {
    /// § 1, "Full order for this module".
    pub(crate) fn of(verdict: &Verdict<'_>, policy: &Policy) -> Self {
        let request = &verdict.facts.request;
        let options = policy.options();
        let action = &*verdict.block_action;
        match action {
            _ if verdict.block_reason == Some(BlockReason::HscRoute) => Self::HypeSale,
            "r" => Self::RateLimit,
            "b" if verdict.facts.is_mobile() => Self::HardBlock,
            _ if verdict.facts.is_mobile() => Self::Mobile,
            _ if action != "b" && options.enable_json_response && wants_json(request) => {
                Self::AdvancedBlockingResponse
            }
            _ if action != "j" && !request.hooks.custom_block_url.is_empty() => {
                if options.redirect_on_custom_url { Self::Redirect } else { Self::CustomPage }
            }
            _ if action != "j" && options.api_protection_mode => Self::ApiProtection,
            _ => Self::built_in(action),
        }
    }

    /// What a browser gets where nothing else is configured.
    fn built_in(action: &str) -> Self {
        if action == "b" { Self::HardBlock } else { Self::Captcha }
    }
}

/// The answer to a blocked request.
pub(crate) fn answer(verdict: &Verdict<'_>, policy: &Policy, assets: &PageAssets<'_>) -> Answer {
    let kind = match BlockKind::of(verdict, policy) {
        BlockKind::CustomPage => BlockKind::built_in(&verdict.block_action),
        kind => kind,
    };
    let page = || CaptchaPage::new(verdict, policy, assets);
    let mut headers = Vec::with_capacity(6);
    let (status, content_type, body) = match kind {
        BlockKind::HypeSale => (403, JSON, hype_sale::body(verdict, policy)),
        BlockKind::RateLimit => (429, HTML, RATE_LIMIT.into()),
        BlockKind::HardBlock => (403, HTML, hard_block_page(verdict, assets).into()),
        BlockKind::Mobile => (403, JSON, mobile_json(verdict, policy, assets)),
        BlockKind::AdvancedBlockingResponse => (403, JSON, page().json()),
        BlockKind::Redirect => {
            headers.push(("Location".into(), custom_page::location(verdict, policy)));
            (307, HTML, Vec::new())
        }
        BlockKind::ApiProtection => (403, JSON, custom_page::api_protection(verdict, assets)),
        BlockKind::Captcha | BlockKind::CustomPage if !assets.block_page_content.is_empty() => {
            (403, HTML, assets.block_page_content.into())
        }
        BlockKind::Captcha | BlockKind::CustomPage => (403, HTML, page().html().into()),
    };
    headers.extend(headers_of(verdict, policy, assets));
    Answer { status, content_type, headers, body }
}

/// Headers of every answer to a blocked request, whoever writes its body.
pub(crate) fn headers_of(
    verdict: &Verdict<'_>,
    policy: &Policy,
    assets: &PageAssets<'_>,
) -> Vec<(Cow<'static, str>, String)> {
    let mut headers = Vec::with_capacity(6);
    if verdict.block_reason == Some(BlockReason::HscRoute) {
        headers.push(("X-PX-Is-Hypesale".into(), "true".to_owned()));
        headers.push(("Cache-Control".into(), "no-cache, no-store".to_owned()));
    } else {
        headers.push(("Cache-Control".into(), "no-store, no-cache, must-revalidate".to_owned()));
    }
    if !verdict.facts.is_mobile()
        && let Some(cookie) = verdict.new_pxhd_cookie(policy)
    {
        headers.push(("Set-Cookie".into(), cookie));
    }
    if let Some((name, value)) = verdict.response_headers(policy) {
        headers.push((name.into(), value));
    }
    headers.extend(cors::block_headers(&verdict.facts.request, policy, assets.cors_headers));
    headers
}

const HTML: &str = "text/html";
const JSON: &str = "application/json";

/// Whether the `Accept` header names `application/json` itself, parameters aside (DECISIONS 11).
fn wants_json(request: &Request<'_>) -> bool {
    let mut elements =
        request.header_values("accept").flat_map(|value| value.split(|b| *b == b','));
    elements.any(|element| {
        let media_type = element.split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(JSON.as_bytes())
    })
}

/// The values of a captcha page (§ 2), before any escaping. As JSON they are the advanced blocking
/// response, in its order (§ 3).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CaptchaPage<'a> {
    app_id: &'a str,
    js_client_src: &'a str,
    custom_logo: &'a str,
    first_party_enabled: bool,
    vid: &'a str,
    uuid: &'a str,
    host_url: &'a str,
    block_script: String,
    alt_block_script: String,
    #[serde(skip)]
    is_mobile: bool,
    #[serde(skip)]
    assets: PageAssets<'a>,
}

impl<'a> CaptchaPage<'a> {
    fn new(verdict: &'a Verdict<'_>, policy: &'a Policy, assets: &PageAssets<'a>) -> Self {
        let first_party = &policy.options().first_party;
        let first_party_enabled = first_party.enabled;
        let is_mobile = verdict.facts.is_mobile();
        let (paths, endpoints) = (policy.first_party(), policy.endpoints());
        let (host_url, captcha_script) = if first_party_enabled && !is_mobile {
            let collector = match first_party.xhr_enabled {
                true => paths.collector(),
                false => &endpoints.collector,
            };
            (collector, paths.captcha_script())
        } else {
            (&*endpoints.collector, &*endpoints.captcha_script)
        };
        let parameters = script_parameters(verdict);
        Self {
            app_id: &policy.options().app_id,
            js_client_src: sensor_script(verdict, policy),
            custom_logo: assets.custom_logo,
            first_party_enabled,
            vid: verdict.vid().unwrap_or_default(),
            uuid: verdict.uuid.as_deref().unwrap_or_default(),
            host_url,
            block_script: format!("{captcha_script}{parameters}"),
            alt_block_script: format!("{}{parameters}", endpoints.backup_captcha_script),
            is_mobile,
            assets: *assets,
        }
    }

    fn html(&self) -> String {
        fill(CAPTCHA, |name| match name {
            "vid" => js_string(self.vid),
            "uuid" => js_string(self.uuid),
            "app_id" => js_string(self.app_id),
            "host_url" => js_string(self.host_url),
            "custom_logo" => js_string(self.custom_logo),
            "js_client_src" => js_string(self.js_client_src),
            "mobile" => self.is_mobile.to_string(),
            "first_party_enabled" => self.first_party_enabled.to_string(),
            "block_script" => js_string(&self.block_script),
            "alt_block_script" => js_string(&self.alt_block_script),
            "uuid_text" => html(self.uuid),
            "css_link" => css_link(&self.assets),
            "js_script" => js_script(&self.assets),
            _ => String::new(),
        })
    }

    fn json(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(1024);
        json::write(self, &mut body);
        body
    }
}

/// Query of the captcha script; order and names are fixed.
fn script_parameters(verdict: &Verdict<'_>) -> String {
    let base64 = |text: &dyn Display| BASE64.encode(text.to_string());
    format!(
        "?a={}&u={}&v={}&m={}&b={}&h={}",
        verdict.block_action,
        verdict.uuid.as_deref().unwrap_or_default(),
        verdict.vid().unwrap_or_default(),
        u8::from(verdict.facts.is_mobile()),
        base64(&verdict.facts.url.raw()),
        base64(&String::from_utf8_lossy(verdict.facts.request.method)),
    )
}

/// What a mobile SDK gets (§ 4): the page in base64, and both names of the collector (DECISIONS 12).
fn mobile_json(verdict: &Verdict<'_>, policy: &Policy, assets: &PageAssets<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct MobileBlock<'a> {
        action: &'static str,
        uuid: &'a str,
        vid: &'a str,
        app_id: &'a str,
        page: String,
        collector_host: &'a str,
        collector_url: &'a str,
    }

    let page = CaptchaPage::new(verdict, policy, assets);
    let block = MobileBlock {
        action: action_word(&verdict.block_action),
        uuid: page.uuid,
        vid: page.vid,
        app_id: page.app_id,
        page: BASE64.encode(page.html()),
        collector_host: &policy.endpoints().collector,
        collector_url: &policy.endpoints().collector,
    };
    let mut body = Vec::with_capacity(8192);
    json::write(&block, &mut body);
    body
}

/// URL of the sensor for a page: by first party, except for mobile SDKs.
fn sensor_script<'a>(verdict: &Verdict<'_>, policy: &'a Policy) -> &'a str {
    match policy.options().first_party.enabled && !verdict.facts.is_mobile() {
        true => policy.first_party().sensor_script(),
        false => &policy.endpoints().sensor_script,
    }
}

/// The action's name for mobile SDKs; what nobody knows is a captcha.
fn action_word(letter: &str) -> &'static str {
    match letter {
        "b" => "block",
        "r" => "ratelimit",
        "j" => "challenge",
        _ => "captcha",
    }
}

fn hard_block_page(verdict: &Verdict<'_>, assets: &PageAssets<'_>) -> String {
    fill(HARD_BLOCK, |name| match name {
        "logo" if assets.custom_logo.is_empty() => String::new(),
        "logo" => format!("<img src=\"{}\" alt=\"\">\n", html(assets.custom_logo)),
        "uuid_text" => html(verdict.uuid.as_deref().unwrap_or_default()),
        "css_link" => css_link(assets),
        "js_script" => js_script(assets),
        _ => String::new(),
    })
}

fn css_link(assets: &PageAssets<'_>) -> String {
    match assets.css_ref {
        "" => String::new(),
        url => format!("<link rel=\"stylesheet\" type=\"text/css\" href=\"{}\">\n", html(url)),
    }
}

fn js_script(assets: &PageAssets<'_>) -> String {
    match assets.js_ref {
        "" => String::new(),
        url => format!("<script src=\"{}\"></script>\n", html(url)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::policy::Options;
    use crate::sample::{self, headers, policy};

    const NO_ASSETS: PageAssets<'_> = PageAssets {
        custom_logo: "",
        css_ref: "",
        js_ref: "",
        block_page_content: "",
        api_protection_block_url: "",
        api_protection_default_redirect_url: "",
        cors_headers: None,
    };

    fn blocked(
        change: impl FnOnce(&mut Options),
        list: &[(&str, &str)],
        action: &str,
        assets: &PageAssets<'_>,
    ) -> Answer {
        let policy = policy(change);
        let headers = headers(list);
        let body =
            serde_json::json!({"status": 0, "score": 100, "uuid": "the-uuid", "action": action});
        let request = sample::request(&headers);
        let verdict = sample::verdict(&request, &policy, &body.to_string());
        verdict.answer(&policy, assets).expect("blocked")
    }

    fn page(answer: &Answer) -> &str {
        std::str::from_utf8(&answer.body).expect("UTF-8")
    }

    #[test]
    fn answers_are_chosen_in_the_order_of_the_page() {
        let (web, json, mobile) =
            (&[][..], &[("Accept", "application/json")][..], &[("x-px-authorization", "1")][..]);
        for (action, client, enabled, status, content_type, title) in [
            ("c", web, true, 403, HTML, "Access to this page has been denied"),
            ("j", web, true, 403, HTML, "Access to this page has been denied"),
            ("qq", web, true, 403, HTML, "Access to this page has been denied"),
            ("b", web, true, 403, HTML, "Access Denied"),
            ("r", web, true, 429, HTML, "Too Many Requests"),
            ("c", json, true, 403, JSON, ""),
            ("j", json, true, 403, JSON, ""),
            ("c", json, false, 403, HTML, "Access to this page has been denied"),
            ("b", json, true, 403, HTML, "Access Denied"),
            ("r", json, true, 429, HTML, "Too Many Requests"),
            ("c", mobile, true, 403, JSON, ""),
            ("b", mobile, true, 403, HTML, "Access Denied"),
            ("r", mobile, true, 429, HTML, "Too Many Requests"),
        ] {
            let change = |options: &mut Options| options.enable_json_response = enabled;
            let answer = blocked(change, client, action, &NO_ASSETS);
            assert_eq!((answer.status, answer.content_type), (status, content_type), "{action}");
            assert!(page(&answer).contains(title), "{action}");
            let cache = &answer.headers.first().expect("a cache header").1;
            assert_eq!(cache, "no-store, no-cache, must-revalidate");
        }
    }

    #[test]
    fn accept_names_json_wherever_it_stands_and_with_parameters() {
        for (accept, json) in [
            (&["application/json"][..], true),
            (&["text/plain, application/json"], true),
            (&["  Application/JSON ; q=0.9 , */*"], true),
            (&["text/html", "application/json"], true),
            (&["application/jsonx"], false),
            (&["application/vnd.api+json"], false),
            (&["*/*"], false),
            (&[""], false),
            (&[], false),
        ] {
            let list: Vec<_> = accept.iter().map(|value| ("accept", *value)).collect();
            let headers = headers(&list);
            assert_eq!(wants_json(&sample::request(&headers)), json, "{accept:?}");
        }
    }

    #[test]
    fn captcha_page_has_what_the_captcha_script_depends_on() {
        let answer = blocked(|_| (), &[], "c", &NO_ASSETS);
        let page = page(&answer);
        for part in [
            "<!DOCTYPE html>\n<html lang=\"en\">",
            "<meta charset=\"utf-8\">",
            "<meta name=\"viewport\"",
            "<meta name=\"description\" content=\"px-captcha\">",
            "window._pxUuid = \"the-uuid\";",
            "window._pxMobile = false;",
            "window._pxFirstPartyEnabled = true;",
            "window._pxHostUrl = \"/abcd1234/xhr\";",
            "\"role\", \"alert\"",
            "prefers-color-scheme",
        ] {
            assert!(page.contains(part), "{part}");
        }
        // The script looks for them to learn whether the captcha has been drawn.
        assert!(!page.contains("<div") && !page.contains("<span"));
        assert!(!page.contains("{{") && !page.contains("}}"));
        assert!(page.len() < 6000, "{}", page.len());
        let script = page.find("window._pxVid").expect("a script");
        assert!(script < page.find("createElement").expect("a script"));
    }

    #[test]
    fn no_value_breaks_a_page() {
        let nasty = "\"'></script><script>alert(1)</script><img src=x onerror=alert(1)>\u{2028}\\";
        let assets = PageAssets { custom_logo: nasty, css_ref: nasty, js_ref: nasty, ..NO_ASSETS };
        let policy = policy(|_| ());
        let request = sample::request(&[]);
        for action in ["c", "b", nasty] {
            let body =
                serde_json::json!({"status": 0, "score": 100, "uuid": nasty, "action": action});
            let verdict = sample::verdict(&request, &policy, &body.to_string());
            let answer = verdict.answer(&policy, &assets).expect("blocked");
            let page = page(&answer);
            assert!(!page.contains("<script>alert") && !page.contains("<img src=x"), "{page}");
            let scripts = page.matches("<script").count();
            assert_eq!(scripts, page.matches("</script>").count());
            assert_eq!(scripts, if action == "b" { 1 } else { 2 });
        }
    }

    #[test]
    fn hard_block_page_leaves_an_empty_logo_out() {
        let answer = blocked(|_| (), &[], "b", &NO_ASSETS);
        assert!(!page(&answer).contains("<img") && !page(&answer).contains("<script"));
        assert!(page(&answer).contains("Reference ID: the-uuid</p>"));
        let assets =
            PageAssets { custom_logo: "/l.png", css_ref: "/a.css", js_ref: "/a.js", ..NO_ASSETS };
        let answer = blocked(|_| (), &[], "b", &assets);
        for part in
            ["<img src=\"/l.png\" alt=\"\">", "href=\"/a.css\"", "<script src=\"/a.js\"></script>"]
        {
            assert!(page(&answer).contains(part), "{part}");
        }
    }

    #[test]
    fn mobile_json_names_the_collector_twice() {
        let answer = blocked(|_| (), &[("x-px-authorization", "1")], "j", &NO_ASSETS);
        let json: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let keys: Vec<_> = json.as_object().expect("an object").keys().collect();
        let order = ["action", "uuid", "vid", "appId", "page", "collectorHost", "collectorUrl"];
        assert_eq!(keys, order);
        assert_eq!(json["action"], "challenge");
        assert_eq!(json["collectorHost"], json["collectorUrl"]);
        let page = BASE64.decode(json["page"].as_str().expect("a text")).expect("base64");
        assert!(String::from_utf8(page).expect("UTF-8").contains("window._pxMobile = true;"));
        for (letter, word) in [
            ("b", "block"),
            ("c", "captcha"),
            ("r", "ratelimit"),
            ("hsc", "captcha"),
            ("", "captcha"),
        ] {
            assert_eq!(action_word(letter), word);
        }
    }

    #[test]
    fn block_answers_carry_cookie_and_cors_headers() {
        let policy = policy(|options| options.cors_support_enabled = true);
        let body = r#"{"status":0,"score":100,"pxhd":"h"}"#;
        for (list, expected) in [
            (
                &[("origin", "null")][..],
                &[
                    "Cache-Control",
                    "Set-Cookie",
                    "Access-Control-Allow-Origin",
                    "Access-Control-Allow-Credentials",
                    "Vary",
                ][..],
            ),
            // A mobile SDK keeps no cookies.
            (&[("x-px-authorization", "1")], &["Cache-Control"]),
        ] {
            let headers = headers(list);
            let request = sample::request(&headers);
            let verdict = sample::verdict(&request, &policy, body);
            let answer = verdict.answer(&policy, &NO_ASSETS).expect("blocked");
            let names: Vec<_> = answer.headers.iter().map(|(name, _)| &**name).collect();
            assert_eq!(names, expected);
            assert_eq!(verdict.pxhd_cookie(&policy), None);
        }
    }
}
