//! The span of a call of the inner service, `larder.fetch`. Without the feature `tracing` there is none, and nothing is done.
//!
//! It is a child of the span in which the request was made that leads the call. The spans of requests that wait for the call follow
//! from it, and a validation in the background has no parent and follows from the request that has set it off.

#[cfg(not(feature = "tracing"))]
pub(crate) use self::absent::{Cause, FetchSpan, Waiting};
#[cfg(feature = "tracing")]
pub(crate) use self::traced::{Cause, FetchSpan, Waiting};

#[cfg(feature = "tracing")]
mod traced {
    use http::{Method, StatusCode};
    use tracing::field::Empty;
    use tracing::{Instrument, Level, Span};

    use crate::observe::tracing::TARGET;
    use crate::runtime::{Mutex, lock};
    use crate::semantics::reuse::Forward;

    /// The span in which a request was made.
    #[derive(Clone, Default)]
    pub(crate) struct Cause(Option<Span>);

    impl Cause {
        pub(crate) fn current() -> Self {
            Self(Some(Span::current()).filter(|span| !span.is_disabled()))
        }
    }

    /// The span of one call.
    pub(crate) struct FetchSpan {
        /// In which the call is made: that of the request, where nobody looks at this one.
        context: Span,
        span: Span,
    }

    impl FetchSpan {
        pub(crate) fn begin(
            cause: Cause,
            method: &Method,
            uri: &[u8],
            forward: Forward,
            is_background: bool,
        ) -> Self {
            let parent = cause.0.as_ref().filter(|_| !is_background).and_then(Span::id);
            let span = tracing::span!(
                target: TARGET,
                parent: parent,
                Level::DEBUG,
                "larder.fetch",
                otel.kind = "client",
                otel.status_code = Empty,
                http.request.method = method.as_str(),
                http.response.status_code = Empty,
                larder.background = is_background,
                larder.fwd = forward.as_str(),
            );
            if is_background && let Some(cause) = &cause.0 {
                span.follows_from(cause);
            }
            tracing::trace!(target: TARGET, parent: &span, { url.full = %uri.escape_ascii() }, "fetch");
            let context = match cause.0 {
                Some(cause) if span.is_disabled() && !is_background => cause,
                _ => span.clone(),
            };
            Self { context, span }
        }

        /// The call, which is made in the span.
        pub(crate) fn around<F: Future>(&self, call: F) -> impl Future<Output = F::Output> + use<F> {
            call.instrument(self.context.clone())
        }

        /// The inner service has answered, or failed, and the span ends.
        pub(crate) fn end(self, status: Option<StatusCode>) {
            match status {
                Some(status) => {
                    self.span.record("http.response.status_code", status.as_u16());
                }
                None => {
                    self.span.record("otel.status_code", "ERROR");
                }
            }
        }
    }

    /// The spans of requests that wait for one call.
    #[derive(Default)]
    pub(crate) struct Waiting(Mutex<Links>);

    /// What the spans of requests follow from that wait.
    enum Links {
        /// The call is not made yet: those that wait for it.
        Ahead(Vec<Span>),
        /// Nothing: the call has been answered, or nobody looks at its span. No span is kept.
        Nothing,
        /// The call, which is under way.
        UnderWay(Span),
    }

    impl Default for Links {
        fn default() -> Self {
            Self::Ahead(Vec::new())
        }
    }

    impl Waiting {
        /// The call is made.
        pub(crate) fn begin(&self, fetch: &FetchSpan) {
            let is_disabled = fetch.span.is_disabled();
            let links = if is_disabled { Links::Nothing } else { Links::UnderWay(fetch.span.clone()) };
            if let Links::Ahead(waiting) = self.replace(links)
                && !is_disabled
            {
                for span in waiting {
                    span.follows_from(&fetch.span);
                }
            }
        }

        /// The call has been answered.
        pub(crate) fn end(&self) {
            drop(self.replace(Links::Nothing)); // which may call a subscriber
        }

        /// A request waits for the call.
        pub(crate) fn add(&self, cause: &Cause) {
            let Some(span) = &cause.0 else {
                return;
            };
            let mut links = lock(&self.0);
            let fetch = match &mut *links {
                Links::Ahead(waiting) => return waiting.push(span.clone()),
                Links::Nothing => return,
                Links::UnderWay(fetch) => fetch.clone(),
            };
            drop(links);
            span.follows_from(&fetch);
        }

        fn replace(&self, links: Links) -> Links {
            std::mem::replace(&mut lock(&self.0), links)
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod absent {
    use http::{Method, StatusCode};

    use crate::semantics::reuse::Forward;

    #[derive(Clone, Default)]
    pub(crate) struct Cause;

    impl Cause {
        pub(crate) fn current() -> Self {
            Self
        }
    }

    pub(crate) struct FetchSpan;

    impl FetchSpan {
        pub(crate) fn begin(_: Cause, _: &Method, _: &[u8], _: Forward, _: bool) -> Self {
            Self
        }

        pub(crate) fn around<F: Future>(&self, call: F) -> F {
            call
        }

        pub(crate) fn end(self, _: Option<StatusCode>) {}
    }

    #[derive(Default)]
    pub(crate) struct Waiting(());

    impl Waiting {
        pub(crate) fn add(&self, _: &Cause) {}

        pub(crate) fn begin(&self, _: &FetchSpan) {}

        pub(crate) fn end(&self) {}
    }
}
