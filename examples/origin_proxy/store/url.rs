//! What `--store` names, as it may be shown.

use super::disk::PREFIX;

/// A URL without its password; anything else as it is.
pub fn without_password(url: &str) -> String {
    if url.starts_with(PREFIX) {
        return url.to_owned();
    }
    let begin = url.find("://").map_or(0, |at| at + 3);
    let Some(end) = url.rfind('@').filter(|end| *end >= begin) else {
        return url.to_owned();
    };
    let account = &url[begin..end];
    let user = account.split_once(':').map_or(account, |(user, _)| user);
    let mask = if user.len() < account.len() { ":***" } else { "" };
    format!("{}{user}{mask}{}", &url[..begin], &url[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, shown) in [
            ("memory", "memory"),
            ("disk:/my@cache,1GiB", "disk:/my@cache,1GiB"),
            ("redis://a:1/2", "redis://a:1/2"),
            ("redis://me@a", "redis://me@a"),
            ("redis://me:secret@a", "redis://me:***@a"),
            ("redis://:secret@a", "redis://:***@a"),
            ("redis-cluster://me:se:cr@et@a,b:1", "redis-cluster://me:***@a,b:1"),
            ("redis://me:se/cr@et@a", "redis://me:***@a"),
            ("me:secret@a", "me:***@a"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
