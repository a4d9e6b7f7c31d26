//! The page of metrics, the alert rules and the dashboard name what `/metrics` has, and the alerts come when something is
//! wrong.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;
use support::daemon::Daemon;
use support::etcd::{Etcd, etcdctl, free_port};
use support::http::Http;
use support::tls::Authority;
use support::tokens::TokenFile;
use support::tools;
use support::workload::put;
use support::{eventually, in_time};

const PAGE: &str = include_str!("../src/docs/metrics.md");
const PROTOCOL: &str = include_str!("../src/wire/PROTOCOL.md");
const RULES: &str = include_str!("../deploy/prometheus/crumbd-alerts.yaml");
const RULE_TESTS: &str = include_str!("../deploy/prometheus/crumbd-alerts.test.yaml");
const DASHBOARD: &str = include_str!("../deploy/grafana/crumbd.json");

/// Only in a control group with a limit, which a test cannot make.
const NOT_EVERYWHERE: [&str; 1] = ["crumbd_memory_limit_bytes"];

/// The labels that Prometheus adds to every series.
const TARGET: [&str; 2] = ["job", "instance"];

/// What is known of a metric: its type, and the values of each label.
#[derive(Debug, Default, PartialEq)]
struct Metric {
    kind: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl Metric {
    fn label_names(&self) -> BTreeSet<&str> {
        self.labels.keys().map(String::as_str).filter(|label| *label != "le").collect()
    }
}

type Metrics = BTreeMap<String, Metric>;

/// A metric in an expression, with its conditions: label, operator and value.
#[derive(Debug, PartialEq)]
struct Selector {
    name: String,
    conditions: Vec<(String, String, String)>,
}

/// The conditions between two braces, and what comes after them. A value in quotes may hold any text but a quote.
fn conditions(text: &str) -> (Vec<(String, String, String)>, &str) {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return (found, after);
        }
        let (condition, after) = rest.split_once('"').unwrap_or_else(|| panic!("no value in {rest}"));
        let (value, after) = after.split_once('"').unwrap_or_else(|| panic!("no end of a value in {rest}"));
        let label = condition.trim_end_matches(['=', '~', '!']);
        let operator = condition[label.len()..].to_owned();
        found.push((label.trim().to_owned(), operator, value.to_owned()));
        rest = after;
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The metrics in an expression of PromQL, and the labels that it groups or matches by.
fn parts(expression: &str) -> (Vec<Selector>, BTreeSet<String>) {
    const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
    let (mut selectors, mut grouping) = (Vec::new(), BTreeSet::new());
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| is_of_name(c) || c == '"') {
        if let Some(text) = rest[start..].strip_prefix('"') {
            rest = text.split_once('"').unwrap().1;
            continue;
        }
        let word: &str = &rest[start..];
        let word = &word[..word.find(|c| !is_of_name(c)).unwrap_or(word.len())];
        rest = &rest[start + word.len()..];
        if GROUPING.contains(&word) {
            let list = rest.trim_start().strip_prefix('(').unwrap_or_default();
            let (list, after) = list.split_once(')').unwrap();
            grouping.extend(list.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        } else if word == "up" || word.starts_with("crumbd_") || word.starts_with("process_") {
            let (conditions, after) = match rest.strip_prefix('{') {
                Some(inside) => conditions(inside),
                None => (Vec::new(), rest),
            };
            selectors.push(Selector { name: word.to_owned(), conditions });
            rest = after;
        }
    }
    (selectors, grouping)
}

/// The metrics of a scrape, under the names that queries use.
fn read(text: &str) -> Metrics {
    let mut all = Metrics::new();
    let mut family = (String::new(), String::new());
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            family = (format!("{name}{suffix}"), kind.to_owned());
            all.insert(family.0.clone(), Metric { kind: kind.to_owned(), ..Metric::default() });
        } else if !line.starts_with('#') {
            let (selectors, _) = parts(line.rsplit_once(' ').unwrap().0);
            let [sample] = &selectors[..] else { panic!("no sample: {line}") };
            assert!(sample.name.starts_with(&family.0), "{line} among {family:?}");
            let metric = all.get_mut(&family.0).unwrap();
            for (label, _, value) in &sample.conditions {
                metric.labels.entry(label.clone()).or_default().insert(value.clone());
            }
        }
    }
    all
}

