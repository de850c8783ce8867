//! [`RedisStore`](larder::store::RedisStore) on real servers.

mod conformance;
mod leases;
