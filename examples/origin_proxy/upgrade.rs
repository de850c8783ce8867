//! A switch of protocols (RFC 9110 7.8), such as to WebSocket: after the origin's 101, bytes go both ways unread.
//!
//! `Upgrade` belongs to one connection. So the client's is read where its request comes in, made anew for the
//! origin, and answered by each side's own 101. A request that asks only for HTTP by other means (`h2c`) is an
//! ordinary request: this proxy does not switch to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use larder::semantics::fields::list;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::serve::DrainGuard;

/// How long one direction goes on when the other has ended: a protocol may have last words, but a side that has
/// gone for good often looks like one that has only ended its direction.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The protocols that the client would switch to and that are tunnelled; none where there are none.
pub fn asked<B>(request: &Request<B>) -> Option<HeaderValue> {
    // RFC 9110 7.8: in HTTP/1.0 it has no meaning, and HTTP/2 has no such field.
    if request.version() != Version::HTTP_11 {
        return None;
    }
    let headers = request.headers();
    if !list(headers, &header::CONNECTION).any(|member| member.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let protocols: Vec<_> =
        list(headers, &header::UPGRADE).filter(|protocol| is_tunnelled(protocol)).collect();
    if protocols.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&protocols.join(&b", "[..])).ok()
}

fn is_tunnelled(protocol: &[u8]) -> bool {
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
    !name.eq_ignore_ascii_case(b"h2c") && !name.eq_ignore_ascii_case(b"http")
}

/// Makes the fields of a message that asks for a switch, or of its answer.
pub fn insert(headers: &mut HeaderMap, protocols: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocols);
}

/// Whether a 101 with these fields switches to what was asked for, and nothing else (RFC 9110 7.8).
pub fn is_answer_to(asked: Option<&HeaderValue>, headers: &HeaderMap) -> bool {
    let Some(asked) = asked else {
        return false;
    };
    let asked = HeaderMap::from_iter([(header::UPGRADE, asked.clone())]);
    let mut switched = list(headers, &header::UPGRADE).peekable();
    switched.peek().is_some()
        && switched
            .all(|protocol| list(&asked, &header::UPGRADE).any(|asked| asked.eq_ignore_ascii_case(protocol)))
}

/// Copies both ways until either side ends. A drain waits for it, as long as `guard` lives.
pub fn tunnel(client: OnUpgrade, origin: OnUpgrade, guard: Option<Arc<DrainGuard>>) {
    tokio::spawn(async move {
        // A side that has gone before its 101 ends the other one, too.
        if let Ok((client, origin)) = tokio::try_join!(client, origin) {
            copy(TokioIo::new(client), TokioIo::new(origin)).await;
        }
        drop(guard);
    });
}

async fn copy(client: impl AsyncRead + AsyncWrite, origin: impl AsyncRead + AsyncWrite) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_origin, to_origin) = tokio::io::split(origin);
    let mut there = std::pin::pin!(one_way(from_client, to_origin));
    let mut back = std::pin::pin!(one_way(from_origin, to_client));
    // An error on either side ends both.
    let _ = tokio::select! {
        ended = &mut there => match ended {
            Ok(()) => tokio::time::timeout(LAST_WORDS, back).await,
            Err(_) => return,
        },
        ended = &mut back => match ended {
            Ok(()) => tokio::time::timeout(LAST_WORDS, there).await,
            Err(_) => return,
        },
    };
}

/// Copies until the end, and passes the end on.
async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
