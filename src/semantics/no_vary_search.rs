//! `No-Vary-Search` (draft-ietf-httpbis-no-vary-search-10): which parts of a query a response does not
//! depend on, and so for which other queries it may be reused.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::HeaderName;
use sfv::{BareItem, Dictionary, InnerList, ListEntry, Parser};

use super::fields::combined;

/// The field's name.
pub(crate) const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// The most names that a field may list.
pub(crate) const MOST_NAMES: usize = 64;
/// The most bytes of a field, all its lines together, that are read.
pub(crate) const LONGEST: usize = 4096;

/// What a response says about the query of its target URI: which parameters do not matter, and whether their order
/// does. A value says that something does not matter; if the whole query matters, there is no value.
///
/// Two rules are equal when they name the same parameters, in whatever order and spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NoVarySearch {
    any_order: bool,
    ignored: Ignored,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ignored {
    AllBut(Names),
    Listed(Names),
}

/// Decoded, sorted, each once.
type Names = Box<[Box<str>]>;

impl NoVarySearch {
    /// Reads the field of a response; `None` if it leaves the whole query significant: it is absent, names nothing, is
    /// not a structured-fields dictionary, gives a known key a value of the wrong type, or is larger than [`LONGEST`]
    /// and [`MOST_NAMES`] allow. Unknown keys are ignored.
    ///
    /// Up to its third edition, the draft had a boolean `params`, with `except` as an addition; since then it has
    /// `except` alone. No value means one thing in one form and another in the other, so both are read: `except=("a")`
    /// and `params, except=("a")` are the same rule.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let length: usize = headers.get_all(NO_VARY_SEARCH).into_iter().map(|line| line.len()).sum();
        if length > LONGEST {
            return None;
        }
        let field = combined(headers, &NO_VARY_SEARCH)?;
        let dictionary: Dictionary = Parser::new(&field).parse().ok()?;
        let any_order = match dictionary.get("key-order") {
            None => false,
            Some(entry) => boolean(entry)?,
        };
        let ignored = match (dictionary.get("params"), dictionary.get("except")) {
            (None, None) => Ignored::nothing(),
            (None, Some(except)) => Ignored::AllBut(names(except)?),
            (Some(ListEntry::InnerList(params)), None) => Ignored::Listed(names_of(params)?),
            (Some(params), except) => match (boolean(params)?, except) {
                (false, None) => Ignored::nothing(),
                (false, Some(_)) => return None,
                (true, None) => Ignored::everything(),
                (true, Some(except)) => Ignored::AllBut(names(except)?),
            },
        };
        (any_order || ignored != Ignored::nothing()).then_some(Self { any_order, ignored })
    }

    /// Bytes of heap memory held.
    pub(crate) fn weight(&self) -> usize {
        let (Ignored::AllBut(names) | Ignored::Listed(names)) = &self.ignored;
        names.iter().map(|name| size_of::<Box<str>>() + name.len()).sum()
    }

    /// The query (what follows `?`; empty if there is none), reduced to what matters, in one spelling. Under this rule,
    /// two queries are equivalent if this is the same for both.
    ///
    /// The query is read as `application/x-www-form-urlencoded` (WHATWG URL 5.1). The result is such a query as well,
    /// and its own canonical form. Takes time in proportion to the query, with `key-order` as sorting does.
    ///
    /// Names and values are compared as bytes. The draft decodes them as UTF-8 and replaces what is not UTF-8, so that
    /// by the letter `%f6` and `%ff` are the same value; a cache may always reuse less.
    pub(crate) fn canonical(&self, query: &[u8]) -> Vec<u8> {
        let mut parameters: Vec<_> =
            Parameters(query).filter(|(name, _)| !self.ignored.contains(&text(name))).collect();
        if self.any_order {
            // Stable: the order among the values of one name counts.
            parameters.sort_by_cached_key(|(name, _)| text(name).into_owned());
        }
        let mut canonical = Vec::with_capacity(query.len());
        for (name, value) in parameters {
            if !canonical.is_empty() {
                canonical.push(b'&');
            }
            encode(&name, &mut canonical);
            canonical.push(b'=');
            encode(&value, &mut canonical);
        }
        canonical
    }
}

impl Ignored {
    fn everything() -> Self {
        Self::AllBut(Names::default())
    }

    fn nothing() -> Self {
        Self::Listed(Names::default())
    }

