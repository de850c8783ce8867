//! CloudFront's JSON.

use std::time::Duration;

use http::header::{self, HeaderName};
use larder::policy::cloudfront::{
    CacheCookieBehavior, CacheHeaderBehavior, CachePolicyConfig, CacheQueryStringBehavior, Distribution,
    OriginRequestCookieBehavior, OriginRequestHeaderBehavior, OriginRequestPolicyConfig,
    OriginRequestQueryStringBehavior, PolicySet,
};

use super::bench;
use crate::support::Reply;

/// A cache policy in the API's form. `$config` is its text.
fn api() -> String {
    r#"{
      "Comment": "",
      "Name": "mine",
      "MinTTL": 1, "DefaultTTL": 60, "MaxTTL": 600,
      "ParametersInCacheKeyAndForwardedToOrigin": {
        "EnableAcceptEncodingGzip": true,
        "EnableAcceptEncodingBrotli": true,
        "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": {"Quantity": 2, "Items": ["Origin", "Host"]}},
        "CookiesConfig": {"CookieBehavior": "allExcept", "Cookies": {"Quantity": 1, "Items": ["ab"]}},
        "QueryStringsConfig": {"QueryStringBehavior": "all"}
      }
    }"#
    .to_owned()
}

fn mine() -> CachePolicyConfig {
    let seconds = Duration::from_secs;
    CachePolicyConfig::new()
        .name("mine")
        .min_ttl(seconds(1))
        .default_ttl(seconds(60))
        .max_ttl(seconds(600))
        .header_behavior(CacheHeaderBehavior::allow_list([header::ORIGIN, header::HOST]))
        .cookie_behavior(CacheCookieBehavior::all_except(["ab"]))
        .query_string_behavior(CacheQueryStringBehavior::all())
        .enable_accept_encoding_gzip(true)
        .enable_accept_encoding_brotli(true)
}

