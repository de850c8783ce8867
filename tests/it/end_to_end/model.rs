//! The layer compared with a small, slow and simple model of RFC 9111, which remembers every response that the origin sent and
//! says which of them may answer a request. Random sequences of requests, purges and clock moves drive both; the layer never
//! serves what the model forbids.

use std::time::Duration;

use http::{Method, Uri};
use larder::store::PurgeTarget;
use proptest::prelude::*;

use crate::support::{Bench, Reply, Seen, settle};

const PATHS: [&str; 2] = ["/a", "/b"];
const LANGUAGES: [Option<&str>; 3] = [None, Some("en"), Some("de")];

/// What the origin sends, until it is told otherwise.
#[derive(Clone, Copy, Debug)]
struct Spec {
    lifetime: u64,
    age: u64,
    stale_while_revalidate: u64,
    no_cache: bool,
    no_store: bool,
    must_revalidate: bool,
    vary: bool,
    tagged: bool,
    status: u16,
}

#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    Answers(Spec),
    Get {
        path: usize,
        language: usize,
        directive: usize,
    },
    Head {
        path: usize,
    },
    /// From now on conditional requests are answered with 304, or no longer.
    NotModified(bool),
    Post {
        path: usize,
        status: u16,
    },
    Purge {
        path: usize,
    },
    PurgeAll,
    SoftPurge {
        path: usize,
    },
}

const ONLY_IF_CACHED: usize = 5;
const DIRECTIVES: [&str; 6] = ["", "no-cache", "max-age=5", "min-fresh=5", "max-stale=20", "only-if-cached"];

fn spec() -> impl Strategy<Value = Spec> {
    let window = prop_oneof![3 => Just(0u64), 1 => Just(15)];
    let rarely = || prop::bool::weighted(0.15);
    let status = prop_oneof![8 => Just(200u16), 1 => Just(404), 1 => Just(503)];
    (
        0u64..40,
        prop_oneof![3 => Just(0u64), 1 => 0u64..40],
        window,
        rarely(),
        rarely(),
        rarely(),
        any::<bool>(),
        any::<bool>(),
        status,
    )
        .prop_map(
            |(
                lifetime,
                age,
                stale_while_revalidate,
                no_cache,
                no_store,
                must_revalidate,
                vary,
                tagged,
                status,
            )| Spec {
                lifetime,
                age,
                stale_while_revalidate,
                no_cache,
                no_store,
                must_revalidate,
                vary,
                tagged,
                status,
            },
        )
}

fn step() -> impl Strategy<Value = Step> {
    let path = || 0..PATHS.len();
    prop_oneof![
        4 => prop_oneof![Just(1u64), Just(5), Just(10), Just(30)].prop_map(Step::Advance),
        3 => spec().prop_map(Step::Answers),
        10 => (path(), 0..LANGUAGES.len(), prop_oneof![3 => Just(0usize), 2 => 0..DIRECTIVES.len()])
            .prop_map(|(path, language, directive)| Step::Get { path, language, directive }),
        1 => path().prop_map(|path| Step::Head { path }),
        2 => any::<bool>().prop_map(Step::NotModified),
        1 => (path(), prop_oneof![Just(200u16), Just(404), Just(500)]).prop_map(|(path, status)| Step::Post { path, status }),
        1 => path().prop_map(|path| Step::Purge { path }),
        1 => Just(Step::PurgeAll),
        1 => path().prop_map(|path| Step::SoftPurge { path }),
    ]
}

/// A response that the origin sent, as the model remembers it.
#[derive(Clone, Debug)]
struct Remembered {
    body: String,
    path: usize,
    /// The language of the request that it answered.
    language: usize,
    spec: Spec,
    /// The second in which it was received, or last found to hold.
    received: u64,
    /// Gone by an invalidation or a purge.
    gone: bool,
    /// The second from which on a soft purge has made it stale.
    expired: Option<u64>,
}

impl Remembered {
    fn selects(&self, language: usize) -> bool {
        !self.spec.vary || self.language == language
    }

    /// Whether it is stored for sure, and so stands before what was stored earlier.
    fn outdoes(&self, language: usize) -> bool {
        let spec = self.spec;
        let has_stale_window = spec.stale_while_revalidate > 0 && !spec.must_revalidate;
        let is_of_use = spec.tagged || (!spec.no_cache && (spec.lifetime > 0 || has_stale_window));
        spec.status == 200 && !spec.no_store && is_of_use && !self.gone && self.selects(language)
    }

