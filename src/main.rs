//! The `loopers` program: an allocator, and the command line.

use std::process::ExitCode;

/// Gives memory back after a rush of streams, where the system's allocator would keep it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The allocator's settings: a thread of its own returns unused pages to the system after a second.
///
/// The C library looks this symbol up by name, which is the only reason for the attribute.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 60] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> ExitCode {
    loopers::cli::main()
}