#[test]
fn cf9_a_cache_policy_loads_in_the_forms_of_the_api_and_of_cloudformation() {
    let api = api();
    let plain = api
        .replace(r#"{"Quantity": 2, "Items": ["Origin", "Host"]}"#, r#"["Origin", "Host"]"#)
        .replace(r#"{"Quantity": 1, "Items": ["ab"]}"#, r#"["ab"]"#);
    for text in [
        api.clone(),
        format!(r#"{{"CachePolicyConfig": {api}}}"#),
        format!(r#"{{"ETag": "E1", "CachePolicyConfig": {api}}}"#),
        format!(
            r#"{{"ETag": "E1", "CachePolicy": {{"Id": "1", "LastModifiedTime": "2026-01-01T00:00:00Z",
                "CachePolicyConfig": {api}}}}}"#
        ),
        format!(
            r#"{{"Type": "AWS::CloudFront::CachePolicy", "Properties": {{"CachePolicyConfig": {plain}}}}}"#
        ),
        plain,
    ] {
        assert_eq!(CachePolicyConfig::from_json(&text), Ok(mine()), "{text}");
    }
    let least = CachePolicyConfig::from_json(r#"{"Name": "least", "MinTTL": 0.0}"#);
    assert_eq!(least, Ok(CachePolicyConfig::new().name("least")));
}

#[test]
fn cf9_an_origin_request_policy_loads() {
    let of = |headers: &str| {
        let text = format!(
            r#"{{"OriginRequestPolicyConfig": {{"Name": "x", "HeadersConfig": {headers},
                "CookiesConfig": {{"CookieBehavior": "whitelist", "Cookies": ["a"]}},
                "QueryStringsConfig": {{"QueryStringBehavior": "none"}}}}}}"#
        );
        OriginRequestPolicyConfig::from_json(&text)
    };
    let with = |headers| {
        OriginRequestPolicyConfig::new()
            .name("x")
            .header_behavior(headers)
            .cookie_behavior(OriginRequestCookieBehavior::allow_list(["a"]))
            .query_string_behavior(OriginRequestQueryStringBehavior::none())
    };
    type Headers = OriginRequestHeaderBehavior;
    let country = HeaderName::from_static("cloudfront-viewer-country");
    for (text, expected) in [
        (r#"{"HeaderBehavior": "none"}"#, Headers::none()),
        (r#"{"HeaderBehavior": "allViewer"}"#, Headers::all()),
        (r#"{"HeaderBehavior": "whitelist", "Headers": ["Origin"]}"#, Headers::allow_list([header::ORIGIN])),
        (
            r#"{"HeaderBehavior": "allViewerAndWhitelistCloudFront",
                "Headers": {"Quantity": 1, "Items": ["CloudFront-Viewer-Country"]}}"#,
            Headers::all_and_cloudfront([country]),
        ),
        (r#"{"HeaderBehavior": "allExcept", "Headers": ["Host"]}"#, Headers::all_except([header::HOST])),
    ] {
        assert_eq!(of(text), Ok(with(expected)), "{text}");
    }
    let authorization = of(r#"{"HeaderBehavior": "whitelist", "Headers": ["Authorization"]}"#).unwrap_err();
    assert_eq!(authorization.path(), "OriginRequestPolicyConfig.HeadersConfig");
}

#[test]
fn cf9_what_is_wrong_with_a_file_is_said_with_its_place() {
    let check = |from: &str, to: &str, path: &str, line, message: &str| {
        let text = api().replacen(from, to, 1);
        assert_ne!(text, api(), "{from}");
        let error = CachePolicyConfig::from_json(&text).expect_err(to);
        assert_eq!((error.path(), error.line()), (path, line), "{error}");
        assert!(error.message().contains(message), "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.to_string().contains("line "), line.is_some(), "{error}");
    };
    const PARAMETERS: &str = "ParametersInCacheKeyAndForwardedToOrigin";
    check("\"MinTTL\": 1", "\"MinTTL\": -1", "MinTTL", Some(4), "a number of seconds");
    check("\"MinTTL\": 1", "\"MinTTL\": \"1\"", "MinTTL", Some(4), "a number of seconds");
    check("\"MinTTL\": 1", "\"MinTTL\": 1.5", "MinTTL", Some(4), "a number of seconds");
    check("\"MinTTL\": 1", "\"MinTTL\": 9999999999", "MinTTL", Some(4), "a hundred years");
    check("\"MinTTL\": 1,", "", ".", Some(12), "missing field `MinTTL`");
    check(
        "\"MinTTL\": 1",
        "\"MinTTL\": 601",
        "MinTTL",
        Some(4),
        "`MinTTL` (601) is longer than `MaxTTL` (600)",
    );
    check("\"MinTTL\"", "\"MinTtl\"", "MinTtl", Some(4), "unknown field `MinTtl`");
    check("\"Name\": \"mine\",", "", ".", Some(12), "missing field `Name`");
    let at = format!("{PARAMETERS}.HeadersConfig.HeaderBehavior");
    check(
        "\"HeaderBehavior\": \"whitelist\"",
        "\"HeaderBehavior\": \"all\"",
        &at,
        Some(8),
        "unknown variant `all`",
    );
    let at = format!("{PARAMETERS}.HeadersConfig.Headers");
    let quantity = format!("{at}.Quantity");
    check(
        "\"Quantity\": 2",
        "\"Quantity\": 3",
        &quantity,
        Some(8),
        "`Quantity` is 3, but there are 2 `Items`",
    );
    check("\"Quantity\": 2, ", "", &at, Some(8), "missing field `Quantity`");
    let at = format!("{PARAMETERS}.HeadersConfig.Headers.Items[0]");
    check("\"Origin\"", "\"no header\"", &at, Some(8), "`no header` is not the name of a header");
    let at = format!("{PARAMETERS}.HeadersConfig");
    check("\"Origin\"", "\"Cookie\"", &at, Some(8), "`cookie` cannot be in the key as a header");
    check(
        "\"HeaderBehavior\": \"whitelist\"",
        "\"HeaderBehavior\": \"none\"",
        &at,
        Some(8),
        "no use for `Headers`",
    );
    let at = format!("{PARAMETERS}.CookiesConfig");
    check(
        ", \"Cookies\": {\"Quantity\": 1, \"Items\": [\"ab\"]}",
        "",
        &at,
        Some(9),
        "`allExcept` needs names",
    );
    check("\"EnableAcceptEncodingGzip\": true,", "", PARAMETERS, Some(11), "missing field");
    for text in ["", "[]", "{", "{} x", r#"{"CachePolicyConfig": {}}"#, r#"{"OriginRequestPolicyConfig": 1}"#]
    {
        assert!(CachePolicyConfig::from_json(text).is_err(), "{text}");
    }
}

/// A distribution in the API's form.
const API: &str = r#"{
  "ETag": "E1",
  "Distribution": {
    "Id": "E2", "ARN": "arn:aws:cloudfront::1:distribution/E2", "Status": "Deployed",
    "LastModifiedTime": "2026-01-01T00:00:00Z", "InProgressInvalidationBatches": 0,
    "DomainName": "d111111abcdef8.cloudfront.net",
    "ActiveTrustedSigners": {"Enabled": false, "Quantity": 0},
    "ActiveTrustedKeyGroups": {"Enabled": false, "Quantity": 0},
    "AliasICPRecordals": [],
    "DistributionConfig": {
      "CallerReference": "x", "Comment": "", "Enabled": true, "PriceClass": "PriceClass_All", "HttpVersion": "http2",
      "Aliases": {"Quantity": 0}, "DefaultRootObject": "index.html", "Staging": false, "IsIPV6Enabled": true,
      "Origins": {"Quantity": 1, "Items": [{"Id": "web", "DomainName": "origin.example.com"}]},
      "OriginGroups": {"Quantity": 0}, "WebACLId": "", "Logging": {}, "ViewerCertificate": {}, "Restrictions": {},
      "DefaultCacheBehavior": {
        "TargetOriginId": "web", "ViewerProtocolPolicy": "redirect-to-https", "Compress": true,
        "TrustedSigners": {"Enabled": false, "Quantity": 0}, "TrustedKeyGroups": {"Enabled": false, "Quantity": 0},
        "AllowedMethods": {"Quantity": 3, "Items": ["HEAD", "GET", "OPTIONS"],
          "CachedMethods": {"Quantity": 3, "Items": ["HEAD", "GET", "OPTIONS"]}},
        "SmoothStreaming": false, "LambdaFunctionAssociations": {"Quantity": 0},
        "FunctionAssociations": {"Quantity": 0}, "FieldLevelEncryptionId": "",
        "CachePolicyId": "11111111-2222-3333-4444-555555555555",
        "OriginRequestPolicyId": "216adef6-5c7f-47e4-b989-5492eafa07d3"
      },
      "CacheBehaviors": {"Quantity": 1, "Items": [{
        "PathPattern": "images/*", "TargetOriginId": "web", "ViewerProtocolPolicy": "allow-all",
        "TrustedKeyGroups": {"Enabled": true, "Quantity": 1, "Items": ["k"]},
        "CachePolicyId": "658327ea-f89d-4fab-a63d-7e88639e58f6"
      }]},
      "CustomErrorResponses": {"Quantity": 2, "Items": [
        {"ErrorCode": 404, "ResponsePagePath": "/404.html", "ResponseCode": "200", "ErrorCachingMinTTL": 60},
        {"ErrorCode": 503, "ResponsePagePath": "", "ResponseCode": "", "ErrorCachingMinTTL": 0}
      ]},
      "CacheTagConfig": {"HeaderName": "x-amz-meta-cache-tag"}
    }
  }
}"#;

fn policies() -> PolicySet {
    PolicySet::new().cache_policy("11111111-2222-3333-4444-555555555555", mine())
}

#[tokio::test]
async fn cf9_a_distribution_loads_and_does_what_it_says() {
    let distribution = Distribution::from_json_with(API, &policies()).unwrap();
    let page = Reply::cc("x", "max-age=30").field("x-amz-meta-cache-tag", "News, b");
    let bench = bench(distribution, [page]);
    bench.get("/a?b").await.told("larder; fwd=uri-miss; stored; ttl=30");
    assert_eq!(bench.origin.last().uri, "/a?b");
    bench.get("/images/a?Signature=x&b").await.told("larder; fwd=uri-miss; stored; ttl=30");
    assert_eq!(bench.origin.last().uri, "/images/a");
    let preflight = bench.send(http::Method::OPTIONS, "/a", &[]).await;
    preflight.told("larder; fwd=uri-miss; stored; ttl=30");
    bench.handle.purge_target(&larder::store::PurgeTarget::tag_any_case("news")).await.unwrap();
    assert!(!bench.get("/a?b").await.is_hit());
    bench.origin.then(Reply::new("gone").status(404));
    bench.get("/gone").await.told("larder; fwd=uri-miss; stored; ttl=60");
    bench.origin.then(Reply::new("failed").status(503));
    assert!(!bench.get("/failed").await.cache_status().contains("stored"));
}

#[test]
fn cf9_what_of_a_distribution_has_no_effect_is_said() {
    let distribution = Distribution::from_json_with(API, &policies()).unwrap();
    let warnings = distribution.warnings().join("\n");
    for word in [
        "DefaultRootObject",
        "Compress",
        "TrustedKeyGroups",
        "ViewerProtocolPolicy",
        "all fields of the client",
    ] {
        assert!(warnings.contains(word), "{word}: {warnings}");
    }
    let quiet = Distribution::new(CachePolicyConfig::caching_optimized()).warnings();
    assert_eq!(quiet, [""; 0]);
}

#[test]
fn cf9_what_of_a_distribution_guards_or_routes_and_has_no_effect_here_is_said() {
    let of = |more: &str, of_default: &str| {
        let text = format!(
            r#"{{"DefaultCacheBehavior": {{"TargetOriginId": "web", "ViewerProtocolPolicy": "allow-all",
                "CachePolicyId": "Managed-CachingOptimized"{of_default}}}{more}}}"#
        );
        Distribution::from_json(&text).unwrap().warnings()
    };
    assert_eq!(of("", ""), [""; 0]);
    // As the API answers where none of it is in use.
    let unused = r#", "Enabled": true, "WebACLId": "", "OriginGroups": {"Quantity": 0}, "Origins": {"Quantity": 1, "Items": [
        {"Id": "web", "DomainName": "www.example.com", "OriginPath": "", "CustomHeaders": {"Quantity": 0}}]},
        "Restrictions": {"GeoRestriction": {"RestrictionType": "none", "Quantity": 0}},
        "CacheBehaviors": [{"PathPattern": "/x", "TargetOriginId": "web", "CachePolicyId": "Managed-CachingOptimized"}]"#;
    let all = r#", "FieldLevelEncryptionId": "", "AllowedMethods": ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]"#;
    assert_eq!(of(unused, all), [""; 0]);
    for (more, of_default, note) in [
        (r#", "Enabled": false"#, "", "Enabled"),
        (r#", "WebACLId": "arn:aws:wafv2:x""#, "", "WebACLId"),
        (r#", "OriginGroups": {"Quantity": 1, "Items": [{"Id": "two"}]}"#, "", "OriginGroups"),
        (r#", "Origins": [{"Id": "web", "OriginPath": "/prod"}]"#, "", "OriginPath"),
        (
            r#", "Origins": [{"Id": "web", "CustomHeaders": {"Quantity": 1, "Items": [{"HeaderName": "x"}]}}]"#,
            "",
            "CustomHeaders",
        ),
        (
            r#", "Origins": [{"Id": "web", "OriginCustomHeaders": [{"HeaderName": "x"}]}]"#,
            "",
            "CustomHeaders",
        ),
        (
            r#", "Restrictions": {"GeoRestriction": {"RestrictionType": "whitelist", "Quantity": 1, "Items": ["NZ"]}}"#,
            "",
            "GeoRestriction",
        ),
        (
            r#", "CacheBehaviors": [{"PathPattern": "/api/*", "TargetOriginId": "api", "CachePolicyId": "Managed-CachingOptimized"}]"#,
            "",
            "TargetOriginId",
        ),
        ("", r#", "AllowedMethods": ["GET", "HEAD"]"#, "AllowedMethods"),
        ("", r#", "FieldLevelEncryptionId": "x""#, "FieldLevelEncryptionId"),
    ] {
        let warnings = of(more, of_default);
        assert!(warnings.len() == 1 && warnings[0].contains(note), "{note}: {warnings:?}");
    }
}

#[test]
fn cf9_what_would_have_no_effect_beside_something_else_is_an_error() {
    const DISTRIBUTION: &str = r#"{"DefaultCacheBehavior": {"CachePolicyId": "Managed-CachingOptimized"}}"#;
    const POLICY: &str = r#"{"Name": "x", "MinTTL": 0}"#;
    for (text, path) in [
        (
            format!(r#"{{"DistributionConfig": {DISTRIBUTION}, "CachePolicyConfig": {POLICY}}}"#),
            "CachePolicyConfig",
        ),
        (
            format!(
                r#"{{"DistributionConfig": {DISTRIBUTION}, "Properties": {{"DistributionConfig": {DISTRIBUTION}}}}}"#
            ),
            "Properties.DistributionConfig",
        ),
        (
            format!(
                r#"{{"CachePolicy": {{"CachePolicyConfig": {POLICY}}}, "CachePolicyConfig": {POLICY}}}"#
            ),
            "CachePolicyConfig",
        ),
        (
            r#"{"DefaultCacheBehavior": {"CachePolicyId": "Managed-CachingOptimized"}, "CustomErrorResponses": [
                {"ErrorCode": 404, "ErrorCachingMinTTL": 1}, {"ErrorCode": 404, "ErrorCachingMinTTL": 2}]}"#
                .to_owned(),
            "CustomErrorResponses[1].ErrorCode",
        ),
    ] {
        let error = Distribution::from_json(&text).unwrap_err();
        assert_eq!(error.path(), path, "{error}");
        assert!(error.line().is_some(), "{error}");
    }
    // A page needs a status under which there is content.
    let page = r#"{"DefaultCacheBehavior": {"CachePolicyId": "Managed-CachingOptimized"}, "CustomErrorResponses": [
        {"ErrorCode": 404, "ResponsePagePath": "/404.html", "ResponseCode": 304}]}"#;
    let error = Distribution::from_json(page).unwrap_err();
    assert_eq!((error.path(), error.line()), ("CustomErrorResponses[0].ResponseCode", Some(2)), "{error}");
}

#[test]
fn cf9_a_distribution_loads_with_the_policies_that_are_beside_it() {
    let beside = format!(
        r#"{{"CachePolicies": [{{"Id": "11111111-2222-3333-4444-555555555555", "CachePolicyConfig": {}}}],
            "DistributionConfig": {{"DefaultCacheBehavior": {{"CachePolicyId": "mine"}},
                "CacheBehaviors": [{{"PathPattern": "/x", "CachePolicyId": "11111111-2222-3333-4444-555555555555",
                    "AllowedMethods": ["GET", "HEAD"], "CachedMethods": ["GET", "HEAD"]}}],
                "CustomErrorResponses": [{{"ErrorCode": 404, "ResponsePagePath": "/404", "ResponseCode": 404}}]}}}}"#,
        api()
    );
    let distribution = Distribution::from_json(&beside).unwrap();
    assert_eq!(distribution.custom_error_responses().len(), 1);
    // Both policies of the well-known article, and one of them alone.
    let both = format!(
        r#"{{"CachePolicyConfig": {}, "OriginRequestPolicyConfig": {{"Name": "forward-all",
            "HeadersConfig": {{"HeaderBehavior": "allViewer"}}, "CookiesConfig": {{"CookieBehavior": "all"}},
            "QueryStringsConfig": {{"QueryStringBehavior": "all"}}}}}}"#,
        api()
    );
    assert_ne!(Distribution::from_json(&both).unwrap().warnings(), [""; 0]);
    assert_eq!(Distribution::from_json(&api()).unwrap().warnings(), [""; 0]);
}

