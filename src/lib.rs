//! An HTTP cache as a [tower] layer: RFC 9111 in one `.layer(...)`.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod body;
mod clock;
mod error;
mod fetch;
mod fill;
mod flight;
mod future;
mod handle;
mod intern;
mod key;
mod layer;
mod observe;
pub mod policy;
mod query;
mod revalidate;
pub mod semantics;
mod service;
pub mod store;
mod stored;

pub use body::CacheBody;
pub use clock::{Clock, ClockHand};
pub use error::{BodyError, StoreError};
pub use future::ResponseFuture;
pub use handle::CacheHandle;
pub use key::{CacheKey, KeyError};
pub use layer::{CacheLayer, Tagging};
pub use policy::{CachePolicy, StandardPolicy, Terms, Use};
pub use service::CacheService;
pub use store::{BoxStore, MemoryStore, Store};
pub use stored::{Payload, ResponseHead, StoredResponse};
