//! What the proxy has to know of the policy in force, beside what the cache has of it.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use larder::ErrorPagesLayer;

use crate::policy::Profile;
use crate::policy::candidate::Candidate;

/// It changes when a file is read again.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Beside>>);

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
        Self(Arc::new(ArcSwap::from_pointee(beside)))
    }

    pub fn get(&self) -> impl Deref<Target = Arc<Beside>> {
        self.0.load()
    }

    /// Prints what has been counted of a candidate so far.
    pub fn print_counts(&self) {
        if let Some(candidate) = &self.get().candidate {
            println!("larder: {candidate}");
        }
    }

    pub fn set(&self, beside: Beside) {
        self.0.store(Arc::new(beside));
    }
}
