//! Random content (frames, declared length, failures) for several random readers: each gets it complete or sees an error.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::support::{CacheService, cache_builder};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use larder::FillLimits;
use larder::semantics::etag::{TagKind, Tagger};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::{sleep, timeout};
use tower::{Layer, Service};

/// Longer than anything here takes, and shorter than for ever.
const EVER: Duration = Duration::from_secs(100);

#[derive(Clone, Debug)]
enum Act {
    Data(usize),
    Fail,
    Pause(u64),
    Trailers,
    Yield,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Length {
    Field,
    Hint,
    Unknown,
}

#[derive(Clone, Debug)]
struct Shape {
    acts: Vec<Act>,
    has_tag: bool,
    is_stored: bool,
    length: Length,
    /// By how much the length that is said is wrong.
    wrong: u64,
    says_its_end: bool,
}

impl Shape {
    fn content(&self) -> Bytes {
        let length = self.acts.iter().map(|act| if let Act::Data(length) = act { *length } else { 0 }).sum();
        (0..length).map(|at: usize| b'a' + (at % 23) as u8).collect()
    }

    fn is_whole(&self) -> bool {
        let is_right = self.wrong == 0 || self.length == Length::Unknown;
        is_right && !self.acts.iter().any(|act| matches!(act, Act::Fail))
    }

    fn has_trailers(&self) -> bool {
        self.acts.iter().any(|act| matches!(act, Act::Trailers))
    }

    fn tag(&self) -> HeaderValue {
        let mut tagger = Tagger::new(TagKind::Fnv1a);
        tagger.update(&self.content());
        if self.has_tag { HeaderValue::from_static("\"theirs\"") } else { tagger.finish() }
    }
}

struct Played {
    acts: VecDeque<Act>,
    content: Bytes,
    hint: Option<u64>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
    says_its_end: bool,
}

impl Body for Played {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        match self.acts.pop_front() {
            None => Poll::Ready(None),
            Some(Act::Data(length)) => Poll::Ready(Some(Ok(Frame::data(self.content.split_to(length))))),
            Some(Act::Fail) => Poll::Ready(Some(Err(std::io::Error::other("scripted")))),
            Some(Act::Pause(millis)) => {
                self.pause = Some(Box::pin(sleep(Duration::from_millis(millis))));
                self.poll_frame(cx)
            }
            Some(Act::Trailers) => {
                let trailers =
                    [(http::header::HeaderName::from_static("x-sum"), HeaderValue::from_static("2"))];
                Poll::Ready(Some(Ok(Frame::trailers(trailers.into_iter().collect()))))
            }
            Some(Act::Yield) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.says_its_end && self.acts.is_empty() && self.pause.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.hint.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[derive(Clone)]
struct Player(Shape);

impl Service<Request<Empty<Bytes>>> for Player {
    type Response = Response<Played>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        let Shape { acts, has_tag, is_stored, length, wrong, says_its_end } = self.0.clone();
        let content = self.0.content();
        // Too much is as wrong as too little.
        let said = (content.len() as u64).checked_sub(wrong).unwrap_or(content.len() as u64 + wrong);
        let mut fields = HeaderMap::new();
        let cache_control = if is_stored { "max-age=60" } else { "private" };
        fields.insert("cache-control", HeaderValue::from_static(cache_control));
        if length == Length::Field {
            fields.insert("content-length", HeaderValue::from(said));
        }
        if has_tag {
            fields.insert("etag", HeaderValue::from_static("\"theirs\""));
        }
        let hint = (length == Length::Hint).then_some(said);
        let mut response =
            Response::new(Played { acts: acts.into(), content, hint, pause: None, says_its_end });
        *response.headers_mut() = fields;
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(response)
        })
    }
}

#[derive(Clone, Debug)]
struct Reader {
    comes: u64,
    is_conditional: bool,
    is_head: bool,
    is_slow: bool,
    leaves: Option<u64>,
}

fn request() -> Request<Empty<Bytes>> {
    Request::get("/").header("host", "www.example.com").body(Empty::new()).unwrap()
}

