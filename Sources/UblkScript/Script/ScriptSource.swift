import Glibc
import SystemPackage

/// The text of a script, read once: what is checked is what runs, however often the file changes
/// meanwhile.
struct ScriptSource: Sendable {
    /// Where the text came from.
    enum Origin: String, Codable, Sendable {
        /// A file, which a reload reads again.
        case file
        /// This program.
        case shipped
        /// Standard input, a pipe or the command line: there is nothing to read again.
        case text
    }

    /// As given on the command line; of a shipped one its name.
    let path: String
    let text: [UInt8]
    /// What relative paths of the script are relative to: the folder that the command was given in.
    ///
    /// Wherever a path comes from, the script's text or the command line, it means the same.
    var directory = ScriptSource.workingDirectory
    let origin: Origin
    /// For the record of a device: where a reload finds the script again, if it does.
    let recordedPath: String

    /// Larger files are not scripts.
    static let bytesMax = 16 << 20

    /// Longer names Lua would cut somewhere.
    private static let nameBytesMax = 56

    var isShipped: Bool { origin == .shipped }

    /// Name in the ledger and in `stats`, which have one line for many things: without the folder.
    var shortName: String {
        isShipped ? name : path.split(separator: "/").last.map(String.init) ?? path
    }

    /// Name in messages: the path, of a very long one its end.
    var name: String {
        if isShipped { return path + ".lua" }
        var name = path[...]
        while name.utf8.count > Self.nameBytesMax, let slash = name.dropFirst(4).firstIndex(of: "/")
        {
            name = "..." + name[slash...]
        }
        return String(name)
    }

    /// What the first comment says of a run of `simulate` that shows what the script does: its words.
    ///
    ///     -- Simulate: --rate 20 --time 1h size=64M
    var suggestedRun: [String] {
        let head = String(decoding: text.prefix(1 << 16), as: UTF8.self)
        let lines = head.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        let label = "-- Simulate:"
        guard
            let line = lines.prefix(while: { $0.hasPrefix("--") }).first(where: {
                $0.hasPrefix(label)
            })
        else { return [] }
        return line.dropFirst(label.count).split(separator: " ").map(String.init)
    }

    /// - Parameter recordedPath: nil: the absolute one of a file.
    init(path: String, text: [UInt8], origin: Origin = .file, recordedPath: String? = nil) {
        self.path = path
        self.text = text
        self.origin = origin
        self.recordedPath = recordedPath ?? (origin == .file ? AbsolutePath.of(path) : path)
    }

    init(_ shipped: ShippedScript) {
        self.init(path: shipped.name, text: Array(shipped.text.utf8), origin: .shipped)
    }

    /// The script that a word of the command line means: a file, `-` for standard input, or a shipped
    /// one of that name.
    ///
    /// - Parameter whenSilent: told, once, what has given nothing for a while and is waited for.
    init(named word: String, whenSilent: (String) -> Void) throws(ConfigError) {
        if word == "-" {
            try self.init(path: "stdin") { () throws(WholeFile.Problem) in
                try WholeFile.readInput(bytesMax: Self.bytesMax) { whenSilent("standard input") }
            }
        } else if !Self.isFile(word), let shipped = ShippedScript.named(word) {
            self.init(shipped)
        } else {
            try self.init(path: word) { () throws(WholeFile.Problem) in
                try WholeFile.read(word, bytesMax: Self.bytesMax, takesPipe: true) {
                    whenSilent(word)
                }
            }
        }
    }

    /// Whatever is there, but no directory: `delay/` is not in the way of `delay`.
    private static func isFile(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFDIR
    }

    /// The working directory of the process; "" when it was removed.
    static var workingDirectory: String {
        guard let path = unsafe getcwd(nil, 0) else { return "" }
        defer { unsafe free(path) }
        return unsafe String(cString: path)
    }

    /// What a path that the script names means in any folder.
    func resolve(_ path: String) -> String {
        path.hasPrefix("/") || directory.isEmpty ? path : "\(directory)/\(path)"
    }

    /// A script whose lines are on the command line.
    init(lines: [String]) {
        let text = lines.joined(separator: "\n") + "\n"
        self.init(path: "(command line)", text: Array(text.utf8), origin: .text)
    }

    init(path: String, text: String) { self.init(path: path, text: Array(text.utf8)) }

    private init(
        path: String,
        _ read: () throws(WholeFile.Problem) -> WholeFile.Content
    ) throws(ConfigError) {
        do throws(WholeFile.Problem) {
            let content = try read()
            self.init(path: path, text: content.bytes, origin: content.isRegular ? .file : .text)
        } catch {
            throw ConfigError(origin: path, text: Self.describe(error, path))
        }
    }

    private static func describe(_ problem: WholeFile.Problem, _ path: String) -> String {
        switch problem {
        case .cannotOpen(let errno):
            var hint = ""
            if errno == .noSuchFileOrDirectory, path.hasPrefix("/dev/fd/") {
                hint = " (sudo closes it: give the script as - on standard input)"
            } else if errno == .noSuchFileOrDirectory, !path.contains("/") {
                hint = " (nor is it one of those that ublk-script faults lists)"
            }
            return "the script cannot be opened\(hint): \(errno)"
        case .cannotRead(let errno): return "the script cannot be read: \(errno)"
        case .wrongKind, .tooLong:
            return "a script is a regular file or a pipe of at most \(bytesMax >> 20) MiB"
        case .nobodyWrites: return "the pipe is empty, and nobody writes to it"
        }
    }
}
