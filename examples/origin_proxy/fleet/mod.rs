//! A walk through a fleet: three proxies over one Redis Cluster, before one origin. Each of them is a process, and some are killed.

mod client;
mod nodes;
mod process;
mod servers;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;

use self::client::{Client, Load};
use self::nodes::{Node, Origin};
use self::process::Folder;
use self::servers::Cluster;
use crate::stop::Stop;

/// How long one step may take, and the whole walk.
const STEP: Duration = Duration::from_secs(60);
const WALK: Duration = Duration::from_secs(300);
/// By then, a purge is in effect in all proxies, whatever becomes of the link (`TierLimits::bound`).
const BOUND: Duration = Duration::from_millis(250);
/// How many requests a load has begun before something is killed.
const WARM: usize = 400;

/// Walks; whether every row was as expected. Whatever was started has ended when this returns.
///
/// # Errors
///
/// One sentence: something does not start, or the walk does not come to its end.
pub async fn run(server: &Path) -> Result<bool, String> {
    let mut stop = Stop::by_signal()?;
    tokio::select! {
        walked = tokio::time::timeout(WALK, walk(server)) => {
            walked.unwrap_or_else(|_| Err("the walk has no end: it was ended after five minutes".to_owned()))
        }
        () = stop.asked() => Err("the walk was ended before its end".to_owned()),
    }
}

async fn walk(server: &Path) -> Result<bool, String> {
    let random = RandomState::new();
    let folder = Folder::new(&format!("larder-fleet-{:016x}", random.hash_one("folder")))?;
    let token = format!("{:016x}{:016x}", random.hash_one("token"), RandomState::new().hash_one("token"));
    let token_file = folder.write("token", &token)?;
    println!("Starting a Redis Cluster of three primaries, each with a replica; an origin; three proxies");
    let mut cluster = Cluster::start(server, &folder).await?;
    let origin = Origin::default();
    let (upstream, store) = (origin.start().await?, cluster.url());
    let mut nodes = Vec::new();
    for name in ["node-1", "node-2", "node-3"] {
        let token = token_file.to_string_lossy();
        nodes.push(Node::start(name, &upstream, &store, &token, &folder).await?);
    }
    let mut walk = Walk { client: Client::new(&token), failed: 0, rows: 0 };
    println!("\n  {:<54}  what came of it\n{}", "step", "-".repeat(150));
    walk.shares(&origin, &nodes).await?;
    walk.purges(&origin, &nodes).await?;
    walk.loses_a_server(&mut cluster, &nodes).await?;
    walk.loses_a_proxy(nodes).await?;
    println!("\n{} of {} rows as expected", walk.rows - walk.failed, walk.rows);
    Ok(walk.failed == 0)
}

/// The client that walks, and the count of its rows.
struct Walk {
    client: Client,
    failed: usize,
    rows: usize,
}

impl Walk {
    fn row(&mut self, step: &str, seen: &str, is_expected: bool) {
        self.rows += 1;
        self.failed += usize::from(!is_expected);
        println!("{} {step:<54}  {seen}", if is_expected { ' ' } else { '!' });
    }

    /// What one proxy has fetched, all serve, and what all lack, one fetches.
    async fn shares(&mut self, origin: &Origin, nodes: &[Node]) -> Result<(), String> {
        let miss = self.client.get(&nodes[0].address, "page").await?;
        self.row("GET /page of node-1: nobody has it", &miss.did, miss.did.contains("fwd=uri-miss; stored"));
        for (node, name) in nodes[1..].iter().zip(["node-2", "node-3"]) {
            let hit = self.client.get(&node.address, "page").await?;
            self.row(&format!("GET /page of {name}: stored by node-1"), &hit.did, hit.is_hit());
        }
        let asked = origin.asked("page");
        self.row("the origin was asked", &times(asked), asked == 1);
        let cold = nodes.iter().cycle().take(300).map(|node| self.client.get(&node.address, "cold"));
        let answers = join_all(cold).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let good = answers.iter().filter(|answer| answer.content == "call 1").count();
        let asked = origin.asked("cold");
        let seen = format!("{good} of 300 have its answer; the origin was asked {}", times(asked));
        self.row("GET /cold, 100 times of each at once (--lease)", &seen, good == 300 && asked == 1);
        Ok(())
    }

