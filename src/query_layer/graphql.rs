//! Whether content is certainly a GraphQL query (GraphQL over HTTP).

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request;

use super::document::has_queries_only;
use super::json::Json;

/// See [`QueryLayer::is_graphql_query`](super::QueryLayer::is_graphql_query).
pub(super) fn is_query(request: &request::Parts, content: &Bytes) -> bool {
    let has_parameters = request.uri.query().is_some_and(|query| !query.is_empty());
    let is_coded = request.headers.contains_key(header::CONTENT_ENCODING);
    let (Ok(text), false, false) = (std::str::from_utf8(content), has_parameters, is_coded) else {
        return false;
    };
    match media_type(request) {
        Some(MediaType::GraphQl) => has_queries_only(text),
        Some(MediaType::Json) => {
            let mut json = Json::new(text);
            requests(&mut json).is_some() && json.is_at_end()
        }
        None => false,
    }
}

enum MediaType {
    GraphQl,
    Json,
}

/// What the content is, in UTF-8.
fn media_type(request: &request::Parts) -> Option<MediaType> {
    let mut lines = request.headers.get_all(header::CONTENT_TYPE).into_iter().map(HeaderValue::as_bytes);
    let line = lines.next().filter(|_| lines.next().is_none())?;
    let mut parts = line.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let essence = parts.next()?;
    let is_utf8 = |parameter: &[u8]| {
        [&b"charset=utf-8"[..], b"charset=\"utf-8\""]
            .iter()
            .any(|known| parameter.eq_ignore_ascii_case(known))
    };
    if !parts.all(is_utf8) {
        return None;
    }
    if essence.eq_ignore_ascii_case(b"application/json") {
        Some(MediaType::Json)
    } else if essence.eq_ignore_ascii_case(b"application/graphql") {
        Some(MediaType::GraphQl)
    } else {
        None
    }
}

/// Reads one request, or a list of some. `None` where one of them is not certainly a query.
fn requests(json: &mut Json<'_>) -> Option<()> {
    if json.peek() != Some(b'[') {
        return one_request(json);
    }
    let mut count = 0;
    json.array(|json| {
        count += 1;
        one_request(json)
    })?;
    (count > 0).then_some(())
}

