//! What a real server cannot be made to answer. The tests against real servers are in the integration binary.

mod canary;
mod failover;
mod fake;
mod leased;
mod login;
mod reads;
mod refusals;
mod tls;
mod transit;
mod wrapped;