impl Reader {
    async fn read(self, mut cache: CacheService<Player>, shape: Shape) {
        sleep(Duration::from_millis(self.comes)).await;
        let mut request = request();
        if self.is_head {
            *request.method_mut() = http::Method::HEAD;
        }
        if self.is_conditional {
            request.headers_mut().insert("if-none-match", HeaderValue::from_static("\"other\""));
        }
        let call = cache.call(request);
        if let Some(leaves) = self.leaves.map(Duration::from_millis) {
            if let Ok(response) = timeout(leaves, call).await {
                let mut body = Box::pin(response.unwrap().into_body());
                let _ = timeout(leaves, body.frame()).await;
            }
            return;
        }
        let response = timeout(EVER, call).await.expect("an answer").unwrap();
        let tag = response.headers().get("etag").cloned();
        let mut body = Box::pin(response.into_body());
        let (mut read, mut is_broken, mut has_trailers) = (Vec::new(), false, false);
        loop {
            if self.is_slow {
                sleep(Duration::from_millis(3)).await;
            }
            let said_its_end = body.is_end_stream();
            let Some(frame) = timeout(EVER, body.frame()).await.expect("an end") else { break };
            assert!(!said_its_end, "a frame after the end");
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => read.extend_from_slice(&data),
                Ok(Err(_)) => has_trailers = true,
                Err(_) => is_broken = true,
            }
        }
        assert!(tag.is_none() || tag == Some(shape.tag()), "{tag:?} is not that of the content");
        if self.is_head {
            assert!(read.is_empty());
            return;
        }
        let content = shape.content();
        assert!(content.starts_with(&read), "bytes lost, doubled or in the wrong place");
        assert_eq!(is_broken, !shape.is_whole(), "after {} of {} bytes", read.len(), content.len());
        if shape.is_whole() {
            assert_eq!((read.len(), has_trailers), (content.len(), shape.has_trailers()));
        }
    }
}

/// All clients, and then one more.
async fn play(shape: Shape, limits: FillLimits, readers: Vec<Reader>) {
    let layer = cache_builder().fill_limits(limits).build();
    let handle = layer.handle();
    let cache = layer.layer(Player(shape.clone()));
    let reading: Vec<_> =
        readers.into_iter().map(|reader| tokio::spawn(reader.read(cache.clone(), shape.clone()))).collect();
    for reader in reading {
        reader.await.unwrap();
    }
    sleep(2 * EVER).await;
    let fills = handle.fills();
    assert_eq!([fills.detached, fills.fills, fills.in_flight, fills.waiting], [0; 4]);
    let entries = handle.statistics().entries;
    assert!(entries == 0 || (shape.is_whole() && shape.is_stored));
    if entries > 0 {
        let response = cache.clone().call(request()).await.unwrap();
        assert!(response.headers()["cache-status"].to_str().unwrap().starts_with("larder; hit"));
        assert_eq!(response.headers()["etag"], shape.tag());
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), shape.content());
    }
}

fn act() -> impl Strategy<Value = Vec<Act>> {
    let wait = prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec![Act::Yield]),
        1 => Just(vec![Act::Yield, Act::Yield]),
        1 => (0..30u64).prop_map(|millis| vec![Act::Pause(millis)]),
    ];
    let length = prop_oneof![Just(0), Just(1), 0..20usize, 0..5_000usize, 0..12_000usize];
    (wait, length).prop_map(|(mut acts, length)| {
        acts.push(Act::Data(length));
        acts
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let last = prop_oneof![
        4 => Just(vec![]),
        1 => Just(vec![Act::Fail]),
        1 => Just(vec![Act::Pause(20)]),
        1 => Just(vec![Act::Trailers]),
        1 => Just(vec![Act::Yield, Act::Trailers, Act::Yield]),
        1 => Just(vec![Act::Trailers, Act::Fail]),
    ];
    let length = prop_oneof![3 => Just(Length::Field), 2 => Just(Length::Hint), 1 => Just(Length::Unknown)];
    let wrong = prop_oneof![5 => Just(0), 1 => 1..20u64];
    let parts = (vec(act(), 0..7), last, length, wrong, any::<[bool; 3]>());
    parts.prop_map(|(acts, last, length, wrong, [has_tag, is_stored, says_its_end])| {
        let acts = acts.into_iter().flatten().chain(last).collect();
        Shape { acts, has_tag, is_stored, length, wrong, says_its_end }
    })
}

fn reader() -> impl Strategy<Value = Reader> {
    let rarely = || prop::bool::weighted(0.15);
    let leaves = prop::option::weighted(0.15, 0..20u64);
    (0..40u64, rarely(), rarely(), rarely(), leaves).prop_map(
        |(comes, is_conditional, is_head, is_slow, leaves)| Reader {
            comes,
            is_conditional,
            is_head,
            is_slow,
            leaves,
        },
    )
}

fn limits() -> impl Strategy<Value = FillLimits> {
    let small = (0..20_000u64, 0..2u64);
    prop::option::of(small).prop_map(|bounds| match bounds {
        Some((in_flight, detached)) => FillLimits::new().in_flight(in_flight).detached(detached),
        None => FillLimits::new(),
    })
}

proptest! {
    #![proptest_config(crate::support::cases(1_000))]

    #[test]
    fn f01_content_of_any_shape_arrives_complete_or_visibly_broken(
        shape in shape(),
        limits in limits(),
        readers in vec(reader(), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(shape, limits, readers));
    }
}
