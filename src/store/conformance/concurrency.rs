//! Many tasks use the store at one time.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::fixtures::{grouped, key_of, purged_at, together};
use super::fleet::{content_of, sure};
use super::history::{Held, History, PurgeOfKey, Read, Write};
use super::subject::{Nodes, Subject};
use crate::entry::key::CacheKey;
use crate::entry::{Payload, StoredResponse};
use crate::runtime::{self, Runtime, yield_now};
use crate::store::{Fence, PurgeMode, PurgeTarget, PutOutcome, Store};

const TASKS: usize = 32;
const KEYS: usize = 8;
/// Content has fewer than so many pieces.
const MOST_PIECES: u64 = 16;
/// After each of them, all nodes know of all purges.
const ROUNDS: usize = 8;

/// 32 tasks put, freshen, purge and look up eight keys through both nodes, and write down when each operation began and ended
/// and what it saw. For each key, one order of all that was done with it has to explain what everybody saw:
///
/// - What a look-up finds was put, whole, and not refused.
/// - Once a write has returned, nobody finds what it has replaced, and each head is freshened once.
/// - Once a purge has returned, nobody finds what was asked for before it began: fresh, if it was a soft one.
/// - Nothing is stale that no soft purge was of.
///
/// A look-up that finds nothing says nothing, since a store may drop what it wants. In a runtime of tokio, each task is spawned:
/// if that has several threads, the tasks run at one time. Otherwise they take turns. [`Subject::operations`] says how much
/// each does.
pub async fn what_is_done_at_one_time_is_as_if_done_in_one_order<N: Nodes>(subject: &Subject<'_, N>) {
    let nodes = subject.make().await;
    let handles = nodes.open().await.map(Arc::new);
    let known_after = subject.capabilities.staleness;
    let shared = Arc::new(Shared::new(known_after.is_zero()));
    let task = |number| Task::new(number, Arc::clone(&handles[number % 2]), Arc::clone(&shared));
    let mut tasks: Vec<_> = (0..TASKS).map(task).collect();
    for round in 0..=ROUNDS {
        let count = if round < ROUNDS { subject.operations.div_ceil(ROUNDS) } else { 0 };
        tasks = run(tasks, count).await;
        if !known_after.is_zero() {
            subject.wait(known_after).await;
        }
        tasks.iter_mut().for_each(Task::know_purges);
    }
    let done: Vec<_> = tasks.into_iter().flat_map(|task| task.done).collect();
    let held = Held {
        exact_purges: subject.capabilities.exact_purges,
        replacements: known_after.is_zero() && subject.capabilities.shared_replacements,
    };
    for number in 0..KEYS {
        let mut history = History::default();
        done.iter().for_each(|done| done.write_down(number, &shared, &mut history));
        if let Err(message) = history.check(held) {
            panic!("{:?}: {message}", shared.keys[number]);
        }
    }
}

/// Lets each task do so many operations. Where none are left to do, it looks what there is.
async fn run<S: Store>(tasks: Vec<Task<S>>, operations: usize) -> Vec<Task<S>> {
    let running = tasks.into_iter().map(|task| task.run(operations));
    let Some(runtime) = Runtime::current() else {
        let ended = RefCell::new(Vec::new());
        let running = running.map(|task| {
            let ended = &ended;
            Box::pin(async move {
                let task = task.await;
                ended.borrow_mut().push(task);
            }) as Pin<Box<dyn Future<Output = ()> + '_>>
        });
        together(running.collect::<Vec<_>>()).await;
        return ended.into_inner();
    };
    let running: Vec<_> = running.map(|task| runtime.spawn(task)).collect();
    let mut ended = Vec::new();
    for task in running {
        ended.extend(runtime::joined(task).await);
    }
    ended
}

/// Those of a key's responses.
fn group(number: usize) -> String {
    format!("http://example.com {}", number % 2)
}

/// What was done, with the number of the key.
enum Done {
    Purge(PurgeTarget, PurgeOfKey),
    Read(usize, Read),
    Write(usize, u64, Write),
}

