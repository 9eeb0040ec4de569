//! The snapshot in Prometheus' text exposition format 0.0.4.

use std::fmt::{Display, Write};

use super::{Snapshot, seconds};
use crate::counters::{App, BOUNDS_MS, End, Histogram};
use crate::node::{Mode, Result};
use crate::reason::S2sErrorReason;

pub(super) fn write(snapshot: &Snapshot<'_>) -> String {
    let mut text = Text(String::with_capacity(8192));
    module(&mut text, snapshot);
    requests(&mut text, snapshot);
    risk_api(&mut text, snapshot);
    first_party(&mut text, snapshot);
    tokens(&mut text, snapshot);
    activities(&mut text, snapshot);
    documents(&mut text, snapshot);
    node_requests(&mut text, snapshot);
    text.0
}

fn module(text: &mut Text, snapshot: &Snapshot<'_>) {
    text.gauge("px_build_info", "Version of the module, and of the nginx it was built for.")
        .sample(&[("version", snapshot.version), ("nginx", snapshot.nginx)], 1);
    if let Some(since) = snapshot.since {
        text.gauge("px_start_time_seconds", "When the counters began, Unix time.")
            .sample(&[], seconds(since.started));
        text.counter("px_config_reloads_total", "Configurations loaded since the start.")
            .sample(&[], since.reloads);
    }
}

fn requests(text: &mut Text, snapshot: &Snapshot<'_>) {
    let mut family =
        text.counter("px_requests_total", "Requests by what was done with them, and why.");
    for (id, app) in &snapshot.apps {
        for end in End::all() {
            let labels = [("app_id", &**id), ("verdict", end.verdict()), ("reason", end.reason())];
            family.sample(&labels, app.requests(end));
        }
    }
}

fn risk_api(text: &mut Text, snapshot: &Snapshot<'_>) {
    let per_app = |family: Family<'_>, read: fn(&App) -> u64| each_app(family, snapshot, read);
    per_app(text.counter("px_risk_api_calls_total", "Calls of the Risk API."), App::calls);
    let mut errors = text.counter("px_risk_api_errors_total", "Calls that failed, timeouts aside.");
    for (id, app) in &snapshot.apps {
        for reason in S2sErrorReason::ALL {
            let labels = [("app_id", &**id), ("reason", reason.as_str())];
            errors.sample(&labels, app.errors(*reason));
        }
    }
    per_app(
        text.counter("px_risk_api_timeouts_total", "Calls that were not answered in time."),
        App::timeouts,
    );
    per_app(
        text.counter(
            "px_risk_api_calls_not_made_total",
            "Calls that were not made because the circuit breaker was open.",
        ),
        App::calls_not_made,
    );
    let mut durations = text.family(
        "histogram",
        "px_risk_api_duration_seconds",
        "Time until a call was answered, failed or was given up.",
    );
    for (id, app) in &snapshot.apps {
        durations.histogram(&[("app_id", &**id)], app.durations());
    }
    let mut breakers = text.gauge(
        "px_circuit_breaker_state",
        "Circuit breaker of a Risk API backend: 0 closed, 1 open, 2 half open.",
    );
    for (backend, state) in &snapshot.backends {
        breakers.sample(&[("backend", backend)], *state as u8);
    }
}

fn first_party(text: &mut Text, snapshot: &Snapshot<'_>) {
    let family = text.counter(
        "px_first_party_errors_total",
        "First-party requests that HUMAN did not answer, or not to the end.",
    );
    each_app(family, snapshot, App::first_party_errors);
}

fn tokens(text: &mut Text, snapshot: &Snapshot<'_>) {
    each_app(
        text.counter("px_key_derivations_total", "Key derivations for risk tokens."),
        snapshot,
        App::derivations,
    );
    each_app(
        text.counter(
            "px_forged_cookies_over_budget_total",
            "Risk tokens that were not looked into because px_forged_cookie_budget was spent.",
        ),
        snapshot,
        App::over_budget,
    );
    let zones = &snapshot.token_caches;
    let mut hits = text.counter("px_token_cache_hits_total", "Risk tokens that were known.");
    zones.iter().for_each(|cache| hits.sample(&[("zone", cache.zone)], cache.hits));
    let mut misses = text.counter("px_token_cache_misses_total", "Risk tokens that were not.");
    zones.iter().for_each(|cache| misses.sample(&[("zone", cache.zone)], cache.misses));
    let mut entries = text.gauge("px_token_cache_entries", "Risk tokens that are remembered.");
    for cache in zones {
        if let Some(count) = cache.entries {
            entries.sample(&[("zone", cache.zone)], count);
        }
    }
    let mut capacity = text.gauge("px_token_cache_capacity", "Risk tokens there is room for.");
    zones.iter().for_each(|cache| capacity.sample(&[("zone", cache.zone)], cache.capacity));
}

