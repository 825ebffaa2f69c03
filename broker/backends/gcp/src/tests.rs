//! Against Google as tests need it: what no emulator can be made to answer.

mod canary;
mod fake;
mod lists;
mod login;
mod machine;
mod reads;
mod refusals;
mod tls;
