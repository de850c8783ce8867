//! The second part of the walk: private dynamic content behind CloudFront, with a cache policy that has `Authorization` and
//! the query in the key, and an origin request policy that forwards everything.

use std::net::SocketAddr;
use std::time::Duration;

use larder::XCache;
use larder::policy::cloudfront::{CachePolicyConfig, Distribution, OriginRequestPolicyConfig};
use larder::viewer::Database;

use crate::viewer::Viewer;
use crate::walk::site::Site;
use crate::walk::table::{Answer, ERROR, Fields, HIT, MISS, REFRESH, Walk};

/// Both policies in AWS's JSON: for `proxy --policy`, too.
const POLICIES: &str = include_str!("../cloudfront.json");

/// A database in which loopback is in New Zealand.
const DATABASE: &[u8] = include_bytes!("../viewer.mmdb");

const PHONE: (&str, &str) =
    ("user-agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Mobile/15E148");
const ONE: (&str, &str) = ("authorization", "user:one");
const TWO: (&str, &str) = ("authorization", "user:two");

pub async fn walk(walk: &mut Walk, site: &Site) -> Result<SocketAddr, String> {
    let database = Database::from_bytes(DATABASE.to_vec()).map_err(|error| error.to_string())?;
    let distribution = Distribution::from_json(POLICIES).map_err(|error| error.to_string())?;
    let distribution = distribution.trust_viewer_headers(true);
    let proxy = site.proxy(distribution, XCache::CloudFront, Viewer::by(database)).await?.address;
    walk.goes_to(proxy);
    walk.title("CloudFront: cache policy private-dynamic-content (0 s, 0 s, 1 day; Authorization, query), origin request policy forward-all");
    users(walk).await?;
    minimum(walk, site).await?;
    Ok(proxy)
}

async fn users(walk: &mut Walk) -> Result<(), String> {
    const STORED: &str = "larder; fwd=uri-miss; stored; ttl=30";
    const AGAIN: &str = "larder; hit; ttl=30";
    let (one, two): (Fields<'_>, Fields<'_>) = (&[ONE], &[TWO]);
    let of = |told: &'static str, user: &'static str| move |a: &Answer| a.told(told) && a.has(user);
    walk.get("/account", one, 200, MISS, "user one: asked of the origin", of(STORED, "user: one")).await?;
    walk.get("/account", one, 200, HIT, "user one again: from storage", of(AGAIN, "user: one")).await?;
    walk.get("/account", two, 200, MISS, "user two: another key", of(STORED, "user: two")).await?;
    walk.get("/account", two, 200, HIT, "user two again", of(AGAIN, "user: two")).await?;
    walk.get("/account?tab=orders", one, 200, MISS, "the query is in the key", of(STORED, "tab: orders"))
        .await?;
    let phone: Fields<'_> = &[TWO, PHONE, ("cloudfront-viewer-country", "XX")];
    let here = |a: &Answer| a.told("larder; fwd=uri-miss; stored; ttl=30") && a.has("viewer: phone in NZ");
    walk.get("/account?tab=map", phone, 200, MISS, "the viewer's country and device", here).await?;
    let private = |a: &Answer| a.told("larder; fwd=uri-miss; detail=\"private\"");
    walk.get("/me", one, 200, MISS, "private is obeyed: the minimum is 0", private).await?;
    walk.get("/account", &[], 401, ERROR, "nobody: no copy of anybody's", |a| a.has("Who")).await?;
    Ok(())
}

/// The caveat: a minimum above zero outweighs what the origin says.
async fn minimum(walk: &mut Walk, site: &Site) -> Result<(), String> {
    const VALIDATED: &str = "larder; fwd=stale; fwd-status=304; stored; ttl=0";
    let one: Fields<'_> = &[ONE];
    let told = |told: &'static str| move |a: &Answer| a.told(told);
    walk.get(
        "/account/balance",
        one,
        200,
        MISS,
        "no-cache: stored, and ...",
        told("larder; fwd=uri-miss; stored; ttl=0"),
    )
    .await?;
    walk.get("/account/balance", one, 200, REFRESH, "... validated each time", told(VALIDATED)).await?;

    let policy = CachePolicyConfig::from_json(POLICIES).map_err(|error| error.to_string())?;
    let forward_all = OriginRequestPolicyConfig::from_json(POLICIES).map_err(|error| error.to_string())?;
    let distribution =
        Distribution::new(policy.min_ttl(Duration::from_secs(1))).origin_request_policy(forward_all);
    walk.goes_to(site.proxy(distribution, XCache::CloudFront, Viewer::off()).await?.address);
    walk.title("The same with a minimum of 1 s, for Cache-Control: no-cache, must-revalidate");
    walk.get(
        "/account/balance",
        one,
        200,
        MISS,
        "kept for a second all the same",
        told("larder; fwd=uri-miss; stored; ttl=1"),
    )
    .await?;
    walk.get("/account/balance", one, 200, HIT, "so this one asks nobody", told("larder; hit; ttl=1"))
        .await?;
    walk.hand.advance(Duration::from_secs(2));
    walk.get("/account/balance", one, 200, REFRESH, "a second later it is validated", |a| {
        a.told("larder; fwd=stale; fwd-status=304; stored; ttl=1")
    })
    .await?;
    Ok(())
}