#[test]
fn cf9_what_is_wrong_with_a_distribution_is_said_with_its_place() {
    let check = |from: &str, to: &str, path: &str, message: &str| {
        let line = API[..API.find(from).unwrap()].lines().count();
        let text = API.replacen(from, to, 1);
        assert_ne!(text, API, "{from}");
        let error = Distribution::from_json_with(&text, &policies()).expect_err(to);
        assert_eq!(error.path(), path, "{error}");
        assert!(error.message().contains(message), "{error}");
        let found = error.line().expect("a line");
        assert!((line.saturating_sub(9)..=line + 2).contains(&found), "line {line}: {error}");
    };
    const CONFIG: &str = "Distribution.DistributionConfig";
    let at = format!("{CONFIG}.CacheBehaviors[0].CachePolicyId");
    check("658327ea-f89d-4fab-a63d-7e88639e58f6", "other", &at, "there is no cache policy `other`");
    let at = format!("{CONFIG}.DefaultCacheBehavior.OriginRequestPolicyId");
    check("216adef6-5c7f-47e4-b989-5492eafa07d3", "other", &at, "there is no origin request policy `other`");
    let at = format!("{CONFIG}.DefaultCacheBehavior");
    check("\"CachePolicyId\": \"1", "\"MinTTL\": 1, \"CachePolicyId\": \"1", &at, "beside a `CachePolicyId`");
    check(
        "\"CachePolicyId\": \"11111111-2222-3333-4444-555555555555\"",
        "\"ForwardedValues\": {}",
        &at,
        "give it a `CachePolicyId`",
    );
    check(
        "\"PathPattern\": \"images/*\", ",
        "",
        &format!("{CONFIG}.CacheBehaviors[0]"),
        "missing field `PathPattern`",
    );
    let at = format!("{CONFIG}.CustomErrorResponses.Items[0]");
    let code = format!("{at}.ErrorCode");
    check("\"ErrorCode\": 404", "\"ErrorCode\": 429", &code, "`ErrorCode` is 400");
    let page = format!("{at}.ResponsePagePath");
    check("\"ResponseCode\": \"200\"", "\"ResponseCode\": \"\"", &page, "needs a `ResponseCode`");
    check("\"/404.html\"", "\"404.html\"", &page, "is not a path");
    let at = format!("{CONFIG}.CustomErrorResponses.Items[0].ResponseCode");
    check("\"ResponseCode\": \"200\"", "\"ResponseCode\": \"99\"", &at, "an HTTP status");
    let at = format!("{CONFIG}.DefaultCacheBehavior.AllowedMethods.CachedMethods");
    let cached = "\"CachedMethods\": {\"Quantity\": 3, \"Items\": [\"HEAD\", \"GET\", \"OPTIONS\"]}";
    check(cached, "\"CachedMethods\": {\"Quantity\": 1, \"Items\": [\"POST\"]}", &at, "`CachedMethods` are");
    check("\"Staging\": false", "\"Stage\": false", &format!("{CONFIG}.Stage"), "unknown field `Stage`");
}