async fn scrape(http: &Http) -> Metrics {
    read(&String::from_utf8(http.get("/metrics").await.ok(200).body).unwrap())
}

/// The metrics of daemons with every kind of feed that is easily had, and with every optional part.
async fn scraped() -> Metrics {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("feed.ndjson");
    std::fs::write(&file, put("a", "1") + "\n").unwrap();
    let etcd = Etcd::start().await;
    etcd.keys().txn(&[support::etcd::Op::Put(b"app/a".to_vec(), b"1".to_vec())]).await;
    let (from_file, from_etcd) = (format!("f=file:{}", file.display()), format!("e={}", etcd.feed("app/")));
    let feeds = ["--feed", "push:", "--feed", &from_file, "--feed", &from_etcd];
    let limits = ["--max-keys", "1000", "--max-bytes", "1MiB", "--max-client-rate", "10000/s"];
    let daemon = Daemon::serve(&[&feeds[..], &["--etcd-listen", "127.0.0.1:0"], &limits].concat());
    let http = daemon.http();
    let url = daemon.logged("an address for etcd's clients", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["message"].as_str()?.contains("etcd's clients").then(|| line["url"].as_str().unwrap().to_owned())
    });
    let called = etcdctl(&url).args(["get", "a"]).output().unwrap();
    assert!(called.status.success(), "{called:?}");
    // A client that waits, one whose cursor is gone, and the answers to both.
    let cursor = http.cursor().await;
    let next = format!("/v1/breadcrumbs/{cursor}/next?wait=30s");
    let waiting = tokio::spawn({
        let http = http.clone();
        async move { http.get(&next).await.ok(200) }
    });
    eventually("a waiter", || async {
        (http.get("/v1/status").await.ok(200).json()["waiters"] == 1).then_some(())
    })
    .await;
    http.put(b"a", "application/json", b"1").await;
    in_time("the waiter", waiting).await.unwrap();
    let (history, rest) = cursor.split_once('.').unwrap();
    let other: String = history.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect();
    http.get(&format!("/v1/breadcrumbs/{other}.{rest}/next?wait=0")).await.problem(410);
    let mut all = scrape(&http).await;

    let (authority, mut tokens) = (Authority::new("metrics"), TokenFile::new());
    let token = tokens.add_admin();
    let guarded = tokens.daemon(&authority.server().served()).vouched_for_by(&authority);
    for (name, metric) in scrape(&token.http(&guarded)).await {
        let known = all.entry(name).or_insert_with(|| Metric { kind: metric.kind, ..Metric::default() });
        for (label, values) in metric.labels {
            known.labels.entry(label).or_default().extend(values);
        }
    }
    all
}

/// What is between each pair of backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of the page, each a metric without the values of its labels.
fn documented() -> Metrics {
    let mut rows = Metrics::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, unit, meaning, normal] = cells[..] else {
            panic!("a row has six cells: {line}")
        };
        assert!(![unit, meaning, normal].contains(&""), "an empty cell: {line}");
        let labels = quoted(labels).map(|label| (label.to_owned(), BTreeSet::new())).collect();
        let metric = Metric { kind: kind.to_owned(), labels };
        assert!(rows.insert(name.trim_matches('`').to_owned(), metric).is_none(), "twice: {name}");
    }
    rows
}

