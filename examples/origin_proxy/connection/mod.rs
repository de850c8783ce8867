//! How a client's connection is used, and when the proxy ends it.
//!
//! hyper drives a connection. This module observes it from outside, in the same way for HTTP/1 and HTTP/2, also before
//! it is known which of the two the client speaks. [`ObservedIo`] sees what is read and written, [`ObservedBody`] sees
//! which requests are open, [`Activity`] keeps what both have seen, and [`drive`] ends a connection that
//!
//! - has not sent a whole request head in time (`head`): its first one, or one that it has begun,
//! - is idle for too long (`idle`): no request is open, and all that was answered is written,
//! - takes nothing of what is written to it (`stall`), whether or not there is more to write,
//! - has responses to take, leaves no room for them in HTTP/2, and waits for nothing else (`stall`),
//! - is asked to end, by [`Activity::shut_down`].

mod activity;
mod body;
mod drive;
mod io;
mod transport;

pub use activity::{Activity, OpenRequest, Shutdown, Timeouts};
pub use body::ObservedBody;
pub use drive::drive;
pub use io::{ObservedIo, Socket};