fn documents(text: &mut Text, snapshot: &Snapshot<'_>) {
    if snapshot.documents.is_empty() {
        return;
    }
    let mut fetched = text.gauge(
        "px_document_fetched_timestamp_seconds",
        "When what is fetched in the background was last known to be good, Unix time; 0 never.",
    );
    for document in &snapshot.documents {
        let labels = [("task", document.task), ("source", &*document.source)];
        fetched.sample(&labels, seconds(document.fetched));
    }
    let mut versions = text.gauge(
        "px_remote_config_version",
        "Version of the remote configuration in effect; 0 none.",
    );
    for document in &snapshot.documents {
        if let Some(version) = document.version {
            versions.sample(&[("id", &*document.source)], version);
        }
    }
}

fn node_requests(text: &mut Text, snapshot: &Snapshot<'_>) {
    let Some(found) = snapshot.node else { return };
    let mut requests = text.counter(
        "px_wallarm_requests_total",
        "Requests by how the traffic-analysis node was asked, and what came of it.",
    );
    for mode in Mode::ALL {
        for result in Result::ALL {
            let labels = [("mode", mode.as_str()), ("result", result.as_str())];
            requests.sample(&labels, found.counters.requests(*mode, *result));
        }
    }
    text.counter("px_wallarm_dropped_total", "Copies there was no room for.")
        .sample(&[], found.counters.requests(Mode::Async, Result::Dropped));
    text.gauge("px_wallarm_inflight", "Copies on their way to the node.")
        .sample(&[], found.inflight);
    text.family(
        "histogram",
        "px_wallarm_duration_seconds",
        "Time until the node answered, failed or was given up.",
    )
    .histogram(&[], found.counters.durations());
}

fn activities(text: &mut Text, snapshot: &Snapshot<'_>) {
    if let Some(found) = snapshot.activities {
        for (name, help, value) in [
            ("px_activities_offered_total", "Activities handed to a sender thread.", found.offered),
            (
                "px_activities_sent_total",
                "Activities that the collector took, from memory or from the spool.",
                found.sent,
            ),
            ("px_activities_lost_total", "Activities that nobody will receive.", found.lost),
            ("px_activities_spooled_total", "Activities written to the spool.", found.spooled),
            (
                "px_activities_delivered_from_spool_total",
                "Activities that the collector took from the spool.",
                found.delivered_from_spool,
            ),
        ] {
            text.counter(name, help).sample(&[], value);
        }
        text.gauge("px_activities_queued", "Activities that wait in memory of the workers.")
            .sample(&[], found.queued);
    }
}

fn each_app(mut family: Family<'_>, snapshot: &Snapshot<'_>, read: fn(&App) -> u64) {
    for (id, app) in &snapshot.apps {
        family.sample(&[("app_id", id)], read(app));
    }
}

struct Text(String);

/// A metric; its head is written before its first sample, and not without one.
struct Family<'t> {
    text: &'t mut String,
    kind: &'static str,
    name: &'static str,
    help: &'static str,
    has_head: bool,
}

impl Text {
    fn family(&mut self, kind: &'static str, name: &'static str, help: &'static str) -> Family<'_> {
        Family { text: &mut self.0, kind, name, help, has_head: false }
    }

    fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family("counter", name, help)
    }

    fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family("gauge", name, help)
    }
}

impl Family<'_> {
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.part("", labels, value);
    }

    fn histogram(&mut self, labels: &[(&str, &str)], found: &Histogram) {
        let cumulative = found.cumulative();
        let bounds = BOUNDS_MS.iter().map(|ms| seconds(*ms).to_string());
        let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
        for (bound, count) in bounds.zip(cumulative) {
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.part("_bucket", &labels, count);
        }
        self.part("_sum", labels, seconds(found.sum_ms()));
        self.part("_count", labels, cumulative.last().copied().unwrap_or_default());
    }

    /// A sample whose name ends otherwise than the family's.
    fn part(&mut self, end: &str, labels: &[(&str, &str)], value: impl Display) {
        let Self { kind, name, help, .. } = self;
        // Writing to a String does not fail.
        if !self.has_head {
            self.has_head = true;
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
        let _ = write!(self.text, "{name}{end}");
        for (at, (label, value)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{before}{label}=\"{}\"", Escaped(value));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{after} {value}");
    }
}