    /// RFC 9111 4: whether it may answer without a word from the origin.
    fn may_answer(&self, language: usize, directive: &str, now: u64) -> bool {
        let spec = self.spec;
        let age = spec.age + (now - self.received);
        let stale_by_age = age.checked_sub(spec.lifetime);
        let stale_by_purge = self.expired.map(|expired| now - expired);
        let staleness = stale_by_age.max(stale_by_purge);
        let storable = !spec.no_store && !self.gone && self.selects(language);
        let demands = match directive {
            "no-cache" => false,
            "max-age=5" => age <= 5,
            "min-fresh=5" => staleness.is_none() && spec.lifetime - age >= 5,
            _ => true,
        };
        let timely = match staleness {
            None => true,
            Some(_) if spec.must_revalidate => false,
            Some(by) if directive == "max-stale=20" && by <= 20 => true,
            Some(by) => spec.stale_while_revalidate > 0 && by <= spec.stale_while_revalidate,
        };
        storable && !spec.no_cache && demands && timely
    }
}

impl Remembered {
    /// RFC 9111 4.2.4: whether it may stand in for an error of the origin.
    fn may_stand_in(&self, language: usize) -> bool {
        let Spec { no_store, no_cache, must_revalidate, status, .. } = self.spec;
        let is_forbidden = no_store || no_cache || must_revalidate || status >= 500;
        !is_forbidden && !self.gone && self.selects(language)
    }
}

struct World {
    bench: Bench,
    not_modified: bool,
    spec: Spec,
    memory: Vec<Remembered>,
    now: u64,
    sent: usize,
}

impl World {
    fn new() -> Self {
        let spec = Spec {
            lifetime: 10,
            age: 0,
            stale_while_revalidate: 0,
            no_cache: false,
            no_store: false,
            must_revalidate: false,
            vary: false,
            tagged: true,
            status: 200,
        };
        Self { bench: Bench::rfc9111([]), not_modified: false, spec, memory: Vec::new(), now: 0, sent: 0 }
    }

    /// Tells the origin what to send next, with a body that nothing else ever had.
    fn prepare(&mut self) -> String {
        self.sent += 1;
        let body = format!("body {}", self.sent);
        let Spec { lifetime, stale_while_revalidate, .. } = self.spec;
        let mut control = format!("max-age={lifetime}");
        for (on, directive) in [
            (stale_while_revalidate > 0, format!(", stale-while-revalidate={stale_while_revalidate}")),
            (self.spec.no_cache, ", no-cache".into()),
            (self.spec.no_store, ", no-store".into()),
            (self.spec.must_revalidate, ", must-revalidate".into()),
        ] {
            if on {
                control.push_str(&directive);
            }
        }
        let mut reply = Reply::cc(&body, &control).status(self.spec.status);
        if self.spec.age > 0 {
            reply = reply.field("age", &self.spec.age.to_string());
        }
        if self.spec.vary {
            reply = reply.field("vary", "accept-language");
        }
        if self.spec.tagged {
            reply = reply.field("etag", &format!("\"{}\"", self.sent));
        }
        self.bench.origin.then(reply);
        let mut not_modified = Reply::new("").status(304).field("cache-control", &control);
        if self.spec.age > 0 {
            not_modified = not_modified.field("age", &self.spec.age.to_string());
        }
        self.bench.origin.not_modified(self.not_modified.then_some(not_modified));
        body
    }

    async fn ask(
        &mut self,
        method: Method,
        path: usize,
        language: usize,
        directive: usize,
    ) -> Result<(), TestCaseError> {
        let body = self.prepare();
        let calls = self.bench.origin.calls();
        let directive = DIRECTIVES[directive];
        let mut fields = Vec::new();
        fields.extend(LANGUAGES[language].map(|language| ("accept-language", language)));
        fields.extend(Some(("cache-control", directive)).filter(|(_, value)| !value.is_empty()));
        let head = method == Method::HEAD;
        let seen = self.bench.send(method, PATHS[path], &fields).await;
        // A validation behind is a task of its own: let it end before anything else happens.
        settle().await;
        let asked = self.bench.origin.calls() - calls;
        // The number in the first tag of a list that was answered with 304.
        let validated = (asked == 1 && self.not_modified)
            .then(|| self.bench.origin.last().headers.get("if-none-match").cloned())
            .flatten()
            .map(|list| list.to_str().unwrap().split('"').nth(1).unwrap().to_owned());
        if head {
            prop_assert_eq!(&seen.body, "");
        } else if seen.is_hit() {
            self.check_hit(&seen, path, language, directive)?;
        } else if seen.status == 504 {
            prop_assert_eq!(directive, "only-if-cached");
        } else if seen.cache_status().contains("stale-if-error") {
            prop_assert_eq!(self.spec.status, 503);
            self.check_served(&seen, path, |response| response.may_stand_in(language), language)?;
        } else if let Some(tag) = &validated {
            prop_assert_eq!(&seen.body, &format!("body {tag}"), "validated, so it is what the 304 spoke of");
        } else {
            prop_assert_eq!(&seen.body, &body, "forwarded, so it is what the origin says now");
        }
        prop_assert!(asked <= 1);
        if let Some(tag) = validated {
            self.freshen(&format!("body {tag}"), path, language);
        } else if asked == 1 {
            let (spec, received) = (self.spec, self.now);
            self.memory.push(Remembered { body, path, language, spec, received, gone: false, expired: None });
        }
        Ok(())
    }

