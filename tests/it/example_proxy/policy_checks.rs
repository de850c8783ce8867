//! What `check-policy` finds in files that are well formed: what can never have an effect.

use crate::example_proxy::policy::check;
use crate::example_proxy::process::{Proxy, run};
use crate::support::file::TempFile;
use crate::support::raw::{GUARD, Origin};

#[track_caller]
fn is_wrong(text: &str, said: &str) {
    let (status, output) = check(text, &[]);
    assert_eq!((status, &*output), (1, &*format!("FILE:{said}\n")), "{text}");
}

#[test]
fn a_pattern_of_hosts_that_no_host_matches_is_an_error() {
    for (host, said) in [
        (
            "https://example.com",
            "matches no host, since hosts are compared without a scheme, a port and a path; write 'example.com'",
        ),
        (
            "*.example.com:8080",
            "matches no host, since hosts are compared without a scheme, a port and a path; write '*.example.com'",
        ),
        (
            "[::1]:80",
            "matches no host, since hosts are compared without a scheme, a port and a path; write '[::1]'",
        ),
        (
            "example.com/a",
            "matches no host, since hosts are compared without a scheme, a port and a path; write 'example.com'",
        ),
        ("::1", "matches no host; write '[::1]'"),
        ("käse.example", "matches no host; clients send such names in ASCII, as xn--..."),
        ("a b", "is not a host; one looks like www.example.com or *.example.com"),
        ("https://", "is not a host; one looks like www.example.com or *.example.com"),
        ("", "is not a host; one looks like www.example.com or *.example.com"),
    ] {
        is_wrong(
            &format!("[[behavior]]\nmatch = {{ host = ['a', '{host}'] }}"),
            &format!("2: '{host}' {said}"),
        );
    }
    let (status, said) = check("[[behavior]]\nmatch = { host = ['[::1]', 'a?.Example.com', '*'] }", &[]);
    assert!(status == 0 && said.contains("host [::1] or a?.example.com or *"), "{said}");
}

#[test]
fn a_name_that_is_nearly_a_known_one_is_an_error_where_names_are_open() {
    for (text, said) in [
        ("set_directives = 's-max-age=60'", "unknown directive 's-max-age'; did you mean 's-maxage'?"),
        ("cache_control = 'publik'", "unknown directive 'publik'; did you mean 'public'?"),
        (
            "remove_directives = ['private', 'No-Stor']",
            "unknown directive 'no-stor'; did you mean 'no-store'?",
        ),
        (
            "remove_directives = 'max-age=60'",
            "'max-age=60' is more than the name of a directive; write 'max-age'",
        ),
        ("remove_directives = 'a b'", "'a b' can't be the name of a directive"),
    ] {
        is_wrong(&format!("[default.response]\n{text}"), &format!("2: {said}"));
    }
    let (status, said) =
        check("[default.response]\nset_directives = 'community=x'\nremove_directives = 'post-check'", &[]);
    assert!(
        status == 0 && said.contains("remove_directives post-check; set_directives community=\"x\""),
        "{said}"
    );
    for (codings, said) in [
        ("['br', 'gzipp']", "unknown coding 'gzipp'; did you mean 'gzip'?"),
        ("{ one_of = ['br', 'gzipp'] }", "unknown coding 'gzipp'; did you mean 'gzip'?"),
        ("'as_sent'", "unknown coding 'as_sent'; did you mean 'as-sent'?"),
        ("['identity']", "'identity' is known in any case; leave it out"),
        (
            "7",
            "7 is not a coding; there are \"as-sent\", \"negotiated\", a list of codings, and a list under 'cloudfront', 'fastly' or 'one_of'",
        ),
    ] {
        is_wrong(&format!("[default]\ncodings = {codings}"), &format!("2: {said}"));
    }
    assert_eq!(check("[default]\ncodings = 'GZip'", &[]).0, 0);
}

