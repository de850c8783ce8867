//! What a `MetricsObserver` counts, and that nobody outside can make it count more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use larder::policy::{Bypass, Policies, request_fn};
use larder::store::PurgeTarget;
use larder::{BoxStore, CacheLayer, Event, MemoryStore, MetricsObserver, RequestAction, StandardPolicy};
use tower::{Layer, Service};

use crate::house::documents;
use crate::store::failing::Down;
use crate::support::bench::read;
use crate::support::origin::always;
use crate::support::recorder::Recorder;
use crate::support::{Bench, CacheBuilder, Reply, Stage, cache_builder, settle};

fn observed(recorder: &Recorder) -> CacheBuilder {
    cache_builder().observer(MetricsObserver::with_recorder(recorder))
}

/// What was counted since the last time, by series. Times, which are measured, show as one for each.
fn counted(recorder: &Recorder) -> Vec<(String, f64)> {
    let value = |name: &str, values: &[f64]| {
        if name.contains("_seconds") { values.len() as f64 } else { values.iter().sum() }
    };
    let counted = recorder.take().into_iter();
    counted
        .map(|(name, values)| {
            let value = value(&name, &values);
            (name, value)
        })
        .collect()
}

#[track_caller]
fn check(recorder: &Recorder, expected: &[(&str, f64)]) {
    let counted = counted(recorder);
    let counted: Vec<_> = counted.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(counted, expected);
}

/// The series of requests that were counted.
fn requests(recorder: &Recorder) -> String {
    let series = recorder.take().into_keys().filter(|name| name.starts_with("larder_requests"));
    series.collect::<Vec<_>>().join(" ")
}

fn series(outcome: &str, fwd: &str, method: &str) -> String {
    format!("larder_requests_total{{outcome=\"{outcome}\",fwd=\"{fwd}\",method=\"{method}\"}}")
}

#[tokio::test]
async fn a_miss_and_a_hit_are_counted_with_their_outcome_time_and_size() {
    let recorder = Recorder::default();
    let bench = Bench::with(observed(&recorder), [Reply::cc("four", "max-age=60")]);
    bench.get("/a").await;
    check(
        &recorder,
        &[
            ("larder_fetch_duration_seconds{fwd=\"uri-miss\",status=\"2xx\"}", 1.0),
            ("larder_puts_total{result=\"stored\"}", 1.0),
            ("larder_request_duration_seconds{outcome=\"miss\"}", 1.0),
            ("larder_requests_total{outcome=\"miss\",fwd=\"uri-miss\",method=\"GET\"}", 1.0),
            ("larder_response_body_size_bytes{outcome=\"miss\"}", 4.0),
        ],
    );
    bench.send(Method::HEAD, "/a", &[]).await;
    check(
        &recorder,
        &[
            ("larder_request_duration_seconds{outcome=\"hit\"}", 1.0),
            ("larder_requests_total{outcome=\"hit\",fwd=\"none\",method=\"HEAD\"}", 1.0),
            ("larder_response_body_size_bytes{outcome=\"hit\"}", 0.0),
        ],
    );
}

#[tokio::test]
async fn each_kind_of_outcome_is_counted_as_such() {
    let recorder = Recorder::default();
    let lifetime = "max-age=60, stale-while-revalidate=60, stale-if-error=600";
    let bench = Bench::with(observed(&recorder), [Reply::cc("four", lifetime).field("etag", "\"a\"")]);
    let get = async |fields: &[(&str, &str)]| {
        bench.get_with("/", fields).await;
        settle().await;
        requests(&recorder)
    };
    assert_eq!(get(&[("cache-control", "only-if-cached")]).await, series("miss", "none", "GET"));
    assert_eq!(get(&[]).await, series("miss", "uri-miss", "GET"));
    assert_eq!(get(&[]).await, series("hit", "none", "GET"));
    bench.later(61);
    assert_eq!(get(&[]).await, series("stale", "none", "GET"), "validated in the background");
    bench.later(121);
    bench.origin.not_modified(Some(Reply::cc("", lifetime).status(304)));
    assert_eq!(get(&[]).await, series("revalidated", "stale", "GET"));
    bench.later(121);
    bench.origin.not_modified(Some(Reply::cc("", "no-store").status(503)));
    assert_eq!(get(&[]).await, series("stale", "stale", "GET"), "stands in for an error");
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    assert_eq!(get(&upgrade).await, series("bypass", "bypass", "GET"));
    bench.send(Method::DELETE, "/", &[]).await;
    assert_eq!(requests(&recorder), series("bypass", "method", "DELETE"));
    bench.send(Method::from_bytes(b"BREW").unwrap(), "/", &[]).await;
    assert_eq!(requests(&recorder), series("bypass", "method", "_OTHER"));
}

