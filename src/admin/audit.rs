//! What was done by the admin service, and who was refused: for a log.

use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{Extensions, Method, StatusCode};

use super::answer::Answer;
use crate::runtime::{Mutex, lock};

/// Of refused requests, one is told of in this time.
const REST: Duration = Duration::from_secs(10);
/// The longest answer that is told.
const LONGEST: usize = 1_024;

/// Something that was asked of the admin service and is worth a line in a log: [`Admin::audit`](super::Admin::audit). As text it is one
/// line, without the token: `POST /purge: 200 {"mode":"hard","number":7,...}`.
#[derive(Debug)]
#[non_exhaustive]
pub struct AdminAct<'a> {
    /// The answer, in JSON: what was purged or changed, or why it was refused. At most 1,024 bytes of it.
    pub answer: &'a str,
    /// The extensions of the request. A server may have put the address of the client there.
    pub extensions: &'a Extensions,
    /// The method.
    pub method: &'a Method,
    /// How many requests were refused since one was told of, with this one; 0 where it was not refused.
    pub refused: u64,
    /// The status of the answer.
    pub status: StatusCode,
    /// What was asked for: path and query, or a URL.
    pub target: &'a str,
}

/// On one line, whatever was sent.
impl fmt::Display for AdminAct<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} ", self.method, self.target, self.status.as_u16())?;
        for char in self.answer.trim_end().chars() {
            if char.is_control() || matches!(char, '\u{2028}' | '\u{2029}') {
                write!(f, "{}", char.escape_default())?;
            } else {
                f.write_char(char)?;
            }
        }
        match self.refused {
            0 | 1 => Ok(()),
            number => write!(f, " ({number} were refused since the last of these lines)"),
        }
    }
}

type Tell = dyn Fn(&AdminAct<'_>) + Send + Sync;

/// Tells of acts.
#[derive(Default)]
pub(super) struct Audit {
    refusals: Mutex<Refusals>,
    tell: Option<Box<Tell>>,
}

#[derive(Default)]
struct Refusals {
    /// When one was told of.
    told: Option<SystemTime>,
    untold: u64,
}

/// A request that may be told of when it has its answer.
pub(super) struct Asked {
    extensions: Extensions,
    method: Method,
    target: String,
}

impl Audit {
    pub(super) fn by(tell: impl Fn(&AdminAct<'_>) + Send + Sync + 'static) -> Self {
        Self { tell: Some(Box::new(tell)), ..Self::default() }
    }

    /// Remembers a request until it has its answer.
    pub(super) fn asked(&self, request: &Parts) -> Asked {
        let (extensions, method) = (request.extensions.clone(), request.method.clone());
        Asked { extensions, method, target: request.uri.to_string() }
    }

    /// Tells of what changes something, or was to, and now and then of a request that was refused for its token or its origin.
    pub(super) fn answered(&self, asked: &Asked, answer: &Answer, now: SystemTime) {
        let status = answer.status_code();
        let refused = match status {
            // Without a token nothing is guessed, and probes may come so.
            StatusCode::UNAUTHORIZED => return,
            StatusCode::FORBIDDEN => match lock(&self.refusals).add(now) {
                Some(number) => number,
                None => return,
            },
            _ if matches!(asked.method, Method::GET | Method::HEAD) => return,
            _ => 0,
        };
        let Asked { extensions, method, target } = asked;
        let content = String::from_utf8_lossy(answer.content());
        let end = content.char_indices().map(|(at, _)| at).find(|at| *at >= LONGEST);
        let text = &content[..end.unwrap_or(content.len())];
        #[cfg(feature = "tracing")]
        trace(method, target, status, text);
        if let Some(tell) = &self.tell {
            tell(&AdminAct { answer: text, extensions, method, refused, status, target });
        }
    }
}

#[cfg(feature = "tracing")]
fn trace(method: &Method, target: &str, status: StatusCode, answer: &str) {
    let (method, status) = (method.as_str(), status.as_u16());
    let answer = answer.trim_end();
    macro_rules! told {
        ($level:ident) => {
            tracing::$level!(
                target: "larder",
                { http.request.method = method, url.full = target, http.response.status_code = status, larder.answer = answer },
                "admin"
            )
        };
    }
    if status == StatusCode::FORBIDDEN { told!(warn) } else { told!(info) }
}

impl Refusals {
    /// Counts one. Gives the number of those that nobody was told of, if it is time.
    fn add(&mut self, now: SystemTime) -> Option<u64> {
        self.untold += 1;
        // A clock may be set back.
        let rests = self.told.is_some_and(|told| now.duration_since(told).is_ok_and(|since| since < REST));
        if rests {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Audit(..)")
    }
}
