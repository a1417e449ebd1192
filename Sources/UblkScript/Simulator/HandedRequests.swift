/// Requests that come one by one from outside, with data of their own: those of a script's test.
///
/// Part of the ``SimulatedApplication``, on its thread.
struct HandedRequests {
    /// A request that is over.
    struct Ended {
        let number: UInt64
        let outcome: BlockLayer.Outcome
        let nanoseconds: UInt64
        /// The data of a read that succeeded.
        let data: [UInt8]?
    }

    /// Another one may come.
    var isOpen = true
    /// By place.
    private var sent: [(number: UInt64, data: [UInt8])?]
    private var ended: [Ended] = []

    init(depth: Int) { sent = Array(repeating: nil, count: depth) }

    mutating func hand(_ place: Int, number: UInt64, data: [UInt8]) {
        precondition(isOpen && sent[place] == nil, "a place is handed two requests")
        sent[place] = (number, data)
    }

    mutating func takeEnded() -> [Ended] {
        defer { ended = [] }
        return ended
    }

    /// The request reaches the server: the buffer gets a write's data, or poison for a read.
    func begin(_ place: Int, _ request: SimulatedRequest, _ buffer: UnsafeMutableRawPointer) {
        guard let data = sent[place]?.data else { return }
        unsafe buffer.initializeMemory(
            as: UInt8.self,
            repeating: BlockStamp.poison,
            count: request.op == .read ? Int(request.lengthBytes) : 0
        )
        unsafe data.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return }
            unsafe buffer.copyMemory(from: start, byteCount: bytes.count)
        }
    }

    /// The driver has the server's answer; a read's data is in the buffer.
    mutating func end(
        _ place: Int,
        _ request: SimulatedRequest,
        _ outcome: BlockLayer.Outcome,
        _ nanoseconds: UInt64,
        _ buffer: UnsafeRawPointer
    ) {
        guard let number = sent[place]?.number else { return }
        sent[place] = nil
        let hasData = request.op == .read && outcome == .done
        let bytes = unsafe UnsafeRawBufferPointer(
            start: buffer,
            count: hasData ? Int(request.lengthBytes) : 0
        )
        ended.append(
            unsafe Ended(
                number: number,
                outcome: outcome,
                nanoseconds: nanoseconds,
                data: hasData ? Array(bytes) : nil
            )
        )
    }
}