#[test]
fn numbers_that_nothing_fits_are_an_error() {
    for (text, said) in [
        (
            "[default]\nmin_body = '2KiB'\nmax_body = '1KiB'",
            "2: nothing is stored, since 'min_body' (2KiB) is above 'max_body' (1KiB) here",
        ),
        (
            "[default]\nmin_body = '2KiB'\n[[behavior]]\nmatch = '/x'\nmax_body = 7",
            "5: nothing is stored, since 'min_body' (2KiB) is above 'max_body' (7) here",
        ),
        (
            "[default]\nmax_body = '1KiB'\n[[behavior]]\nmatch = '/x'\nmin_body = '1MiB'",
            "5: nothing is stored, since 'min_body' (1MiB) is above 'max_body' (1KiB) here",
        ),
        ("[default]\nstatus_lifetimes = { 6xx = 1 }", "2: '6xx' is not a status; they are 100 to 599"),
        (
            "[default]\nstatus_lifetimes = { 500-600 = 1 }",
            "2: '500-600' is not a status; they are 100 to 599",
        ),
        ("profile = 'fastly'\n[default]\ncacheable = 600", "3: '600' is not a status; they are 100 to 599"),
        (
            "profile = 'cloudfront'\n[default]\nerror_caching_min_ttl = { 200 = 1 }",
            "3: '200' is not a status of an error",
        ),
        ("[default]\nerror_pages = { 600 = '/a' }", "2: '600' is not a status of an error"),
        (
            "[default]\nadmission = { after = 0 }",
            "2: 'after' is 1 or more; with 1, the first request is enough",
        ),
        (
            "profile = 'cloudfront'\n[default]\nlifetime = 1",
            "3: what states no lifetime has the DefaultTTL of 'cache_policy' in the profile cloudfront; others are \
             { exactly = ... }, { at_least = ... } and { at_most = ... }",
        ),
        (
            "[default]\nadmission = { after = 2, within = 0 }",
            "2: 'within' is above 0; requests count for so long",
        ),
    ] {
        is_wrong(text, said);
    }
    for (page, is_right) in
        [(200, true), (404, true), (503, true), (100, false), (204, false), (304, false), (600, false)]
    {
        let (status, said) =
            check(&format!("[default]\nerror_pages = {{ 404 = {{ path = '/a', status = {page} }} }}"), &[]);
        assert_eq!(status == 0, is_right, "{said}");
        assert!(is_right || said.contains(&format!("'{page}' is not a status")), "{said}");
    }
}

#[test]
fn a_value_of_another_type_is_reported_in_the_words_of_the_file() {
    for (text, said) in [
        (
            "heuristic = true",
            "'true' says too little; this is 'false', or a table with 'percent', 'most' and 'errors'",
        ),
        ("heuristic = 7", "invalid type: integer `7`, expected a table with 'percent', 'most' and 'errors'"),
        ("latency_budget = true", "'true' says too little; this is 'false', or a time such as \"90s\""),
        (
            "key.host = true",
            "'true' says too little; this is 'false', or the one host that all requests are for",
        ),
        ("key.scheme = true", "'true' says too little; this is 'false', or \"http\" or \"https\""),
        ("key = 'x'", "invalid type: string \"x\", expected a table that says what is in the key"),
        ("key.cookies = 7", "7 is not a name; this is \"all\", \"none\", a name or a list of names"),
        ("key.query = 'All'", "unknown value 'All'; did you mean 'all'?"),
        ("bypass = true", "true is not a reason; say a word, such as \"admin\""),
        (
            "admission = 2",
            "invalid type: integer `2`, expected a table with 'after', 'near_at_once' and 'within'",
        ),
        ("vary = 'x'", "invalid type: string \"x\", expected a table"),
    ] {
        is_wrong(&format!("[default]\n{text}"), &format!("2: {said}"));
    }
    is_wrong("default = 'x'", "1: invalid type: string \"x\", expected a table of keys");
    is_wrong("behavior = 'x'", "1: invalid type: string \"x\", expected a list");
}

