//! Clients of the fleet: one that looks closely, and many that ask for pages for as long as something goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;

/// The host that all of them ask for, whichever proxy they ask.
pub const HOST: &str = "shop.example";

/// A client, which knows the token of the admin services.
#[derive(Clone)]
pub struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    token: Arc<str>,
}

pub struct Answer {
    pub content: String,
    /// `Cache-Status`.
    pub did: String,
    pub status: StatusCode,
}

impl Answer {
    pub fn is_hit(&self) -> bool {
        self.did.contains("; hit")
    }
}

impl Client {
    pub fn new(token: &str) -> Self {
        Self { http: HttpClient::builder(TokioExecutor::new()).build_http(), token: token.into() }
    }

    pub async fn get(&self, address: &str, page: &str) -> Result<Answer, String> {
        let request = Request::get(format!("http://{address}/{page}")).header(header::HOST, HOST);
        self.send(request.body(Full::default())).await
    }

    /// Has a proxy purge a page.
    pub async fn purge(&self, admin: &str, page: &str) -> Result<Answer, String> {
        let order = format!("{{\"url\":\"http://{HOST}/{page}\"}}");
        let request = Request::post(format!("http://{admin}/purge"))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        self.send(request.body(order.into())).await
    }

    async fn send(&self, request: http::Result<Request<Full<Bytes>>>) -> Result<Answer, String> {
        let request = request.map_err(|error| error.to_string())?;
        let response = self.http.request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let did = parts.headers.get("cache-status").and_then(|value| value.to_str().ok());
        let content = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { content, did: did.unwrap_or_default().to_owned(), status: parts.status })
    }
}

/// How many clients ask at a time.
const CLIENTS: usize = 8;
/// Which pages they ask for.
const PAGES: usize = 20;
/// Every so many requests, one is for a page that nobody has asked for.
const NEW: usize = 10;
/// How many requests each client makes after what goes on has ended.
const AFTER: usize = 50;

/// How requests were served.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// No proxy has answered well, and what it was.
    pub failed: Vec<String>,
    /// By what is stored.
    pub hits: usize,
    /// By the origin.
    pub misses: usize,
    /// By another proxy than the first one that was asked.
    pub moved: usize,
    pub slowest: Duration,
}

impl Served {
    pub fn requests(&self) -> usize {
        self.hits + self.misses + self.failed.len()
    }

    fn add(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.hits += other.hits;
        self.misses += other.misses;
        self.moved += other.moved;
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl std::fmt::Display for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { failed, hits, misses, moved, slowest } = self;
        let (requests, ms) = (self.requests(), slowest.as_millis());
        write!(f, "{requests} requests: {hits} hits, {misses} from the origin, {} failed", failed.len())?;
        if *moved > 0 {
            write!(f, "; {moved} by the next proxy")?;
        }
        write!(f, "; slowest {ms} ms")
    }
}

/// Clients that ask all proxies in turn, until they are told that what goes on has ended, and a little longer.
pub struct Load {
    begun: Arc<AtomicUsize>,
    clients: JoinSet<Served>,
    has_ended: Arc<AtomicBool>,
}

impl Load {
    pub fn start(client: &Client, nodes: Vec<String>) -> Self {
        let (begun, has_ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let nodes: Arc<[String]> = nodes.into();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (client, nodes) = (client.clone(), Arc::clone(&nodes));
            let (begun, has_ended) = (Arc::clone(&begun), Arc::clone(&has_ended));
            clients.spawn(async move {
                let mut served = Served::default();
                let mut left = AFTER;
                while left > 0 {
                    if has_ended.load(Ordering::SeqCst) {
                        left -= 1;
                    }
                    let number = begun.fetch_add(1, Ordering::SeqCst);
                    let page = match number % NEW {
                        0 => format!("new-{number}"),
                        _ => format!("page-{}", number % PAGES),
                    };
                    ask(&client, &nodes, number, &page, &mut served).await;
                }
                served
            });
        }
        Self { begun, clients, has_ended }
    }

    /// How many requests have begun.
    pub fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// What goes on has ended.
    pub async fn ends(mut self) -> Served {
        self.has_ended.store(true, Ordering::SeqCst);
        let mut all = Served::default();
        while let Some(served) = self.clients.join_next().await {
            match served {
                Ok(served) => all.add(served),
                Err(error) => all.failed.push(error.to_string()),
            }
        }
        all
    }
}

/// Asks one proxy, and where that one does not answer the next ones, as a load balancer does.
async fn ask(client: &Client, nodes: &[String], number: usize, page: &str, served: &mut Served) {
    let begun = Instant::now();
    let mut why = String::new();
    for turn in 0..nodes.len() {
        match client.get(&nodes[(number + turn) % nodes.len()], page).await {
            Ok(answer) if answer.status == StatusCode::OK => {
                served.moved += usize::from(turn > 0);
                match answer.is_hit() {
                    true => served.hits += 1,
                    false => served.misses += 1,
                }
                served.slowest = served.slowest.max(begun.elapsed());
                return;
            }
            // An answer is an answer: what a proxy can't serve, no other one is asked for.
            Ok(answer) => {
                why = format!("{} {}", answer.status, answer.did);
                break;
            }
            Err(error) => why = error,
        }
    }
    served.failed.push(why);
}
