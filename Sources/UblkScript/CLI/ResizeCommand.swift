import ArgumentParser

/// `resize ID SIZE`: gives a running device another size.
struct ResizeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resize",
        abstract: "Give a running device another size.",
        discussion: """
            Whoever uses the disk is told, and a filesystem can then be grown while it is mounted: resize2fs \
            /dev/ublkb0, xfs_growfs /mnt. A backing file grows with its device; neither it nor memory ever shrinks, so \
            that what was behind the end is there again when the device grows. From kernel 6.16 on.
            """
    )

    @OptionGroup var option: DeviceNumberOption

    @Argument(
        help: ArgumentHelp(
            "The device (a sole one need not be named) and its size: 2G, or +1G for so much more.",
            valueName: "device> <size"
        ),
        completion: DeviceArgument.completion
    )
    var words: [String] = []

    @Flag(help: "Also when it becomes smaller.")
    var force = false

    @Flag(help: "Print the sizes as JSON.")
    var json = false

    struct Report: Encodable {
        let path: String
        let id: UInt32
        let sizeBytes: UInt64
        let formerSizeBytes: UInt64
    }

    func run() throws {
        let (id, size) = try parsed()
        let request: ResizeRequest
        do throws(AdminRefusal) {
            request = try ResizeRequest(words: size + (force ? ["force"] : []))
        } catch { throw ValidationError(error.text) }
        let server = try ServerClient(id)
        let text = try server.ask(.resize, request.words, seconds: 60)
        guard json else { return Output.line(text) }
        let report = Report(
            path: id.blockPath,
            id: id.rawValue,
            sizeBytes: try ServerClient(id).record.sizeBytes,
            formerSizeBytes: server.record.sizeBytes
        )
        Output.line(JSON.text(report))
    }

    /// The device and its size; a word on its own is the size.
    private func parsed() throws -> (id: DeviceID, size: [String]) {
        let (id, rest) =
            words.count == 1 && option.number == nil
            ? (try DeviceArgument.sole(), words) : try DeviceArgument.first(of: words, option)
        guard rest.count == 1 else {
            throw ValidationError(
                "a device and one size are expected, as in: ublk-script resize 0 2G"
            )
        }
        return (id, rest)
    }
}
