import Glibc
import SystemPackage

/// The text of a script, read once: what is checked is what runs, however often the file changes
/// meanwhile.
struct ScriptSource: Sendable {
    /// As given on the command line; of a shipped one its name.
    let path: String
    let text: [UInt8]
    /// It came with the program: ``path`` is no file.
    let isShipped: Bool
    /// What relative paths of the script are relative to: the folder that the command was given in.
    ///
    /// Wherever a path comes from, the script's text or the command line, it means the same.
    var directory = ScriptSource.workingDirectory

    /// Larger files are not scripts.
    static let bytesMax = 16 << 20

    /// Name in messages: the last part of the path.
    var name: String {
        isShipped ? path + ".lua" : path.split(separator: "/").last.map(String.init) ?? path
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

    init(path: String, text: [UInt8]) {
        self.path = path
        self.text = text
        isShipped = false
    }

    init(_ shipped: ShippedScript) {
        path = shipped.name
        text = Array(shipped.text.utf8)
        isShipped = true
    }

    /// The script that a word of the command line means: a file, or else a shipped one of that name.
    init(named word: String) throws(ConfigError) {
        if !Self.isFile(word), let shipped = ShippedScript.named(word) {
            self.init(shipped)
        } else {
            try self.init(reading: word)
        }
    }

    /// Whatever is there, but no directory: `delay/` is not in the way of `delay`.
    private static func isFile(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT != S_IFDIR
    }

    /// That of the process; "" when it has none any more.
    static var workingDirectory: String {
        guard let path = unsafe getcwd(nil, 0) else { return "" }
        defer { unsafe free(path) }
        return unsafe String(cString: path)
    }

    /// What a path that the script names means in any folder.
    func resolve(_ path: String) -> String {
        path.hasPrefix("/") || directory.isEmpty ? path : "\(directory)/\(path)"
    }

    init(path: String, text: String) { self.init(path: path, text: Array(text.utf8)) }

    init(reading path: String) throws(ConfigError) {
        func failure(_ what: String) -> ConfigError {
            ConfigError(origin: path, text: "\(what): \(Errno(rawValue: Glibc.errno))")
        }
        let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard fd >= 0 else {
            let isWord = Glibc.errno == ENOENT && !path.contains("/")
            let hint = isWord ? " (nor is it one of those that ublk-script faults lists)" : ""
            throw failure("the script cannot be opened\(hint)")
        }
        defer { close(fd) }
        var status = stat()
        guard unsafe fstat(fd, &status) == 0 else { throw failure("the script cannot be read") }
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size <= Self.bytesMax else {
            throw ConfigError(
                origin: path,
                text: "a script is a regular file of at most \(Self.bytesMax >> 20) MiB"
            )
        }
        var text = [UInt8](repeating: 0, count: Int(status.st_size))
        var filled = 0
        while filled < text.count {
            let got = unsafe text.withUnsafeMutableBytes { bytes in
                guard let base = bytes.baseAddress else { return 0 }
                return unsafe Glibc.read(fd, base + filled, bytes.count - filled)
            }
            guard got >= 0 else { throw failure("the script cannot be read") }
            guard got > 0 else { break }
            filled += got
        }
        self.init(path: path, text: Array(text.prefix(filled)))
    }
}
