//! How the Risk API of the sandbox judges when nobody told it what to answer: by what the reported
//! request asks for. Everybody is human but for
//!
//! 1. a reported header `x-px-sandbox`, words separated by blanks: `score=100 action=b`, also
//!    `delay=<ms>`, `status=<HTTP status>`, `pxhd=<value>`, `domain=<pxhdDomain>`, `uuid=<uuid>`,
//!    `drc=<number>`, `info=<additional_risk_info>`, `breached=1`, `telemetry=1`, `failed=1`,
//!    `hang`, `reset`, `close`, `invalid`;
//! 2. a path that holds `/px-sandbox/` and then `block` (action b), `captcha` (c), `ratelimit` (r),
//!    `challenge` (j), `score-<N>` (c), `slow` (10 s), `error` (500), `drop` or `invalid`;
//! 3. a user agent that holds `PhantomJS/1.0`: score 100, action c, as the vendor's documents say.
//!
//! The first of these that is present decides alone.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::behaviour::Behaviour;
use crate::reply::{Reply, risk_answer};

/// An answer, how it is given, and what was not understood.
pub(crate) struct Judgement {
    pub(crate) reply: Reply,
    pub(crate) behaviour: Behaviour,
    pub(crate) complaint: Option<String>,
}

/// Judges a Risk API request. `gives_pxhd` hands a `_pxhd` to browsers that have none.
pub(crate) fn judge(body: &Value, gives_pxhd: bool) -> Judgement {
    let mut judgement = if let Some(words) = header(body, "x-px-sandbox") {
        by_words(words)
    } else if let Some(word) = path_word(body) {
        by_path(word)
    } else if header(body, "user-agent").is_some_and(|agent| agent.contains("PhantomJS/1.0")) {
        answer(risk_answer(100, "c"), Behaviour::Normal)
    } else {
        answer(risk_answer(0, "c"), Behaviour::Normal)
    };
    let is_web = body["additional"]["cookie_origin"] == "cookie";
    if gives_pxhd && is_web && body.get("pxhd").is_none() {
        judgement.add_pxhd();
    }
    judgement
}

impl Judgement {
    fn add_pxhd(&mut self) {
        let Ok(Value::Object(mut answer)) = serde_json::from_slice(&self.reply.body) else {
            return;
        };
        answer
            .entry("pxhd")
            .or_insert_with(|| json!(format!("sandbox-{}", Uuid::new_v4().simple())));
        self.reply.body = Value::Object(answer).to_string().into_bytes();
    }
}

fn answer(value: Value, behaviour: Behaviour) -> Judgement {
    Judgement { reply: Reply::json(value), behaviour, complaint: None }
}

fn header<'v>(body: &'v Value, wanted: &str) -> Option<&'v str> {
    let headers = body.get("request")?.get("headers")?.as_array()?;
    headers.iter().find(|header| header["name"] == wanted)?.get("value")?.as_str()
}

fn path_word(body: &Value) -> Option<&str> {
    let url = body.get("request")?.get("url")?.as_str()?;
    let path = url.split(['?', '#']).next()?;
    let (_, rest) = path.split_once("/px-sandbox/")?;
    rest.split('/').next()
}

fn by_path(word: &str) -> Judgement {
    let human = || risk_answer(0, "c");
    match word {
        "block" => answer(risk_answer(100, "b"), Behaviour::Normal),
        "captcha" => answer(risk_answer(100, "c"), Behaviour::Normal),
        "ratelimit" => answer(risk_answer(100, "r"), Behaviour::Normal),
        "challenge" => answer(risk_answer(100, "j"), Behaviour::Normal),
        "slow" => answer(human(), Behaviour::Delay(Duration::from_secs(10))),
        "error" => answer(human(), Behaviour::Status(500)),
        "drop" => answer(human(), Behaviour::CloseBeforeAnswer),
        "invalid" => answer(json!({}), Behaviour::Normal),
        other => match other.strip_prefix("score-").and_then(|score| score.parse().ok()) {
            Some(score) => answer(risk_answer(score, "c"), Behaviour::Normal),
            None => answer(human(), Behaviour::Normal),
        },
    }
}

