/// The memory of one queue's requests: the buffer that the server has for each tag, and the data of the tag's request.
///
/// In copy mode the one stands for both, as the driver has copied by the time that somebody looks. Where the server
/// copies they are apart, and a buffer that was not pulled holds nothing that could be taken for the data.
@safe
final class SimulatedBuffers {
    // Safety: `depth` times `stride` bytes each, freed in deinit; tags are checked against `depth`.
    private let buffers: UnsafeMutableRawPointer
    private let pages: UnsafeMutableRawPointer
    private let depth: Int
    /// Size of one, with the scratch room.
    let stride: Int
    let areApart: Bool

    init(depth: Int, maxIOBytes: Int, mode: DataMode) {
        let stride = SystemPage.roundUp(maxIOBytes) + QueueScratch.bytes
        self.depth = depth
        self.stride = stride
        areApart = mode.serverCopies
        unsafe buffers = Self.allocate(depth * stride)
        unsafe pages = !areApart ? buffers : Self.allocate(depth * stride)
    }

    private static func allocate(_ bytes: Int) -> UnsafeMutableRawPointer {
        .allocate(byteCount: bytes, alignment: SystemPage.bytes)
    }

    deinit {
        if areApart { unsafe pages.deallocate() }
        unsafe buffers.deallocate()
    }

    var scratchOffset: Int { stride - QueueScratch.bytes }

    /// The server's.
    func buffer(_ tag: Tag) -> UnsafeMutableRawPointer {
        precondition(tag.index < depth)
        return unsafe buffers + tag.index * stride
    }

    /// The request's.
    func data(_ tag: Tag) -> UnsafeMutableRawPointer {
        precondition(tag.index < depth)
        return unsafe pages + tag.index * stride
    }

    /// A request has come: its data is not in the server's buffer yet.
    func come(_ tag: Tag, bytes: Int) {
        guard areApart else { return }
        unsafe buffer(tag).initializeMemory(
            as: UInt8.self,
            repeating: BlockStamp.poison,
            count: bytes
        )
    }

    func pull(_ tag: Tag, bytes: Int) {
        unsafe buffer(tag).copyMemory(from: data(tag), byteCount: bytes)
    }

    func push(_ tag: Tag, bytes: Int) {
        unsafe data(tag).copyMemory(from: buffer(tag), byteCount: bytes)
    }
}