impl Done {
    fn write_down(&self, number: usize, shared: &Shared, history: &mut History) {
        match self {
            Self::Purge(target, purge) if shared.is_named(target, number) => {
                history.purges.push(purge.clone())
            }
            Self::Read(of, read) if *of == number => history.reads.push(read.clone()),
            Self::Write(of, version, write) if *of == number => {
                history.writes.insert(*version, write.clone());
            }
            Self::Purge(..) | Self::Read(..) | Self::Write(..) => {}
        }
    }
}

/// What all tasks have in common.
struct Shared {
    keys: Vec<CacheKey>,
    /// Whether a purge that has returned is known everywhere.
    knows_at_once: bool,
    now: AtomicU64,
    /// By key, what is put there: each task changes a copy.
    responses: Vec<StoredResponse>,
}

impl Shared {
    fn new(knows_at_once: bool) -> Self {
        let key = |number| key_of(&format!("http://example.com/{}/{number}", number % 2));
        let responses = (0..KEYS).map(|number| grouped("", &group(number))).collect();
        Self { keys: (0..KEYS).map(key).collect(), knows_at_once, now: AtomicU64::new(1), responses }
    }

    fn is_named(&self, target: &PurgeTarget, number: usize) -> bool {
        target.names(&self.keys[number], self.responses[number].head().groups())
    }

    /// What purges the key, or it and others.
    fn target(&self, number: usize, turn: u64) -> PurgeTarget {
        let key = &self.keys[number];
        match turn % 8 {
            0 => PurgeTarget::All,
            1 => PurgeTarget::tag((number % 2).to_string()),
            2 => PurgeTarget::Group(group(number).into()),
            3 => PurgeTarget::prefix(format!("http://example.com/{}/", number % 2)),
            4 => PurgeTarget::host("example.com"),
            5 => PurgeTarget::Uri(key.uri().into()),
            _ => PurgeTarget::Key(key.clone()),
        }
    }

    /// The number of a moment; no two moments have the same.
    fn now(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }

    /// A response of a version, whose content says which.
    fn response(&self, number: usize, version: u64) -> StoredResponse {
        let mut head = self.responses[number].head().clone();
        head.reuse.lifetime = Duration::from_secs(version);
        let content =
            format!("{version};").repeat(1 + usize::try_from(version % MOST_PIECES).unwrap_or_default());
        StoredResponse::new(head, Payload::from_bytes(content.into()))
    }
}

/// One of many that use a store.
struct Task<S> {
    done: Vec<Done>,
    /// From which on the purges that were done may not be known everywhere.
    first_unknown: usize,
    random: u64,
    shared: Arc<Shared>,
    store: Arc<S>,
}

impl<S: Store> Task<S> {
    fn new(number: usize, store: Arc<S>, shared: Arc<Shared>) -> Self {
        let random = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { done: Vec::new(), first_unknown: 0, random, shared, store }
    }

    /// The next number of a sequence that is the same in each run (xorshift).
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    async fn run(mut self, operations: usize) -> Self {
        for _ in 0..operations {
            let (number, turn) = (self.random() as usize % KEYS, self.random());
            match self.random() % 32 {
                0..16 => self.look_up(number).await,
                16..26 => self.put(number, turn % 4).await,
                26..30 => self.freshen(number, turn % 4).await,
                kind => self.purge(number, turn, kind == 31).await,
            }
            if turn.is_multiple_of(2) {
                yield_now().await;
            }
        }
        if operations == 0 {
            for number in 0..KEYS {
                self.look_up(number).await;
            }
        }
        self
    }

