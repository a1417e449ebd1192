import CUring
import Glibc
import SystemPackage

/// The text of a script with its name and origin.
///
/// The text is read once, so that what is checked is what runs, even when the file changes meanwhile. A value; any
/// thread.
struct ScriptSource: Sendable {
    /// Where the text came from.
    enum Origin: String, Codable, Sendable {
        /// A regular file, which a reload can read again.
        case file
        /// A script inside this program.
        case shipped
        /// Standard input, a pipe or the command line, which cannot be read again.
        case text
    }

    /// The path as given on the command line, or the name of a shipped script.
    let path: String
    let text: [UInt8]
    /// The folder to which relative paths in the script and on the command line are relative: the working directory of
    /// the command.
    var directory = ScriptSource.workingDirectory
    let origin: Origin
    /// The path in the device's record: absolute for a file, so that a reload finds it again.
    let recordedPath: String

    /// The longest script.
    static let bytesMax = 16 << 20

    /// The longest name; Lua would truncate a longer one.
    private static let nameBytesMax = 56

    var isShipped: Bool { origin == .shipped }

    /// Name in the ledger and in `stats`, whose lines have little room: without the folder.
    var shortName: String {
        isShipped ? name : path.split(separator: "/").last.map(String.init) ?? path
    }

    /// Name in messages: the path, or the end of a very long one.
    var name: String {
        if isShipped { return path + ".lua" }
        var name = path[...]
        while name.utf8.count > Self.nameBytesMax, let slash = name.dropFirst(4).firstIndex(of: "/")
        {
            name = "..." + name[slash...]
        }
        return String(name)
    }

    /// The words of a command line for `simulate` that the script's first comment suggests; empty when it has none.
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

    /// - Parameter recordedPath: nil: `path`, made absolute for a file.
    init(path: String, text: [UInt8], origin: Origin = .file, recordedPath: String? = nil) {
        self.path = path
        self.text = text
        self.origin = origin
        self.recordedPath = recordedPath ?? (origin == .file ? AbsolutePath.of(path) : path)
    }

    init(_ shipped: ShippedScript) {
        self.init(path: shipped.name, text: Array(shipped.text.utf8), origin: .shipped)
    }

    /// Reads the script that a word of the command line names: a file, `-` for standard input, or a shipped script.
    ///
    /// - Parameter whenSilent: called once, with the name of the input, when that has delivered nothing for a while.
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

    /// True when the path exists and is no folder: a folder `delay` does not hide the shipped script of that name.
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

    /// A path that the script names, made absolute.
    func resolve(_ path: String) -> String {
        path.hasPrefix("/") || directory.isEmpty ? path : "\(directory)/\(path)"
    }

    /// Makes a script of lines that were given on the command line.
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
