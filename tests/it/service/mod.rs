//! Requests as they enter the service: here, unsafe requests.

mod abandoned;
