//! A Redis Cluster on loopback: three primaries, each with a replica.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::process::{Folder, Process};
use super::until;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many ports are tried for a server.
const TRIES: usize = 8;

/// A server, which is killed when this is dropped.
pub struct Server {
    pub port: u16,
    process: Process,
}

pub struct Cluster {
    pub primaries: Vec<Server>,
    pub replicas: Vec<Server>,
}

impl Cluster {
    pub async fn start(program: &Path, folder: &Folder) -> Result<Self, String> {
        let version = std::process::Command::new(program).arg("--version").output();
        version.map_err(|error| {
            format!(
                "{} can't be started: {error}; install it, or name another one by --server",
                program.display()
            )
        })?;
        // Servers are started in folders of their own. A name without a folder is looked for where the system looks.
        let program = match program.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => {
                std::path::absolute(program).map_err(|error| error.to_string())?
            }
            _ => program.to_owned(),
        };
        let mut servers = Vec::new();
        for number in 1..=6 {
            servers.push(Server::start(&program, &folder.join(&format!("server-{number}"))).await?);
        }
        let replicas = servers.split_off(3);
        let cluster = Self { primaries: servers, replicas };
        cluster.join().await?;
        Ok(cluster)
    }

    async fn join(&self) -> Result<(), String> {
        for (number, server) in self.servers().enumerate() {
            server.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await?;
        }
        let slots = [["0", "5460"], ["5461", "10922"], ["10923", "16383"]];
        for (server, [first, last]) in self.primaries.iter().zip(slots) {
            server.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await?;
        }
        let first = self.primaries[0].port.to_string();
        for server in self.servers().skip(1) {
            server.ask(&["CLUSTER", "MEET", "127.0.0.1", &first]).await?;
        }
        for (replica, primary) in self.replicas.iter().zip(&self.primaries) {
            let id = primary.ask(&["CLUSTER", "MYID"]).await?;
            // As soon as it knows that node.
            until("a replica finds its primary", async || {
                replica.ask(&["CLUSTER", "REPLICATE", &id]).await.is_ok()
            })
            .await?;
        }
        until("the Cluster is ready", async || {
            for server in self.servers() {
                let info = server.ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
                if !info.contains("cluster_state:ok") || !info.contains("cluster_known_nodes:6") {
                    return false;
                }
            }
            for replica in &self.replicas {
                let info = replica.ask(&["INFO", "replication"]).await.unwrap_or_default();
                if !info.contains("master_link_status:up") {
                    return false;
                }
            }
            true
        })
        .await
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.primaries.iter().chain(&self.replicas)
    }

    pub fn url(&self) -> String {
        let nodes: Vec<_> =
            self.primaries.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// Kills the primary that has the log of purges, which is the one that all proxies need. Gives its port.
    pub async fn kill_the_one_with_the_log(&mut self) -> Result<u16, String> {
        for index in 0..self.primaries.len() {
            // No other key begins like that.
            if !self.primaries[index].ask(&["KEYS", "{*"]).await?.is_empty() {
                return Ok(self.primaries.remove(index).port);
            }
        }
        Err("no server has the log of purges".to_owned())
    }
}

impl Server {
    async fn start(program: &Path, folder: &Path) -> Result<Self, String> {
        let mut log = String::new();
        for (try_number, port) in (0..TRIES).zip(free_ports()) {
            let process = Process::start(program, &arguments(port), folder.join(try_number.to_string()))?;
            let server = Self { port, process };
            let mut is_ready = false;
            until("a server starts", async || {
                log = server.process.log();
                // Another process may have got the port first.
                let own = format!("process_id:{}\r\n", server.process.id);
                is_ready = server.ask(&["INFO", "server"]).await.is_ok_and(|info| info.contains(&own));
                is_ready || log.contains("Failed listening")
            })
            .await
            .map_err(|error| format!("{error}: {log}"))?;
            if is_ready {
                return Ok(server);
            }
        }
        Err(format!("there is no free port for a server: {log}"))
    }

    /// One command over a connection of its own, by RESP2. A list is given as lines.
    async fn ask(&self, words: &[&str]) -> Result<String, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("{} of a server failed: {error}", words.join(" "));
        match timeout(PATIENCE, ask(self.port, words)).await {
            Err(late) => Err(failed(&late)),
            Ok(Err(error)) => Err(failed(&error)),
            Ok(Ok(answer)) => Ok(answer),
        }
    }
}

fn arguments(port: u16) -> Vec<String> {
    let port = port.to_string();
    let options = [
        ["--port", &port],
        ["--bind", "127.0.0.1"],
        ["--cluster-enabled", "yes"],
        ["--cluster-node-timeout", "1000"],
        ["--repl-diskless-sync-delay", "0"],
        ["--save", ""],
        ["--appendonly", "no"],
        ["--maxmemory", "64mb"],
        ["--maxmemory-policy", "volatile-lfu"],
    ];
    options.as_flattened().iter().map(ToString::to_string).collect()
}

/// Ports at which nobody listens, nor at the one 10,000 above, which a node of a Cluster takes as well.
fn free_ports() -> impl Iterator<Item = u16> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 10_000) as u16;
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    std::iter::from_fn(move || Some(NEXT.fetch_add(1, Ordering::Relaxed)))
        .map(move |next| 11_000 + (start.wrapping_add(next)) % 11_000)
        .filter(move |port| is_free(*port) && is_free(port + 10_000))
}

async fn ask(port: u16, words: &[&str]) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.write_all(bytes.as_bytes()).await?;
    let mut reader = BufReader::new(stream);
    let (kind, rest) = line(&mut reader).await?;
    let count = |text: &str| text.parse::<usize>().unwrap_or_default();
    match kind {
        '-' => Err(io::Error::other(rest)),
        '$' => text(&mut reader, count(&rest)).await,
        '*' => {
            let mut lines = Vec::new();
            for _ in 0..count(&rest) {
                let (_, length) = line(&mut reader).await?;
                lines.push(text(&mut reader, count(&length)).await?);
            }
            Ok(lines.join("\n"))
        }
        _ => Ok(rest),
    }
}

async fn line(reader: &mut BufReader<TcpStream>) -> io::Result<(char, String)> {
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let mut rest = line.trim_end().chars();
    let kind = rest.next().ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((kind, rest.collect()))
}

async fn text(reader: &mut BufReader<TcpStream>, length: usize) -> io::Result<String> {
    let mut bytes = vec![0; length + 2];
    reader.read_exact(&mut bytes).await?;
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