    /// A 304 to a request in this language: what it speaks of has the freshness that the origin gives now. It
    /// stands in the place of what was stored for the same requests.
    fn freshen(&mut self, body: &str, path: usize, language: usize) {
        if self.spec.no_store {
            return; // RFC 9111 3: nothing of it is stored
        }
        let told =
            self.memory.iter().rfind(|response| response.body == body && response.path == path).cloned();
        let Some(mut response) = told else { return };
        for older in &mut self.memory {
            let is_it = older.body == body && older.path == path && older.selects(language);
            older.gone |= is_it && older.spec.status == 200;
        }
        response.spec =
            Spec { vary: response.spec.vary, tagged: true, status: response.spec.status, ..self.spec };
        (response.language, response.received) = (language, self.now);
        (response.gone, response.expired) = (false, None);
        self.memory.push(response);
    }

    fn check_hit(
        &self,
        seen: &Seen,
        path: usize,
        language: usize,
        directive: &str,
    ) -> Result<(), TestCaseError> {
        let permits = |response: &Remembered| response.may_answer(language, directive, self.now);
        self.check_served(seen, path, permits, language)
    }

    /// What was served is something that the model permits, as it was, and nothing more recent would do.
    fn check_served(
        &self,
        seen: &Seen,
        path: usize,
        permits: impl Fn(&Remembered) -> bool,
        language: usize,
    ) -> Result<(), TestCaseError> {
        let same = |response: &&Remembered| response.body == seen.body && response.path == path;
        let served = |response: &&Remembered| {
            permits(response)
                && seen.age() == Some(response.spec.age + (self.now - response.received))
                && seen.status.as_u16() == response.spec.status
        };
        let Some(served) = self.memory.iter().filter(same).rfind(served) else {
            let known: Vec<_> = self.memory.iter().filter(same).collect();
            return Err(TestCaseError::fail(format!(
                "forbidden at {}: {seen:?}\nknown: {known:?}",
                self.now
            )));
        };
        // RFC 9111 4: of several that would do, the most recent.
        let later = self.memory.iter().skip_while(|response| !std::ptr::eq(*response, served)).skip(1);
        let mut outdone = later.filter(|response| response.path == path && response.outdoes(language));
        prop_assert!(outdone.next().is_none(), "{served:?} is not the most recent: {seen:?}");
        Ok(())
    }

    fn forget(&mut self, path: Option<usize>) {
        for response in
            self.memory.iter_mut().filter(|response| path.is_none_or(|path| response.path == path))
        {
            response.gone = true;
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let uri = |path: usize| format!("http://example.com{}", PATHS[path]).parse::<Uri>().unwrap();
        match step {
            Step::Advance(seconds) => {
                self.now += seconds;
                self.bench.clock.advance(Duration::from_secs(seconds));
            }
            Step::Answers(spec) => self.spec = spec,
            Step::NotModified(on) => self.not_modified = on,
            Step::Get { path, language, directive } => {
                self.ask(Method::GET, path, language, directive).await?
            }
            // Only from storage: what a HEAD does to what is stored has tests of its own.
            Step::Head { path } => self.ask(Method::HEAD, path, 0, ONLY_IF_CACHED).await?,
            Step::Post { path, status } => {
                self.bench.origin.then(Reply::new("").status(status));
                self.bench.send(Method::POST, PATHS[path], &[]).await;
                if status < 400 {
                    self.forget(Some(path));
                }
            }
            Step::Purge { path } => {
                self.bench.handle.purge(&uri(path)).await.unwrap();
                self.forget(Some(path));
            }
            Step::PurgeAll => {
                self.bench.handle.purge_target(&PurgeTarget::All).await.unwrap();
                self.forget(None);
            }
            Step::SoftPurge { path } => {
                self.bench.handle.soft_purge(&uri(path)).await.unwrap();
                let now = self.now;
                for response in self.memory.iter_mut().filter(|response| response.path == path) {
                    response.expired.get_or_insert(now);
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(crate::support::cases(400))]

    #[test]
    fn the_layer_never_serves_what_the_model_forbids(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                world.take(step).await?;
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn the_model_is_not_so_strict_that_nothing_hits() {
    let mut world = World::new();
    world.take(Step::Get { path: 0, language: 0, directive: 0 }).await.unwrap();
    let calls = world.bench.origin.calls();
    world.take(Step::Get { path: 0, language: 1, directive: 0 }).await.unwrap();
    assert_eq!(world.bench.origin.calls(), calls);
}
