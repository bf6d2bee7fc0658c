//! `streamcore._core`: the engine as Python sees it.
//!
//! Every function here reads its arguments, calls the engine through `error::enter`, and wraps the
//! answer; `python/streamcore/_core.pyi` is its description. Invariant: no decision about records
//! is taken in this crate.

mod arrow;
mod checkpoint;
mod describe;
mod error;
mod fetch;
mod files;
mod function;
mod generate;
mod intake;
mod partials;
mod pipeline;
mod raw;
mod readings;
mod rows;
mod sealed;
mod state_copy;
mod state_log;
mod toml;

use error::{Failure, held};
use pyo3::prelude::*;
use streamcore::decode::json::kernel::Kernel;
use streamcore::error::{Error, ErrorKind};

/// Columns are made and dropped by the thousand: this allocator keeps their pages, where others give
/// them back and fault them in again. It serves this library alone, not the interpreter.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Names a narrower instruction set than the widest this CPU has: whether a wrong answer, or the speed, comes from one.
const SIMD_VARIABLE: &str = "STREAMCORE_SIMD";

/// Names the instruction set the decoder uses on this machine.
#[pyfunction]
fn simd() -> &'static str {
    Kernel::chosen().name()
}

fn choose_simd() -> Result<(), Failure> {
    let Ok(name) = std::env::var(SIMD_VARIABLE) else { return Ok(()) };
    if name.is_empty() || Kernel::choose(&name) {
        return Ok(());
    }
    let known: Vec<&str> = Kernel::available().map(Kernel::name).collect();
    let known = known.join(", ");
    let message = format!("{SIMD_VARIABLE} is {name:?}, but this CPU has {known}; unset it for the widest");
    Err(Error::new(ErrorKind::Config, message).into())
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    held(module.py(), choose_simd)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("FAULTS", cfg!(feature = "faults"))?;
    module.add("LANES_PER_INPUT", streamcore::raw::LANES_PER_INPUT)?;
    module.add("MANIFEST_SLOTS", streamcore::checkpoint::manifest::SLOTS)?;
    module.add_function(wrap_pyfunction!(simd, module)?)?;
    module.add_function(wrap_pyfunction!(toml::locate_toml, module)?)?;
    module.add_function(wrap_pyfunction!(describe::describe, module)?)?;
    module.add_function(wrap_pyfunction!(partials::inspect_partial, module)?)?;
    module.add_function(wrap_pyfunction!(raw::infer_fields, module)?)?;
    module.add_function(wrap_pyfunction!(raw::absent_fields, module)?)?;
    module.add_function(wrap_pyfunction!(checkpoint::checkpoint_parts, module)?)?;
    module.add_function(wrap_pyfunction!(checkpoint::decode_checkpoint, module)?)?;
    module.add_function(wrap_pyfunction!(state_copy::check_copy, module)?)?;
    module.add("PARTITIONERS", streamcore::partition::Partitioner::NAMES.to_vec())?;
    module.add_function(wrap_pyfunction!(state_log::partition_of, module)?)?;
    module.add_class::<raw::Raw>()?;
    module.add_class::<intake::Intake>()?;
    module.add_class::<fetch::Fetcher>()?;
    module.add_class::<files::FileReader>()?;
    module.add_class::<generate::Generator>()?;
    module.add_class::<arrow::Batch>()?;
    module.add_class::<sealed::Sealed>()?;
    module.add_class::<state_log::StateRecords>()?;
    module.add_class::<state_log::CommitMachine>()?;
    module.add_class::<state_copy::StateCopy>()?;
    module.add_class::<pipeline::Pipeline>()
}
