//! Counts of requests, by what became of them.

use http::Method;
use metrics::{Counter, Histogram};

use super::names::{REQUEST_DURATION, REQUESTS, RESPONSE_BODY_SIZE};
use super::register::Register;
use crate::observe::ABANDONED;
use crate::semantics::outcome_kind::OutcomeKind;
use crate::semantics::reuse::Forward;

/// What a label says where it does not apply.
const NONE: &str = "none";

/// The methods that are told apart. The first ones can be answered from storage. All others are `_OTHER`, as in
/// OpenTelemetry's conventions.
const METHODS: [&str; 11] =
    ["GET", "HEAD", "POST", "QUERY", "CONNECT", "DELETE", "OPTIONS", "PATCH", "PUT", "TRACE", "_OTHER"];
const OTHER_METHOD: usize = METHODS.len() - 1;

/// How many of them come to a look-up: a POST that is a query does, and so does an OPTIONS by option.
fn is_looked_up(method: usize) -> bool {
    method < 4 || matches!(METHODS[method], "OPTIONS" | "_OTHER")
}

/// What became of a request, as far as it is told apart.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    Abandoned,
    Answered(OutcomeKind, Option<Forward>),
    Failed,
}

impl Ending {
    fn all() -> impl Iterator<Item = Self> {
        let forwards = || Forward::ALL.iter().copied().map(Some).chain([None]);
        let answered = OutcomeKind::ALL
            .iter()
            .flat_map(move |&kind| forwards().map(move |forward| Self::Answered(kind, forward)));
        answered.filter(|ending| ending.is_possible()).chain([Self::Abandoned, Self::Failed])
    }

    /// Whether an outcome of a kind is forwarded for this reason: what [`Outcome::kind`] can say.
    ///
    /// [`Outcome::kind`]: crate::semantics::cache_status::Outcome::kind
    fn is_possible(self) -> bool {
        let Self::Answered(kind, forward) = self else {
            return true;
        };
        let bypasses = matches!(forward, Some(Forward::Bypass | Forward::Method));
        match kind {
            OutcomeKind::Bypass => bypasses,
            OutcomeKind::Collapsed | OutcomeKind::Revalidated => forward.is_some() && !bypasses,
            OutcomeKind::Error => forward.is_some(),
            OutcomeKind::Hit => forward.is_none(),
            OutcomeKind::Miss => !bypasses && forward != Some(Forward::Partial),
            OutcomeKind::Partial => forward == Some(Forward::Partial),
            OutcomeKind::Stale => true,
        }
    }

    /// Whether a request that is not looked up can end so.
    fn is_without_look_up(self) -> bool {
        matches!(
            self,
            Self::Abandoned | Self::Failed | Self::Answered(_, Some(Forward::Bypass | Forward::Method))
        )
    }

    fn outcome(self) -> &'static str {
        match self {
            Self::Abandoned => ABANDONED,
            Self::Answered(kind, _) => kind.as_str(),
            Self::Failed => OutcomeKind::Error.as_str(),
        }
    }

    fn forward(self) -> &'static str {
        match self {
            Self::Answered(_, Some(forward)) => forward.as_str(),
            Self::Abandoned | Self::Answered(..) | Self::Failed => NONE,
        }
    }
}

/// Where an ending stands among those with the same method.
fn place(ending: Ending) -> usize {
    let forwards = Forward::ALL.len() + 1;
    match ending {
        Ending::Answered(kind, forward) => {
            let forward = forward.and_then(|forward| position(Forward::ALL, &forward));
            position(OutcomeKind::ALL, &kind).unwrap_or_default() * forwards
                + forward.unwrap_or(Forward::ALL.len())
        }
        Ending::Abandoned => OutcomeKind::ALL.len() * forwards,
        Ending::Failed => OutcomeKind::ALL.len() * forwards + 1,
    }
}

fn places() -> usize {
    OutcomeKind::ALL.len() * (Forward::ALL.len() + 1) + 2
}

fn position<T: PartialEq>(all: &[T], one: &T) -> Option<usize> {
    all.iter().position(|other| other == one)
}

pub(super) struct Requests {
    abandoned: Histogram,
    bytes: Vec<Histogram>,
    /// By method, and by [`place`]. What cannot be counts as another method's.
    counts: Vec<Counter>,
    failed: Histogram,
    times: Vec<Histogram>,
}

impl Requests {
    pub(super) fn register(register: &Register<'_>) -> Self {
        let mut counts = vec![Counter::noop(); places() * METHODS.len()];
        // The last method, which can have every ending, comes first: it stands in for what the others can't have.
        for (method, name) in METHODS.iter().enumerate().rev() {
            for ending in Ending::all() {
                let place = place(ending);
                counts[method * places() + place] = if is_looked_up(method) || ending.is_without_look_up() {
                    let labels = [("outcome", ending.outcome()), ("fwd", ending.forward()), ("method", name)];
                    register.counter(&REQUESTS, &labels)
                } else {
                    counts[OTHER_METHOD * places() + place].clone()
                };
            }
        }
        let time = |outcome: &str| register.histogram(&REQUEST_DURATION, &[("outcome", outcome)]);
        let bytes =
            |kind: &OutcomeKind| register.histogram(&RESPONSE_BODY_SIZE, &[("outcome", kind.as_str())]);
        Self {
            abandoned: time(ABANDONED),
            bytes: OutcomeKind::ALL.iter().map(bytes).collect(),
            counts,
            failed: time(OutcomeKind::Error.as_str()),
            times: OutcomeKind::ALL.iter().map(|kind| time(kind.as_str())).collect(),
        }
    }

    pub(super) fn ended(&self, method: &Method, ending: Ending, seconds: f64) {
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(OTHER_METHOD);
        if let Some(count) = self.counts.get(method * places() + place(ending)) {
            count.increment(1);
        }
        match ending {
            Ending::Abandoned => self.abandoned.record(seconds),
            Ending::Answered(kind, _) => of(&self.times, kind).record(seconds),
            Ending::Failed => self.failed.record(seconds),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a histogram's values are floats")]
    pub(super) fn sent(&self, kind: OutcomeKind, bytes: u64) {
        of(&self.bytes, kind).record(bytes as f64);
    }
}

fn of(histograms: &[Histogram], kind: OutcomeKind) -> &Histogram {
    &histograms[position(OutcomeKind::ALL, &kind).unwrap_or_default()]
}
