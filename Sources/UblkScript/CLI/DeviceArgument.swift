import ArgumentParser

/// `-n 0`: the number of an existing device.
struct DeviceNumberOption: ParsableArguments {
    @Option(
        name: [.customShort("n"), .long],
        help: "The device's number.",
        completion: DeviceArgument.completion
    )
    var number: String?
}

/// The argument that names a device: `0`, `-n 0`, `ublkb0`, `/dev/ublkb0`, `/dev/ublkc0`.
struct DeviceArgument: ParsableArguments {
    @Argument(
        help: "The device: 0, ublkb0, /dev/ublkb0 or /dev/ublkc0.",
        completion: DeviceArgument.completion
    )
    var device: String?

    @OptionGroup var option: DeviceNumberOption
    private var number: String? { option.number }

    var isGiven: Bool { number != nil || device != nil }

    /// The device, for a command that stops or deletes it: it has to be named.
    func id() throws -> DeviceID {
        guard let text = number ?? device else {
            throw ValidationError("which device? Give its number, as in: ublk-script list")
        }
        let id = try Self.parse(text)
        if number != nil, let device {
            throw ValidationError(
                try Self.parse(device) == id
                    ? "device \(id) is named twice"
                    : "two devices are named: -n \(text) and \(device)"
            )
        }
        return id
    }

    /// The device, for any other command: a sole device need not be named.
    func idOrSole() throws -> DeviceID {
        number == nil && device == nil ? try Self.sole() : try id()
    }

    static func parse(_ text: String) throws -> DeviceID {
        guard let id = DeviceID(parsing: text) else {
            throw ValidationError(
                "\"\(text)\" is no device: a number from 0 to \(DeviceID.maximum), "
                    + "ublkbN or /dev/ublkbN is expected"
            )
        }
        if text.hasPrefix("/dev/") {
            do { try DeviceNode.check(text) } catch { throw Failure(error) }
        }
        return id
    }

    /// Splits words that may begin with a device from the rest; without one, the device is the sole one.
    ///
    /// - Parameter option: when it names the device, the words have none.
    static func first(
        of words: [String],
        _ option: DeviceNumberOption? = nil
    ) throws -> (id: DeviceID, rest: [String]) {
        if let number = option?.number { return (try parse(number), words) }
        // A path in /dev is always taken for a device, and is refused when it is none.
        if let first = words.first, DeviceID(parsing: first) != nil || first.hasPrefix("/dev/") {
            return (try parse(first), Array(words.dropFirst()))
        }
        return (try sole(), words)
    }

    /// The only device with a record; throws when there is none, or more than one.
    static func sole(_ state: StateDirectory = .standard) throws -> DeviceID {
        let ids = state.recordedIDs()
        if ids.count == 1 { return ids[0] }
        guard ids.isEmpty else {
            throw ValidationError(
                "which device? There are \(ids.map(\.description).joined(separator: ", "))"
            )
        }
        throw ValidationError("which device? There is none: ublk-script add SCRIPT makes one")
    }

    /// Shell completion: the devices with a record.
    static var completion: CompletionKind {
        .custom { _, _, _ in StateDirectory.standard.recordedIDs().map(\.description) }
    }
}
