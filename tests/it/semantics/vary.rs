//! Variants and selecting fields (RFC 9111 4.1).

use larder::semantics::accept::Codings;
use larder::{MemoryStore, StandardPolicy};

use crate::support::{Bench, Reply, cache_builder, cache_builder_over};

fn in_language(language: &str) -> Reply {
    Reply::cc(language, "max-age=60").field("vary", "accept-language")
}

#[tokio::test]
async fn va1_all_variants_are_kept() {
    let bench = Bench::new(["en", "de", "fr"].map(in_language));
    for language in ["en", "de", "fr"] {
        bench.get_with("/", &[("accept-language", language)]).await.has_body(language);
    }
    for language in ["en", "de", "fr"] {
        let hit = bench.get_with("/", &[("accept-language", language)]).await.has_body(language);
        assert!(hit.is_hit());
    }
    bench.get("/").await.told("larder; fwd=vary-miss; stored; ttl=60");
}

#[tokio::test]
async fn va1_the_oldest_variant_makes_room() {
    let layer = cache_builder_over(MemoryStore::builder().max_variants(2).build());
    let bench = Bench::with(layer, ["a", "b", "c"].map(in_language));
    for language in ["a", "b", "c"] {
        bench.get_with("/", &[("accept-language", language)]).await;
    }
    bench.origin.then(in_language("again"));
    assert!(bench.get_with("/", &[("accept-language", "c")]).await.is_hit());
    assert!(bench.get_with("/", &[("accept-language", "b")]).await.is_hit());
    assert!(!bench.get_with("/", &[("accept-language", "a")]).await.is_hit());
}

#[tokio::test]
async fn va2_field_lines_and_white_space_do_not_matter() {
    let bench = Bench::new([in_language("x")]);
    bench.get_with("/", &[("accept-language", "en, de")]).await;
    let lines = [("accept-language", "en"), ("accept-language", " de ")];
    assert!(bench.get_with("/", &lines).await.is_hit());
}

fn in_coding(coding: &str) -> Reply {
    Reply::cc(coding, "max-age=60").field("vary", "accept-encoding")
}

#[tokio::test]
async fn va3_the_origin_gets_the_codings_that_are_compared() {
    let policy = StandardPolicy::default().codings(Codings::known(["br", "gzip"]));
    let layer = cache_builder().policy(policy);
    let bench = Bench::with(layer, ["br", "gzip", "none", "one too many"].map(in_coding));
    bench.get_with("/", &[("accept-encoding", "gzip;q=0.5, br, zstd")]).await.has_body("br");
    assert_eq!(bench.origin.last().headers["accept-encoding"], "br, gzip");
    bench.get_with("/", &[("accept-encoding", "x-gzip, br;q=0")]).await.has_body("gzip");
    assert_eq!(bench.origin.last().headers["accept-encoding"], "gzip");
    bench.get_with("/", &[("accept-encoding", "zstd")]).await.has_body("none");
    assert_eq!(bench.origin.last().headers["accept-encoding"], "identity");
    for (codings, body) in
        [("GZIP, deflate, br", "br"), ("*", "br"), ("gzip, deflate", "gzip"), ("", "none"), ("sdch", "none")]
    {
        assert!(bench.get_with("/", &[("accept-encoding", codings)]).await.has_body(body).is_hit());
    }
    assert!(bench.get("/").await.has_body("none").is_hit());
}

#[tokio::test]
async fn b18_requests_without_accept_encoding_or_a_known_coding_share_one_response() {
    let (none, zstd) = ([], [("accept-encoding", "zstd")]);
    for (first, second) in [(&none[..], &zstd[..]), (&zstd[..], &none[..])] {
        let policy = StandardPolicy::default().codings(Codings::known(["br", "gzip"]));
        let bench = Bench::with(cache_builder().policy(policy), [in_coding("plain")]);
        bench.get_with("/", first).await;
        assert_eq!(bench.origin.last().headers["accept-encoding"], "identity");
        assert!(bench.get_with("/", second).await.has_body("plain").is_hit());
    }
}

#[tokio::test]
async fn va3_codings_match_as_sent_by_default_and_as_negotiated_by_rfc9111() {
    let (one, other) = ([("accept-encoding", "gzip, br;q=0.5")], [("accept-encoding", "br;q=0.50,GZIP")]);
    let bench = Bench::new(["one", "other"].map(in_coding));
    bench.get_with("/", &one).await;
    assert!(!bench.get_with("/", &other).await.is_hit());
    let bench = Bench::rfc9111(["one"].map(in_coding));
    bench.get_with("/", &one).await;
    assert_eq!(bench.origin.last().headers["accept-encoding"], "gzip, br;q=0.5");
    assert!(bench.get_with("/", &other).await.has_body("one").is_hit());
}

#[tokio::test]
async fn va4_the_response_with_the_latest_date_answers() {
    let bench = Bench::new([]);
    let (newer, older) = (bench.date(0), bench.date(-30));
    // Both match a request without the field: one by Vary, one because it has none.
    bench.origin.then(Reply::cc("newer", "max-age=60").field("vary", "x").field("date", &newer));
    bench.get("/").await;
    bench.origin.then(Reply::cc("older", "max-age=60").field("date", &older));
    bench.get_with("/", &[("x", "1")]).await;
    assert!(bench.get("/").await.has_body("newer").is_hit());
}

#[tokio::test]
async fn dc_responses_for_different_dictionaries_are_separate_variants() {
    let coded = |body: &str, coding: &str| {
        Reply::cc(body, "max-age=60")
            .field("content-encoding", coding)
            .field("vary", "accept-encoding, available-dictionary")
    };
    let bench = Bench::new([coded("one", "dcb"), coded("two", "dcz"), coded("plain", "gzip")]);
    let dictionary = |hash| [("accept-encoding", "gzip, dcb, dcz"), ("available-dictionary", hash)];
    let requests = [dictionary(":pZGm1Av0:"), dictionary(":q5PGm1Av:")];
    for (request, body) in requests.iter().zip(["one", "two"]) {
        bench.get_with("/", request).await.has_body(body);
    }
    bench.get_with("/", &requests[0][..1]).await.has_body("plain");
    for (request, body) in requests.iter().zip(["one", "two"]) {
        assert!(bench.get_with("/", request).await.has_body(body).is_hit());
    }
    assert!(bench.get_with("/", &requests[0][..1]).await.has_body("plain").is_hit());
}