    fn contains(&self, name: &str) -> bool {
        let is_in = |names: &Names| names.binary_search_by(|known| (**known).cmp(name)).is_ok();
        match self {
            Self::AllBut(names) => !is_in(names),
            Self::Listed(names) => is_in(names),
        }
    }
}

fn boolean(entry: &ListEntry) -> Option<bool> {
    match entry {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::Boolean(on) => Some(on),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    }
}

fn names(entry: &ListEntry) -> Option<Names> {
    match entry {
        ListEntry::InnerList(list) => names_of(list),
        ListEntry::Item(_) => None,
    }
}

/// Only strings are allowed. They are encoded like names in a query, so that they can contain any letter.
fn names_of(list: &InnerList) -> Option<Names> {
    if list.items.len() > MOST_NAMES {
        return None;
    }
    let name = |item: &sfv::Item| match &item.bare_item {
        BareItem::String(name) => Some(text(&decode(name.as_str().as_bytes())).into()),
        _ => None,
    };
    let mut names: Vec<Box<str>> = list.items.iter().map(name).collect::<Option<_>>()?;
    names.sort_unstable();
    names.dedup();
    Some(names.into_boxed_slice())
}

/// The parameters of a query in their order, names and values decoded (WHATWG URL 5.1).
struct Parameters<'a>(&'a [u8]);

impl<'a> Iterator for Parameters<'a> {
    type Item = (Cow<'a, [u8]>, Cow<'a, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let (parameter, rest) = split_at(self.0, b'&');
            self.0 = rest;
            if !parameter.is_empty() {
                let (name, value) = split_at(parameter, b'=');
                return Some((decode(name), decode(value)));
            }
        }
        None
    }
}

/// The bytes before and after the first `separator`; all of them and none if there is no separator.
fn split_at(bytes: &[u8], separator: u8) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| byte == separator).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

