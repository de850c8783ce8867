//! The example proxy before a real nginx with gzip, which gives gzip the weak form of the file's tag, and answers 304 with the
//! strong one whatever the client accepts (B1).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::end_to_end::codings::{Client, FILES, Folder, Tally, content};
use crate::example_proxy::process::Proxy;

/// How long nginx may take to start on a busy machine.
const GUARD: Duration = Duration::from_secs(30);

/// `nginx` in a process of its own, which ends with the test.
struct Nginx {
    process: Child,
    address: SocketAddr,
    _folder: Folder,
}

impl Nginx {
    fn new() -> Self {
        let folder = Folder::new();
        // Between the look for a free port and its use, somebody else may take it.
        for _ in 0..10 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            if let Some(process) = start(&folder, address) {
                return Self { process, address, _folder: folder };
            }
        }
        panic!("nginx does not start: {}", log(&folder));
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn log(folder: &Folder) -> String {
    std::fs::read_to_string(folder.0.join("error.log")).unwrap_or_default()
}

/// None where nginx ends at once, or where it is somebody else who listens.
fn start(folder: &Folder, address: SocketAddr) -> Option<Child> {
    let path = folder.0.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {path}/{what};\n"))
        .concat();
    let location = |name: &str, cache_control: &str| {
        format!("location /{name}/ {{ alias {path}/; add_header Cache-Control {cache_control}; }}\n")
    };
    // What has `Via` comes from a proxy, and is not coded unless told.
    let configuration = format!(
        "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;
         events {{ worker_connections 256; }}
         http {{
           access_log off; {temporary}
           keepalive_requests 1000000; keepalive_timeout 1h;
           gzip on; gzip_vary on; gzip_min_length 1; gzip_types *; gzip_proxied any;
           server {{
             listen {address};
             location = /who {{ return 200 '{path}'; }}
             {}{}{}
           }}
         }}",
        location("fresh", "max-age=60"),
        location("no-cache", "no-cache"),
        location("stale", "max-age=0"),
    );
    std::fs::write(folder.0.join("nginx.conf"), configuration).unwrap();
    let mut process = command(&["-p", &path.to_string(), "-c", &format!("{path}/nginx.conf")]);
    let begun = std::time::Instant::now();
    while process.try_wait().unwrap().is_none() {
        if answers(address, &path.to_string()) {
            return Some(process);
        }
        if begun.elapsed() > GUARD {
            process.kill().unwrap();
            process.wait().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Debian has it where only root looks.
fn command(arguments: &[&str]) -> Child {
    for name in ["nginx", "/usr/sbin/nginx"] {
        let process = Command::new(name).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        if let Ok(process) = process {
            return process;
        }
    }
    panic!("nginx is missing: `bash tests/run` installs it, or install the package nginx");
}

/// Whether it is this nginx that listens there.
fn answers(address: SocketAddr, path: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(GUARD))?;
        stream.write_all(b"GET /who HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    ask().is_ok_and(|answer: String| answer.ends_with(path))
}

/// Each pair of clients takes turns at the small file; anything after anything for both.
async fn check(locations: &[&str], is_in_turns: bool) {
    let nginx = Nginx::new();
    let mut seen = Tally::default();
    for profile in ["default", "rfc9111"] {
        let proxy = Proxy::before(&format!("http://{}", nginx.address), &["--profile", profile]);
        for location in locations {
            for (file, lines) in FILES {
                let path = format!("/{location}/{file}");
                let plain = content(lines);
                let mut client =
                    Client::knowing(nginx.address, &path, plain.as_bytes()).await.at(proxy.address);
                client.seen = seen;
                let path = format!("{path}?{profile}");
                if !is_in_turns {
                    client.in_any_order(&path, || {}).await;
                } else if (file, lines) == FILES[0] {
                    client.in_turns(&path).await;
                }
                seen = client.seen;
            }
        }
    }
    seen.is_right(&format!("nginx, {locations:?}"));
}

#[tokio::test]
async fn b01_each_client_of_nginx_gets_a_coding_it_accepts_while_responses_are_fresh() {
    check(&["fresh"], true).await;
}

#[tokio::test]
async fn b01_each_client_of_nginx_gets_a_coding_it_accepts_if_each_request_is_validated() {
    check(&["stale", "no-cache"], true).await;
}

#[tokio::test]
async fn b01_each_client_of_nginx_gets_a_coding_it_accepts_in_any_order_of_requests() {
    check(&["fresh", "stale", "no-cache"], false).await;
}
