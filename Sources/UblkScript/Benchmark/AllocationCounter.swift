import Glibc

/// Counts what the process allocates, where somebody counts: a library that scripts/bench preloads.
///
/// Source: Tests/Support/count-allocations.c.
@safe
struct AllocationCounter {
    // Safety: a function of the process image, which stays for good.
    private let read: @convention(c) () -> UInt64

    /// Returns nil when nothing is preloaded.
    init?() {
        // RTLD_DEFAULT is a macro for the null handle.
        guard let symbol = unsafe dlsym(nil, "ublk_script_allocations") else { return nil }
        unsafe read = unsafeBitCast(symbol, to: (@convention(c) () -> UInt64).self)
    }

    /// Blocks allocated so far, by all threads.
    var count: UInt64 { read() }
}
