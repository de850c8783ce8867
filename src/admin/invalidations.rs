//! Invalidation lists that are remembered, so that each is carried out once.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::answer::Refusal;
use super::how::How;
use crate::runtime::{Mutex, lock};

/// The most lists that are remembered by their `CallerReference`.
const MOST_REMEMBERED: usize = 256;
/// The most bytes of items that are remembered of a list, to be shown.
const MOST_ITEM_BYTES: usize = 16 * 1024;

/// An `InvalidationBatch`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Batch {
    pub(super) caller_reference: String,
    pub(super) paths: Paths,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct Paths {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) items: Vec<String>,
    pub(super) quantity: Option<usize>,
}

/// The lists of late, the newest last.
#[derive(Default)]
pub(super) struct Invalidations {
    hasher: RandomState,
    lists: Mutex<VecDeque<Arc<List>>>,
}

/// A list that is being carried out, or has taken effect.
struct List {
    /// The hash of the items and of how they are purged.
    asked: u64,
    /// Without its items where they are long.
    batch: Batch,
    done: OnceCell<Done>,
}

/// What there is to say of a list that has taken effect.
#[derive(Clone)]
pub(super) struct Done {
    /// A date of HTTP.
    pub(super) created: String,
    /// The number of the purge.
    pub(super) id: String,
}

impl Done {
    /// The `Invalidation`.
    pub(super) fn answer(&self, batch: &Batch) -> Value {
        json!({ "Invalidation": {
            "Id": self.id,
            "Status": "Completed",
            "CreateTime": self.created,
            "InvalidationBatch": batch,
        }})
    }
}

impl Invalidations {
    /// Carries a list out, unless it has been carried out already. While it is being carried out, one that repeats it waits.
    ///
    /// # Errors
    ///
    /// Where the reference was used for another list or in another mode; and those of `carry_out`, which leave the reference free.
    pub(super) async fn once(
        &self,
        batch: &Batch,
        how: How,
        carry_out: impl Future<Output = Result<Done, Refusal>>,
    ) -> Result<Done, Refusal> {
        let reserved = self.reserve(batch, how)?;
        reserved.list.done.get_or_try_init(|| carry_out).await.cloned()
    }

    /// What became of the list with this id.
    pub(super) fn by_id(&self, id: &str) -> Option<Value> {
        let lists = lock(&self.lists);
        let found = lists.iter().find_map(|list| Some((list, list.done.get().filter(|done| done.id == id)?)));
        found.map(|(list, done)| done.answer(&list.batch))
    }

    fn reserve(&self, batch: &Batch, how: How) -> Result<Reserved<'_>, Refusal> {
        let asked = self.hasher.hash_one((how, &batch.paths.items));
        let mut lists = lock(&self.lists);
        let known = lists.iter().find(|list| list.batch.caller_reference == batch.caller_reference);
        let list = match known {
            Some(list) if list.asked == asked => Arc::clone(list),
            Some(_) => {
                return Err(Refusal::new(
                    StatusCode::CONFLICT,
                    "caller-reference",
                    format!(
                        "CallerReference {:?} was used for another list, or in another mode",
                        batch.caller_reference
                    ),
                    "use a new one for each list; nothing was invalidated",
                ));
            }
            None => {
                let mut batch = batch.clone();
                if batch.paths.items.iter().map(String::len).sum::<usize>() > MOST_ITEM_BYTES {
                    batch.paths.items = Vec::new();
                }
                if lists.len() >= MOST_REMEMBERED {
                    let oldest = lists.iter().position(|list| list.done.initialized());
                    lists.remove(oldest.unwrap_or_default());
                }
                let list = Arc::new(List { asked, batch, done: OnceCell::new() });
                lists.push_back(Arc::clone(&list));
                list
            }
        };
        Ok(Reserved { lists: self, list })
    }
}

/// A reference that nobody else gets, until this is dropped without the list having taken effect.
struct Reserved<'a> {
    list: Arc<List>,
    lists: &'a Invalidations,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut lists = lock(&self.lists.lists);
        // Nobody else waits for it: what is remembered has one, and this is the other.
        if !self.list.done.initialized() && Arc::strong_count(&self.list) == 2 {
            lists.retain(|list| !Arc::ptr_eq(list, &self.list));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;
    use crate::runtime::polled_once;

    fn batch(reference: &str, item: &str) -> Batch {
        let paths = Paths { items: vec![item.to_owned()], quantity: Some(1) };
        Batch { caller_reference: reference.to_owned(), paths }
    }

    fn done(id: &str) -> Done {
        Done { created: String::new(), id: id.to_owned() }
    }

    #[tokio::test]
    async fn of_two_lists_with_one_reference_at_one_time_one_is_carried_out() {
        let lists = Invalidations::default();
        let go_on = Notify::new();
        let list = batch("r", "/a");
        let first = lists.once(&list, How::Hard, async {
            go_on.notified().await;
            Ok(done("1"))
        });
        let meanwhile = async {
            let never = async { panic!("it is carried out twice") };
            let other = lists.once(&batch("r", "/b"), How::Hard, never).await;
            let never = async { panic!("it is carried out twice") };
            let soft = lists.once(&batch("r", "/a"), How::Soft, never).await;
            assert_eq!(
                [other, soft].map(|refused| refused.err().expect("a refusal").status().as_u16()),
                [409; 2]
            );
            go_on.notify_one();
        };
        let again = async {
            let never = async { panic!("it is carried out twice") };
            lists.once(&batch("r", "/a"), How::Hard, never).await
        };
        let (first, again, ()) = tokio::join!(first, again, meanwhile);
        assert!([first, again].iter().all(|done| done.as_ref().is_ok_and(|done| done.id == "1")));
    }

    #[tokio::test]
    async fn a_list_that_failed_or_was_given_up_leaves_its_reference_free() {
        let lists = Invalidations::default();
        let failed = lists.once(&batch("r", "/a"), How::Hard, async { Err(Refusal::ending()) }).await;
        assert!(failed.is_err());
        let list = batch("r", "/b");
        {
            let given_up = Box::pin(lists.once(&list, How::Hard, std::future::pending()));
            assert!(polled_once(given_up).await.is_none());
        }
        let third = lists.once(&batch("r", "/c"), How::Hard, async { Ok(done("3")) }).await;
        assert_eq!(third.ok().map(|done| done.id).as_deref(), Some("3"));
        assert!(lists.by_id("3").is_some());
    }
}
