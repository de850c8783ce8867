//! A real browser, by WebDriver: Chromium and its driver, without a window.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use super::wire::{HttpClient, client};

/// How long the browser may take until something is so.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Browser {
    client: HttpClient<Full<Bytes>>,
    driver: Child,
    session: String,
}

impl Browser {
    /// Starts a browser with a window of this size.
    pub async fn start(width: u32, height: u32) -> Self {
        let mut driver = Command::new("chromedriver")
            .args(["--port=0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is there: apt-get install chromium-driver, as tests/run does");
        let stdout = BufReader::new(driver.stdout.take().unwrap());
        let started = "was started successfully on port ";
        let mut lines = stdout.lines().map_while(Result::ok);
        let port = lines.find_map(|line| Some(line.split_once(started)?.1.trim_end_matches('.').to_owned()));
        let port: u16 = port.expect("the driver says its port").parse().unwrap();
        std::thread::spawn(move || lines.for_each(drop)); // so that the driver can go on to write
        let mut browser =
            Self { client: client(), driver, session: format!("http://127.0.0.1:{port}/session") };
        let options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server",
            "--no-first-run", "--disable-background-networking", format!("--window-size={width},{height}"),
        ]});
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let session = browser.send("POST", "", Some(capabilities)).await;
        browser.session = format!("{}/{}", browser.session, session["sessionId"].as_str().unwrap());
        browser
    }

    async fn send(&self, method: &str, path: &str, content: Option<Value>) -> Value {
        let content = content.map(|content| content.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.session))
            .header("content-type", "application/json")
            .body(Full::new(content.into()))
            .unwrap();
        let response = self.client.request(request).await.unwrap();
        let (status, content) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
        let answer: Value = serde_json::from_slice(&content).unwrap();
        assert!(status.is_success(), "{method} {path}: {answer}");
        answer["value"].clone()
    }

    pub async fn open(&self, url: &str) {
        self.send("POST", "/url", Some(json!({ "url": url }))).await;
    }

    /// What the body of a function in the page returns.
    pub async fn run(&self, script: &str) -> Value {
        self.send("POST", "/execute/sync", Some(json!({ "script": script, "args": [] }))).await
    }

    /// Waits until a script in the page returns something true, and gives that.
    #[track_caller]
    pub fn until<'a>(&'a self, script: &'a str) -> impl Future<Output = Value> + 'a {
        let here = std::panic::Location::caller();
        async move {
            // The driver waits in the page, which says when it is so.
            let script = format!(
                "const [done] = arguments; const so = () => {{ {script} }}; \
                 const look = () => {{ let found = null; try {{ found = so(); }} catch {{ found = null; }} \
                 if (found) done(found); else setTimeout(look, 20); }}; look();"
            );
            self.send("POST", "/timeouts", Some(json!({ "script": PATIENCE.as_millis() as u64 }))).await;
            let arguments = json!({ "script": script, "args": [] });
            let found =
                tokio::time::timeout(PATIENCE, self.send("POST", "/execute/async", Some(arguments))).await;
            found.unwrap_or_else(|_| panic!("it never came to that: {here}"))
        }
    }

    /// Types into an element, as by keys.
    pub async fn keys(&self, selector: &str, text: &str) {
        let id = self.element(selector).await;
        self.send("POST", &format!("/element/{id}/value"), Some(json!({ "text": text }))).await;
    }

    pub async fn click(&self, selector: &str) {
        let id = self.element(selector).await;
        self.send("POST", &format!("/element/{id}/click"), Some(json!({}))).await;
    }

    async fn element(&self, selector: &str) -> String {
        let found =
            self.send("POST", "/element", Some(json!({ "using": "css selector", "value": selector }))).await;
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    /// The text that is to be seen.
    pub async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap().to_owned()
    }

    /// The warnings and errors of the page's console, such as what its policy has refused.
    pub async fn complaints(&self) -> Vec<Value> {
        let log = self.send("POST", "/se/log", Some(json!({ "type": "browser" }))).await;
        let is_serious = |line: &&Value| matches!(line["level"].as_str(), Some("SEVERE" | "WARNING"));
        log.as_array().unwrap().iter().filter(is_serious).cloned().collect()
    }

    /// A picture of the window, in PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let picture = self.send("GET", "/screenshot", None).await;
        decoded(picture.as_str().unwrap())
    }

    /// Whether the page thinks that people want it dark.
    pub async fn dark(&self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let parameters = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        let command = json!({ "cmd": "Emulation.setEmulatedMedia", "params": parameters });
        self.send("POST", "/goog/cdp/execute", Some(command)).await;
    }
}

impl Drop for Browser {
    /// The driver ends the browser when its session ends; without the driver, the browser would stay.
    fn drop(&mut self) {
        let after = self.session.strip_prefix("http://").and_then(|url| url.split_once('/'));
        if let Some((authority, path)) = after
            && let Ok(mut stream) = TcpStream::connect(authority)
        {
            let request =
                format!("DELETE /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            // The answer comes when the browser has ended.
            let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read(&mut [0; 64]));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Base64 (RFC 4648 4).
fn decoded(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|byte| ALPHABET.iter().position(|digit| *digit == byte));
    let digits: Vec<_> = digits.collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        (bits as u32).to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}