#[tokio::test]
async fn requests_that_share_a_call_fail_or_are_given_up_are_counted_as_such() {
    let recorder = Recorder::default();
    let stage = Stage::with(observed(&recorder));
    let herd = stage.herd(3, &[]);
    settle().await;
    stage.origin.call(0).head(&[("cache-control", "max-age=60")]).frame("x").end();
    for client in herd {
        client.seen().await;
    }
    let shared = requests(&recorder);
    assert!(shared.contains(&series("collapsed", "uri-miss", "GET")), "{shared}");
    let client = stage.get("/other");
    settle().await;
    client.leave();
    settle().await;
    assert_eq!(requests(&recorder), series("abandoned", "none", "GET"));
    let bench = Bench::with(observed(&recorder), [Reply::refused()]);
    bench.try_send(Method::POST, "/", &[]).await.unwrap_err();
    assert_eq!(requests(&recorder), series("error", "none", "POST"));
}

#[tokio::test]
async fn reasons_not_to_store_and_other_details_are_counted_by_their_words() {
    let recorder = Recorder::default();
    let policy = Policies::new(StandardPolicy::default())
        .path("/cart", Bypass::new("cart"))
        .path("/strange", Bypass::new("strange"));
    let metrics = MetricsObserver::builder().cache("pages").reasons(["cart"]).build_with(&recorder);
    let builder = cache_builder().policy(policy).observer(metrics);
    let bench = Bench::with(builder, [Reply::cc("four", "private")]);
    for (path, fields, expected) in [
        ("/", &[][..], "larder_not_stored_total{cache=\"pages\",reason=\"private\"}"),
        ("/cart", &[], "larder_not_stored_total{cache=\"pages\",reason=\"cart\"}"),
        ("/strange", &[], "larder_not_stored_total{cache=\"pages\",reason=\"other\"}"),
        ("/", &[("host", "a b")], "larder_not_stored_total{cache=\"pages\",reason=\"ambiguous-authority\"}"),
        (
            "/",
            &[("cache-control", "only-if-cached")],
            "larder_details_total{cache=\"pages\",detail=\"only-if-cached\"}",
        ),
    ] {
        bench.get_with(path, fields).await;
        let counted = recorder.take();
        assert_eq!(counted.get(expected), Some(&vec![1.0]), "{path}: {counted:?}");
        let words = counted.keys().filter(|name| name.contains("reason=") || name.contains("detail="));
        assert_eq!(words.count(), 1, "{counted:?}");
    }
}

#[test]
fn each_word_of_cache_status_has_a_series_of_its_own() {
    let recorder = Recorder::default();
    let _metrics = MetricsObserver::with_recorder(&recorder);
    let series = recorder.series();
    for word in documents::details() {
        let of = |name: &str, label: &str| format!("larder_{name}_total{{{label}={word:?}}}");
        let has = |one: String| series.contains(&one);
        assert!(has(of("not_stored", "reason")) || has(of("details", "detail")), "{word}");
    }
    for word in documents::forwards() {
        assert!(series.iter().any(|series| series.contains(&format!("fwd={word:?}"))), "{word}");
    }
}

/// What a client, an origin and a policy that repeats what they say can put into anything that is reported.
#[tokio::test]
async fn a40_hostile_text_adds_no_series_and_is_in_no_label() {
    let recorder = Recorder::default();
    let policy = Policies::new(StandardPolicy::default())
        .path("/echo/*", request_fn(|request| RequestAction::bypass(request.uri.path().to_owned())));
    let metrics = MetricsObserver::with_recorder(&recorder);
    let reply = Reply::cc("x", "max-age=60").field("cache-groups", "\"evil-group\"");
    let bench = Bench::with(cache_builder().policy(policy).observer(metrics.clone()), [reply]);
    let registered = recorder.series();
    for number in 0..200 {
        let path = format!("/echo/evil%22%7D%0A{number}");
        bench.get(&path).await;
        bench.get(&format!("/page?evil={number}&token=%22%7D%5C")).await;
        let host = format!("evil{number}.test");
        bench.get_with("/", &[("host", &host), ("x-forwarded-for", "evil")]).await;
        let method = Method::from_bytes(format!("EVIL{number}").as_bytes()).unwrap();
        bench.send(method, "/", &[]).await;
        bench.handle.purge_target(&PurgeTarget::tag(format!("evil{number}"))).await.unwrap();
    }
    bench.handle.record(&metrics);
    assert_eq!(recorder.series(), registered, "each series is there from the beginning");
    assert!(registered.iter().all(|series| !series.to_lowercase().contains("evil")), "{registered:?}");
    assert!(registered.len() < 500, "{}", registered.len());
    let counted = recorder.take();
    assert_eq!(counted["larder_not_stored_total{reason=\"other\"}"], [200.0]);
    assert_eq!(counted["larder_purges_total{target=\"tag\",how=\"hard\",result=\"done\"}"], [200.0]);
}

