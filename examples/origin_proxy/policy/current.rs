//! What the proxy has to know of the policy in force, beside what the cache has of it.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use larder::ErrorPagesLayer;

use crate::policy::Profile;

/// It changes when a file is read again.
#[derive(Clone)]
pub struct Current(Arc<ArcSwap<Beside>>);

/// What a policy says that is done around the cache.
#[derive(Clone, Default)]
pub struct Beside {
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

    pub fn set(&self, beside: Beside) {
        self.0.store(Arc::new(beside));
    }
}
