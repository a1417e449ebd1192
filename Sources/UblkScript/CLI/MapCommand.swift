import ArgumentParser

/// `map ID FILE`: where a file lies on a device, and a named set of that, so that a fault can target one file.
struct MapCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "map",
        abstract: "Tell where a file lies on a device, or put that into a set of the script's.",
        discussion: """
            FILE is on a filesystem on the device or on a partition of it; not on anything in between. Without
            --ranges one line an extent is printed: offset and length on the device, bytes. With it the set
            ranges("SET") of the running script gets them in place of what was in it, so that rules with that range
            hit this file only. A file that grows or is rewritten elsewhere later (copy on write) has to be mapped again.
            """
    )

    @OptionGroup var device: DeviceArgument

    @Argument(help: "The file.", completion: .file())
    var file: String

    @Option(help: "The name of a set of the script's.")
    var ranges: String?

    @Flag(help: "Print the extents as JSON.")
    var json = false

    private struct Line: Codable {
        let offset: UInt64
        let length: UInt64
    }

    /// As many extents as fit a request for sure.
    private static let batch = 1000

    func run() throws {
        let id = try device.id()
        let record = try Removal.ownRecord(id)
        let extents: [FileExtents.Extent]
        do {
            extents = try FileExtents.of(AbsolutePath.of(file), onDisk: id.blockPath)
        } catch { throw Failure(error) }
        if let ranges {
            try fill(ranges, with: extents, id, record)
        } else if json {
            Output.line(JSON.text(extents.map { Line(offset: $0.offset, length: $0.length) }))
        } else {
            for extent in extents { Output.line("\(extent.offset) \(extent.length)") }
        }
    }

    private func fill(
        _ set: String,
        with extents: [FileExtents.Extent],
        _ id: DeviceID,
        _ record: DeviceRecord
    ) throws {
        var answer = try ask(["ranges", set, "clear"], id, record)
        for start in stride(from: 0, to: extents.count, by: Self.batch) {
            let words = extents[start..<min(start + Self.batch, extents.count)].flatMap {
                ["\($0.offset)", "\($0.length)"]
            }
            answer = try ask(["ranges", set, "add"] + words, id, record)
        }
        Output.line(answer)
    }

    private func ask(_ words: [String], _ id: DeviceID, _ record: DeviceRecord) throws -> String {
        try Removal.ask(["ctl"] + words, id, record, seconds: Removal.questionSeconds)
    }
}
