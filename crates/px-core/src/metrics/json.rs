//! The snapshot as one JSON object, for people and scripts.

use serde_json::{Map, Value, json};

use super::{NodeRequests, Snapshot, seconds};
use crate::breaker::State;
use crate::counters::{App, BOUNDS_MS, End, Histogram};
use crate::node::{Mode, Result};
use crate::reason::S2sErrorReason;

pub(super) fn write(snapshot: &Snapshot<'_>) -> String {
    let mut page = Map::new();
    let mut put = |name: &str, value: Value| page.insert(name.to_owned(), value);
    put("version", snapshot.version.into());
    put("nginx", snapshot.nginx.into());
    if let Some(since) = snapshot.since {
        put("start_time", seconds(since.started).into());
        put("config_reloads", since.reloads.into());
    }
    put("applications", object(snapshot.apps.iter().map(|(id, app)| (&**id, application(app)))));
    let breakers = snapshot.backends.iter().map(|(backend, state)| {
        let word = match state {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        };
        (backend.as_str(), word.into())
    });
    put("circuit_breakers", object(breakers));
    let caches = snapshot.token_caches.iter().map(|cache| {
        let facts = json!({
            "hits": cache.hits,
            "misses": cache.misses,
            "entries": cache.entries,
            "capacity": cache.capacity,
        });
        (cache.zone, facts)
    });
    put("token_caches", object(caches));
    if let Some(found) = snapshot.activities {
        let facts = json!({
            "offered": found.offered,
            "sent": found.sent,
            "lost": found.lost,
            "spooled": found.spooled,
            "delivered_from_spool": found.delivered_from_spool,
            "queued": found.queued,
        });
        put("activities", facts);
    }
    let documents = snapshot.documents.iter().map(|document| {
        let fetched = seconds(document.fetched).into();
        let facts = [
            ("task", document.task.into()),
            ("source", document.source.as_str().into()),
            ("fetched", fetched),
        ];
        let version = document.version.map(|version| ("version", version.into()));
        object(facts.into_iter().chain(version))
    });
    put("documents", documents.collect());
    if let Some(found) = &snapshot.node {
        put("wallarm", node_requests(found));
    }
    let mut text = format!("{:#}", Value::Object(page));
    text.push('\n');
    text
}

fn application(app: &App) -> Value {
    let mut requests = Map::new();
    for end in End::all() {
        let count = app.requests(end).into();
        match end.reason() {
            "" => requests.insert(end.verdict().to_owned(), count),
            reason => {
                let reasons = requests.entry(end.verdict()).or_insert_with(|| json!({}));
                reasons.as_object_mut().and_then(|all| all.insert(reason.to_owned(), count))
            }
        };
    }
    let errors = S2sErrorReason::ALL.iter();
    json!({
        "requests": requests,
        "risk_api": {
            "calls": app.calls(),
            "calls_not_made": app.calls_not_made(),
            "timeouts": app.timeouts(),
            "errors": object(errors.map(|it| (it.as_str(), app.errors(*it).into()))),
            "duration_seconds": histogram(app.durations()),
        },
        "key_derivations": app.derivations(),
        "forged_cookies_over_budget": app.over_budget(),
        "first_party_errors": app.first_party_errors(),
    })
}

fn node_requests(found: &NodeRequests<'_>) -> Value {
    let of_mode = |mode: &Mode| {
        let results = Result::ALL.iter();
        object(results.map(|it| (it.as_str(), found.counters.requests(*mode, *it).into())))
    };
    json!({
        "requests": object(Mode::ALL.iter().map(|mode| (mode.as_str(), of_mode(mode)))),
        "dropped": found.counters.requests(Mode::Async, Result::Dropped),
        "inflight": found.inflight,
        "duration_seconds": histogram(found.counters.durations()),
    })
}

fn histogram(found: &Histogram) -> Value {
    let cumulative = found.cumulative();
    let bounds = BOUNDS_MS.iter().map(|ms| seconds(*ms).to_string());
    let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
    let buckets: Map<String, Value> = bounds.zip(cumulative.map(Value::from)).collect();
    json!({ "count": cumulative.last(), "sum": seconds(found.sum_ms()), "buckets": buckets })
}

fn object<'n>(members: impl Iterator<Item = (&'n str, Value)>) -> Value {
    Value::Object(members.map(|(name, value)| (name.to_owned(), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn the_page_is_one_object_with_everything() {
        let (app, node) = (sample::app(), sample::node());
        let page = write(&sample::snapshot(&app, &node));
        let page: Value = serde_json::from_str(&page).expect("JSON");
        assert_eq!(page["version"], "1.2.3");
        assert_eq!(page["nginx"], "nginx/1.22.1");
        assert_eq!(page["start_time"], 1_750_000_000.5);
        assert_eq!(page["config_reloads"], 2);
        let document = json!({
            "task": "remote_config", "source": "rc-1", "fetched": 1_750_000_001.0, "version": 7,
        });
        assert_eq!(page["documents"], json!([document]));
        let app = &page["applications"]["PXabcd1234"];
        assert_eq!(app["requests"]["pass"]["cookie"], 3);
        assert_eq!(app["requests"]["block"]["cookie_high_score"], 0);
        assert_eq!(app["requests"]["filtered"]["extension"], 1);
        assert_eq!(app["requests"]["inactive"], 0);
        let risk_api = &app["risk_api"];
        assert_eq!((&risk_api["calls"], &risk_api["calls_not_made"]), (&json!(3), &json!(1)));
        assert_eq!(risk_api["errors"]["bad_request"], 0);
        let durations = &risk_api["duration_seconds"];
        assert_eq!((&durations["count"], &durations["sum"]), (&json!(3), &json!(7.064)));
        assert_eq!(durations["buckets"]["0.005"], 1);
        assert_eq!(durations["buckets"]["5"], 2);
        assert_eq!(durations["buckets"]["+Inf"], 3);
        assert_eq!(app["key_derivations"], 2);
        assert_eq!(app["forged_cookies_over_budget"], 1);
        assert_eq!(app["first_party_errors"], 1);
        let breakers = &page["circuit_breakers"];
        assert_eq!(breakers["https://sapi-pxabcd1234.perimeterx.net"], "open");
        assert_eq!(breakers["\"quoted\"\\\n"], "half_open");
        assert_eq!(
            page["token_caches"]["px_token_cache"],
            json!({"hits": 7, "misses": 5, "entries": 4, "capacity": 5000})
        );
        assert_eq!(page["activities"]["queued"], 1);
        let wallarm = &page["wallarm"];
        assert_eq!(wallarm["requests"]["sync"]["pass"], 2);
        assert_eq!(wallarm["requests"]["async"]["dropped"], 1);
        assert_eq!((&wallarm["dropped"], &wallarm["inflight"]), (&json!(1), &json!(5)));
        assert_eq!(wallarm["duration_seconds"]["count"], 2);
    }

    #[test]
    fn where_nothing_is_enforced_there_is_little_to_say() {
        let nothing = Snapshot { version: "1", nginx: "n", ..Snapshot::default() };
        let page: Value = serde_json::from_str(&write(&nothing)).expect("JSON");
        assert_eq!(page["applications"], json!({}));
        assert!(page.get("activities").is_none());
        assert!(page.get("wallarm").is_none());
    }
}
