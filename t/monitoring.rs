//! Tests for the px module: dashboard, alert rules and document speak of the metrics there are.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use px_sandbox::Sandbox;
use serde_json::Value;
use support::prometheus::Metrics;
use support::{Nginx, get, protect};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// Words that begin with `px_`.
fn words(text: &str) -> BTreeSet<&str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("px_"))
        .collect()
}

/// The texts that stand under a name anywhere in a dashboard.
fn texts<'v>(value: &'v Value, name: &str, found: &mut Vec<&'v str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get(name).and_then(Value::as_str));
            members.values().for_each(|member| texts(member, name, found));
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, name, found)),
        _ => {}
    }
}

/// What a module in use says.
fn metrics() -> Metrics {
    let sandbox = Sandbox::start().unwrap();
    let status = "px_wallarm_node_address https://127.0.0.1:1; px_remote_config_id rc-1; px_remote_config_auth_token token; \
         location = /metrics { px_status prometheus; }";
    let nginx = Nginx::start(&format!("{}{status}", protect(&sandbox)));
    Metrics::parse(&get(nginx.addr(), "/metrics", &[]).text()).expect("the format")
}

/// Labels of every sample's name, with the one that Prometheus adds.
fn labels(metrics: &Metrics) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for sample in metrics.families.values().flat_map(|family| &family.samples) {
        let known = labels.entry(&sample.name).or_insert_with(|| BTreeSet::from(["instance"]));
        known.extend(sample.labels.keys().map(String::as_str));
    }
    labels
}

/// Each metric of a query with the labels it is asked for.
fn matchers(query: &str) -> Vec<(&str, Vec<&str>)> {
    let asked = query.split('}').filter_map(|part| part.rsplit_once('{'));
    asked
        .map(|(before, inner)| {
            let name = before.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
            let labels = inner.split(',').map(|one| one.split(['=', '!']).next().expect("a label"));
            (name.expect("a name"), labels.collect())
        })
        .collect()
}

