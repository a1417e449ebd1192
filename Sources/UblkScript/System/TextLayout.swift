/// Text broken into lines at words.
enum Wrap {
    /// What every terminal has.
    static let columns = 80

    /// Breaks each line that is too long between two words; a word that is too long stays whole.
    ///
    /// - Parameter hanging: blanks before what goes on in the next line, besides those the line begins with;
    ///   nil: as many as bring it below the line's last column, if it has columns.
    static func text(_ text: String, columns: Int = columns, hanging: Int? = nil) -> String {
        text.split(separator: "\n", omittingEmptySubsequences: false)
            .map { line($0, columns, hanging) }
            .joined(separator: "\n")
    }

    private static func line(_ line: Substring, _ columns: Int, _ hanging: Int?) -> String {
        guard line.count > columns else { return String(line) }
        let indent = line.prefix { $0 == " " }
        let hangs =
            hanging.map { indent.count + $0 } ?? lastColumn(line, columns / 2) ?? indent.count
        let next = String(repeating: " ", count: hangs)
        var lines: [String] = []
        var current = String(indent)
        var isEmpty = true
        // Blanks between words are kept, so that columns stay columns.
        var blanks = ""
        for word in words(line.dropFirst(indent.count)) {
            if word.first == " " {
                blanks = String(word)
                continue
            }
            if !isEmpty, current.count + blanks.count + word.count > columns {
                lines.append(current)
                current = next
                blanks = ""
            }
            current += blanks + word
            isEmpty = false
            blanks = ""
        }
        return (lines + [current]).joined(separator: "\n")
    }

    /// Where text begins behind two blanks or more, for the last time before `limit`; nil: nowhere.
    private static func lastColumn(_ line: Substring, _ limit: Int) -> Int? {
        var column = 0
        var found: Int?
        for part in words(line) {
            if part.first == " ", part.count > 1, column + part.count < limit {
                found = column + part.count
            }
            column += part.count
        }
        return found
    }

    /// Words and the blanks between them, in turns.
    private static func words(_ text: Substring) -> [Substring] {
        var rest = text
        var parts: [Substring] = []
        while let first = rest.first {
            let part = rest.prefix { ($0 == " ") == (first == " ") }
            parts.append(part)
            rest = rest.dropFirst(part.count)
        }
        return parts
    }
}

/// Rows whose columns stand below each other: text to the left, numbers to the right.
struct TextTable {
    enum Side { case left, right }

    private let sides: [Side]
    private var rows: [[String]] = []

    /// - Parameter heading: nothing: no line of headings.
    init(_ sides: [Side], heading: [String] = []) {
        self.sides = sides
        if !heading.isEmpty { rows.append(heading) }
    }

    /// - Parameter cells: as many as there are columns at most.
    mutating func add(_ cells: [String]) { rows.append(cells) }

    /// A line each, two blanks between columns and none at the end.
    var lines: [String] {
        let widths = sides.indices.map { column in
            rows.map { $0.indices.contains(column) ? $0[column].count : 0 }.max() ?? 0
        }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                let blanks = String(repeating: " ", count: max(0, widths[column] - cell.count))
                line +=
                    (column > 0 ? "  " : "")
                    + (sides[column] == .left ? cell + blanks : blanks + cell)
            }
            return String(line.reversed().drop { $0 == " " }.reversed())
        }
    }

    var text: String { lines.joined(separator: "\n") }
}
