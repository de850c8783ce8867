//! Checks upstreams by requests of the proxy's own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Uri};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::connector::Connector;
use crate::upstream_error::UpstreamError;
use crate::upstreams::{Node, Upstreams};

/// What is asked for, and how often.
#[derive(Clone)]
pub struct HealthCheck {
    pub interval: Duration,
    pub path: PathAndQuery,
}

/// Checks each upstream but a shield at once, and then in these intervals, until the process ends.
pub fn watch(upstreams: &Arc<Upstreams>, check: &HealthCheck, tls: &Arc<ClientConfig>) {
    let connector = Connector::new(check.interval, None, tls);
    // A connection of its own shows that the upstream accepts any.
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(0)
        .build(connector);
    let checked = upstreams.iter().enumerate().filter(|(_, node)| !node.is_shield());
    for (index, _) in checked {
        let (upstreams, check, client) = (Arc::clone(upstreams), check.clone(), client.clone());
        tokio::spawn(async move {
            let mut ticks = interval(check.interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Some(node) = upstreams.iter().nth(index) {
                    node.checked(ask(&client, node, &check).await);
                }
            }
        });
    }
}

/// Asks one upstream; any answer of 2xx or 3xx is a good one.
async fn ask(
    client: &Client<Connector, Empty<Bytes>>,
    node: &Node,
    check: &HealthCheck,
) -> Result<(), String> {
    let mut uri = node.uri.clone().into_parts();
    uri.path_and_query = Some(check.path.clone());
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from_parts(uri).map_err(|error| error.to_string())?;
    let fields = request.headers_mut();
    fields.insert(header::HOST, node.host.clone());
    fields.insert(header::USER_AGENT, HeaderValue::from_static("larder (health check)"));
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let answer = timeout(check.interval, client.request(request)).await;
    let answer = answer.map_err(|_| "the check got no answer in time".to_owned())?;
    let answer = answer.map_err(|error| UpstreamError::from(error).to_string())?;
    match answer.status() {
        status if status.is_success() || status.is_redirection() => Ok(()),
        status => Err(format!("the check was answered by {}", status.as_u16())),
    }
}