    /// What one proxy has purged, none serves any more.
    async fn purges(&mut self, origin: &Origin, nodes: &[Node]) -> Result<(), String> {
        for node in nodes {
            // It is near now.
            self.client.get(&node.address, "page").await?;
        }
        let purged = self.client.purge(&nodes[2].admin, "page").await?;
        let since = Instant::now();
        self.row("purge of /page by node-3", purged.status.as_str(), purged.status == StatusCode::OK);
        for (node, name) in nodes.iter().zip(["node-1", "node-2", "node-3"]) {
            // Answers that were asked for within the bound may be old ones. None that was asked for later is.
            let mut old = Duration::ZERO;
            let answer = loop {
                let asked = since.elapsed();
                let answer = self.client.get(&node.address, "page").await?;
                if answer.content != "call 1" {
                    break answer;
                }
                old = asked;
                if asked > STEP {
                    break answer;
                }
            };
            let seen = match old.is_zero() {
                true => format!("{}: nothing old", answer.did),
                false => format!("{}: old for {} ms at least", answer.did, old.as_millis()),
            };
            self.row(&format!("GET /page of {name}"), &seen, answer.content == "call 2" && old <= BOUND);
        }
        let asked = origin.asked("page");
        self.row("the origin was asked", &times(asked), asked == 2);
        Ok(())
    }

    /// kill -9 of the primary that all proxies need. Nobody waits for it, and its replica takes over.
    async fn loses_a_server(&mut self, cluster: &mut Cluster, nodes: &[Node]) -> Result<(), String> {
        let load = self.load(nodes).await?;
        let port = cluster.kill_the_one_with_the_log().await?;
        let since = Instant::now();
        let mut refused = 0;
        // Until the replica has taken over, a purge is an error.
        until("a purge succeeds again", async || {
            let purged = self.client.purge(&nodes[0].admin, "page").await;
            let is_purged = purged.is_ok_and(|answer| answer.status == StatusCode::OK);
            refused += usize::from(!is_purged);
            is_purged
        })
        .await?;
        let back = since.elapsed();
        // Hits of all of them: the breaker of each has closed.
        let mut hits = Vec::new();
        for node in nodes {
            until("a proxy has hits again", async || {
                self.client.get(&node.address, "page").await.is_ok_and(|answer| answer.is_hit())
            })
            .await?;
            hits.push(since.elapsed());
        }
        let served = load.ends().await;
        let step = format!("kill -9 of the Redis at port {port} under load");
        self.row(&step, &served.to_string(), served.failed.is_empty());
        served.failed.iter().take(3).for_each(|why| println!("!   {why}"));
        let seen = format!("after {:.1} s; errors before: {refused}", back.as_secs_f64());
        self.row("a purge succeeds", &seen, true);
        let latest = hits.into_iter().max().unwrap_or_default();
        self.row("hits of all proxies", &format!("after {:.1} s", latest.as_secs_f64()), true);
        Ok(())
    }

    /// kill -9 of a proxy. Whoever asked it asks the next one, as a load balancer does.
    async fn loses_a_proxy(&mut self, mut nodes: Vec<Node>) -> Result<(), String> {
        let load = self.load(&nodes).await?;
        let killed = nodes.remove(1);
        let step = format!("kill -9 of node-2, process {}, under load", killed.process.id);
        drop(killed);
        let served = load.ends().await;
        self.row(&step, &served.to_string(), served.failed.is_empty() && served.moved > 0);
        served.failed.iter().take(3).for_each(|why| println!("!   {why}"));
        for (node, name) in nodes.iter().zip(["node-1", "node-3"]) {
            let hit = self.client.get(&node.address, "page-1").await?;
            self.row(&format!("GET /page-1 of {name}"), &hit.did, hit.is_hit());
        }
        Ok(())
    }

    async fn load(&self, nodes: &[Node]) -> Result<Load, String> {
        let load = Load::start(&self.client, nodes.iter().map(|node| node.address.clone()).collect());
        until("the load begins", async || load.begun() >= WARM).await?;
        Ok(load)
    }
}

fn times(count: usize) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Asks again until it is so. What is waited for is another process.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> Result<(), String> {
    let since = Instant::now();
    while !is_so().await {
        if since.elapsed() > STEP {
            return Err(format!("{what}: not within a minute"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
