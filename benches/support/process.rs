//! Servers in processes of their own, so that their processor time is their own.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// The core of the servers, and that of the clients.
const SERVERS: &str = "0";
const CLIENTS: &str = "1";

/// A server's process, which ends with this.
pub struct Server {
    pub address: SocketAddr,
    pub name: &'static str,
    process: Child,
}

impl Server {
    /// Starts a program that prints `http://ADDRESS` in its first line.
    pub fn start(name: &'static str, program: PathBuf, arguments: &[&str]) -> Self {
        let mut process = command(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("http://"));
        Self { address: address.unwrap().parse().unwrap(), name, process }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The processor time of the process so far, in hundredths of a second; zero where the system does not say it.
    pub fn cpu_time(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        // The fields after the name, which is in brackets, begin with the third: utime and stime are 14 and 15.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether the clients have their core.
static ARE_PINNED: AtomicBool = AtomicBool::new(false);

/// A program that ends when this process is killed: on the servers' core, where the clients have theirs.
pub fn command(program: PathBuf) -> Command {
    // Each of these runs the rest of the command line in its own place.
    let mut words: Vec<OsString> = Vec::new();
    if ARE_PINNED.load(Ordering::Relaxed) {
        words.extend(["taskset", "--cpu-list", SERVERS].map(Into::into));
    }
    if has("setpriv") {
        words.extend(["setpriv", "--pdeathsig", "KILL"].map(Into::into));
    }
    words.push(program.into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// This program.
pub fn this() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn can_be_pinned() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) && has("taskset")
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Keeps the clients, and what is started from here on without a core of its own, on the clients' core.
pub fn pin_this_process() {
    let id = std::process::id().to_string();
    if can_be_pinned() {
        let mut taskset = Command::new("taskset");
        taskset.args(["--cpu-list", "--pid", CLIENTS, &id]).stdout(Stdio::null());
        assert!(taskset.status().unwrap().success(), "the clients have a core");
        ARE_PINNED.store(true, Ordering::Relaxed);
    }
}
