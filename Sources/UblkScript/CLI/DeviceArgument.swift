import ArgumentParser

/// `-n 0`: the number of a device that is there.
struct DeviceNumberOption: ParsableArguments {
    @Option(
        name: [.customShort("n"), .long],
        help: "The device's number.",
        completion: DeviceArgument.completion
    )
    var number: String?
}

/// Where a device is named: `0`, `-n 0`, `ublkb0`, `/dev/ublkb0`, `/dev/ublkc0`.
struct DeviceArgument: ParsableArguments {
    @Argument(
        help: "The device: 0, ublkb0, /dev/ublkb0 or /dev/ublkc0.",
        completion: DeviceArgument.completion
    )
    var device: String?

    @OptionGroup var option: DeviceNumberOption
    private var number: String? { option.number }

    var isGiven: Bool { number != nil || device != nil }

    /// The device of a command that takes something away: it has to be named.
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

    /// The device of a command that only looks at it: a sole device need not be named.
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

    /// The device of a command line that begins with one, or else the sole one; and what follows it.
    ///
    /// - Parameter option: when it names the device, all words are others.
    static func first(
        of words: [String],
        _ option: DeviceNumberOption? = nil
    ) throws -> (id: DeviceID, rest: [String]) {
        if let number = option?.number { return (try parse(number), words) }
        // A path in /dev is meant as a device, and is refused when it is none.
        if let first = words.first, DeviceID(parsing: first) != nil || first.hasPrefix("/dev/") {
            return (try parse(first), Array(words.dropFirst()))
        }
        return (try sole(), words)
    }

    /// The only device that this program made.
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

    /// For the shell: the devices that there are.
    static var completion: CompletionKind {
        .custom { _, _, _ in StateDirectory.standard.recordedIDs().map(\.description) }
    }
}
