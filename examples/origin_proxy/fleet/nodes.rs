//! The origin of the walk, and proxies before it, each a process of its own.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;

use super::process::{Folder, Process};
use super::until;
use crate::serve;

/// How long a page may be stored.
const FRESH: &str = "max-age=600";

/// Counts how often it is asked for each page, and says so in the page.
#[derive(Clone, Default)]
pub struct Origin(Arc<Mutex<HashMap<String, usize>>>);

impl Origin {
    /// Starts it, and gives its URL.
    pub async fn start(&self) -> Result<String, String> {
        let listener = serve::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let router = Router::new().route("/{page}", get(page)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(format!("http://{address}"))
    }

    /// How often it was asked for a page.
    pub fn asked(&self, page: &str) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(page).copied().unwrap_or(0)
    }
}

async fn page(State(Origin(asked)): State<Origin>, Path(page): Path<String>) -> impl IntoResponse {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    let count = asked.entry(page).or_default();
    *count += 1;
    ([(header::CACHE_CONTROL, FRESH)], format!("call {count}"))
}

/// A proxy, which is killed when this is dropped.
pub struct Node {
    /// Where clients connect, and where the admin service is.
    pub address: String,
    pub admin: String,
    pub process: Process,
}

impl Node {
    /// A proxy with memory before a store that it shares, and with leases.
    pub async fn start(
        name: &str,
        origin: &str,
        store: &str,
        token: &str,
        folder: &Folder,
    ) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let arguments = [
            ["proxy", "--name"],
            [name, "--listen"],
            ["127.0.0.1:0", "--upstream"],
            [origin, "--store"],
            [store, "--near"],
            ["16MiB", "--store-deadline"],
            [DEADLINE, "--admin"],
            ["127.0.0.1:0", "--admin-token-file"],
            [token, "--lease"],
        ];
        let arguments: Vec<_> = arguments.as_flattened().iter().map(ToString::to_string).collect();
        let process = Process::start(&program, &arguments, folder.join(name))?;
        let mut log = String::new();
        until("a proxy starts", async || {
            log = process.log();
            log.contains("larder: admin at ") && log.ends_with('\n')
        })
        .await
        .map_err(|error| format!("{error}: {log}"))?;
        let after = |text: &str| {
            let rest = log.split(text).nth(1).and_then(|rest| rest.split_whitespace().next());
            rest.map(ToOwned::to_owned).ok_or_else(|| format!("a proxy has said something else: {log}"))
        };
        Ok(Self { address: after("larder: http://")?, admin: after("larder: admin at http://")?, process })
    }
}

/// In seconds. The default is 0.1; this is for machines that have other things to do.
const DEADLINE: &str = "5";
