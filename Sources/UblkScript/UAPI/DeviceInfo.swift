import CUring

/// Where a device stands in its life.
///
/// C: `UBLK_S_DEV_*`.
enum DeviceState: UInt16, Sendable {
    /// Added and not started, stopped, or its server died.
    case dead = 0
    case live = 1
    case quiesced = 2
    case failIO = 3

    /// The device has outlived its server, and can be given another one.
    var waitsForServer: Bool { self == .quiesced || self == .failIO }

    /// The word the field's tools print.
    var name: String {
        switch self {
        case .dead: "DEAD"
        case .live: "LIVE"
        case .quiesced: "QUIESCED"
        case .failIO: "FAIL_IO"
        }
    }
}

/// A device as the driver describes it.
///
/// C: `struct ublksrv_ctrl_dev_info`.
struct DeviceInfo: Sendable, Equatable {
    /// Number of the device; nil asks ADD_DEV for the next free one.
    var id: DeviceID?
    var queues: UInt16
    var depth: UInt16
    var state: DeviceState
    var maxIOBytes: UInt32
    /// Process id of the server; -1 when there is none or it is dead.
    var serverPID: Int32
    var features: Features
    /// Distance between the io descriptors of two tags; more than they have only with ``Features/ioDescriptorSize``.
    var descriptorBytes = Self.descriptorBytesUsual
    /// A number of the server's own that the driver keeps with the device (`ublksrv_flags`).
    ///
    /// It tells our device from another program's that got the same id later.
    var cookie: UInt64 = 0
    var ownerUID: UInt32 = 0
    var ownerGID: UInt32 = 0

    /// The user whose device it is, when it was added without root.
    var ownerOtherThanRoot: UInt32? {
        features.contains(.unprivilegedDevice) ? ownerUID : nil
    }

    /// The most a queue may hold.
    ///
    /// C: `UBLK_MAX_QUEUE_DEPTH`.
    static let depthMax: UInt16 = 4096
    /// C: `UBLK_MAX_NR_QUEUES`.
    static let queuesMax: UInt16 = 4096
    /// Bytes of an io descriptor, in every kernel.
    static let descriptorBytesUsual = UInt16(MemoryLayout<ublk_io_desc>.size)
    /// C: `UBLK_IO_DESC_SIZE_MAX`.
    static let descriptorBytesMax: UInt16 = 256

    init(
        id: DeviceID?,
        queues: UInt16,
        depth: UInt16,
        maxIOBytes: UInt32,
        features: Features
    ) {
        self.id = id
        self.queues = queues
        self.depth = depth
        self.state = .dead
        self.maxIOBytes = maxIOBytes
        self.serverPID = -1
        self.features = features
    }

    init(_ raw: ublk_dev_info) {
        id = DeviceID(raw.dev_id)
        queues = raw.nr_hw_queues
        depth = raw.queue_depth
        // A state newer than this program knows is served by somebody: the careful guess is live.
        state = DeviceState(rawValue: raw.state) ?? .live
        maxIOBytes = raw.max_io_buf_bytes
        serverPID = raw.ublksrv_pid
        features = Features(rawValue: raw.flags)
        // 7.3 reports it of all devices. Before, these bytes were padding, with whatever other programs had there.
        let isReported = features.contains(.ioDescriptorSize)
        descriptorBytes = isReported ? raw.io_desc_size : Self.descriptorBytesUsual
        cookie = raw.ublksrv_flags
        ownerUID = raw.owner_uid
        ownerGID = raw.owner_gid
    }

    /// The driver's form for ADD_DEV.
    ///
    /// State and pid stay 0: kernels before 6.12.117 stored them as given, and a device that looked
    /// live without a disk then crashed them.
    var raw: ublk_dev_info {
        var raw = ublk_dev_info()
        raw.nr_hw_queues = queues
        raw.queue_depth = depth
        raw.max_io_buf_bytes = maxIOBytes
        raw.dev_id = id?.rawValue ?? .max
        raw.flags = features.rawValue
        // Without the flag the driver wants 0 there.
        if features.contains(.ioDescriptorSize) { raw.io_desc_size = descriptorBytes }
        raw.ublksrv_flags = cookie
        return raw
    }
}
