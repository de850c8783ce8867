//! What a policy keeps of a request for its later hooks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Extensions;
use smallvec::SmallVec;

/// What [`CachePolicy::request`](crate::CachePolicy::request) leaves for the later hooks: values by their type. Empty, it
/// costs nothing.
///
/// ```
/// use larder::PolicyData;
/// let mut data = PolicyData::default();
/// data.insert("German");
/// assert_eq!(data.get::<&str>(), Some(&"German"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct PolicyData {
    /// Which policy was chosen, by those that choose among others. In place, because many a hit has one.
    choices: SmallVec<[(Chooser, u32); 2]>,
    values: Option<Arc<Extensions>>,
}

impl PolicyData {
    /// Keeps a value, in place of one of the same type.
    pub fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(self.values.get_or_insert_default()).insert(value);
    }

    /// The value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.values.as_ref()?.get()
    }

    /// The value of a type, to be changed.
    pub fn get_mut<T: Send + Sync + 'static>(&mut self) -> Option<&mut T> {
        Arc::make_mut(self.values.as_mut()?).get_mut()
    }

    /// Remembers a choice.
    pub(super) fn choose(&mut self, chooser: Chooser, choice: usize) {
        // A policy has fewer than 2^32 others to choose from.
        self.choices.push((chooser, u32::try_from(choice).unwrap_or(u32::MAX)));
    }

    /// What was chosen; `None` for the policy that others are exceptions to.
    #[inline]
    pub(super) fn choice(&self, chooser: Chooser) -> Option<usize> {
        let choice = self.choices.iter().find(|(own, _)| *own == chooser)?;
        usize::try_from(choice.1).ok()
    }
}

/// A policy that chooses among others. That is decided once for a request: it may be edited, and an answer comes without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chooser(u32);

impl Chooser {
    /// Unlike every other one. A clone of a policy is the same chooser for as long as it has the same choices.
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_by_type_and_a_clone_is_independent() {
        let mut data = PolicyData::default();
        assert_eq!(data.get::<u8>(), None);
        assert_eq!(data.get_mut::<u8>(), None);
        data.insert(1_u8);
        data.insert("text");
        let before = data.clone();
        *data.get_mut::<u8>().expect("a value") = 2;
        assert_eq!(
            (before.get::<u8>(), data.get::<u8>(), data.get::<&str>()),
            (Some(&1), Some(&2), Some(&"text"))
        );
    }

    #[test]
    fn each_chooser_finds_its_own_choice() {
        let (one, other, third) = (Chooser::new(), Chooser::new(), Chooser::new());
        let mut data = PolicyData::default();
        data.choose(one, 3);
        data.choose(other, 0);
        assert_eq!([one, other, third].map(|chooser| data.choice(chooser)), [Some(3), Some(0), None]);
    }
}
