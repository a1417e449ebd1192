import ArgumentParser

/// `map [ID] PATH...`: finds the extents of files on a device, and can put them into a named set of ranges, so that a
/// fault can target these files.
struct MapCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "map",
        abstract: "Tell where files lie on a device, or put that into a set of the script's.",
        discussion: """
            The files' filesystem is on the device or on a partition of it; not on anything in between. Without \
            --ranges one line an extent is printed: offset and length on the device, the offset inside the file, bytes, \
            and the file. Of a folder all files are meant, on its own filesystem. With --ranges the set \
            ranges("SET") of the running script gets the extents in place of what was in it, or beside it with --add, \
            so that rules with that range hit these files only. A file that grows or is rewritten elsewhere later (copy on \
            write) has to be mapped again.
            """
    )

    @Option(name: [.customShort("n"), .long], help: "The device's number.")
    var number: String?

    @Argument(
        help: ArgumentHelp(
            "The device, unless there is only one, and files and folders.",
            valueName: "path"
        ),
        completion: .file()
    )
    var words: [String]

    @Option(help: "Only these bytes of the one file, as in 1M+64K; may be given several times.")
    var part: [String] = []

    @Option(help: "The name of a set of the script's.")
    var ranges: String?

    @Flag(help: "Keep what is in the set.")
    var add = false

    @Flag(help: "Print the extents as JSON.")
    var json = false

    struct MappedFile: Encodable {
        struct Extent: Encodable {
            let offset: UInt64
            let length: UInt64
            let at: UInt64
        }
        let file: String
        let extents: [Extent]
    }

    /// The most extents in one request; they fit ``AdminSocket/requestBytesMax`` whatever their numbers are.
    private static let batch = 1000

    func run() throws {
        let (id, paths) = try named()
        if add, ranges == nil { throw ValidationError("--add goes with --ranges SET") }
        if json, ranges != nil { throw ValidationError("--ranges does not go with --json") }
        if !part.isEmpty, paths.count != 1 {
            throw ValidationError("--part goes with one file, and \(paths.count) are named")
        }
        let parts = try part.map { try Self.part($0) }
        let server = try ServerClient(id)
        do { try DeviceNode.check(id.blockPath) } catch { throw Failure(error) }
        let files = try paths.flatMap { try mapped($0, parts, onDisk: id.blockPath) }
        if let ranges {
            try fill(ranges, with: files.flatMap(\.extents), server)
        } else if json {
            Output.line(JSON.text(files))
        } else {
            var table = TextTable([.right, .right, .right, .left])
            for file in files {
                for extent in file.extents {
                    table.add([
                        "\(extent.offset)", "\(extent.length)", "\(extent.at)", file.file,
                    ])
                }
            }
            for line in table.lines { Output.record(line) }
        }
    }

    private func named() throws -> (id: DeviceID, paths: [String]) {
        let named = try number.map { (id: try DeviceArgument.parse($0), rest: words) }
        let (id, paths) = try named ?? DeviceArgument.first(of: words)
        guard !paths.isEmpty else {
            throw ValidationError("which files? For example: map \(id) /mnt/a.db")
        }
        return (id, paths)
    }

    private static func part(_ text: String) throws -> Range<UInt64> {
        let words = text.split(separator: "+", omittingEmptySubsequences: false)
        guard words.count == 2, let offset = Quantity.bytes(String(words[0])),
            let length = Quantity.bytes(String(words[1])), length > 0,
            !offset.addingReportingOverflow(length).overflow
        else { throw ValidationError("--part \(text): OFFSET+LENGTH, as in 1M+64K, is expected") }
        return offset..<(offset + length)
    }

    /// The extents of a file, or of the files in a folder; files there that cannot be mapped are reported and left out.
    private func mapped(
        _ path: String,
        _ parts: [Range<UInt64>],
        onDisk disk: String
    ) throws -> [MappedFile] {
        let names = FilesBelow.of(path)
        let isFolder = names != [path]
        if isFolder, !parts.isEmpty {
            throw ValidationError("--part goes with one file, \(path) is a folder")
        }
        return try names.compactMap { name in
            do throws(FileExtents.Problem) {
                var extents: [FileExtents.Extent] = []
                for part in parts.isEmpty ? [0..<(.max)] : parts {
                    extents += try FileExtents.of(AbsolutePath.of(name), onDisk: disk, part: part)
                }
                return MappedFile(
                    file: name,
                    extents: extents.map { .init(offset: $0.offset, length: $0.length, at: $0.at) }
                )
            } catch {
                guard isFolder, error.isOfOneFile else { throw Failure(error) }
                Output.error("\(error); it is left out")
                return nil
            }
        }
    }

    private func fill(
        _ set: String,
        with extents: [MappedFile.Extent],
        _ server: ServerClient
    ) throws {
        var answer = try server.ask(.control, ["ranges", set, add ? "count" : "clear"])
        for start in stride(from: 0, to: extents.count, by: Self.batch) {
            let words = extents[start..<min(start + Self.batch, extents.count)].flatMap {
                ["\($0.offset)", "\($0.length)"]
            }
            answer = try server.ask(.control, ["ranges", set, "add"] + words)
        }
        Output.line(answer)
    }
}
