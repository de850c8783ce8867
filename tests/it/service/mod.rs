//! Requests as they enter the service: here, unsafe requests, and those of a layer that stores
//! nothing.

mod abandoned;
mod tag_only;
