//! Servers for stores in Redis: real ones, on free ports of the loopback interface, each with a directory of its own, ended by the
//! ids that were started. Whose process ends in any way takes its servers with it.
//!
//! `tests/run` puts the servers where [`Kind::program`] looks for them. Where one is missing, tests fail.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::file::TempFolder;

/// Where servers come from that no package of the system has.
const FETCHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 6.2: without script flags, functions and `EVAL_RO`.
    Old,
    /// 7.0 of Debian.
    Redis,
    Valkey,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Old, Self::Redis, Self::Valkey];

    fn program(self) -> PathBuf {
        let fetched = |name| {
            let program = Path::new(FETCHED).join(name);
            assert!(program.exists(), "{} is missing: tests/run fetches it", program.display());
            program
        };
        match self {
            Self::Old => fetched("redis-server-6.2"),
            Self::Redis => "redis-server".into(),
            Self::Valkey => fetched("valkey-server"),
        }
    }
}

/// A process in a directory of its own.
struct Process {
    /// A shell, which ends the server when the pipe to it is closed, also by the end of this process.
    keeper: Child,
    pid: u32,
}

impl Process {
    fn start(program: &Path, arguments: &[String], directory: &Path) -> Self {
        const KEEPER: &str = r#""$@" >>log 2>&1 & echo $!; read -r _; kill -9 $! 2>/dev/null; wait $!"#;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the id of the server");
        Self { keeper, pid: line.trim().parse().expect("a number") }
    }

    fn signal(&self, name: &str) {
        // It is nobody else's: the shell has not waited for it.
        Command::new("kill").args([name, &self.pid.to_string()]).status().expect("kill");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A port that nobody listens at, nor at the one 10,000 above, which a node of a cluster takes as well. Outgoing connections get
/// their ports from elsewhere (32768 and on).
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    loop {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 11_000;
        let port = 11_000 + u16::try_from(number).expect("it is small");
        if [port, port + 10_000].into_iter().all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}

/// What a server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Error(String),
    List(Vec<Answer>),
    Nothing,
    Number(i64),
    Text(Vec<u8>),
}

impl Answer {
    /// To `PING`, be it from one that wants a password first.
    fn is_of_a_server_that_is_ready(&self) -> bool {
        match self {
            Self::Text(text) => text == b"PONG",
            Self::Error(why) => why.starts_with("NOAUTH"),
            _ => false,
        }
    }

    pub fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    #[track_caller]
    pub fn text(self) -> String {
        match self {
            Self::Text(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            other => panic!("{other:?} is no text"),
        }
    }

    #[track_caller]
    pub fn number(self) -> i64 {
        match self {
            Self::Number(number) => number,
            other => panic!("{other:?} is no number"),
        }
    }

    #[track_caller]
    pub fn list(self) -> Vec<Answer> {
        match self {
            Self::List(list) => list,
            other => panic!("{other:?} is no list"),
        }
    }
}

/// One command over a connection of its own, by RESP2.
fn ask(port: u16, words: &[&[u8]]) -> std::io::Result<Answer> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    stream.write_all(&bytes)?;
    answer(&mut BufReader::new(stream))
}

fn answer(reader: &mut impl BufRead) -> std::io::Result<Answer> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let (kind, rest) = line.trim_end().split_at(1);
    let length = || rest.parse::<i64>().expect("a length");
    Ok(match kind {
        "+" => Answer::Text(rest.as_bytes().to_vec()),
        "-" => Answer::Error(rest.to_owned()),
        ":" => Answer::Number(length()),
        "$" | "*" if length() < 0 => Answer::Nothing,
        "$" => {
            let mut bytes = vec![0; usize::try_from(length()).expect("a length") + 2];
            reader.read_exact(&mut bytes)?;
            bytes.truncate(bytes.len() - 2);
            Answer::Text(bytes)
        }
        "*" => Answer::List((0..length()).map(|_| answer(reader)).collect::<Result<_, _>>()?),
        other => panic!("no answer begins with {other}"),
    })
}

/// The answer of the node that has the key.
pub fn ask_any(ports: &[u16], words: &[&[u8]]) -> Answer {
    let answers = ports.iter().map(|port| ask(*port, words).expect("an answer"));
    let moved = |answer: &Answer| matches!(answer, Answer::Error(why) if why.starts_with("MOVED"));
    answers.into_iter().find(|answer| !moved(answer)).expect("one of them has the key")
}

#[track_caller]
pub fn ok(answer: &Answer) {
    assert_eq!(*answer, Answer::Text(b"OK".to_vec()));
}

/// Asks again until it is so. What is waited for is another process, which reports nothing by itself.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "{what} for a minute in vain");
        sleep(Duration::from_millis(5));
    }
}

/// A server, which ends with this.
pub struct Server {
    arguments: Vec<String>,
    /// The words before the program, by which it gets its time from a file.
    clock: Vec<String>,
    folder: TempFolder,
    kind: Kind,
    pub port: u16,
    process: Option<Process>,
}

impl Server {
    pub fn start(kind: Kind) -> Self {
        Self::with(kind, &[])
    }

    pub fn with(kind: Kind, more: &[&str]) -> Self {
        Self::in_folder(kind, more, TempFolder::new(), Vec::new())
    }

    /// A server whose clock shows what [`Server::set_clock`] says. Valkey, as libfaketime can't do that to a program with jemalloc.
    pub fn with_clock(clock: &str) -> Self {
        let folder = TempFolder::new();
        let file = folder.write("clock", clock);
        let libraries = fs::read_dir("/usr/lib").expect("a folder").flatten();
        let mut libraries = libraries.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
        let library = libraries.find(|library| library.exists()).expect("tests/run installs faketime");
        let clock = [
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
            "FAKETIME_FMT=%s".to_owned(),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ];
        Self::in_folder(Kind::Valkey, &[], folder, clock.into())
    }