/// A label's value between its quotes.
struct Escaped<'t>(&'t str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        for (value, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("a\"b", "a\\\"b"),
            ("a\\b", "a\\\\b"),
            ("a\nb", "a\\nb"),
            ("\\n", "\\\\n"),
            // Everything else stands as it is, whatever it looks like.
            ("ä{}=,\t\r'", "ä{}=,\t\r'"),
        ] {
            assert_eq!(Escaped(value).to_string(), expected, "{value:?}");
        }
    }

    #[test]
    fn every_family_has_its_samples_below_its_head() {
        let (app, node) = (sample::app(), sample::node());
        let text = write(&sample::snapshot(&app, &node));
        for lines in [
            "# HELP px_build_info Version of the module, and of the nginx it was built for.\n\
             # TYPE px_build_info gauge\n\
             px_build_info{version=\"1.2.3\",nginx=\"nginx/1.22.1\"} 1\n",
            "# TYPE px_start_time_seconds gauge\npx_start_time_seconds 1750000000.5\n",
            "# TYPE px_config_reloads_total counter\npx_config_reloads_total 2\n",
            "# TYPE px_requests_total counter\n\
             px_requests_total{app_id=\"PXabcd1234\",verdict=\"pass\",reason=\"cookie\"} 3\n\
             px_requests_total{app_id=\"PXabcd1234\",verdict=\"pass\",reason=\"s2s\"} 0\n",
            "verdict=\"filtered\",reason=\"extension\"} 1\n",
            "verdict=\"preflight\",reason=\"\"} 0\n",
            "px_risk_api_calls_total{app_id=\"PXabcd1234\"} 3\n",
            "px_risk_api_errors_total{app_id=\"PXabcd1234\",reason=\"server_error\"} 0\n",
            "px_risk_api_calls_not_made_total{app_id=\"PXabcd1234\"} 1\n",
            "# TYPE px_risk_api_duration_seconds histogram\n\
             px_risk_api_duration_seconds_bucket{app_id=\"PXabcd1234\",le=\"0.005\"} 1\n\
             px_risk_api_duration_seconds_bucket{app_id=\"PXabcd1234\",le=\"0.01\"} 1\n",
            "px_risk_api_duration_seconds_bucket{app_id=\"PXabcd1234\",le=\"0.1\"} 2\n",
            "px_risk_api_duration_seconds_bucket{app_id=\"PXabcd1234\",le=\"5\"} 2\n\
             px_risk_api_duration_seconds_bucket{app_id=\"PXabcd1234\",le=\"+Inf\"} 3\n\
             px_risk_api_duration_seconds_sum{app_id=\"PXabcd1234\"} 7.064\n\
             px_risk_api_duration_seconds_count{app_id=\"PXabcd1234\"} 3\n",
            "px_circuit_breaker_state{backend=\"https://sapi-pxabcd1234.perimeterx.net\"} 1\n\
             px_circuit_breaker_state{backend=\"\\\"quoted\\\"\\\\\\n\"} 2\n",
            "px_first_party_errors_total{app_id=\"PXabcd1234\"} 1\n",
            "px_key_derivations_total{app_id=\"PXabcd1234\"} 2\n",
            "px_forged_cookies_over_budget_total{app_id=\"PXabcd1234\"} 1\n",
            "px_token_cache_hits_total{zone=\"px_token_cache\"} 7\n",
            "px_token_cache_entries{zone=\"px_token_cache\"} 4\n",
            "px_activities_offered_total 20\n",
            "px_activities_queued 1\n",
            "px_wallarm_requests_total{mode=\"sync\",result=\"pass\"} 2\n",
            "px_wallarm_requests_total{mode=\"async\",result=\"aborted\"} 0\n",
            "px_wallarm_dropped_total 1\n",
            "px_wallarm_inflight 5\n",
            "px_wallarm_duration_seconds_bucket{le=\"0.005\"} 1\n",
            "px_wallarm_duration_seconds_sum 0.303\npx_wallarm_duration_seconds_count 2\n",
        ] {
            assert!(text.contains(lines), "{lines}\nis not in\n{text}");
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn a_metric_without_samples_is_not_mentioned() {
        let text = write(&Snapshot { version: "1", nginx: "n", ..Snapshot::default() });
        assert_eq!(text.matches("# TYPE").count(), 1);
        assert_eq!(text.lines().last(), Some("px_build_info{version=\"1\",nginx=\"n\"} 1"));
    }
}