/// Each member at most once. Some parsers do not heed the case of names: what is not spelled like this is unknown, and may be
/// anything.
fn one_request(json: &mut Json<'_>) -> Option<()> {
    const MEMBERS: [&str; 4] = ["query", "operationName", "variables", "extensions"];
    let mut has = [false; MEMBERS.len()];
    json.object(|json, name| {
        let which = MEMBERS.iter().position(|member| *member == name)?;
        if std::mem::replace(&mut has[which], true) {
            return None;
        }
        match name {
            "query" => has_queries_only(&json.string()?).then_some(()),
            "extensions" if json.peek() == Some(b'{') => json.object(|json, name| {
                // A server may execute what it knows by the hash, whatever `query` says.
                if name.eq_ignore_ascii_case("persistedQuery") { None } else { json.value() }
            }),
            _ => json.value(),
        }
    })?;
    has[0].then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

    fn is_query_of(uri: &str, fields: &[(&str, &str)], content: &str) -> bool {
        let mut request = Request::post(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (request, ()) = request.body(()).expect("a request").into_parts();
        is_query(&request, &Bytes::copy_from_slice(content.as_bytes()))
    }

    #[track_caller]
    fn check(content: &str, expected: bool) {
        assert_eq!(is_query_of("/graphql", JSON, content), expected, "{content}");
    }

    #[test]
    fn requests_with_queries_only_are_queries() {
        check(r#"{"query":"{a}"}"#, true);
        check(
            r#"{"operationName":null,"variables":{"a":[1]},"query":"query Q($a:T){a}","extensions":{"x":{}}}"#,
            true,
        );
        check(r#" [ {"query":"{a}"} , {"query":"query{b}","extensions":null} ] "#, true);
        check(r#"{"query":"qu\u0065ry{a(b:\"mutation{c}\")}"}"#, true);
        check(r#"{"qu\u0065ry":"{a}"}"#, true);
    }

    #[test]
    fn everything_else_is_taken_for_a_mutation() {
        for content in [
            "",
            "{}",
            "[]",
            "null",
            "\"{a}\"",
            r#"{"query":null}"#,
            r#"{"query":"mutation{a}"}"#,
            r#"{"query":"mut\u0061tion{a}"}"#,
            r#"{"query":"{a} mutation M{b}","operationName":"M"}"#,
            r#"{"query":"subscription{a}"}"#,
            r#"[{"query":"{a}"},{"query":"mutation{b}"}]"#,
            r#"[{"query":"{a}"},[{"query":"{a}"}]]"#,
            // What some parsers take for the same member.
            r#"{"query":"{a}","query":"{b}"}"#,
            r#"{"query":"{a}","qu\u0065ry":"{b}"}"#,
            r#"{"query":"{a}","Query":"mutation{b}"}"#,
            r#"{"query":"{a}","variables":{},"variables":{}}"#,
            // By a hash or an id.
            r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}"#,
            r#"{"query":"{a}","extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}"#,
            r#"{"id":"7"}"#,
            r#"{"query":"{a}","documentId":"7"}"#,
            r#"{"query":"{a}","mutation":"{b}"}"#,
            // Malformed.
            r#"{"query":"{a}"}}"#,
            r#"{"query":"{a}",}"#,
            "{\"query\":\"{a}\"}\0",
            "\u{feff}{\"query\":\"{a}\"}",
            "{a}",
        ] {
            check(content, false);
        }
    }

    #[test]
    fn the_request_has_to_say_that_its_content_is_json_or_graphql_and_nothing_more() {
        let (query, document) = (r#"{"query":"{a}"}"#, "query{a}");
        for (kind, json, graphql) in [
            ("application/json", true, false),
            ("Application/JSON; charset=UTF-8", true, false),
            ("application/json;charset=\"utf-8\"", true, false),
            ("application/graphql", false, true),
            ("application/json; charset=utf-16", false, false),
            ("application/json, text/plain", false, false),
            ("application/json+x", false, false),
            ("text/plain", false, false),
            ("", false, false),
        ] {
            let found = |content| is_query_of("/graphql", &[("content-type", kind)], content);
            assert_eq!((found(query), found(document)), (json, graphql), "{kind}");
        }
        assert!(!is_query_of("/graphql", &[], query));
        assert!(!is_query_of("/graphql", &[JSON[0], JSON[0]], query));
        assert!(!is_query_of("/graphql", &[JSON[0], ("content-encoding", "gzip")], query));
        assert!(!is_query_of("/graphql?query=mutation{b}", JSON, query));
        assert!(is_query_of("/graphql?", JSON, query));
    }

    proptest! {
        #[test]
        fn any_content_is_a_query_or_not(content: Vec<u8>) {
            let (request, ()) = Request::post("/").header("content-type", "application/json").body(()).expect("a request").into_parts();
            is_query(&request, &content.into());
        }
    }

    /// What others read as a mutation is none here, however it is spelled.
    #[cfg(feature = "serde")]
    mod against_serde {
        use super::*;

        proptest! {
            #[test]
            fn a_query_here_is_one_to_others(
                pieces in prop::collection::vec(prop::sample::select(vec![
                    "{", "}", "\"query\":", "\"{a}\"", "\"mutation{a}\"", ",", "[", "]", "\"variables\":", "null", "\"mut\\u0061tion{a}\"",
                    "{\"query\":\"{a}\"}", " ",
                ]), 0..8),
            ) {
                let content = pieces.concat();
                if is_query_of("/", JSON, &content) {
                    let read: serde_json::Value = serde_json::from_str(&content).expect("JSON");
                    let list = read.as_array().cloned().unwrap_or_else(|| vec![read]);
                    prop_assert!(!list.is_empty());
                    for one in list {
                        prop_assert_eq!(one["query"].as_str(), Some("{a}"), "{}", content);
                    }
                }
            }
        }
    }
}
