//! How a client is answered from what is stored.

mod allocations;
