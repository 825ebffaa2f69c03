//! What a vault cannot be made to answer that behaves. The tests against one are in the integration binary.

mod canary;
mod fake;
mod lists;
mod login;
mod reads;
mod refusals;
mod setup;