#[test]
fn cf9_every_managed_policy_is_found_by_its_name_and_by_its_id() {
    let seconds = Duration::from_secs;
    let (day, year) = (seconds(86_400), seconds(31_536_000));
    for (name, id, (min, default, max), gzip, brotli) in [
        ("CachingOptimized", "658327ea-f89d-4fab-a63d-7e88639e58f6", (1, day, year), true, true),
        (
            "CachingOptimizedForUncompressedObjects",
            "b2884449-e4de-46a7-ac36-70bc7f1ddd6d",
            (1, day, year),
            false,
            false,
        ),
        (
            "CachingDisabled",
            "4135ea2d-6df8-44a3-9df3-4b5a84be39ad",
            (0, seconds(0), seconds(0)),
            false,
            false,
        ),
        (
            "UseOriginCacheControlHeaders",
            "83da9c7e-98b4-4e11-a168-04f0df8e2c65",
            (0, seconds(0), year),
            true,
            true,
        ),
        (
            "UseOriginCacheControlHeaders-QueryStrings",
            "4cc15a8a-d715-48a4-82b8-cc0b614638fe",
            (0, seconds(0), year),
            true,
            true,
        ),
        ("Amplify", "2e54312d-136d-493c-8eb9-b001f22f67d2", (2, seconds(2), seconds(600)), true, true),
        ("Elemental-MediaPackage", "08627262-05a9-4f76-9ded-b50ca2e3a84f", (0, day, year), true, false),
    ] {
        let names =
            ["origin", "host", "authorization", "cloudfront-viewer-country"].map(HeaderName::from_static);
        let [origin, host, authorization, country] = names;
        let overrides =
            ["x-http-method-override", "x-http-method", "x-method-override"].map(HeaderName::from_static);
        let headers = match name {
            "Amplify" => vec![authorization, country, host],
            "Elemental-MediaPackage" => vec![origin],
            _ if name.starts_with("UseOrigin") => [host, origin].into_iter().chain(overrides).collect(),
            _ => Vec::new(),
        };
        let cookies = match name {
            "Amplify" => CacheCookieBehavior::all(),
            _ if name.starts_with("UseOrigin") => CacheCookieBehavior::all(),
            _ => CacheCookieBehavior::none(),
        };
        let queries = match name {
            "Amplify" | "UseOriginCacheControlHeaders-QueryStrings" => CacheQueryStringBehavior::all(),
            "Elemental-MediaPackage" => {
                CacheQueryStringBehavior::allow_list(["aws.manifestfilter", "start", "end", "m"])
            }
            _ => CacheQueryStringBehavior::none(),
        };
        let expected = CachePolicyConfig::new()
            .name(name)
            .min_ttl(seconds(min))
            .default_ttl(default)
            .max_ttl(max)
            .header_behavior(CacheHeaderBehavior::allow_list(headers))
            .cookie_behavior(cookies)
            .query_string_behavior(queries)
            .enable_accept_encoding_gzip(gzip)
            .enable_accept_encoding_brotli(brotli);
        for asked in [name.to_owned(), format!("Managed-{name}"), id.to_owned()] {
            assert_eq!(CachePolicyConfig::managed(&asked).as_ref(), Some(&expected), "{asked}");
        }
    }
    assert_eq!(CachePolicyConfig::managed("CachingOptimised"), None);
    for (name, id, policy) in [
        ("AllViewer", "216adef6-5c7f-47e4-b989-5492eafa07d3", OriginRequestPolicyConfig::all_viewer()),
        (
            "AllViewerAndCloudFrontHeaders-2022-06",
            "33f36d7e-f396-46d9-90e0-52428a34d9dc",
            OriginRequestPolicyConfig::all_viewer_and_cloudfront_headers_2022_06(),
        ),
        (
            "AllViewerExceptHostHeader",
            "b689b0a8-53d0-40ab-baf2-68738e2966ac",
            OriginRequestPolicyConfig::all_viewer_except_host_header(),
        ),
        (
            "CORS-CustomOrigin",
            "59781a5b-3903-41f3-afcb-af62929ccde1",
            OriginRequestPolicyConfig::cors_custom_origin(),
        ),
        (
            "CORS-S3Origin",
            "88a5eaf4-2fd4-4709-b370-b4c650ea3fcf",
            OriginRequestPolicyConfig::cors_s3_origin(),
        ),
        (
            "Elemental-MediaTailor-PersonalizedManifests",
            "775133bc-15f2-49f9-abea-afb2e0bf67d2",
            OriginRequestPolicyConfig::elemental_media_tailor_personalized_manifests(),
        ),
        (
            "HostHeaderOnly",
            "bf0718e1-ba1e-49d1-88b1-f726733018ae",
            OriginRequestPolicyConfig::host_header_only(),
        ),
        (
            "UserAgentRefererHeaders",
            "acba4595-bd28-49b8-b9fe-13317c0390fa",
            OriginRequestPolicyConfig::user_agent_referer_headers(),
        ),
    ] {
        assert_eq!(policy.own_name(), name);
        for asked in [name.to_owned(), format!("Managed-{name}"), id.to_owned()] {
            assert_eq!(OriginRequestPolicyConfig::managed(&asked).as_ref(), Some(&policy), "{asked}");
        }
    }
}
