//! The `Date` of answers that have one of their own.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use crate::semantics::date;

thread_local! {
    /// The latest one of this thread, by its second: to write one for each answer costs an allocation.
    static LATEST: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// A time as the value of `Date`.
pub(crate) fn date_value(time: SystemTime) -> HeaderValue {
    let second = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let value =
        || HeaderValue::from_bytes(&date::format(time)).unwrap_or_else(|_| HeaderValue::from_static(""));
    // Where the thread ends, what it has kept is gone.
    let kept = LATEST.try_with(|latest| {
        let mut latest = latest.try_borrow_mut().ok()?;
        match &*latest {
            Some((own, kept)) if *own == second => Some(kept.clone()),
            _ => {
                let value = value();
                *latest = Some((second, value.clone()));
                Some(value)
            }
        }
    });
    kept.ok().flatten().unwrap_or_else(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_date_is_that_of_its_second() {
        for seconds in [0, 1, 1, 784_111_777, 0] {
            let time = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 999);
            assert_eq!(date_value(time).as_bytes(), date::format(time), "{seconds}");
        }
        assert_eq!(date_value(UNIX_EPOCH - Duration::from_secs(5)), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
