import SystemPackage

/// `lock_memory`: what the server needs is in memory before the device exists, and stays there. `shared_memory`: what
/// programs share.
///
/// Main thread.
extension DeviceServer {
    /// Locks memory and fills in the stores, when the device asks for it.
    ///
    /// - Throws: when there is less memory, or when it may not be locked; nothing has been filled in then.
    static func lockMemory(
        for config: DeviceConfig,
        _ stores: DeviceStores<FileStore>,
        _ platform: ServerPlatform
    ) throws(DeviceError) {
        guard config.locksMemory else { return }
        let buffers =
            UInt64(config.queues)
            * TagBuffers.byteCount(depth: Int(config.depth), maxIOBytes: Int(config.maxIOBytes))
        let kept = stores.kept.reduce(0) { $0 + $1.missingBytes }
        let bytes = stores.memories.reduce(kept) { $0 + $1.sizeBytes }
        if let available = platform.availableMemory(), buffers + bytes > available {
            throw .unsupported(
                """
                lock_memory = true takes \(Rounded.bytes(buffers)) for the data of IO (queues x depth x max_io)\
                \(bytes > 0 ? " and \(Rounded.bytes(bytes)) for what is stored in memory" : ""), and this machine has \
                \(Rounded.bytes(available)) left. Ask for less: depth=32, max_io=128K, a file for the bytes
                """
            )
        }
        do throws(Errno) { try platform.lockMemory() } catch {
            throw .unsupported(
                """
                lock_memory = true: mlockall failed (\(error.name)). It takes CAP_IPC_LOCK, or a limit above the \
                \(LockedMemory.addressBytes.map(Rounded.bytes) ?? "memory") of addresses that the server has set aside\
                \(LockedMemory.limitBytes.map { "; the limit is \(Rounded.bytes($0))" } ?? ""). See: ulimit -l unlimited, \
                LimitMEMLOCK=infinity of a unit, --cap-add IPC_LOCK of a container
                """
            )
        }
        LockedMemory.populateProgram()
        do throws(Errno) {
            for store in stores.memories { try store.populate() }
            for store in stores.kept { try store.populate() }
        } catch { throw notThere(error) }
    }

    /// Memory for programs to share, as `shared_memory` says.
    static func sharedMemory(_ config: DeviceConfig) throws(DeviceError) -> SharedMemory {
        do throws(Errno) { return try SharedMemory(byteCount: Int(config.sharedBytes)) } catch {
            throw .unsupported(
                """
                shared_memory = "\(Quantity.text(bytes: config.sharedBytes))": there is not so much memory to share \
                (\(error.name)). See: free -m, memory.max of the cgroup; or ask for less: shared_memory=1M
                """
            )
        }
    }

    /// Fills in the buffers of a queue.
    static func populate(_ buffers: TagBuffers) throws(DeviceError) {
        do throws(Errno) { try buffers.populate() } catch { throw notThere(error) }
    }

    private static func notThere(_ errno: Errno) -> DeviceError {
        .unsupported(
            "lock_memory = true: there is not enough memory (\(errno.name)). See: free -m, memory.max of the cgroup"
        )
    }
}
