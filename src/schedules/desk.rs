//! Leases for nodes of one process.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use shuttle::future::yield_now;

use super::below;
use crate::error::StoreError;
use crate::runtime::{Mutex, lock};
use crate::store::{Lease, LeaseAnswer, LeaseEnd, LeaseName, LeaseState, Leases};

/// Leases of nodes that ask and are answered as the schedule says.
#[derive(Clone, Default)]
pub(super) struct Desk {
    held: Arc<Mutex<HashMap<Vec<u8>, Arc<Held>>>>,
}

/// One lease: how it has ended, and who waits for that.
#[derive(Default)]
struct Held(Mutex<(Option<LeaseEnd>, Vec<Waker>)>);

impl Held {
    fn end(&self, end: LeaseEnd) {
        let mut state = lock(&self.0);
        state.0.get_or_insert(end);
        let waiting = std::mem::take(&mut state.1);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    async fn ended(self: Arc<Self>) -> LeaseEnd {
        poll_fn(|cx| {
            let mut state = lock(&self.0);
            if let Some(end) = state.0 {
                return Poll::Ready(end);
            }
            state.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

struct OneLease {
    desk: Desk,
    held: Arc<Held>,
    name: Vec<u8>,
}

impl OneLease {
    fn give_back(&self, end: LeaseEnd) {
        let mut all = lock(&self.desk.held);
        if all.get(&self.name).is_some_and(|held| Arc::ptr_eq(held, &self.held)) {
            all.remove(&self.name);
        }
        drop(all);
        self.held.end(end);
    }
}

impl Lease for OneLease {
    fn end(self: Box<Self>, end: LeaseEnd) {
        self.give_back(end);
    }
}

/// Whoever has asked for it has left before the answer came. What has ended once stays as it ended.
impl Drop for OneLease {
    fn drop(&mut self) {
        self.give_back(LeaseEnd::Over);
    }
}

impl Desk {
    /// Those that hold leases are taken for dead, whether they are or not.
    pub(super) fn expire(&self) {
        let held = std::mem::take(&mut *lock(&self.held));
        held.into_values().for_each(|held| held.end(LeaseEnd::Over));
    }

    pub(super) fn is_empty(&self) -> bool {
        lock(&self.held).is_empty()
    }
}

impl Leases for Desk {
    fn ask<'a>(
        &'a self,
        name: LeaseName<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<LeaseAnswer, StoreError>> + Send + 'a>> {
        Box::pin(async move {
            for _ in 0..below(3) {
                yield_now().await;
            }
            let name = [name.key.as_bytes(), name.variant.unwrap_or_default()].concat();
            let answer = {
                let mut all = lock(&self.held);
                if let Some(held) = all.get(&name) {
                    LeaseAnswer::Held(Box::pin(Arc::clone(held).ended()))
                } else {
                    let held = Arc::new(Held::default());
                    all.insert(name.clone(), Arc::clone(&held));
                    LeaseAnswer::Granted(Box::new(OneLease { desk: self.clone(), held, name }))
                }
            };
            for _ in 0..below(3) {
                yield_now().await;
            }
            Ok(answer)
        })
    }

    fn look<'a>(
        &'a self,
        name: LeaseName<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<LeaseState, StoreError>> + Send + 'a>> {
        let name = [name.key.as_bytes(), name.variant.unwrap_or_default()].concat();
        let is_held = lock(&self.held).contains_key(&name);
        Box::pin(std::future::ready(Ok(if is_held { LeaseState::Held } else { LeaseState::Free })))
    }
}
