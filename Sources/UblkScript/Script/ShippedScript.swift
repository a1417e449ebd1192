import CLua

/// A script that is embedded in the program, so that `add flakey` needs no file.
///
/// Constants; any thread. The texts are `scripts/faults/*.lua` and `scripts/targets/*.lua`, embedded by `shipped.c`.
struct ShippedScript: Sendable {
    /// The folder of the script: disks that fail, or disks made of others.
    enum Kind: String, Codable, CaseIterable, Sendable { case faults, targets }

    let kind: Kind
    /// The name on the command line, without `.lua`.
    let name: String
    let text: String

    /// All shipped scripts, ordered by kind and name.
    static let all: [ShippedScript] = (0..<us_shipped_count()).compactMap { index in
        guard let entry = unsafe us_shipped_at(index),
            let kind = unsafe Kind(rawValue: String(cString: entry.pointee.folder))
        else { return nil }
        return unsafe ShippedScript(
            kind: kind,
            name: String(cString: entry.pointee.name),
            text: String(cString: entry.pointee.text)
        )
    }

    /// The script of that name; nil when there is none.
    static func named(_ name: String) -> ShippedScript? { all.first { $0.name == name } }

    /// The comment that the text begins with, without its dashes.
    var manual: String {
        text.split(separator: "\n", omittingEmptySubsequences: false)
            .prefix { $0.hasPrefix("--") }
            .map { $0.hasPrefix("-- ") ? $0.dropFirst(3) : $0.dropFirst(2) }
            .joined(separator: "\n")
    }

    /// The first line of the manual, without the name.
    var summary: String {
        let first = manual.prefix { $0 != "\n" }
        guard let colon = first.firstIndex(of: ":") else { return String(first) }
        return String(first[colon...].dropFirst().drop { $0 == " " })
    }
}