#[tokio::test]
async fn what_is_no_event_is_recorded_when_it_is_asked_for() {
    let recorder = Recorder::default();
    let metrics = MetricsObserver::with_recorder(&recorder);
    let store = MemoryStore::builder().capacity(1 << 20).build();
    let layer = CacheLayer::builder(store).observer(metrics.clone()).build();
    let mut cache = layer.layer(always(Reply::cc("four", "max-age=60")));
    let request = Request::get("http://example.com/").body(Empty::<Bytes>::new()).unwrap();
    read(cache.call(request).await.unwrap()).await;
    layer.handle().record(&metrics);
    let counted = recorder.take();
    assert_eq!(counted["larder_store_entries"], [1.0]);
    assert_eq!(counted["larder_store_usage_bytes"], [layer.handle().statistics().bytes as f64]);
    assert!(counted["larder_store_limit_bytes"][0] > 0.0);
    assert_eq!(counted["larder_fills"], [0.0]);
    assert_eq!(counted["larder_evictions_total"], [0.0]);
}

#[tokio::test]
async fn purges_and_failures_of_the_store_are_counted() {
    let recorder = Recorder::default();
    let bench = Bench::with(observed(&recorder), [Reply::cc("four", "max-age=60")]);
    let targets = [PurgeTarget::tag("a"), PurgeTarget::tag("b"), PurgeTarget::path_prefix("/a")];
    bench.handle.purge_targets(&targets).await.unwrap();
    bench.handle.soft_purge_target(&PurgeTarget::All).await.unwrap();
    check(
        &recorder,
        &[
            ("larder_purge_duration_seconds", 2.0),
            ("larder_purges_total{target=\"all\",how=\"soft\",result=\"done\"}", 1.0),
            ("larder_purges_total{target=\"path\",how=\"hard\",result=\"done\"}", 1.0),
            ("larder_purges_total{target=\"tag\",how=\"hard\",result=\"done\"}", 2.0),
        ],
    );
    let metrics = MetricsObserver::with_recorder(&recorder);
    let layer = CacheLayer::builder(BoxStore::new(Down)).observer(metrics).build();
    layer.handle().purge_target(&PurgeTarget::All).await.unwrap_err();
    check(
        &recorder,
        &[
            ("larder_purge_duration_seconds", 1.0),
            ("larder_purges_total{target=\"all\",how=\"hard\",result=\"failed\"}", 1.0),
            ("larder_store_failures_total{operation=\"invalidate\"}", 1.0),
        ],
    );
}

#[tokio::test]
async fn each_observer_gets_each_event_in_the_order_in_which_they_were_added() {
    let recorder = Recorder::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let remember = |number: u8| {
        let seen = Arc::clone(&seen);
        move |event: &Event<'_>| {
            if let Event::Answered { .. } = event {
                seen.lock().unwrap().push(number);
            }
        }
    };
    let builder = observed(&recorder).observer(remember(1)).observer(remember(2));
    let bench = Bench::with(builder, [Reply::cc("four", "max-age=60")]);
    bench.get("/").await;
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
    assert_eq!(requests(&recorder), series("miss", "uri-miss", "GET"));
}

