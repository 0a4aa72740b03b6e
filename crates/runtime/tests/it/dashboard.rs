//! The Grafana dashboard: each query parses, and asks for metrics and labels that a running consumer has.

use crate::seeing::{eventful, scrape};
use promql_parser::label::Matchers;
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;
use weir_runtime::testing::MemoryLog;

fn board() -> Value {
    serde_json::from_str(include_str!("../../../../docs/dashboards/runtime.json")).unwrap()
}

/// The panels that ask for something.
fn panels(board: &Value) -> Vec<&Value> {
    let all = board["panels"].as_array().unwrap();
    all.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Title and query, with Grafana's variables replaced by what it would put there.
fn queries(board: &Value) -> Vec<(String, String)> {
    let of_one = |panel: &Value| -> Vec<(String, String)> {
        let title = panel["title"].as_str().unwrap();
        let targets = panel["targets"].as_array().unwrap().iter();
        let queries = targets.map(|target| (title.to_owned(), target["expr"].as_str().unwrap().to_owned()));
        queries.collect()
    };
    let filled = |query: String| {
        query.replace("$__rate_interval", "1m").replace("$subscription", ".*").replace("$topic", ".*")
    };
    panels(board).into_iter().flat_map(of_one).map(|(title, query)| (title, filled(query))).collect()
}

/// What a query asks for: labels that it selects by, for each metric; and labels that it sums by, with the metrics that
/// must have them.
#[derive(Default)]
struct Asked {
    metrics: Vec<(String, BTreeSet<String>)>,
    sums: Vec<(String, String)>,
}

impl Asked {
    fn selector(&mut self, selector: &VectorSelector) {
        let Matchers { matchers, .. } = &selector.matchers;
        let labels = matchers.iter().map(|matcher| matcher.name.clone()).collect();
        self.metrics.push((selector.name.clone().expect("each selector names its metric"), labels));
    }
}

impl ExprVisitor for Asked {
    type Error = Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Aggregate(aggregate) => {
                let mut inner = Self::default();
                let _ = walk_expr(&mut inner, &aggregate.expr);
                let labels = aggregate.modifier.iter().flat_map(|modifier| modifier.labels().labels.clone());
                for label in labels {
                    let pairs = inner.metrics.iter().map(|(metric, _)| (metric.clone(), label.clone()));
                    self.sums.extend(pairs);
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

fn asked(query: &str) -> Result<Asked, String> {
    let expr = parser::parse(query)?;
    let mut asked = Asked::default();
    let _ = walk_expr(&mut asked, &expr);
    Ok(asked)
}

/// What is wrong with a query, when these metrics with these labels are there.
fn wrong(query: &str, there: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let asked = match asked(query) {
        Ok(asked) => asked,
        Err(error) => return vec![format!("{query} does not parse: {error}")],
    };
    let mut wrong = Vec::new();
    for (metric, selected) in &asked.metrics {
        let Some(labels) = there.get(metric) else {
            wrong.push(format!("{metric} is not there"));
            continue;
        };
        let summed = asked.sums.iter().filter(|(of, _)| of == metric).map(|(_, label)| label);
        let missing = selected.iter().chain(summed).filter(|label| !labels.contains(*label));
        wrong.extend(missing.map(|label| format!("{metric} has no label {label}")));
        if !selected.contains("subscription") {
            wrong.push(format!("{metric} is asked for of all subscriptions"));
        }
    }
    if asked.metrics.is_empty() {
        wrong.push(format!("{query} asks for nothing"));
    }
    wrong
}

/// Names and labels of what a scrape gives.
async fn there() -> BTreeMap<String, BTreeSet<String>> {
    let log = MemoryLog::with_topic("t", 1);
    let running = eventful(&log).await;
    let mut registry = prometheus_client::registry::Registry::default();
    running.register(&mut registry, "orders");
    let values = scrape(&registry);
    running.stop(Duration::ZERO).await.unwrap();
    let of_one = |series: &String| {
        let (name, labels) = series.split_once('{').unwrap();
        let labels = labels.trim_end_matches('}').split(',').map(|label| label.split('=').next().unwrap());
        (name.to_owned(), labels.map(str::to_owned).collect())
    };
    values.keys().map(of_one).collect()
}

#[tokio::test(start_paused = true)]
async fn each_query_parses_and_asks_for_metrics_and_labels_that_a_running_consumer_has() {
    let (board, there) = (board(), there().await);
    let queries = queries(&board);
    assert!(queries.len() > 30, "{}", queries.len());
    for (title, query) in &queries {
        assert_eq!(wrong(query, &there), Vec::<String>::new(), "panel {title}: {query}");
        assert!(!query.contains('$'), "panel {title}: {query}");
    }
    // The check itself sees what is wrong.
    for bad in [
        "sum(rate(consumer_lanes{subscription=~\".*\"}[1m])",
        "consumer_no_such{subscription=\"a\"}",
        "consumer_lanes{subscription=\"a\", topic=\"b\"}",
        "sum by (partition) (consumer_lanes{subscription=\"a\"})",
        "rate(consumer_lanes[1m])",
        "1 + 1",
    ] {
        assert_eq!(wrong(bad, &there).len(), 1, "{bad}: {:?}", wrong(bad, &there));
    }
}

/// Every metric is on the dashboard, or it is said here why not.
#[tokio::test(start_paused = true)]
async fn no_metric_is_forgotten() {
    let asked: BTreeSet<String> = queries(&board())
        .iter()
        .flat_map(|(_, query)| asked(query).unwrap().metrics)
        .map(|(name, _)| name)
        .collect();
    let forgotten: Vec<String> = there().await.into_keys().filter(|name| !asked.contains(name)).collect();
    // Of these two the quantile is enough.
    let of_quantiles = ["dead_letter_seconds", "drain_seconds"];
    let expected: Vec<String> = of_quantiles
        .iter()
        .flat_map(|name| ["count", "sum"].map(|part| format!("consumer_{name}_{part}")))
        .collect();
    assert_eq!(forgotten, expected);
}

#[test]
fn panels_have_a_title_a_unit_numbers_of_their_own_and_do_not_lie_on_each_other() {
    let board = board();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()));
        let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(taken.insert((place("x") + x, place("y") + y)), "{} lies on another", panel["title"]);
        }
        assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
    }
    for panel in panels(&board) {
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{}", panel["title"]);
    }
}