#[test]
fn an_unknown_key_is_explained_by_the_keys_of_the_profile_alone() {
    for (profile, key, said) in [
        (
            "fastly",
            "stale_if_error",
            "'stale_if_error' is a key of profile default and rfc9111, and this is fastly, where it is 'serve_stale'",
        ),
        (
            "fastly",
            "head_as_get",
            "'head_as_get' is a key of profile default and rfc9111, and this is fastly",
        ),
        (
            "default",
            "default_ttl",
            "'default_ttl' is a key of profile fastly, and this is default, where it is 'default_lifetime'",
        ),
        (
            "cloudfront",
            "key",
            "'key' is a key of profile default, fastly and rfc9111, and this is cloudfront, where it is part of 'cache_policy'",
        ),
        ("rfc9111", "default_ltl", "unknown key 'default_ltl'; known are 'admission', 'browser_lifetime',"),
        ("fastly", "default_ltl", "unknown key 'default_ltl'; did you mean 'default_ttl'?"),
    ] {
        let (status, output) = check(&format!("profile = '{profile}'\n[default]\n{key} = 1"), &[]);
        assert_eq!(status, 1);
        assert!(output.starts_with(&format!("FILE:3: {said}")), "{output}");
        assert!(
            key != "default_ltl" || !output.contains("cache_policy") && !output.contains("'match'"),
            "{output}"
        );
    }
    let (_, output) = check("[[behavior]]\nmatch = '/'\nx = 1", &[]);
    assert!(output.contains("'match'") && !output.contains("error_pages"), "{output}");
}

/// The warnings of `check-policy`, each with the heading above it.
fn warnings(text: &str, arguments: &[&str]) -> Vec<(String, String)> {
    let (status, output) = check(text, arguments);
    assert_eq!(status, 0, "{output}");
    let mut heading = String::new();
    let mut warnings = Vec::new();
    for line in output.lines() {
        if let Some(section) = line.strip_suffix(':') {
            heading = section.to_owned();
        }
        if let Some(warning) = line.strip_prefix("    warning: ") {
            warnings.push((heading.clone(), warning.to_owned()));
        }
    }
    warnings
}