/// The queries of the document about fleets, a line each.
fn queries_of_fleets(document: &str) -> Vec<&str> {
    let blocks = document.split("```promql\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.flat_map(str::lines).filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn queries_ask_for_labels_there_are() {
    let metrics = metrics();
    let known = labels(&metrics);
    let dashboard = read("nginx/monitoring/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let mut queries = Vec::new();
    texts(&dashboard, "expr", &mut queries);
    let alerts = read("nginx/monitoring/alerts.yml");
    queries.extend(alerts.lines().filter(|line| line.contains("px_")));
    let fleets = read("docs/fleet.md");
    queries.extend(queries_of_fleets(&fleets));
    let all: BTreeSet<&str> = known.values().flatten().copied().collect();
    let mut seen = 0;
    for query in queries {
        for (name, labels) in matchers(query) {
            for label in labels {
                assert!(known[name].contains(label), "{label} in {query}");
                seen += 1;
            }
        }
        for list in query.split("by (").skip(1).filter_map(|rest| rest.split(')').next()) {
            for label in list.split(", ") {
                assert!(all.contains(label), "{label} in {query}");
                seen += 1;
            }
        }
    }
    assert!(seen > 80, "{seen} labels");
    // What a legend names is grouped by.
    let mut legends = Vec::new();
    texts(&dashboard, "legendFormat", &mut legends);
    let named = legends.iter().flat_map(|legend| legend.split("{{").skip(1));
    for label in named.filter_map(|rest| rest.split("}}").next()) {
        assert!(all.contains(label), "{label}");
    }
}

#[test]
fn dashboard_alerts_and_document_speak_of_the_metrics_there_are() {
    let metrics = metrics();
    let names = metrics.names();

    let dashboard: Value =
        serde_json::from_str(&read("nginx/monitoring/grafana-dashboard.json")).expect("JSON");
    let mut queries = Vec::new();
    texts(&dashboard, "expr", &mut queries);
    let shown: BTreeSet<&str> = queries.iter().flat_map(|query| words(query)).collect();
    assert_eq!(shown.difference(&names).collect::<Vec<_>>(), Vec::<&&str>::new(), "dashboard");
    let alerts = read("nginx/monitoring/alerts.yml");
    let expressions: String = alerts.lines().filter(|line| !line.trim().starts_with('#')).collect();
    let watched = words(&expressions);
    assert!(watched.len() > 8, "{watched:?}");
    assert_eq!(watched.difference(&names).collect::<Vec<_>>(), Vec::<&&str>::new(), "alerts");

    let fleets = read("docs/fleet.md");
    let asked: BTreeSet<&str> =
        queries_of_fleets(&fleets).into_iter().flat_map(|query| words(query)).collect();
    assert!(asked.len() > 6, "{asked:?}");
    assert_eq!(asked.difference(&names).collect::<Vec<_>>(), Vec::<&&str>::new(), "fleets");

    // Every metric is shown, and explained.
    let document = read("docs/monitoring.md");
    for (name, family) in &metrics.families {
        let of = |shown: &&str| *shown == name || *shown == format!("{name}_bucket");
        assert!(shown.iter().any(of), "{name} is not in the dashboard");
        assert!(document.contains(&format!("| `{name}` | {} |", family.kind)), "{name}");
    }
    for word in words(&document) {
        let row = document.contains(&format!("| `{word}` |"));
        assert!(!row || metrics.families.contains_key(word), "{word} is explained only");
    }

    // Importable: panels have numbers of their own, and nobody's data source.
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<i64> = panels.iter().filter_map(|panel| panel["id"].as_i64()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
    }
}

#[test]
fn the_reader_of_these_tests_is_strict() {
    let head = "# HELP px_a_total Things.\n# TYPE px_a_total counter\n";
    let histogram = "# HELP px_h Times.\n# TYPE px_h histogram\n";
    assert!(Metrics::parse(&format!("{head}px_a_total{{b=\"\\\\\\\"\\n\"}} 1.5\n")).is_ok());
    let whole = "px_h_bucket{le=\"1\"} 1\npx_h_bucket{le=\"+Inf\"} 2\npx_h_sum 3\npx_h_count 2\n";
    assert!(Metrics::parse(&format!("{histogram}{whole}")).is_ok());
    for wrong in [
        "px_a_total 1",
        "px_a_total  1\n",
        "px_a_total 1 \n",
        "px_a_total 1\r\n",
        "px_a_total -1\n",
        "px_a_total NaN\n",
        "px_a_total 1 1700000000\n",
        "px_a_total 1\n\n",
        "px_a_total 1\npx_a_total 1\n",
        "px_b_total 1\n",
        "px_a_total{} 1\n",
        "px_a_total{b=\"1\",} 1\n",
        "px_a_total{b=\"\\t\"} 1\n",
        "px_a_total{b=\"1\"b=\"2\"} 1\n",
        "px_a_total{b=\"1\",b=\"2\"} 1\n",
        "px_a_total{__b=\"1\"} 1\n",
        "px_a_total{1b=\"1\"} 1\n",
        "px_a_total{le=\"1\"} 1\n",
        "",
    ] {
        assert!(Metrics::parse(&format!("{head}{wrong}")).is_err(), "{wrong:?}");
    }
    assert!(Metrics::parse("# TYPE px_a gauge\npx_a 1\n").is_err());
    assert!(Metrics::parse("# HELP px_a A.\npx_a 1\n").is_err());
    assert!(Metrics::parse("# HELP px_a A.\n# TYPE px_a counter\npx_a 1\n").is_err());
    assert!(
        Metrics::parse("# HELP px_a_total A.\n# TYPE px_a_total gauge\npx_a_total 1\n").is_err()
    );
    for (from, to) in [
        ("px_h_sum 3\n", ""),
        ("px_h_count 2", "px_h_count 3"),
        ("le=\"1\"} 1", "le=\"1\"} 3"),
        ("+Inf", "2"),
        ("le=\"1\"", "le=\"x\""),
        ("{le=\"1\"}", ""),
    ] {
        let broken = whole.replace(from, to);
        assert!(Metrics::parse(&format!("{histogram}{broken}")).is_err(), "{broken}");
    }
}
