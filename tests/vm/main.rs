//! The shipped module in an interpreter: what it asks of its host, what it costs, how large it is,
//! and that no host makes it trap. Nothing here depends on the machine.

mod budget;
mod calls;
mod clients;
mod exchange;
mod gauges;
mod growth;
mod hostile;
mod lease;
mod outrun;
mod renamed;
mod workers;
