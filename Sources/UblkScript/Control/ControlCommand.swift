import CUring

/// One command for `/dev/ublk-control` as a value; encoding it needs no kernel.
///
/// Source: UAPI `UBLK_U_CMD_*`; driver `ublk_ctrl_uring_cmd`.
struct ControlCommand: Sendable, Equatable {
    enum Kind: String, Sendable, CaseIterable {
        case getFeatures = "GET_FEATURES"
        case addDevice = "ADD_DEV"
        case setParams = "SET_PARAMS"
        case getParams = "GET_PARAMS"
        case getDeviceInfo = "GET_DEV_INFO"
        case getDeviceInfo2 = "GET_DEV_INFO2"
        case getQueueAffinity = "GET_QUEUE_AFFINITY"
        case startDevice = "START_DEV"
        case stopDevice = "STOP_DEV"
        case deleteDevice = "DEL_DEV_ASYNC"
        case startRecovery = "START_USER_RECOVERY"
        case endRecovery = "END_USER_RECOVERY"
        /// For devices of users without root (``NodePathControl``), and as other programs give it.
        case deleteDeviceAndWait = "DEL_DEV"
        // What only other programs give; tests do what they do.
        case updateSize = "UPDATE_SIZE"
        case quiesceDevice = "QUIESCE_DEV"
        case tryStopDevice = "TRY_STOP_DEV"
        /// Its answer is the buffer's number.
        case registerBuffer = "REG_BUF"
        case unregisterBuffer = "UNREG_BUF"

        var code: UInt32 {
            switch self {
            case .getFeatures: UBLK_CMD_GET_FEATURES
            case .addDevice: UBLK_CMD_ADD_DEV
            case .setParams: UBLK_CMD_SET_PARAMS
            case .getParams: UBLK_CMD_GET_PARAMS
            case .getDeviceInfo: UBLK_CMD_GET_DEV_INFO
            case .getDeviceInfo2: UBLK_CMD_GET_DEV_INFO2
            case .getQueueAffinity: UBLK_CMD_GET_QUEUE_AFFINITY
            case .startDevice: UBLK_CMD_START_DEV
            case .stopDevice: UBLK_CMD_STOP_DEV
            case .deleteDevice: UBLK_CMD_DEL_DEV_ASYNC
            case .startRecovery: UBLK_CMD_START_USER_RECOVERY
            case .endRecovery: UBLK_CMD_END_USER_RECOVERY
            case .deleteDeviceAndWait: UBLK_CMD_DEL_DEV
            case .updateSize: UBLK_CMD_UPDATE_SIZE
            case .quiesceDevice: UBLK_CMD_QUIESCE_DEV
            case .tryStopDevice: UBLK_CMD_TRY_STOP_DEV
            case .registerBuffer: UBLK_CMD_REG_BUF
            case .unregisterBuffer: UBLK_CMD_UNREG_BUF
            }
        }
    }

    let kind: Kind
    /// Number of the device; nil: ADD_DEV picks one, and GET_FEATURES is about no device.
    let device: DeviceID?
    /// One inline argument: the server's pid, a queue's number.
    var data: UInt64 = 0
    /// Bytes of the payload that are a path (GET_DEV_INFO2, ``NodePathControl``), including its NUL.
    var pathLength: UInt16 = 0

    /// The 32 bytes at offset 48 of the SQE.
    func encoded(payloadAddress: UInt64, payloadLength: Int) -> ublk_ctrl_cmd {
        var raw = ublk_ctrl_cmd()
        raw.dev_id = device?.rawValue ?? .max
        // ADD_DEV insists on this; the others ignore it or take the queue in `data`.
        raw.queue_id = .max
        raw.len = UInt16(payloadLength)
        raw.addr = payloadLength == 0 ? 0 : payloadAddress
        raw.data = data
        raw.dev_path_len = pathLength
        return raw
    }
}

/// What carries control commands: the driver, or a recording in tests.
///
/// One thread.
protocol ControlTransport: AnyObject {
    /// Runs one command and waits for its answer, which replaces `payload`'s bytes.
    ///
    /// - Returns: what the driver answers, 0 of most commands.
    /// - Throws: ``DeviceError/command(_:_:_:)`` with the driver's errno,
    ///   ``DeviceError/timeout(_:_:seconds:)``.
    @discardableResult
    func run(
        _ command: ControlCommand,
        payload: inout [UInt8],
        seconds: Int
    ) throws(DeviceError) -> Int32
}
