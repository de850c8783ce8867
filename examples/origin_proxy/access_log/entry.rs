//! One line. Whatever a client or an origin has sent is escaped in it, and cut.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::SystemTime;

use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode, Version};

/// How many bytes are logged of a target, and of a field.
const LONGEST: usize = 4096;

/// What was asked for.
pub struct Asked {
    host: Option<Box<[u8]>>,
    method: Method,
    referer: Option<HeaderValue>,
    target: Box<[u8]>,
    user_agent: Option<HeaderValue>,
    version: Version,
}

impl Asked {
    pub fn of<B>(request: &Request<B>) -> Self {
        let (headers, uri) = (request.headers(), request.uri());
        let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
        let host = authority.or_else(|| headers.get(header::HOST).map(HeaderValue::as_bytes));
        let target = match uri.path_and_query() {
            Some(target) => target.as_str(),
            None => authority.and_then(|authority| std::str::from_utf8(authority).ok()).unwrap_or("*"),
        };
        Self {
            host: host.map(Into::into),
            method: request.method().clone(),
            referer: headers.get(header::REFERER).cloned(),
            target: target.as_bytes().into(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            version: request.version(),
        }
    }
}

/// A request, and what became of it.
pub struct Entry {
    asked: Asked,
    at: SystemTime,
    pub cache_status: Option<Box<str>>,
    client: Option<IpAddr>,
    pub content_type: Option<HeaderValue>,
    pub outcome: &'static str,
    pub status: Option<StatusCode>,
}

/// How its answer has ended.
pub struct Ending {
    pub bytes: u64,
    pub is_whole: bool,
    pub seconds: f64,
}

impl Entry {
    pub fn new(asked: Asked, client: Option<IpAddr>, at: SystemTime) -> Self {
        Self { asked, at, cache_status: None, client, content_type: None, outcome: "abandoned", status: None }
    }

    /// `client - - [time] "method target version" status bytes outcome seconds "Cache-Status"`
    pub fn common(&self, ending: &Ending) -> String {
        let Asked { method, target, version, .. } = &self.asked;
        let client = self.client.map_or("-".to_owned(), |client| client.to_string());
        let status = self.status.as_ref().map_or("-", StatusCode::as_str);
        let cache_status = self.cache_status.as_deref().unwrap_or("-").as_bytes();
        format!(
            "{client} - - [{}] \"{} {} {}\" {status} {} {} {:.6} \"{}\"\n",
            Time::of(self.at).common(),
            escaped(method.as_str().as_bytes()),
            escaped(target),
            name(*version),
            ending.bytes,
            self.outcome,
            ending.seconds,
            escaped(cache_status).replace("\\x22", "'"),
        )
    }

    pub fn json(&self, ending: &Ending) -> String {
        let Asked { host, method, referer, target, user_agent, version } = &self.asked;
        let (referer, user_agent) = (referer.as_ref(), user_agent.as_ref());
        let text = |bytes: Option<&[u8]>| bytes.map_or("null".to_owned(), quoted);
        let client = self.client.map(|client| client.to_string());
        format!(
            "{{\"time\":\"{}\",\"client\":{},\"method\":{},\"target\":{},\"version\":\"{}\",\"host\":{},\
             \"referer\":{},\"user_agent\":{},\"status\":{},\"content_type\":{},\"bytes\":{},\"complete\":{},\
             \"outcome\":\"{}\",\"seconds\":{:.6},\"cache_status\":{}}}\n",
            Time::of(self.at).iso(),
            text(client.as_deref().map(str::as_bytes)),
            quoted(method.as_str().as_bytes()),
            quoted(target),
            name(*version),
            text(host.as_deref()),
            text(referer.map(HeaderValue::as_bytes)),
            text(user_agent.map(HeaderValue::as_bytes)),
            self.status.as_ref().map_or("null", StatusCode::as_str),
            text(self.content_type.as_ref().map(HeaderValue::as_bytes)),
            ending.bytes,
            ending.is_whole,
            self.outcome,
            ending.seconds,
            text(self.cache_status.as_deref().map(str::as_bytes)),
        )
    }
}

fn name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_11 => "HTTP/1.1",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/?",
    }
}

/// Printable ASCII as it is, and `\xNN` for everything else, for `"` and for `\`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes.iter().take(LONGEST) {
        match byte {
            b'"' | b'\\' => _ = write!(text, "\\x{byte:02x}"),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    text
}

/// A string of JSON (RFC 8259 7) in printable ASCII. A byte that is no UTF-8 stands for the character with its number.
fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    for chunk in bytes[..bytes.len().min(LONGEST)].utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '"' | '\\' => text.extend(['\\', char]),
                ' '..='~' => text.push(char),
                _ => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| _ = write!(text, "\\u{unit:04x}")),
            }
        }
        chunk.invalid().iter().for_each(|byte| _ = write!(text, "\\u{byte:04x}"));
    }
    text.push('"');
    text
}