#[track_caller]
fn warns(text: &str, expected: &[(&str, &str)]) {
    let found = warnings(text, &[]);
    let found: Vec<_> = found.iter().map(|(heading, warning)| (&**heading, &**warning)).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_behavior_behind_one_that_matches_all_that_it_matches_has_a_warning() {
    let covered = |first: &str, second: &str| {
        let text = format!("[[behavior]]\nmatch = {first}\n[[behavior]]\nmatch = {second}\n");
        let found = warnings(&text, &[]);
        assert!(
            found.iter().all(|(heading, warning)| heading.starts_with("behavior 2, ")
                && warning == "no request gets here: behavior 1 matches everything that this one does"),
            "{found:?}"
        );
        found.len() == 1
    };
    for (first, second) in [
        ("'*'", "'/a'"),
        ("'/*'", "'*.png'"),
        ("'/*'", "{ host = 'a', method = 'POST' }"),
        ("'/img/*'", "['/img/a/*', '/img/b?']"),
        ("['/a', '/b*']", "['/b', '/a']"),
        ("{ host = '*.example' }", "{ host = '*.example', path = '/a' }"),
        ("{ host = 'a.*' }", "{ host = 'A.example' }"),
        ("{ method = ['GET', 'HEAD'] }", "{ method = 'GET', path = '/x' }"),
    ] {
        assert!(covered(first, second), "{first} {second}");
    }
    for (first, second) in [
        ("'/img/*'", "'/img*'"),
        ("'/img/*'", "['/img/a', '/a']"),
        ("'/img/*.png'", "'/img/a.png*'"),
        ("{ host = 'a' }", "'/a'"),
        ("{ path = '*', host = 'a' }", "{ host = 'b' }"),
        ("{ path = '*', method = 'GET' }", "{ method = ['GET', 'HEAD'] }"),
        ("'/a?'", "'/a*'"),
    ] {
        assert!(!covered(first, second), "{first} {second}");
    }
}

#[test]
fn keys_that_have_no_effect_beside_others_have_a_warning() {
    warns(
        "[default]\nimmutable = true\n[[behavior]]\nmatch = '/x'\nbypass = 'x'\nstrip_unkeyed = false",
        &[],
    );
    // What `[default]` says holds for behaviors.
    warns("[default]\nbypass = 'x'\nlifetime = 1\n[[behavior]]\nmatch = '/x'\nlifetime = 7", &[]);
    warns(
        "[default]\nbypass = 'x'\nlifetime = 1",
        &[("every request", "'lifetime' has no effect on requests that bypass the cache")],
    );
    warns(
        "[[behavior]]\nmatch = '/x'\nbypass = 'x'\nlifetime = 1\nresponse = { strip_set_cookie = true }",
        &[(
            "behavior 1, path /x",
            "'lifetime' and 'response' have no effect on requests that bypass the cache",
        )],
    );
    warns(
        "[default]\nbrowser_lifetime = 1\nbrowser_lifetime_as_stated = true",
        &[(
            "every request",
            "'browser_lifetime' is only for responses that state no 'max-age' for clients, since \
             'browser_lifetime_as_stated' comes first",
        )],
    );
    warns(
        "[default]\nlifetime = 1\ndefault_lifetime = 2\n[[behavior]]\nmatch = '/x'\nlifetime = 3",
        &[("every request", "'default_lifetime' has no effect beside 'lifetime', which comes first")],
    );
}

#[test]
fn a_pattern_that_looks_like_a_query_has_a_warning() {
    let warning =
        "the query is not a part of a path, and '?' in '/x?page=*' is any character; see 'query' of 'key'";
    warns("[[behavior]]\nmatch = ['/a', '/x?page=*']", &[("behavior 1, path /a or /x?page=*", warning)]);
    warns("[default.response]\ntag_paths = { '/x?page=*' = 'a' }", &[("every request", warning)]);
    warns("[[behavior]]\nmatch = ['/a=?', '/b?c']", &[]);
}

const SECOND_LOOK: &str = "[[behavior]]\nmatch = '*'\n[[behavior]]\nmatch = '/x'";

#[test]
fn the_proxy_prints_warnings_at_its_start_and_whenever_the_file_is_read_again() {
    let policy = TempFile::new("toml", SECOND_LOOK);
    let origin = Origin::new();
    let (proxy, lines) = Proxy::with_lines(&origin.upstream(), &["--policy", policy.name()]);
    let next = || lines.recv_timeout(GUARD).unwrap().replace(policy.name(), "FILE");
    let warning = |line: usize| {
        format!(
            "larder: warning: FILE:{line}: no request gets here: behavior 1 matches everything that this one does"
        )
    };
    assert_eq!(next(), warning(4));
    policy.write(format!("\n{SECOND_LOOK}"));
    proxy.signal("HUP");
    // One is on standard error, the other on standard output.
    let mut both = [next(), next()];
    both.sort();
    assert_eq!(both, ["larder: the policy is that of FILE now".to_owned(), warning(5)]);
}

#[test]
fn a_distributions_warnings_are_printed_as_well() {
    let json = r#"{"DefaultCacheBehavior": {"TargetOriginId": "web", "ViewerProtocolPolicy": "allow-all",
        "CachePolicyId": "658327ea-f89d-4fab-a63d-7e88639e58f6",
        "OriginRequestPolicyId": "216adef6-5c7f-47e4-b989-5492eafa07d3"}}"#;
    let policy = TempFile::new("json", json);
    let origin = Origin::new();
    let (_proxy, lines) = Proxy::with_lines(&origin.upstream(), &["--policy", policy.name()]);
    let line = lines.recv_timeout(GUARD).unwrap();
    assert!(
        line.starts_with(&format!("larder: warning: {}: default: goes to the origin", policy.name())),
        "{line}"
    );
    let output = run(&["check-policy", policy.name()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("\nwarning: default: goes to the origin and is not in the key"), "{said}");
}
