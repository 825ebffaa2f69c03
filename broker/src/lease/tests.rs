//! The life of leases as a whole: the real ledger and the real code over a store that fails in every way.

mod life;
mod settling;
mod store;
mod world;