    async fn look_up(&mut self, number: usize) {
        let key = self.shared.keys[number].clone();
        let begun = self.shared.now();
        let at_once = if begun.is_multiple_of(2) { self.store.try_get(&key) } else { None };
        let lookup = match at_once {
            Some(lookup) => lookup,
            None => sure(self.store.get(&key).await),
        };
        let span = begun..self.shared.now();
        let count = lookup.variants.len();
        assert!(count <= 1, "{count} responses with the same selecting fields are found under one key");
        for stored in lookup.variants.iter() {
            let version = stored.response.head().reuse().lifetime.as_secs();
            let content = content_of(&*self.store, &key, stored).await;
            let content = content.map(|content| version_of(&content));
            let read = Read { content, is_expired: stored.expired.is_some(), span: span.clone(), version };
            self.done.push(Done::Read(number, read));
        }
    }

    async fn put(&mut self, number: usize, turns: u64) {
        let key = self.shared.keys[number].clone();
        let asked = self.shared.now();
        let found = sure(self.store.get(&key).await).fence;
        let expected = self.store.expect(&key);
        let fence = expected.fence().unwrap_or(found);
        let asked = asked..self.shared.now();
        for _ in 0..turns {
            yield_now().await;
        }
        let version = self.shared.now();
        let response = self.shared.response(number, version);
        let outcome = sure(self.store.put(&key, response, fence).await);
        let span = version..self.shared.now();
        let write = Write { asked, is_stored: is_stored(outcome), of: None, span };
        self.done.push(Done::Write(number, version, write));
    }

    async fn freshen(&mut self, number: usize, turns: u64) {
        let key = self.shared.keys[number].clone();
        let asked = self.shared.now();
        let lookup = sure(self.store.get(&key).await);
        let expected = self.store.expect(&key);
        let fence: Fence = expected.fence().unwrap_or(lookup.fence);
        let asked = asked..self.shared.now();
        let Some(stored) = lookup.variants.first() else {
            return;
        };
        for _ in 0..turns {
            yield_now().await;
        }
        let of = stored.response.head().reuse().lifetime.as_secs();
        let version = self.shared.now();
        let mut head = self.shared.responses[number].head().clone();
        head.reuse.lifetime = Duration::from_secs(version);
        let outcome = sure(self.store.freshen(&key, stored.id, head, fence).await);
        let span = version..self.shared.now();
        let write = Write { asked, is_stored: is_stored(outcome), of: Some(of), span };
        self.done.push(Done::Write(number, version, write));
    }

    async fn purge(&mut self, number: usize, turn: u64, is_soft: bool) {
        let target = self.shared.target(number, turn);
        let mode = if is_soft { PurgeMode::Expire(purged_at()) } else { PurgeMode::Remove };
        let begun = self.shared.now();
        sure(self.store.invalidate(std::slice::from_ref(&target), mode).await);
        let end = if self.shared.knows_at_once { self.shared.now() } else { u64::MAX };
        self.done.push(Done::Purge(target, PurgeOfKey { is_soft, span: begun..end }));
    }

    /// By now, everybody knows the purges that were done.
    fn know_purges(&mut self) {
        let now = self.shared.now();
        for done in &mut self.done[self.first_unknown..] {
            if let Done::Purge(_, purge) = done {
                purge.span.end = purge.span.end.min(now);
            }
        }
        self.first_unknown = self.done.len();
    }
}

fn is_stored(outcome: PutOutcome) -> bool {
    assert_ne!(outcome, PutOutcome::TooLarge, "of a few hundred bytes");
    outcome == PutOutcome::Stored
}

/// The version that content says it is of.
fn version_of(content: &[u8]) -> u64 {
    let mut pieces = content.split(|&byte| byte == b';');
    let first = pieces.next().unwrap_or_default();
    let text = String::from_utf8_lossy(first);
    let Ok(version) = text.parse() else { panic!("content that nobody has put is found: {text}") };
    let rest: Vec<_> = pieces.collect();
    let are_whole = rest.split_last().is_some_and(|(end, rest)| {
        end.is_empty()
            && rest.len() as u64 == version % MOST_PIECES
            && rest.iter().all(|piece| *piece == first)
    });
    assert!(are_whole, "content of version {version} is not whole, or is mixed with another one's");
    version
}
