//! Pointsman's filter with faults that a story can ask for by a request header: the real filter does
//! all the work, and this module around it traps or keeps its worker busy on demand.

#[cfg(target_arch = "wasm32")]
mod faulty;
