//! The third part of the walk: `Surrogate-Control` and `Surrogate-Key` behind Fastly.

use std::net::SocketAddr;

use larder::XCache;
use larder::policy::Fastly;
use larder::store::PurgeTarget;

use crate::viewer::Viewer;
use crate::walk::site::Site;
use crate::walk::table::{Answer, Walk};

pub async fn walk(walk: &mut Walk, site: &Site) -> Result<SocketAddr, String> {
    let proxy = site.proxy(Fastly::classic(), XCache::Fastly, Viewer::off()).await?;
    walk.goes_to(proxy.address);
    walk.title("Fastly, the boilerplate of 2022: Cache-Control: no-store, Surrogate-Control: max-age=3600, Surrogate-Key: news page-1");
    let is_clean = |a: &Answer| a.field("surrogate-control") == "-" && a.field("surrogate-key") == "-";
    let kept = |told: &'static str| {
        move |a: &Answer| a.told(told) && is_clean(a) && a.field("cache-control") == "no-store"
    };
    let stored = kept("larder; fwd=uri-miss; stored; ttl=3600");
    walk.get("/news", &[], 200, "MISS", "Surrogate-Control outweighs no-store", stored).await?;
    walk.get("/news", &[], 200, "HIT", "fields for caches reach no client", kept("larder; hit; ttl=3600"))
        .await?;
    walk.get("/news?page=2", &[], 200, "MISS", "another page, with a key of its own, too", stored).await?;

    proxy.cache.purge_target(&PurgeTarget::tag("page-1")).await.map_err(|error| error.to_string())?;
    walk.get("/news", &[], 200, "MISS", "purged by the key page-1 ...", stored).await?;
    walk.get("/news?page=2", &[], 200, "HIT", "... and this was not", kept("larder; hit; ttl=3600")).await?;
    proxy.cache.purge_target(&PurgeTarget::tag("news")).await.map_err(|error| error.to_string())?;
    walk.get("/news", &[], 200, "MISS", "the key news is that of both", stored).await?;
    walk.get("/news?page=2", &[], 200, "MISS", "both", stored).await?;

    let today = site.proxy(Fastly::new(), XCache::Fastly, Viewer::off()).await?;
    walk.goes_to(today.address);
    walk.title("Today's boilerplate");
    let passed = |a: &Answer| a.told("larder; fwd=uri-miss; detail=\"no-store\"") && is_clean(a);
    walk.get("/news", &[], 200, "MISS", "no-store counts first", passed).await?;
    Ok(proxy.address)
}
