//! What the proxy has to know of the policy in force, beside what the cache has of it.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use larder::ErrorPagesLayer;

use crate::policy::Profile;
use crate::policy::candidate::Candidate;
use crate::say::tell;

/// It changes when a file is read again, or replaced.
#[derive(Clone)]
pub struct Current {
    beside: Arc<ArcSwap<Beside>>,
    changing: Arc<Mutex<()>>,
}

/// What a policy says that is done around the cache.
#[derive(Clone, Default)]
pub struct Beside {
    /// What is counted of another policy.
    pub candidate: Option<Candidate>,
    /// `None` if errors stay as they are.
    pub pages: Option<ErrorPagesLayer>,
    pub profile: Profile,
}

impl Current {
    pub fn new(beside: Beside) -> Self {
        Self { beside: Arc::new(ArcSwap::from_pointee(beside)), changing: Arc::default() }
    }

    pub fn get(&self) -> impl Deref<Target = Arc<Beside>> {
        self.beside.load()
    }

    /// Prints what has been counted of a candidate so far.
    pub fn print_counts(&self) {
        if let Some(candidate) = &self.get().candidate {
            tell(candidate);
        }
    }

    pub fn set(&self, beside: Beside) {
        self.beside.store(Arc::new(beside));
    }

    /// Changes the policy and its file while nobody else does, so that what is in force is what the file has.
    pub fn change<T>(&self, change: impl FnOnce() -> T) -> T {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        change()
    }
}
