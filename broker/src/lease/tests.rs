//! The life of leases as a whole: the real ledger and the real code over a store that fails in every way; and the queues
//! of stores that do what they are told.

mod life;
mod repeated;
mod settling;
mod site;
mod store;
mod world;
