//! Entries for the log of purges, of all who purge at the same time in one call.
//!
//! Invariant: one call is on its way, and all who came since share the next one. Each gets what became of its own entry.

use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::error::{LinkError, no_runtime};
use super::log::RedisLog;
use crate::runtime::{Mutex, Runtime, lock};
use crate::store::log::{Appended, NewEntry};

/// The most entries of a call.
const ENTRIES: usize = 256;
/// A call gets no further entry when it has so many bytes.
const BYTES: usize = 256 << 10;

type Ended = Result<Appended, LinkError>;

#[derive(Default)]
pub(super) struct Batches {
    rounds: Arc<Mutex<Rounds>>,
}

#[derive(Default)]
struct Rounds {
    is_sending: bool,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
}

struct Waiting {
    entry: NewEntry,
    to: oneshot::Sender<Ended>,
}

impl Waiting {
    fn size(&self) -> usize {
        let NewEntry { asks, marks, purge, .. } = &self.entry;
        purge.len() + (marks.len() + asks.len()) * 32
    }
}

impl Batches {
    /// Adds an entry by the next call. Where nobody waits for that any more, an entry that has not been sent is not sent.
    pub(super) async fn add(&self, log: &RedisLog, entry: &NewEntry) -> Ended {
        let (to, ended) = oneshot::channel();
        let begins = {
            let mut rounds = lock(&self.rounds);
            rounds.waiting.push(Waiting { entry: entry.clone(), to });
            !std::mem::replace(&mut rounds.is_sending, true)
        };
        if begins {
            let sender = Sender { has_ended: false, rounds: Arc::downgrade(&self.rounds) };
            match Runtime::current() {
                Some(runtime) => drop(runtime.spawn(sender.run(log.clone()))),
                None => drop(sender),
            }
        }
        ended.await.unwrap_or_else(|_| Err(no_runtime()))
    }
}

/// Sends as long as there is something to send.
struct Sender {
    has_ended: bool,
    rounds: Weak<Mutex<Rounds>>,
}

impl Sender {
    async fn run(mut self, log: RedisLog) {
        while let Some(rounds) = self.rounds.upgrade() {
            let batch = {
                let mut rounds = lock(&rounds);
                let batch = next(&mut rounds.waiting);
                rounds.is_sending = !batch.is_empty();
                self.has_ended = batch.is_empty();
                batch
            };
            drop(rounds);
            if batch.is_empty() {
                return;
            }
            let (entries, to): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.entry, one.to)).unzip();
            match log.add(&entries).await {
                Ok(appended) => to.into_iter().zip(appended).for_each(|(to, appended)| {
                    let _ = to.send(Ok(appended));
                }),
                Err(error) => to.into_iter().for_each(|to| {
                    let _ = to.send(Err(error.clone()));
                }),
            }
        }
    }
}

/// Takes what fits into one call, in order.
fn next(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    waiting.retain(|one| !one.to.is_closed());
    let mut bytes = 0;
    let is_full = |one: &Waiting| {
        let was_full = bytes >= BYTES;
        bytes += one.size();
        was_full
    };
    let most = waiting.len().min(ENTRIES);
    let count = waiting.iter().take(most).position(is_full).unwrap_or(most);
    waiting.drain(..count).collect()
}

/// With its runtime: those who wait are told so by the end of what they wait for.
impl Drop for Sender {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(rounds) = self.rounds.upgrade()
        {
            *lock(&rounds) = Rounds::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn waiting(size: usize) -> (Waiting, oneshot::Receiver<Ended>) {
        let (to, ended) = oneshot::channel();
        let purge = Bytes::from(vec![0; size]);
        (Waiting { entry: NewEntry { above: 0, asks: Vec::new(), marks: Vec::new(), purge }, to }, ended)
    }

    #[track_caller]
    fn check(sizes: &[usize], counts: &[usize]) {
        let (mut all, ended): (Vec<_>, Vec<_>) = sizes.iter().map(|size| waiting(*size)).unzip();
        let batches: Vec<_> = std::iter::repeat_with(|| next(&mut all).len()).take(counts.len()).collect();
        assert_eq!(batches, counts);
        drop(ended);
    }

    #[test]
    fn a_call_is_bounded_in_entries_and_in_bytes_and_takes_at_least_one() {
        check(&[10; 3], &[3, 0]);
        check(&[0; ENTRIES + 1], &[ENTRIES, 1, 0]);
        check(&[BYTES - 1, 10, 10], &[2, 1, 0]);
        check(&[2 * BYTES, 2 * BYTES], &[1, 1, 0]);
    }

    #[test]
    fn an_entry_that_nobody_waits_for_is_not_sent() {
        let ((one, gone), (other, _ended)) = (waiting(1), waiting(2));
        drop(gone);
        let mut all = vec![one, other];
        assert_eq!(next(&mut all).iter().map(Waiting::size).collect::<Vec<_>>(), [2]);
    }
}
