//! A subscriber of `tracing` that remembers the events and spans of the cache, for the thread that a test runs on.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_core::span::Current;

#[derive(Clone, Default)]
pub struct Spans {
    state: Arc<Mutex<State>>,
    /// The only target that is looked at; none for all that may matter to a test.
    target: Option<&'static str>,
}

#[derive(Default)]
struct State {
    events: Vec<(Level, Fields)>,
    /// The ids of the spans that are entered.
    entered: Vec<u64>,
    metadata: Vec<&'static Metadata<'static>>,
    spans: Vec<Span>,
}

/// A span, whose id is one more than its place.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: &'static str,
    pub fields: Fields,
    pub parent: Option<u64>,
    pub follows: Vec<u64>,
    pub handles: usize,
}

/// The fields of an event or a span, with `message` among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(BTreeMap<String, String>);

impl Fields {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// In one line, without how long something took.
impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.0.iter().filter(|(name, _)| *name != "larder.seconds");
        let fields: Vec<_> = fields.map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&fields.join(" "))
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").unwrap();
        self.0.insert(field.name().to_owned(), text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl Spans {
    /// Remembers what this thread reports, as long as the guard lives.
    pub fn capture() -> (Self, DefaultGuard) {
        Self::default().installed()
    }

    /// Remembers only what has this target.
    pub fn capture_target(target: &'static str) -> (Self, DefaultGuard) {
        Self { target: Some(target), ..Self::default() }.installed()
    }

    fn installed(self) -> (Self, DefaultGuard) {
        // With one subscriber alone, the first thread that comes to an event decides for all whether it is of interest, and that
        // may be another test's thread, which has none.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));
        LazyLock::force(&SECOND);
        let guard = tracing::subscriber::set_default(self.clone());
        (self, guard)
    }

    /// The events of a level since the last time.
    pub fn take(&self, level: Level) -> Vec<Fields> {
        let mut state = self.state.lock().unwrap();
        let (taken, left) = std::mem::take(&mut state.events).into_iter().partition(|(own, _)| *own == level);
        state.events = left;
        let taken: Vec<(Level, Fields)> = taken;
        taken.into_iter().map(|(_, fields)| fields).collect()
    }

    /// The spans with a name, by their ids.
    pub fn named(&self, name: &str) -> Vec<(u64, Span)> {
        let state = self.state.lock().unwrap();
        let spans = (1..).zip(state.spans.iter().cloned());
        spans.filter(|(_, span)| span.name == name).collect()
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        match self.target {
            None => matches!(metadata.target(), "larder" | "test"),
            Some(target) => metadata.target() == target,
        }
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let mut state = self.state.lock().unwrap();
        let parent = match span.parent() {
            Some(parent) => Some(parent.into_u64()),
            None if span.is_contextual() => state.entered.last().copied(),
            None => None,
        };
        let name = span.metadata().name();
        state.metadata.push(span.metadata());
        state.spans.push(Span { name, fields, parent, follows: Vec::new(), handles: 1 });
        Id::from_u64(state.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut self.state.lock().unwrap().span(span).fields);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        let mut state = self.state.lock().unwrap();
        assert!(state.span(follows).handles > 0, "what is followed is still open");
        state.span(span).follows.push(follows.into_u64());
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.state.lock().unwrap().events.push((*event.metadata().level(), fields));
    }

    fn enter(&self, span: &Id) {
        self.state.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        let mut state = self.state.lock().unwrap();
        let place = state.entered.iter().rposition(|entered| *entered == span.into_u64()).unwrap();
        state.entered.remove(place);
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.state.lock().unwrap().span(span).handles += 1;
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut state = self.state.lock().unwrap();
        let span = state.span(&span);
        span.handles -= 1;
        span.handles == 0
    }

    fn current_span(&self) -> Current {
        let state = self.state.lock().unwrap();
        let Some(id) = state.entered.last() else {
            return Current::none();
        };
        Current::new(Id::from_u64(*id), state.metadata[usize::try_from(*id).unwrap() - 1])
    }
}

impl State {
    fn span(&mut self, id: &Id) -> &mut Span {
        &mut self.spans[usize::try_from(id.into_u64()).unwrap() - 1]
    }
}
