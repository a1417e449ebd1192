import CLua
import Glibc

/// How a handler in C has the data of its write copied, when it looks at it: the same copy that a queue makes
/// (``QueueTransport/pullData(_:bytes:)``), without the queue, which is in the middle of asking the handler.
///
/// The queue keeps it as long as its scripts. Queue thread.
final class DataPuller {
    /// Copies so many bytes of the tag's request into the tag's buffer; 0 or an errno.
    private let pull: (Tag, Int) -> Int32

    init(_ pull: @escaping (Tag, Int) -> Int32) { self.pull = pull }

    /// For C; it must not outlive this object.
    var forC: us_puller {
        unsafe us_puller(
            pull: { context, tag, bytes in
                guard let context = unsafe context else { return EFAULT }
                let puller = unsafe Unmanaged<DataPuller>.fromOpaque(context)
                return unsafe puller.takeUnretainedValue().pull(Tag(tag), Int(bytes))
            },
            context: Unmanaged.passUnretained(self).toOpaque()
        )
    }
}
