//! What moto cannot be made to answer. The tests against it are in the integration binary.

mod canary;
mod denying;
mod fake;
mod lists;
mod login;
mod reads;
mod refusals;
mod sessions;
mod tls;
mod together;
mod wrapping;
