//! The page for people: one file, which tells nothing by itself.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderValue, header};

use super::answer::Answer;

const PAGE: &str = include_str!("page.html");
/// Where the page has the nonce.
const PLACE: &str = "NONCE";

/// `GET /`.
pub(super) fn page() -> Answer {
    let nonce = nonce();
    // Only this file's own script and style count, whatever text the script shows.
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let page = Answer::text("text/html; charset=utf-8", PAGE.replace(PLACE, &nonce));
    let policy = HeaderValue::try_from(policy).ok();
    policy.into_iter().fold(page, |page, policy| page.field(header::CONTENT_SECURITY_POLICY, policy))
}

/// 128 bits that nobody can foresee: numbers in the order in which they come, hashed by keys of this process.
fn nonce() -> String {
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    KEYS.iter().map(|keys| format!("{:016x}", keys.hash_one(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere_and_makes_no_markup_of_text() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http://",
            "https://",
            "src=",
            "@import",
            "url(",
            "localStorage",
            "onclick=",
            "style=",
        ];
        // The namespace of SVG is a name, and no resource; what a field shows as an example is text.
        let page = PAGE.replace("http://www.w3.org/2000/svg", "").replace("placeholder=\"https://", "");
        for word in forbidden {
            assert!(!page.contains(word), "{word}");
        }
        assert_eq!(PAGE.matches("<script").count(), 1);
        assert_eq!(PAGE.matches("<style").count(), 1);
        assert_eq!(PAGE.matches(PLACE).count(), 2);
    }

    #[test]
    fn each_page_has_a_nonce_of_its_own() {
        let (one, other) = (nonce(), nonce());
        assert!(one != other && one.len() == 32, "{one} {other}");
    }
}
