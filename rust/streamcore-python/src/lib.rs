//! `streamcore._core`: the engine as Python sees it.
//!
//! Every function here reads its arguments, calls the engine through `error::enter`, and wraps the
//! answer; `python/streamcore/_core.pyi` is its description. Invariant: no decision about records
//! is taken in this crate.

mod arrow;
mod checkpoint;
mod decoding;
mod describe;
mod error;
mod files;
mod generate;
mod pipeline;
mod raw;
mod rows;
mod toml;

use pyo3::prelude::*;

/// Names the instruction set the decoder uses on this machine.
#[pyfunction]
fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            return "avx2";
        }
        if std::arch::is_x86_feature_detected!("sse4.2") {
            return "sse4.2";
        }
        "sse2"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "neon"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "scalar"
    }
}

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(simd, module)?)?;
    module.add_function(wrap_pyfunction!(toml::locate_toml, module)?)?;
    module.add_function(wrap_pyfunction!(describe::describe, module)?)?;
    module.add_function(wrap_pyfunction!(raw::infer_types, module)?)?;
    module.add_function(wrap_pyfunction!(checkpoint::encode_checkpoint, module)?)?;
    module.add_function(wrap_pyfunction!(checkpoint::decode_checkpoint, module)?)?;
    module.add_class::<raw::Raw>()?;
    module.add_class::<files::LineReader>()?;
    module.add_class::<generate::Generator>()?;
    module.add_class::<arrow::Batch>()?;
    module.add_class::<pipeline::Sealed>()?;
    module.add_class::<decoding::Decoding>()?;
    module.add_class::<pipeline::Pipeline>()
}