#[tokio::test]
async fn the_page_has_a_row_for_each_metric_and_no_other() {
    let (rows, all) = (documented(), scraped().await);
    for (name, metric) in &all {
        let row = rows.get(name).unwrap_or_else(|| panic!("src/docs/metrics.md has no row for {name}"));
        assert_eq!(row.kind, metric.kind, "the type of {name} in src/docs/metrics.md");
        assert_eq!(row.label_names(), metric.label_names(), "the labels of {name} in src/docs/metrics.md");
    }
    let missing: Vec<&String> = rows.keys().filter(|name| !all.contains_key(*name)).collect();
    let surprising: Vec<_> = missing.iter().filter(|name| !NOT_EVERYWHERE.contains(&name.as_str())).collect();
    assert!(surprising.is_empty(), "rows without a metric: {surprising:?}");
}

#[test]
fn the_contract_names_each_metric() {
    let section = PROTOCOL.split("\n## Numbers\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let named = quoted(section).map(|name| name.split('{').next().unwrap());
    let named: BTreeSet<&str> = named
        .filter(|name| *name != "crumbd_" && name.chars().all(|c| c == '_' || c.is_ascii_lowercase()))
        .collect();
    let rows = documented();
    let rows: BTreeSet<&str> = rows.keys().map(|name| name.trim_start_matches("crumbd_")).collect();
    let absent: Vec<_> = rows.difference(&named).collect();
    assert!(absent.is_empty(), "\"Numbers\" in PROTOCOL.md does not name {absent:?}");
    let unknown: Vec<_> = named.difference(&rows).collect();
    assert!(unknown.is_empty(), "\"Numbers\" in PROTOCOL.md names {unknown:?}, which no daemon has");
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The alert rules.
fn rules() -> Vec<Value> {
    let groups = yaml(RULES);
    items(&groups["groups"]).flat_map(|group| items(&group["rules"])).cloned().collect()
}

/// Every query of the dashboard, those of its variables included.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let targets = items(&dashboard["panels"]).flat_map(|panel| items(&panel["targets"]));
    let targets: Vec<String> = targets.map(|target| text(&target["expr"]).to_owned()).collect();
    let variables =
        items(&dashboard["templating"]["list"]).filter_map(|variable| variable["definition"].as_str());
    targets.into_iter().chain(variables.map(str::to_owned)).collect()
}

/// Fails unless the metrics have every name and label of an expression, and have had every value.
fn check_names(expression: &str, all: &Metrics) {
    let (selectors, grouping) = parts(expression);
    assert!(!selectors.is_empty(), "no metric in {expression}");
    let mut known: BTreeSet<&str> = TARGET.into();
    for Selector { name, conditions } in selectors.iter().filter(|selector| selector.name != "up") {
        let is_part = |suffix| {
            let metric = all.get(name.strip_suffix(suffix)?)?;
            (metric.kind == "histogram").then_some(metric)
        };
        let metric = all.get(name).or_else(|| ["_bucket", "_sum", "_count"].into_iter().find_map(is_part));
        let metric = metric.unwrap_or_else(|| panic!("there is no metric {name}: {expression}"));
        known.extend(metric.labels.keys().map(String::as_str));
        for (label, operator, value) in conditions.iter().filter(|one| !TARGET.contains(&one.0.as_str())) {
            let values = metric.labels.get(label);
            let values = values.unwrap_or_else(|| panic!("{name} has no label {label}: {expression}"));
            let is_free = ["collection", "version"].contains(&label.as_str());
            assert!(
                operator != "=" || is_free || values.contains(value),
                "{name} never has {label}=\"{value}\", but {values:?}: {expression}"
            );
        }
    }
    let unknown: Vec<_> = grouping.iter().filter(|label| !known.contains(label.as_str())).collect();
    assert!(unknown.is_empty(), "none of the metrics has a label {unknown:?}: {expression}");
}

#[tokio::test]
async fn rules_and_dashboard_name_only_metrics_and_labels_that_exist() {
    let mut all = scraped().await;
    for name in NOT_EVERYWHERE {
        all.entry(name.to_owned())
            .or_insert_with(|| Metric { kind: "gauge".to_owned(), ..Metric::default() });
    }
    rules().iter().for_each(|rule| check_names(text(&rule["expr"]), &all));
    dashboard_queries().iter().for_each(|query| check_names(query, &all));
    let tests = yaml(RULE_TESTS);
    let series = items(&tests["tests"]).flat_map(|test| items(&test["input_series"]));
    let series: Vec<&str> = series.map(|series| text(&series["series"])).collect();
    // Other programs have some of these too.
    series
        .iter()
        .filter(|series| !series.contains("job=\"other\""))
        .for_each(|series| check_names(series, &all));
}

#[test]
fn every_rule_says_what_it_means_and_where_it_says_what_to_do() {
    let (_, runbook) = PAGE.split_once("\n# What to do about an alert\n").unwrap();
    let headings: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let rules = rules();
    let names: BTreeSet<&str> = rules.iter().map(|rule| text(&rule["alert"])).collect();
    assert_eq!(names, headings, "the alerts, and the headings of src/docs/metrics.md");
    for rule in &rules {
        let (name, annotations) = (text(&rule["alert"]), &rule["annotations"]);
        assert!(["warning", "critical"].contains(&text(&rule["labels"]["severity"])), "{name}");
        assert!(text(&annotations["summary"]).contains("{{ $labels.instance }}"), "{name} says where it is");
        assert!(text(&annotations["description"]).ends_with('.'), "{name} is described in sentences");
        let heading = format!("src/docs/metrics.md#{}", name.to_lowercase());
        assert_eq!(text(&annotations["runbook"]), heading, "{name}");
    }
}

/// Fails unless `promtool check rules` or `promtool test rules` passes with this file.
fn promtool(action: &str, file: &Path) {
    let done = tools::promtool().args([action, "rules"]).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "promtool {action} rules {}:\n{said}", file.display());
}

