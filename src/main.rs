//! The `loopers` program: an allocator, and the command line.

use std::process::ExitCode;

/// Gives memory back after a rush of streams, where the system's allocator would keep it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The allocator's settings: a thread of its own returns unused pages to the system after a second. Threads keep more free memory for
/// themselves than by default, since much of a call is freed by another thread than the one that took it.
///
/// The C library looks this symbol up by name, which is the only reason for the attribute.
#[allow(unsafe_code)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 156] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,\
    lg_tcache_max:16,tcache_nslots_small_min:64,tcache_nslots_small_max:1024,tcache_nslots_large:40\0";

fn main() -> ExitCode {
    loopers::cli::main()
}
