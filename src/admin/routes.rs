//! Which function answers which request.

use std::pin::Pin;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use http_body::Body;

use super::access;
use super::answer::{Answer, Refusal};
use super::call::Call;
use super::state::State;
use super::{bypass, cloudfront, fastly, live, look, page, policy, purge, stats, warm};
use crate::error::BoxError;
use crate::store::Store;

/// Not one of the registered methods, and used by Varnish, Fastly, Squid and nginx's module alike.
const PURGE: &str = "PURGE";

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, Refusal>> + Send + 'a>>;
type Act<S> = for<'a> fn(&'a State<S>, &'a Call) -> Answering<'a>;

/// One row of the table.
struct Route<S> {
    act: Act<S>,
    method: &'static str,
    /// `*` is one segment, and `**` at the end is the rest, with the query.
    path: &'static str,
}

macro_rules! routes {
    ($($method:literal $path:literal => $act:path),+ $(,)?) => {
        /// The table. The first row whose path fits counts.
        fn routes<S: Store>() -> impl Iterator<Item = Route<S>> {
            [$(Route { act: |state, call| Box::pin($act(state, call)), method: $method, path: $path }),+].into_iter()
        }

        /// What there is, for whoever asks for something else.
        const KNOWN: &[&str] = &[$(concat!($method, " ", $path)),+];
    };
}

routes! {
    "GET" "/stats" => stats::stats,
    "GET" "/hot" => stats::hot,
    "GET" "/metrics" => stats::metrics,
    "GET" "/live" => live::live,
    "GET" "/inspect" => look::inspect,
    "GET" "/explain" => look::explain,
    "POST" "/purge" => purge::by_order,
    "POST" "/purge/**" => fastly::url,
    "POST" "/service/*/purge" => fastly::keys,
    "POST" "/service/*/purge/**" => fastly::key,
    "POST" "/service/*/purge_all" => fastly::all,
    "POST" "/invalidation" => cloudfront::create,
    "GET" "/invalidation/**" => cloudfront::find,
    "POST" "/warm" => warm::warm,
    "GET" "/bypass" => bypass::read,
    "POST" "/bypass" => bypass::begin,
    "DELETE" "/bypass" => bypass::end,
    "GET" "/policy" => policy::read,
    "PUT" "/policy" => policy::replace,
}

/// Answers a request. Nobody learns what there is without the token, except for the page, which tells nothing.
pub(super) async fn answer<S, B>(state: Arc<State<S>>, request: Parts, body: B) -> Answer
where
    S: Store,
    B: Body<Error: Into<BoxError>> + Send,
{
    let asked = state.audit.asked(&request);
    let answer = answered(&state, request, body).await.unwrap_or_else(Answer::from);
    state.audit.answered(&asked, &answer, state.handle.now());
    answer
}

async fn answered<S, B>(state: &State<S>, request: Parts, body: B) -> Result<Answer, Refusal>
where
    S: Store,
    B: Body<Error: Into<BoxError>> + Send,
{
    let is_read = matches!(request.method, Method::GET | Method::HEAD);
    if is_read && matches!(request.uri.path(), "/" | "") {
        if !access::is_navigation(&request) {
            access::check_site(&request)?;
        }
        return Ok(page::page());
    }
    access::check_site(&request)?;
    state.tokens.check(&request.headers)?;
    if request.method.as_str() == PURGE {
        let call = Call::read(request, String::new(), body).await?;
        return purge::by_method(state, &call).await;
    }
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let method = if request.method == Method::HEAD { "GET" } else { request.method.as_str() };
    let mut allowed = Vec::new();
    for Route { act, method: own, path } in routes::<S>() {
        let Some(rest) = rest_of(path, &target) else {
            continue;
        };
        if own == method {
            let rest = rest.to_owned();
            let call = Call::read(request, rest, body).await?;
            return act(state, &call).await;
        }
        allowed.push(own);
    }
    if allowed.is_empty() {
        return Err(Refusal::not_found(format!("there are PURGE, GET /, {}", KNOWN.join(", "))));
    }
    let allow = allowed.join(", ");
    let refusal = Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method",
        format!("{} is not for this path", request.method),
        format!("use {allow}"),
    );
    let field = HeaderValue::try_from(allow).ok();
    Err(field.into_iter().fold(refusal, |refusal, allow| refusal.field(header::ALLOW, allow)))
}

/// What a target has where the path says `**`; the empty text where it has none. `None` where the path does not fit.
fn rest_of<'a>(path: &str, target: &'a str) -> Option<&'a str> {
    let mut rest = target;
    for segment in path.split('/').skip(1) {
        rest = rest.strip_prefix('/')?;
        if segment == "**" {
            return (!rest.is_empty()).then_some(rest);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let own = &rest[..end];
        if own != segment && (segment != "*" || own.is_empty()) {
            return None;
        }
        rest = &rest[end..];
    }
    (rest.is_empty() || rest.starts_with('?')).then_some("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_whole_or_has_a_rest() {
        for (path, target, expected) in [
            ("/stats", "/stats", Some("")),
            ("/stats", "/stats?x=/y", Some("")),
            ("/stats", "/stats/", None),
            ("/stats", "/statsx", None),
            ("/stats", "/", None),
            ("/purge/**", "/purge/a.example/x?y=1", Some("a.example/x?y=1")),
            ("/purge/**", "/purge/https://a/x", Some("https://a/x")),
            ("/purge/**", "/purge/", None),
            ("/purge/**", "/purge", None),
            ("/service/*/purge", "/service/7/purge", Some("")),
            ("/service/*/purge", "/service//purge", None),
            ("/service/*/purge", "/service/7/purge_all", None),
            ("/service/*/purge/**", "/service/7/purge/a%2Fb", Some("a%2Fb")),
        ] {
            assert_eq!(rest_of(path, target), expected, "{path} {target}");
        }
    }
}