/// The documentation of `MetricsObserver` has a table of them.
#[test]
fn the_table_of_metrics_has_each_of_them_and_no_other() {
    let recorder = Recorder::default();
    let _metrics = MetricsObserver::with_recorder(&recorder);
    let names = |text: &str| text.split(['{', '`']).next().unwrap_or_default().to_owned();
    let registered: BTreeSet<_> = recorder.series().iter().map(|series| names(series)).collect();
    let source = include_str!("../../../src/observe/metrics/mod.rs");
    let rows = source.lines().filter(|line| line.starts_with("/// | `larder_"));
    let first = |row: &str| row.split('|').nth(1).unwrap().to_owned();
    let documented: BTreeSet<_> = rows
        .flat_map(|row| first(row).split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(documented, registered);
}

/// A metric that a query names, with what it says of labels: `label=` to `value`, or a pattern of values.
fn selectors(query: &str) -> Vec<(String, Vec<(String, String)>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (start, _) in query.match_indices("larder_") {
        if query[..start].ends_with(is_name) {
            continue;
        }
        let rest = &query[start..];
        let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
        let labels =
            rest[name.len()..].strip_prefix('{').map_or("", |labels| labels.split('}').next().unwrap());
        let labels = labels.split("\",").filter(|label| !label.is_empty()).map(|label| {
            let (name, value) = label.split_once('"').unwrap_or_else(|| panic!("{query}"));
            (name.trim_end_matches(['=', '!', '~']).to_owned(), value.trim_end_matches('"').to_owned())
        });
        found.push((name.to_owned(), labels.collect()));
    }
    found
}

/// The label by which a query groups.
fn groups(query: &str) -> Vec<String> {
    let lists = query.split(" by (").skip(1).map(|rest| rest.split(')').next().unwrap());
    lists.flat_map(|list| list.split(", ").map(str::to_owned)).collect()
}

/// What is wrong with a query, as far as names of metrics, of labels and of their values go.
fn faults(query: &str, series: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let of = |metric: &str| {
        // A histogram has these series; a count and a level have one.
        let base =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric);
        let own: Vec<_> = series.iter().filter(|series| series.split('{').next() == Some(base)).collect();
        let is_histogram = base.ends_with("_seconds") || base == "larder_response_body_size_bytes";
        if is_histogram == (base == metric) { Vec::new() } else { own }
    };
    for (metric, labels) in selectors(query) {
        let own = of(&metric);
        if own.is_empty() {
            faults.push(format!("there is no {metric}"));
        }
        for (label, values) in labels.into_iter().filter(|(label, _)| label != "cache") {
            for value in values.split(['|', '\\']).filter(|value| !value.is_empty()) {
                let pair = format!("{label}={value:?}");
                if !own.iter().any(|series| series.contains(&pair)) {
                    faults.push(format!("no series of {metric} has {pair}"));
                }
            }
        }
        for label in groups(query).into_iter().filter(|label| label != "le") {
            if !own.iter().any(|series| series.contains(&format!("{label}="))) {
                faults.push(format!("{metric} has no label {label}"));
            }
        }
    }
    faults
}

#[test]
fn the_dashboard_shows_the_hit_ratio_that_the_documents_define() {
    let dashboard = include_str!("../../../docs/grafana/larder.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let ratios: Vec<_> =
        panels.filter(|panel| panel["title"].as_str().unwrap().contains("Hit ratio")).collect();
    assert_eq!(ratios.len(), 2);
    for panel in ratios {
        let [query] = &panel["targets"].as_array().unwrap()[..] else { panic!("one number: {panel}") };
        let query = query["expr"].as_str().unwrap();
        let query = query.replace("cache=~\"$cache\",", "").replace("$__rate_interval", "5m");
        assert_eq!(query, documented_hit_ratio());
    }
}

/// The query for the hit ratio in docs/WATCHING.md.
pub fn documented_hit_ratio() -> String {
    let page = include_str!("../../../docs/WATCHING.md");
    let row = page.lines().find(|line| line.starts_with('|') && line.contains("hit ratio")).unwrap();
    // In a table, `|` is `\|`.
    row.split('`').nth(1).unwrap().replace("\\|", "|")
}

#[test]
fn the_dashboard_and_the_documents_ask_for_metrics_and_labels_that_there_are() {
    let recorder = Recorder::default();
    let _metrics = MetricsObserver::with_recorder(&recorder);
    let series = recorder.series();
    let dashboard = include_str!("../../../docs/grafana/larder.json");
    let dashboard: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(target["expr"].as_str().expect("a query").to_owned());
        }
    }
    assert!(queries.len() > 25, "{queries:?}");
    let shown: BTreeSet<_> =
        queries.iter().flat_map(|query| selectors(query)).map(|(name, _)| name).collect();
    let names: BTreeSet<_> = series.iter().map(|series| series.split('{').next().unwrap()).collect();
    for name in names {
        assert!(shown.iter().any(|shown| shown.starts_with(name)), "the dashboard does not show {name}");
    }
    for page in [include_str!("../../../docs/WATCHING.md"), include_str!("../../../docs/WHY.md")] {
        let texts = page.split('`').flat_map(str::lines);
        queries.extend(texts.filter(|text| text.contains("(larder_")).map(str::to_owned));
    }
    assert!(queries.len() > 35, "{queries:?}");
    for query in queries {
        assert_eq!(faults(&query, &series), [""; 0], "{query}");
    }
    // The check finds what is wrong.
    assert_eq!(faults("rate(larder_request_total[5m])", &series), ["there is no larder_request_total"]);
    assert_eq!(
        faults("larder_request_duration_seconds", &series),
        ["there is no larder_request_duration_seconds"]
    );
    assert_eq!(
        faults("sum by (status) (larder_requests_total{outcome=~\"hit|fresh\"})", &series),
        [
            "no series of larder_requests_total has outcome=\"fresh\"",
            "larder_requests_total has no label status"
        ]
    );
}