    /// Seconds since 1970, at which the clock stands still; or `+60` or `-60` for so many seconds more or less than the system's.
    pub fn set_clock(&self, clock: &str) {
        // In one step: the server may read it at any moment.
        let next = self.folder.write("clock.next", clock);
        fs::rename(next, self.folder.path().join("clock")).expect("a file");
    }

    fn in_folder(kind: Kind, more: &[&str], folder: TempFolder, clock: Vec<String>) -> Self {
        let port = free_port();
        let fixed = [
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--loglevel",
            "notice",
        ];
        let port_word = port.to_string();
        let own = ["--port", &port_word];
        let arguments = own.iter().chain(&fixed).chain(more).map(ToString::to_string).collect();
        let mut server = Self { arguments, clock, folder, kind, port, process: None };
        server.restart();
        server
    }

    /// At the same port, and empty.
    pub fn restart(&mut self) {
        self.process = None;
        let program = self.kind.program().display().to_string();
        let mut words = self.clock.iter().chain([&program]).chain(&self.arguments).cloned();
        let first = PathBuf::from(words.next().expect("a program"));
        self.process = Some(Process::start(&first, &words.collect::<Vec<_>>(), self.folder.path()));
        let since = Instant::now();
        while !matches!(ask(self.port, &[b"PING"]), Ok(answer) if answer.is_of_a_server_that_is_ready()) {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(since.elapsed() < Duration::from_secs(60), "the server does not start: {}", log());
            sleep(Duration::from_millis(5));
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn ask(&self, words: &[&str]) -> Answer {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.ask_bytes(&words)
    }

    pub fn ask_bytes(&self, words: &[&[u8]]) -> Answer {
        ask(self.port, words).expect("an answer")
    }

    pub fn set(&self, name: &str, value: &str) {
        ok(&self.ask(&["CONFIG", "SET", name, value]));
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process = None;
    }

    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").signal("-STOP");
    }

    pub fn thaw(&self) {
        self.process.as_ref().expect("it runs").signal("-CONT");
    }
}

/// A primary, a replica, and a Sentinel that watches them.
pub struct Watched {
    pub primary: Server,
    pub replica: Server,
    pub sentinel_port: u16,
    _sentinel: Process,
    _folder: TempFolder,
}

impl Watched {
    pub fn start() -> Self {
        const QUICK: [&str; 4] = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let primary = Server::with(Kind::Redis, &QUICK);
        let port = primary.port.to_string();
        let replica = Server::with(Kind::Redis, &[&QUICK[..], &["--replicaof", "127.0.0.1", &port]].concat());
        let (folder, sentinel_port) = (TempFolder::new(), free_port());
        let configuration = format!(
            "port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor larder 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds larder 500\nsentinel failover-timeout larder 2000\n"
        );
        folder.write("sentinel.conf", configuration);
        let sentinel =
            Process::start(Path::new("redis-sentinel"), &["sentinel.conf".to_owned()], folder.path());
        let watched = Self { primary, replica, sentinel_port, _sentinel: sentinel, _folder: folder };
        eventually("a replica that Sentinel knows was waited for", || {
            ask(watched.sentinel_port, &[b"SENTINEL", b"REPLICAS", b"larder"])
                .is_ok_and(|answer| matches!(answer, Answer::List(list) if !list.is_empty()))
                && watched.replica.ask(&["INFO", "replication"]).text().contains("master_link_status:up")
        });
        watched
    }

    pub fn url(&self) -> String {
        format!("redis-sentinel://127.0.0.1:{}/larder", self.sentinel_port)
    }
}

/// Three primaries, each with a replica.
pub struct Cluster {
    pub primaries: Vec<Server>,
    pub replicas: Vec<Server>,
}

impl Cluster {
    /// The one that tests share which break nothing: it takes two seconds to start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    pub fn start() -> Self {
        const NODE: [&str; 6] =
            ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"];
        let node = |_| Server::with(Kind::Redis, &NODE);
        let cluster = Self { primaries: (0..3).map(node).collect(), replicas: (0..3).map(node).collect() };
        for (number, server) in cluster.servers().enumerate() {
            ok(&server.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]));
        }
        for (server, range) in
            cluster.primaries.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]])
        {
            ok(&server.ask(&["CLUSTER", "ADDSLOTSRANGE", range[0], range[1]]));
        }
        let first = cluster.primaries[0].port.to_string();
        for server in cluster.servers().skip(1) {
            ok(&server.ask(&["CLUSTER", "MEET", "127.0.0.1", &first]));
        }
        for (replica, primary) in cluster.replicas.iter().zip(&cluster.primaries) {
            let id = primary.ask(&["CLUSTER", "MYID"]).text();
            eventually("a primary was to be known", || {
                replica.ask(&["CLUSTER", "REPLICATE", &id]) == Answer::Text(b"OK".to_vec())
            });
        }
        eventually("the cluster was to be ready", || {
            cluster.servers().all(|server| {
                let info = server.ask(&["CLUSTER", "INFO"]).text();
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:6")
            })
        });
        eventually("the replicas were to be in sync", || {
            cluster
                .replicas
                .iter()
                .all(|replica| replica.ask(&["INFO", "replication"]).text().contains("master_link_status:up"))
        });
        cluster
    }

    pub fn ports(&self) -> Vec<u16> {
        self.primaries.iter().map(|server| server.port).collect()
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.primaries.iter().chain(&self.replicas)
    }

    pub fn url(&self) -> String {
        let nodes: Vec<_> =
            self.primaries.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }
}
