/// The data mode of a device, and why it has that one.
struct DataChoice: Equatable {
    let mode: DataMode
    /// For people, without the mode's name.
    let reason: String

    /// Chooses before anything of the device is made.
    ///
    /// - Parameters:
    ///   - asked: the mode that `device{}` or the command line names; nil: `"auto"`.
    ///   - offered: the features of the driver, which is only asked for them when the mode needs one.
    /// - Throws: when the driver lacks a feature that the mode needs.
    init(
        _ asked: DataMode?,
        offered: () throws(DeviceError) -> Features
    ) throws(DeviceError) {
        guard let asked else {
            mode = .copy
            reason = "\"auto\" takes it: it is in every kernel, and none was found to be faster"
            return
        }
        if !asked.features.isEmpty {
            let missing = asked.features.subtracting(try offered()).known
            if !missing.isEmpty { throw .unsupported(Self.refusal(asked, missing)) }
        }
        mode = asked
        reason = "data = \"\(asked.rawValue)\" asks for it"
    }

    /// The choice of the server that died: the device has its mode for good, whatever this program would choose.
    ///
    /// Fails without a record, and for a record without a mode that this program knows.
    init?(_ record: DeviceRecord?) {
        guard let mode = record?.data.flatMap({ DataMode(rawValue: $0) }) else { return nil }
        self.mode = mode
        reason = record?.dataReason ?? ""
    }

    private static func refusal(_ mode: DataMode, _ missing: [Feature]) -> String {
        let flags = missing.map { "\($0.name) (from kernel \($0.since))" }
        return """
            data = "\(mode.rawValue)": this kernel's ublk driver lacks \(flags.joined(separator: ", ")). \
            data = "auto" takes what there is. See: ublk-script features
            """
    }
}
