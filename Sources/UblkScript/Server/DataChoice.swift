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
    /// The features that the driver granted say which one it is; a word may have meant something else to another
    /// version of this program.
    ///
    /// - Throws: when it is none that this program serves.
    init(recovering record: DeviceRecord) throws(DeviceError) {
        let granted = Features(rawValue: record.driver?.features ?? 0)
        guard let mode = DataMode(granted) else {
            throw .unsupported(
                """
                device \(record.id) has the data mode \(record.data.map { "\"\($0)\"" } ?? "of another program"), \
                which this ublk-script does not serve (flags \(granted.named.map { $0.name }.joined(separator: ", "))). \
                Recover it with the ublk-script that added it, or give it up: ublk-script del \(record.id)
                """
            )
        }
        self.mode = mode
        reason = record.dataReason ?? ""
    }

    private static func refusal(_ mode: DataMode, _ missing: [Feature]) -> String {
        let flags = missing.map { "\($0.name) (from kernel \($0.since))" }
        return """
            data = "\(mode.rawValue)": this kernel's ublk driver lacks \(flags.joined(separator: ", ")). \
            data = "auto" takes what there is. See: ublk-script features
            """
    }
}