/// A time in UTC, in pieces.
struct Time {
    date: String,
}

impl Time {
    /// `Mon, 30 Nov 2026 09:00:00 GMT`
    fn of(at: SystemTime) -> Self {
        Self { date: httpdate::fmt_http_date(at) }
    }

    /// Day, month, year and time of day.
    fn pieces(&self) -> [&str; 4] {
        let mut pieces = self.date.split(' ').skip(1);
        std::array::from_fn(|_| pieces.next().unwrap_or_default())
    }

    fn common(&self) -> String {
        let [day, month, year, time] = self.pieces();
        format!("{day}/{month}/{year}:{time} +0000")
    }

    fn iso(&self) -> String {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let [day, month, year, time] = self.pieces();
        let month = MONTHS.iter().position(|name| *name == month).map_or(0, |place| place + 1);
        format!("{year}-{month:02}-{day}T{time}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// 2026-11-30 09:00:00 UTC.
    fn at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_029_200)
    }

    fn entry(request: http::request::Builder) -> Entry {
        let request = request.body(()).expect("a request");
        let mut entry = Entry::new(Asked::of(&request), Some(IpAddr::from([192, 0, 2, 7])), at());
        entry.status = Some(StatusCode::OK);
        entry.outcome = "hit";
        entry.cache_status = Some("larder; hit; ttl=42; detail=\"stale-if-error\"".into());
        entry
    }

    const ENDING: Ending = Ending { bytes: 5120, is_whole: true, seconds: 0.000_214 };

    #[test]
    fn a_line_has_the_common_fields_and_what_the_cache_did() {
        let entry = entry(Request::get("/page?x=1"));
        assert_eq!(
            entry.common(&ENDING),
            "192.0.2.7 - - [30/Nov/2026:09:00:00 +0000] \"GET /page?x=1 HTTP/1.1\" 200 5120 hit 0.000214 \
             \"larder; hit; ttl=42; detail='stale-if-error'\"\n"
        );
    }

    #[test]
    fn a_line_of_json_is_one_object() {
        let entry =
            entry(Request::get("/page?x=1").header("host", "example.com").header("user-agent", "curl/8"));
        assert_eq!(
            entry.json(&ENDING),
            "{\"time\":\"2026-11-30T09:00:00Z\",\"client\":\"192.0.2.7\",\"method\":\"GET\",\"target\":\"/page?x=1\",\
             \"version\":\"HTTP/1.1\",\"host\":\"example.com\",\"referer\":null,\"user_agent\":\"curl/8\",\"status\":200,\
             \"content_type\":null,\"bytes\":5120,\"complete\":true,\"outcome\":\"hit\",\"seconds\":0.000214,\
             \"cache_status\":\"larder; hit; ttl=42; detail=\\\"stale-if-error\\\"\"}\n"
        );
    }

    #[test]
    fn what_is_hostile_ends_neither_a_field_nor_a_line_and_is_cut() {
        let hostile = HeaderValue::from_bytes(b"a\"b\\c\t\xff \x80").expect("a value");
        let mut entry = entry(Request::get("/a\"b|{c}").header("user-agent", hostile));
        entry.content_type = HeaderValue::from_bytes(b"\"},{\"status\":500").ok();
        entry.cache_status = Some("x\"\r\n\u{1b}[2J\u{e9}".into());
        let line = entry.common(&ENDING);
        assert!(line.contains("\"GET /a\\x22b|{c} HTTP/1.1\" 200"), "{line}");
        assert!(line.ends_with("\"x'\\x0d\\x0a\\x1b[2J\\xc3\\xa9\"\n"), "{line}");
        assert_eq!(line.matches('"').count(), 4, "{line}");
        let line = entry.json(&ENDING);
        let object: serde_json::Value = serde_json::from_str(&line).expect("an object");
        assert_eq!(object["user_agent"].as_str(), Some("a\"b\\c\t\u{ff} \u{80}"));
        assert_eq!(object["content_type"].as_str(), Some("\"},{\"status\":500"));
        assert_eq!(object["status"].as_u64(), Some(200));
        let text = HeaderValue::from_bytes("gr\u{fc}n \u{1f33f}".as_bytes()).expect("a value");
        let json = self::entry(Request::get("/").header("user-agent", text)).json(&ENDING);
        let object: serde_json::Value = serde_json::from_str(&json).expect("an object");
        assert_eq!(object["user_agent"].as_str(), Some("gr\u{fc}n \u{1f33f}"));
        let long = self::entry(Request::get(format!("/{}", "x".repeat(60_000))));
        for line in [line, long.common(&ENDING), long.json(&ENDING)] {
            assert_eq!(line.lines().count(), 1, "{line}");
            assert!(line.len() < 2 * LONGEST, "{}", line.len());
            assert!(
                line.trim_end_matches('\n').bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{line:?}"
            );
        }
    }
}