#[test]
fn the_queries_of_the_dashboard_can_be_read() {
    let queries = dashboard_queries().into_iter().filter(|query| !query.starts_with("label_values("));
    // What Grafana replaces by a time.
    let queries = queries.map(|query| query.replace("$__rate_interval", "1m"));
    let rules =
        queries.enumerate().map(|(n, query)| serde_json::json!({"record": format!("q{n}"), "expr": query}));
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules.collect::<Vec<_>>()}]});
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yaml");
    std::fs::write(&file, groups.to_string()).unwrap();
    promtool("check", &file);
}

#[test]
fn every_rule_fires_in_a_test_and_is_silent_in_peace() {
    promtool("check", Path::new("deploy/prometheus/crumbd-alerts.yaml"));
    promtool("test", Path::new("deploy/prometheus/crumbd-alerts.test.yaml"));
    let (rules, tests) = (rules(), yaml(RULE_TESTS));
    let expected = items(&tests["tests"]).flat_map(|test| items(&test["promql_expr_test"]));
    let expected: Vec<&Value> = expected.flat_map(|check| items(&check["exp_samples"])).collect();
    let fires = |name: &str| {
        let alert = format!("alertname=\"{name}\"");
        expected.iter().any(|sample| text(&sample["labels"]).contains(&alert))
    };
    let silent: Vec<&str> =
        rules.iter().map(|rule| text(&rule["alert"])).filter(|name| !fires(name)).collect();
    assert!(silent.is_empty(), "no test makes {silent:?} fire");
    let peace = items(&tests["tests"]).find(|test| test["name"] == "peace").unwrap();
    let checks: Vec<&Value> = items(&peace["promql_expr_test"]).collect();
    assert!(!checks.is_empty() && checks.iter().all(|check| items(&check["exp_samples"]).count() == 0));
    let names = |expression: &str| parts(expression).0.into_iter().map(|selector| selector.name);
    let played: BTreeSet<String> =
        items(&peace["input_series"]).flat_map(|series| names(text(&series["series"]))).collect();
    let used: BTreeSet<String> = rules.iter().flat_map(|rule| names(text(&rule["expr"]))).collect();
    assert_eq!(played, used, "the metrics in peace, and those of the rules");
}

