import CLua

/// A script that is inside the program: `add flakey` needs no file.
///
/// Constants of the program; any thread. Their text is `scripts/faults/*.lua` and `scripts/targets/*.lua`, put in by
/// `shipped.c`.
struct ShippedScript: Sendable {
    /// The folder: disks that fail, and disks made out of others.
    enum Kind: String, Codable, CaseIterable, Sendable { case faults, targets }

    let kind: Kind
    /// As it is called on the command line, without `.lua`.
    let name: String
    let text: String

    /// All of them, by kind and name.
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

    /// The one of that name, nil when there is none.
    static func named(_ name: String) -> ShippedScript? { all.first { $0.name == name } }

    /// The comment that the text begins with, without its dashes.
    var manual: String {
        text.split(separator: "\n", omittingEmptySubsequences: false)
            .prefix { $0.hasPrefix("--") }
            .map { $0.hasPrefix("-- ") ? $0.dropFirst(3) : $0.dropFirst(2) }
            .joined(separator: "\n")
    }

    /// What the manual's first line says after the name.
    var summary: String {
        let first = manual.prefix { $0 != "\n" }
        guard let colon = first.firstIndex(of: ":") else { return String(first) }
        return String(first[colon...].dropFirst().drop { $0 == " " })
    }
}
