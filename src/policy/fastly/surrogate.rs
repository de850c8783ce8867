//! `Surrogate-Control`: directives for caches on the origin's side (W3C, Edge Architecture Specification 1.0).

use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderName;

use crate::semantics::fields::{delta_seconds, list, trim};

pub(super) const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// What the field says, over all its lines. Where it contradicts itself, the smaller number counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SurrogateControl {
    /// `max-age`. An argument that is no number reads as 0.
    pub(super) max_age: Option<Duration>,
    /// `no-store`, or `private`, which the specification does not know and nobody writes for no reason.
    pub(super) no_store: bool,
    /// `stale-if-error`, or the window of `max-age=600+30`.
    pub(super) stale_if_error: Option<Duration>,
    /// `stale-while-revalidate`, or the same window.
    pub(super) stale_while_revalidate: Option<Duration>,
}

impl SurrogateControl {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        let mut window = None;
        // A member may have parameters: `content="ESI/1.0";esi`, or the name of the cache that it is for.
        for member in list(headers, &SURROGATE_CONTROL) {
            let member = member.split(|&byte| byte == b';').next().unwrap_or_default();
            let mut halves = member.splitn(2, |&byte| byte == b'=');
            let name = trim(halves.next().unwrap_or_default()).to_ascii_lowercase();
            let argument = halves.next().map(unquoted);
            match name.as_slice() {
                b"max-age" => {
                    let mut parts = argument.unwrap_or_default().splitn(2, |&byte| byte == b'+');
                    least(&mut control.max_age, parts.next());
                    if let Some(stale) = parts.next() {
                        least(&mut window, Some(stale));
                    }
                }
                b"no-store" | b"private" => control.no_store = true,
                b"stale-if-error" => least(&mut control.stale_if_error, argument),
                b"stale-while-revalidate" => least(&mut control.stale_while_revalidate, argument),
                _ => {}
            }
        }
        control.stale_if_error = control.stale_if_error.or(window);
        control.stale_while_revalidate = control.stale_while_revalidate.or(window);
        control
    }
}

fn unquoted(argument: &[u8]) -> &[u8] {
    match trim(argument) {
        [b'"', inner @ .., b'"'] => inner,
        plain => plain,
    }
}

/// Keeps the smaller of what was read.
fn least(slot: &mut Option<Duration>, argument: Option<&[u8]>) {
    let seconds = argument.and_then(|argument| delta_seconds(trim(argument))).unwrap_or(0);
    let read = Duration::from_secs(seconds.into());
    *slot = Some(slot.map_or(read, |earlier| earlier.min(read)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> SurrogateControl {
        let value = |line: &&str| HeaderValue::from_str(line).expect("a value");
        SurrogateControl::of(&lines.iter().map(|line| (SURROGATE_CONTROL, value(line))).collect())
    }

    /// Maximum age, stale-while-revalidate and stale-if-error in seconds, and `no-store`.
    #[track_caller]
    fn check(lines: &[&str], max_age: Option<u64>, windows: [Option<u64>; 2], no_store: bool) {
        let [stale_while_revalidate, stale_if_error] = windows.map(|window| window.map(Duration::from_secs));
        let max_age = max_age.map(Duration::from_secs);
        let expected = SurrogateControl { max_age, no_store, stale_if_error, stale_while_revalidate };
        assert_eq!(read(lines), expected, "{lines:?}");
    }

    #[test]
    fn tc2_surrogate_control_is_read_as_the_w3c_and_fastly_write_it() {
        check(&[], None, [None, None], false);
        check(&["max-age=3600"], Some(3600), [None, None], false);
        check(&["Max-Age = \"3600\""], Some(3600), [None, None], false);
        check(
            &["max-age=60, stale-while-revalidate=30, stale-if-error=86400"],
            Some(60),
            [Some(30), Some(86400)],
            false,
        );
        // W3C: a stale window after the `+`, which what is said in words outweighs.
        check(&["max-age=600+30"], Some(600), [Some(30), Some(30)], false);
        check(&["max-age=600+30, stale-if-error=5"], Some(600), [Some(30), Some(5)], false);
        check(&["no-store, content=\"ESI/1.0\""], None, [None, None], true);
        check(&["content=\"ESI/1.0, max-age=1\";esi, max-age=60;edge"], Some(60), [None, None], false);
        check(&["private"], None, [None, None], true);
        // Not a number: stale at once. Twice: the smaller one.
        check(&["max-age"], Some(0), [None, None], false);
        check(&["max-age=-1"], Some(0), [None, None], false);
        check(&["max-age=60+x"], Some(60), [Some(0), Some(0)], false);
        check(&["max-age=60", "max-age=5"], Some(5), [None, None], false);
        check(&["max-age=99999999999999999999"], Some(1 << 31), [None, None], false);
        check(&["no-cache, must-revalidate, x=y"], None, [None, None], false);
    }

    proptest! {
        #[test]
        fn reading_surrogate_control_never_panics(lines in prop::collection::vec("[ -~]{0,60}", 0..4)) {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let _ = read(&lines);
        }
    }
}