/// `+` is a space, `%` and two digits are a byte, and any other `%` stands for itself.
fn decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(bytes);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (byte, _) => *byte,
        });
    }
    Cow::Owned(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The text decides which parameters are meant and how they sort, as in the draft: if bytes decided, the cache could
/// ignore names outside UTF-8 that count by the letter of the draft.
fn text(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}

/// Escapes what [`Parameters`] would read as something else.
fn encode(bytes: &[u8], query: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'%' => query.extend_from_slice(b"%25"),
            b'&' => query.extend_from_slice(b"%26"),
            b'+' => query.extend_from_slice(b"%2B"),
            b'=' => query.extend_from_slice(b"%3D"),
            byte => query.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::tests::any_value;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Option<NoVarySearch> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(NO_VARY_SEARCH, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        NoVarySearch::of(&headers)
    }

    fn rule(any_order: bool, ignored: fn(Names) -> Ignored, names: &[&str]) -> NoVarySearch {
        NoVarySearch { any_order, ignored: ignored(names.iter().map(|name| (*name).into()).collect()) }
    }

    #[test]
    fn va5_a_valid_field_is_parsed_into_a_rule() {
        use Ignored::{AllBut, Listed};
        // Draft 5.1, 5.2.1.
        for (line, expected) in [
            ("key-order", rule(true, Listed, &[])),
            ("key-order=?1", rule(true, Listed, &[])),
            ("key-order;a=b", rule(true, Listed, &[])),
            ("params=(\"a\")", rule(false, Listed, &["a"])),
            ("params=(\"b\" \"a\")", rule(false, Listed, &["a", "b"])),
            ("params=(\"a\" \"a\")", rule(false, Listed, &["a"])),
            ("params=(\"a\";x=1 \"b\");y", rule(false, Listed, &["a", "b"])),
            ("params=(\"\")", rule(false, Listed, &[""])),
            ("except=(\"x\")", rule(false, AllBut, &["x"])),
            ("except=()", rule(false, AllBut, &[])),
            ("except=(\"x\"), key-order", rule(true, AllBut, &["x"])),
            ("key-order, params=(\"a\")", rule(true, Listed, &["a"])),
            ("key-order=?0, params=(\"a\")", rule(false, Listed, &["a"])),
            ("key-order, params=()", rule(true, Listed, &[])),
            ("params=(\"a\"), unknown-key=5", rule(false, Listed, &["a"])),
            // RFC 9651 3.2: of a key that comes twice the last counts.
            ("params=(\"a\"), params=(\"b\")", rule(false, Listed, &["b"])),
            ("key-order=5, key-order", rule(true, Listed, &[])),
            // Up to edition 03.
            ("params", rule(false, AllBut, &[])),
            ("params=?1", rule(false, AllBut, &[])),
            ("params, except=(\"x\")", rule(false, AllBut, &["x"])),
            ("except=(\"x\"), params", rule(false, AllBut, &["x"])),
            ("params, except=()", rule(false, AllBut, &[])),
            ("params, key-order, except=(\"x\")", rule(true, AllBut, &["x"])),
            ("key-order, params=?0", rule(true, Listed, &[])),
            // Draft 5.3: parse a key.
            ("params=(\"%C3%A9+%E6%B0%97\")", rule(false, Listed, &["\u{e9} \u{6c17}"])),
            ("params=(\"a%62c\")", rule(false, Listed, &["abc"])),
            ("params=(\"a%2Bb\")", rule(false, Listed, &["a+b"])),
            ("params=(\"a+b\" \"a%20b\")", rule(false, Listed, &["a b"])),
            ("params=(\"%zz\" \"%\" \"%4\")", rule(false, Listed, &["%", "%4", "%zz"])),
            ("params=(\"%ff\")", rule(false, Listed, &["\u{fffd}"])),
            ("params=(\"a\\\"b\")", rule(false, Listed, &["a\"b"])),
        ] {
            assert_eq!(read(&[line]), Some(expected), "{line}");
        }
        let both = rule(true, Listed, &["a"]);
        assert_eq!(read(&["params=(\"a\")", "key-order"]), Some(both), "lines are combined");
    }

    #[test]
    fn va5_an_invalid_or_empty_field_ignores_no_parameter() {
        // Draft 5.1, 5.2.1; RFC 9651 4.2.
        for line in [
            "",
            "unknown-key",
            "key-order=?0",
            "params=()",
            "params=?0",
            "key-order=\"not a boolean\"",
            "key-order=1",
            "key-order=yes",
            "key-order=(\"a\")",
            "key-order=5, params=(\"a\")",
            "params=\"not an inner list\"",
            "params=a",
            "params=5",
            "params=(not-a-string)",
            "params=(\"a\" b)",
            "params=(\"a\" 5)",
            "params=(\"a\" ?1)",
            "params=(\"a\"), except=(\"x\")",
            "params=(), except=()",
            "params=?0, except=(\"x\")",
            "key-order, params=?0, except=(\"x\")",
            "key-order, params=(\"a\"), except=()",
            "params, except=(not-a-string)",
            "params, except=\"not an inner list\"",
            "params, except=?1",
            "except=\"not an inner list\"",
            "except=(not-a-string)",
            "except=?1",
            "except",
            "params=(\"a\"",
            "params=(\"a\"), ",
            "params=(\"a\",\"b\")",
            "params =(\"a\")",
            "Params=(\"a\")",
            "params=(\"\u{e9}\")",
            "params=(\"a\") key-order",
        ] {
            assert_eq!(read(&[line]), None, "{line:?}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["params=(\"a\")", "&"]), None);
    }

    #[test]
    fn va5_a_field_beyond_the_limits_is_ignored() {
        let listing = |count: usize| format!("params=({})", vec!["\"a\""; count].join(" "));
        assert!(read(&[&listing(MOST_NAMES)]).is_some());
        assert_eq!(read(&[&listing(MOST_NAMES + 1)]), None);
        let long = |length: usize| format!("params=(\"{}\")", "a".repeat(length - 11));
        assert!(read(&[&long(LONGEST)]).is_some());
        assert_eq!(read(&[&long(LONGEST + 1)]), None);
        assert_eq!(read(&[&long(LONGEST), "a"]), None);
    }

    /// Whether two queries are equivalent under a rule.
    #[track_caller]
    fn check(field: &str, one: &str, other: &str, expected: bool) {
        let rule = read(&[field]).expect("a rule");
        let same = rule.canonical(one.as_bytes()) == rule.canonical(other.as_bytes());
        assert_eq!(same, expected, "{field}: {one:?} {other:?}");
    }

    #[test]
    fn va5_queries_are_equal_if_only_ignored_parameters_differ() {
        // Draft 6: which parameters count.
        check("params=(\"a\")", "a=1", "a=2", true);
        check("params=(\"a\")", "a=1", "", true);
        check("params=(\"a\")", "a=1&b=2", "b=2&a=3&a=4", true);
        check("params=(\"a\")", "a=1&b=2", "a=1&b=3", false);
        check("params=(\"a\")", "b=2", "b=2&c", false);
        check("params=(\"a\")", "A=1", "A=2", false);
        check("params=(\"a\")", "aa=1", "aa=2", false);
        check("params=(\"a\")", "%61=1", "", true);
        check("params=(\"a\" \"b\")", "a=1&b=2&c=3", "c=3", true);
        check("params=(\"\")", "=1&a=2", "a=2&=3", true);
        check("params=(\"a b\")", "a+b=1", "a%20b=2", true);
        check("params=(\"a+b\")", "a%2Bb=1", "", false);
        check("params=(\"%C3%A9+%E6%B0%97\")", "\u{e9} \u{6c17}=1", "%C3%A9+%E6%B0%97=4", true);
        check("except=(\"x\")", "x=1&y=2", "x=1&z=3", true);
        check("except=(\"x\")", "x=1", "x=2", false);
        check("except=(\"x\")", "x=1", "", false);
        check("except=(\"x\")", "x=1", "x=1&x=1", false);
        check("except=(\"x\" \"y\")", "x=1&y=2&z=3", "x=1&y=2", true);
        check("except=(\"x\" \"y\")", "x=1&y=2", "y=2&x=1", false);
        check("except=()", "x=1&y=2", "", true);
        check("params", "x=1&y=2", "z", true);
        check("params, except=(\"x\")", "x=1&y=2", "x=1", true);
        // Draft 6: order.
        check("key-order", "a=1&b=2", "b=2&a=1", true);
        check("key-order", "a=1&b=2&a=3", "b=2&a=1&a=3", true);
        check("key-order", "a=1&a=2", "a=2&a=1", false);
        check("key-order", "a=1&b=2", "a=2&b=1", false);
        check("key-order", "a=1", "a=1&a=1", false);
        check("key-order, params=(\"a\")", "b=2&a=1&c=3", "c=3&b=2", true);
        check("params=(\"z\")", "a=1&b=2", "b=2&a=1", false);
        // Draft 6.1: spelling.
        check("key-order", "", "&", true);
        check("key-order", "a=x", "%61=%78", true);
        check("key-order", "a=\u{e9}", "a=%C3%A9", true);
        check("key-order", "a=%c3%a9", "a=%C3%A9", true);
        check("key-order", "a=x&&&&", "a=x", true);
        check("key-order", "&&a=x", "a=x", true);
        check("key-order", "a=", "a", true);
        check("key-order", "a=%20", "a= &", true);
        check("key-order", "a=+", "a= &", true);
        check("key-order", "a=%2B", "a=+", false);
        check("key-order", "a=%C3%A9", "a=e%CC%81", false);
        check("key-order", "a=%25", "a=%", true);
        check("key-order", "a=%zz", "a=%25zz", true);
        check("key-order", "a=%4", "a=%254", true);
        check("key-order", "a==", "a=%3D", true);
        check("key-order", "a%3Db", "a=b", false);
        check("key-order", "a%26b", "a&b", false);
        check("key-order", "=", "", false);
        check("key-order", "a;b", "a&b", false);
        // Narrower than the draft, to which both are U+FFFD.
        check("key-order", "a=%f6", "a=%ef%bf%bd", false);
        check("key-order", "a=%f6", "a=%ff", false);
        // Which names are meant is as in the draft.
        check("params=(\"%ff\")", "%fe=1", "", true);
        check("except=(\"%ff\")", "%fe=1", "%fe=2", false);
        check("key-order", "%fe=1&%ff=2", "%ff=2&%fe=1", false);
    }

    /// The draft's algorithm (6), letter by letter.
    fn by_the_letter(rule: &NoVarySearch, query: &[u8]) -> Vec<(String, String)> {
        let plain = |bytes: &[u8]| {
            let spaced: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            let mut decoded = Vec::new();
            let mut at = 0;
            while at < spaced.len() {
                let hex = spaced.get(at + 1..at + 3).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
                match hex.filter(|_| spaced[at] == b'%') {
                    Some(hex) => {
                        let hex = std::str::from_utf8(hex).expect("ASCII");
                        decoded.push(u8::from_str_radix(hex, 16).expect("digits"));
                        at += 3;
                    }
                    None => {
                        decoded.push(spaced[at]);
                        at += 1;
                    }
                }
            }
            String::from_utf8_lossy(&decoded).into_owned()
        };
        let mut list = Vec::new();
        for sequence in query.split(|byte| *byte == b'&').filter(|sequence| !sequence.is_empty()) {
            let mut halves = sequence.splitn(2, |byte| *byte == b'=');
            let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
            list.push((plain(name), plain(value)));
        }
        match &rule.ignored {
            Ignored::AllBut(names) => list.retain(|(name, _)| names.iter().any(|known| **known == *name)),
            Ignored::Listed(names) => list.retain(|(name, _)| !names.iter().any(|known| **known == *name)),
        }
        if rule.any_order {
            list.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
        }
        list
    }

    fn any_rule() -> impl Strategy<Value = NoVarySearch> {
        let fields = [
            "key-order",
            "params=(\"a\")",
            "params=(\"a\" \"b+c\" \"%ff\")",
            "except=(\"a\")",
            "except=(\"b\" \"%ff\"), key-order",
            "except=()",
            "key-order, params=(\"\" \"c\")",
        ];
        prop::sample::select(fields.to_vec()).prop_map(|field| read(&[field]).expect("a rule"))
    }

    fn any_query() -> impl Strategy<Value = Vec<u8>> {
        let pieces =
            ["a", "b", "c", "=", "=", "&", "&", "+", "%", "%61", "%26", "%ff", "%C3%A9", "\u{e9}", "1"];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..16)
            .prop_map(|pieces| pieces.concat().into())
    }

    fn spelled(list: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let escape = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let pairs: Vec<_> =
            list.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        pairs.join("&").into_bytes()
    }

    proptest! {
        #[test]
        fn va5_parsing_a_field_or_query_never_panics(lines in prop::collection::vec(any_value(), 0..3), rule in any_rule(), query: Vec<u8>) {
            let headers = lines.into_iter().map(|line| (NO_VARY_SEARCH, line)).collect();
            let _ = NoVarySearch::of(&headers);
            let _ = rule.canonical(&query);
        }

        #[test]
        fn va5_a_canonical_query_is_its_own_canonical_form(rule in any_rule(), query in any_query()) {
            let canonical = rule.canonical(&query);
            prop_assert_eq!(rule.canonical(&canonical), canonical);
        }

        #[test]
        fn va5_an_ignored_parameter_does_not_change_the_canonical_query(
            before in any_query(),
            ignored in "(a|%61|b\\+c|b%20c)(=[a-z=%]{0,4})?",
            after in any_query(),
        ) {
            let rule = read(&["params=(\"a\" \"b+c\")"]).expect("a rule");
            let without = [&before[..], &after[..]].join(&b'&');
            let with = [&before[..], ignored.as_bytes(), &after[..]].join(&b'&');
            prop_assert_eq!(rule.canonical(&with), rule.canonical(&without));
        }

        #[test]
        fn va5_queries_that_the_draft_distinguishes_are_never_equal(rule in any_rule(), one in any_query(), other in any_query()) {
            let equal = rule.canonical(&one) == rule.canonical(&other);
            let by_the_letter = by_the_letter(&rule, &one) == by_the_letter(&rule, &other);
            let is_text = |query: &[u8]| Parameters(query).all(|(name, value)| {
                std::str::from_utf8(&name).is_ok() && std::str::from_utf8(&value).is_ok()
            });
            prop_assert!(by_the_letter || !equal);
            if is_text(&one) && is_text(&other) {
                prop_assert_eq!(equal, by_the_letter);
            }
        }

        #[test]
        fn va5_queries_with_different_parameters_are_not_equal(
            one in prop::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..4),
            other in prop::collection::vec(any::<(Vec<u8>, Vec<u8>)>(), 0..4),
        ) {
            let rule = read(&["params=(\"a name that nobody has\")"]).expect("a rule");
            let canonical = |list: &[(Vec<u8>, Vec<u8>)]| rule.canonical(&spelled(list));
            prop_assert_eq!(canonical(&one) == canonical(&other), one == other);
            prop_assert_eq!(Parameters(&canonical(&one)).map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>(), one);
        }

        #[test]
        fn va5_key_order_ignores_the_order_of_names(
            list in prop::collection::btree_map("[a-d]", prop::collection::vec("[a-z]{0,3}", 1..3), 1..4),
            turn: prop::sample::Index,
        ) {
            let rule = read(&["key-order"]).expect("a rule");
            let mut groups: Vec<Vec<String>> = list
                .iter()
                .map(|(name, values)| values.iter().map(|value| format!("{name}={value}")).collect())
                .collect();
            let straight = groups.concat().join("&");
            let distance = turn.index(groups.len());
            groups.rotate_left(distance);
            prop_assert_eq!(rule.canonical(straight.as_bytes()), rule.canonical(groups.concat().join("&").as_bytes()));
        }
    }
}
