//! The first part of the walk: what a cache does by RFC 9111.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, header};
use larder::{CachePolicyExt, StandardPolicy, XCache};

use crate::viewer::Viewer;
use crate::walk::site::Site;
use crate::walk::table::{Answer, ERROR, Fields, HIT, MISS, REFRESH, Walk};

/// `/me` is stored for each user separately: there the key holds the credential.
fn policy() -> impl larder::CachePolicy {
    let each = StandardPolicy::default().key_field(header::AUTHORIZATION).private_by_key(true);
    StandardPolicy::default()
        .strip_unkeyed(true)
        .when(|request| request.uri.path() == "/me", each.strip_unkeyed(true))
}

pub async fn walk(walk: &mut Walk, site: &Site) -> Result<SocketAddr, String> {
    let proxy = site.proxy(policy(), XCache::CloudFront, Viewer::off()).await?.address;
    walk.goes_to(proxy);
    walk.title("The default policy, with a key for each user in /me");
    /// Past the lifetime of what is fresh for two seconds.
    const LATER: Duration = Duration::from_secs(3);
    let (one, two): (Fields<'_>, Fields<'_>) =
        (&[("authorization", "user:one")], &[("authorization", "user:two")]);

    walk.get("/me", one, 200, MISS, "user one: asked of the origin", |a| a.has("user: one")).await?;
    walk.get("/me", one, 200, HIT, "user one again: from storage", |a| a.has("user: one")).await?;
    walk.get("/me", two, 200, MISS, "user two: never user one's", |a| a.has("user: two")).await?;
    walk.get("/me", two, 200, HIT, "user two again: her own copy", |a| a.has("user: two")).await?;
    walk.get("/me", &[], 401, ERROR, "nobody: no copy of anybody's", |a| a.has("Who")).await?;

    let first =
        walk.get("/article/1", &[], 200, MISS, "an article, shared by all", |a| a.has("edited 0")).await?;
    let tag = first.field("etag").to_owned();
    walk.get("/article/1", &[], 200, HIT, "shared", |a| a.has("edited 0")).await?;
    let known: Fields<'_> = &[("if-none-match", &tag)];
    walk.get("/article/1", known, 304, HIT, "the client has it already", |a| a.body.is_empty()).await?;
    walk.hand.advance(LATER);
    walk.get("/article/1", &[], 200, REFRESH, "stale: the origin says 304", |a| a.has("edited 0")).await?;
    walk.get("/article/1", &[], 200, HIT, "fresh again", |a| a.has("edited 0")).await?;
    walk.send(Method::POST, "/article/1", &[], 204, MISS, "an edit invalidates", |_| true).await?;
    walk.get("/article/1", &[], 200, MISS, "so it is asked for anew", |a| a.has("edited 1")).await?;

    let time = walk.get("/time", &[], 200, MISS, "no-store: never stored", |_| true).await?;
    walk.get("/time", &[], 200, MISS, "and never the same", |a| a.body != time.body).await?;

    let gzip: Fields<'_> = &[("accept-encoding", "gzip")];
    let packed = |a: &Answer| a.field("content-encoding") == "gzip";
    let page = walk.get("/", &[], 200, MISS, "a page, rendered for everybody", |a| a.has("Render")).await?;
    walk.get("/", gzip, 200, MISS, "gzip is another variant (Vary)", packed).await?;
    walk.get("/", &[], 200, HIT, "each variant", |a| a.body == page.body).await?;
    walk.get("/", gzip, 200, HIT, "has its own copy", packed).await?;

    let style =
        walk.get("/asset/style.css", &[], 200, MISS, "a file without a tag gets one", |_| true).await?;
    let tag = style.field("etag").to_owned();
    let reload: Fields<'_> = &[("cache-control", "no-cache"), ("if-none-match", &tag)];
    walk.get("/asset/style.css", reload, 304, HIT, "immutable: a reload asks nobody", |_| true).await?;

    walk.get("/slow", &[], 200, MISS, "slow once", |_| true).await?;
    walk.get("/slow", &[], 200, HIT, "for everybody", |_| true).await?;

    walk.get("/flaky", &[], 200, MISS, "a good day", |a| a.has("good day")).await?;
    walk.hand.advance(LATER);
    let fail: Fields<'_> = &[("x-fail", "503")];
    walk.get("/flaky", fail, 200, HIT, "a bad day, hidden (stale-if-error)", |a| a.has("a good day")).await?;

    let part: Fields<'_> = &[("range", "bytes=0-99")];
    walk.get("/video", part, 206, MISS, "a part of 16 MiB, from the origin", |a| a.body.len() == 100).await?;
    walk.get("/video", &[], 200, MISS, "too large to store: streamed", |a| a.body.len() == 16 << 20).await?;
    Ok(proxy)
}