fn by_words(words: &str) -> Judgement {
    let mut body = risk_answer(0, "c");
    let mut pause = None;
    let mut behaviour = Behaviour::Normal;
    let mut complaint = None;
    for word in words.split([' ', '\t', ';', ',']).filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = value.parse::<u32>().ok();
        match (name, number) {
            ("score", Some(score)) => {
                body["score"] = json!(score);
                body["cookie_cfg_block_result"] = json!(if score >= 100 { "1" } else { "0" });
            }
            ("action", _) => body["action"] = json!(value),
            ("uuid", _) => body["uuid"] = json!(value),
            ("pxhd", _) => body["pxhd"] = json!(value),
            ("domain", _) => body["pxhdDomain"] = json!(value),
            ("info", _) => body["additional_risk_info"] = json!(value),
            ("drc", Some(drc)) => body["drc"] = json!(drc),
            ("breached", Some(mark)) => {
                body["data_enrichment"] = json!({ "breached_account": mark });
            }
            ("telemetry", Some(mark)) => body["telemetry_requested"] = json!(mark != 0),
            ("failed", Some(1)) => {
                body["status"] = json!(-1);
                body["message"] = json!("the sandbox was told to fail");
            }
            ("delay", Some(ms)) => pause = Some(Duration::from_millis(ms.into())),
            ("status", Some(status @ 100..=999)) => {
                behaviour = Behaviour::Status(u16::try_from(status).unwrap_or(500));
            }
            ("hang", None) => behaviour = Behaviour::Hang,
            ("reset", None) => behaviour = Behaviour::Reset,
            ("close", None) => behaviour = Behaviour::CloseBeforeAnswer,
            ("invalid", None) => body = json!({}),
            _ => complaint = Some(format!("x-px-sandbox: {word:?} is not understood")),
        }
    }
    let behaviour = match pause {
        Some(pause) => behaviour.after(pause),
        None => behaviour,
    };
    Judgement { complaint, ..answer(body, behaviour) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(headers: Value, url: &str) -> (Value, Behaviour) {
        let body = json!({"request": {"headers": headers, "url": url}, "additional": {}});
        let judgement = judge(&body, false);
        (serde_json::from_slice(&judgement.reply.body).unwrap(), judgement.behaviour)
    }

    #[test]
    fn judges_by_user_agent_header_and_path() {
        let phantom = json!([{"name": "user-agent", "value": "X PhantomJS/1.0 Y"}]);
        let told = json!([{"name": "x-px-sandbox", "value": "score=75 action=r pxhd=h"}]);
        let (nothing, plain) = (json!([]), "https://a/px-sandbox");
        for (headers, url, score, action) in [
            (&nothing, plain, 0, "c"),
            (&phantom, plain, 100, "c"),
            (&phantom, "https://a/px-sandbox/score-3?x", 3, "c"),
            (&told, "https://a/px-sandbox/block", 75, "r"),
            (&nothing, "https://a/b/px-sandbox/block/c", 100, "b"),
            (&nothing, "https://a/px-sandbox/ratelimit", 100, "r"),
            (&nothing, "https://a/px-sandbox/challenge?x=1", 100, "j"),
            (&nothing, "https://a/?/px-sandbox/challenge", 0, "c"),
        ] {
            let (answer, behaviour) = judged(headers.clone(), url);
            assert_eq!((&answer["score"], &answer["action"]), (&json!(score), &json!(action)));
            assert_eq!(behaviour, Behaviour::Normal);
        }
    }

    #[test]
    fn takes_orders_about_the_wire_and_complains_about_others() {
        let told = |words: &str| json!({"request": {"headers": [{"name": "x-px-sandbox", "value": words}]}});
        let slow_failure = judge(&told("delay=5, status=503"), false);
        assert_eq!(slow_failure.behaviour, Behaviour::Status(503).after(Duration::from_millis(5)));
        assert_eq!(slow_failure.complaint, None);
        for words in ["scor=1", "score=x", "status=5", "hang=1"] {
            assert!(judge(&told(words), false).complaint.is_some(), "{words}");
        }
    }

    #[test]
    fn gives_pxhd_to_browsers_without() {
        let web = json!({"request": {}, "additional": {"cookie_origin": "cookie"}});
        let given = judge(&web, true).reply.body;
        assert!(serde_json::from_slice::<Value>(&given).unwrap()["pxhd"].is_string());
        for body in [
            json!({"pxhd": "x", "request": {}, "additional": {"cookie_origin": "cookie"}}),
            json!({"request": {}, "additional": {"cookie_origin": "header"}}),
            json!([]),
        ] {
            let answer = judge(&body, true).reply.body;
            assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap().get("pxhd"), None);
        }
    }
}