/// A running Prometheus with our rules. Dropping it kills the process, by its id.
struct Prometheus {
    process: Child,
    http: Http,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    async fn of(daemons: &[&Daemon]) -> Prometheus {
        let dir = tempfile::tempdir().unwrap();
        let rules = std::path::absolute("deploy/prometheus/crumbd-alerts.yaml").unwrap();
        let targets: Vec<&str> = daemons.iter().map(|daemon| daemon.address()).collect();
        let config = serde_json::json!({
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
            "rule_files": [rules],
            "scrape_configs": [{"job_name": "crumbd", "static_configs": [{"targets": targets}]}],
        });
        // JSON is YAML.
        std::fs::write(dir.path().join("config"), config.to_string()).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let place = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let process = tools::prometheus()
            .arg(format!("--web.listen-address={address}"))
            .arg(place("config.file", &dir.path().join("config")))
            .arg(place("storage.tsdb.path", &dir.path().join("data")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Prometheus { process, http: Http::new(&format!("http://{address}")), _dir: dir }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let got = self.http.try_send("GET", path, &[], None).await.ok()?;
        (got.status == 200).then(|| got.json()["data"].clone())
    }

    /// The alerts of a daemon, pending or firing: those that are pending wait for their `for:` only.
    async fn alerts(&self, of: &Daemon) -> Option<BTreeSet<String>> {
        let all = self.ask("/api/v1/alerts").await?;
        let labels = items(&all["alerts"]).map(|alert| &alert["labels"]);
        let own = labels.filter(|labels| labels["instance"] == of.address());
        Some(own.map(|labels| text(&labels["alertname"]).to_owned()).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn a_real_prometheus_raises_the_alerts_of_a_daemon_in_trouble_and_none_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("feed.ndjson");
    std::fs::write(&file, put("a", "\"a value that is too long\"") + "\n").unwrap();
    let full = dir.path().join("full.ndjson");
    std::fs::write(&full, ["a", "b", "c"].map(|key| put(key, "1") + "\n").concat()).unwrap();
    let (from_file, from_full) = (format!("f=file:{}", file.display()), format!("g=file:{}", full.display()));
    let unreachable = format!("e=etcd://127.0.0.1:{}/app/", free_port());
    let limits = ["--max-value-bytes", "16", "--max-waiters", "1", "--max-keys", "2"];
    let feeds = ["--feed", "push:", "--feed", &from_file, "--feed", &from_full, "--feed", &unreachable];
    let (troubled, well) = (Daemon::serve(&[&feeds[..], &limits].concat()), Daemon::push(&[]));
    let prometheus = Prometheus::of(&[&troubled, &well]).await;
    let http = troubled.http();
    let next = format!("/v1/breadcrumbs/{}/next?wait=30s", http.cursor().await);
    let waiting = tokio::spawn({
        let (http, next) = (http.clone(), next.clone());
        async move { http.get(&next).await }
    });
    eventually("a waiter", || async {
        (http.get("/v1/status").await.ok(200).json()["waiters"] == 1).then_some(())
    })
    .await;
    let expected = ["CrumbdNotInSync", "CrumbdOverBudget", "CrumbdOverLimit", "CrumbdRefusedKeys"];
    eventually("the alerts", || async {
        http.get(&next).await.problem(503);
        let alerts = prometheus.alerts(&troubled).await?;
        expected.iter().all(|name| alerts.contains(*name)).then_some(())
    })
    .await;
    let seen = prometheus.ask("/api/v1/query?query=crumbd_build_info").await.unwrap();
    assert_eq!(items(&seen["result"]).count(), 2, "both are scraped: {seen}");
    assert_eq!(prometheus.alerts(&well).await.unwrap(), BTreeSet::new());
    waiting.abort();
}
