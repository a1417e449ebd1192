import ArgumentParser
import Testing

@testable import UblkScript

/// What a person reads: lines of 80 columns, columns that stand below each other, no raw control character.
struct TextLayoutTests {
    @Test func `a long line is broken at words and goes on below its text`() {
        let text = "  script: " + String(repeating: "word ", count: 20) + "end"
        let lines = Wrap.text(text, columns: 40, hanging: 4).split(separator: "\n")
        #expect(lines.count == 4)
        #expect(lines.allSatisfy { $0.count <= 40 })
        #expect(lines.dropFirst().allSatisfy { $0.hasPrefix("      ") })
        #expect(lines.joined(separator: " ").split(separator: " ") == text.split(separator: " "))
    }

    @Test func `what has columns goes on below the last one`() {
        let text =
            "Parameters: p=0.0001     the chance that an IO begins a short stall of the device"
        #expect(
            Wrap.text(text, columns: 60).split(separator: "\n") == [
                "Parameters: p=0.0001     the chance that an IO begins a",
                "                         short stall of the device",
            ]
        )
    }

    @Test func `lines that fit, and blanks in them, stay as they are`() {
        for text in [
            "", "a  b   c", "  indented\n\n\tand so on\n", String(repeating: "x", count: 80),
        ] {
            #expect(Wrap.text(text) == text)
        }
    }

    @Test func `a word that is longer than a line stays whole`() {
        let path = "/" + String(repeating: "long/", count: 30)
        #expect(Wrap.text("see \(path) there") == "see\n\(path)\nthere")
    }

    @Test func `a table has text to the left, numbers to the right, and no blanks at its ends`() {
        var table = TextTable([.left, .right, .left], heading: ["rule", "acted", "state"])
        table.add(["a", "1", "on"])
        table.add(["longer", "12345", ""])
        #expect(
            table.lines == ["rule    acted  state", "a           1  on", "longer  12345"]
        )
        #expect(TextTable([.left]).lines.isEmpty)
    }

    /// Lines that end though the first word of the next would have fitted, and what follows them.
    private func early(_ text: String) -> [String] {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        return zip(lines, lines.dropFirst()).filter { line, next in
            // What stands in columns, and what begins something, begins with a word at another place.
            let indent = next.prefix { $0 == " " }.count
            let word = next.dropFirst(indent).prefix { $0 != " " }
            return !word.isEmpty && !line.isEmpty && !line.hasSuffix(":") && indent == 0
                && line.first != " " && line.count + 1 + word.count < Wrap.columns
        }.map { "\($0) | \($1)" }
    }

    @Test(
        arguments: UblkScript.configuration.subcommands.filter { $0.configuration.shouldDisplay }
            .map { $0.configuration.commandName ?? "" } + [""]
    )
    func `sentences of a help are broken where a line is full`(verb: String) {
        let kind = UblkScript.configuration.subcommands
            .first { $0.configuration.commandName == verb }
        let help = UblkScript.helpMessage(for: kind ?? UblkScript.self, columns: Wrap.columns)
        let overview = help.prefix(upTo: help.range(of: "\n\nUSAGE:")?.lowerBound ?? help.endIndex)
        #expect(early(String(overview)).isEmpty, "\(early(String(overview)))")
    }

    @Test(arguments: ShippedScript.all.map(\.name))
    func `sentences of a manual are broken where a line is full`(name: String) throws {
        let manual = try #require(ShippedScript.named(name)).manual
        // Without the column of names, as if the sentences stood alone.
        let lines = FaultsCommand.text(manual).split(separator: "\n").map { line in
            let isFurther = line.hasPrefix("            ")
            return (isFurther, line.dropFirst(12), line.prefix(12).filter { $0 != " " })
        }
        var section = ""
        for (line, next) in zip(lines, lines.dropFirst()) {
            if !line.0 { section = String(line.2) }
            guard ["What:", "Imitates:", "Yousee:", "Numbers:"].contains(section), next.0 else {
                continue
            }
            let word = next.1.prefix { $0 != " " }
            #expect(12 + line.1.count + 1 + word.count > Wrap.columns, "\(line.1) | \(next.1)")
        }
        let wide = FaultsCommand.text(manual).split(separator: "\n").filter { $0.count > 80 }
        #expect(wide.isEmpty, "\(wide)")
        let words = FaultsCommand.text(manual).split { $0 == " " || $0 == "\n" }
        #expect(words == manual.split { $0 == " " || $0 == "\n" })
    }

    @Test func `control characters are spelled out, colours of our own are not`() {
        #expect(Printable.text("plain\ttext\n") == "plain\ttext\n")
        #expect(Printable.text("\u{1b}[2Jx\r\u{7f}\u{9b}31m") == "\\x1b[2Jx\\x0d\\x7f\\x9b31m")
        let red = Style.bad.rawValue + "dead" + "\u{1b}[0m"
        #expect(Printable.text(red, allowing: Style.sequences) == red)
        #expect(Printable.text(red + "\u{1b}[2J", allowing: Style.sequences) == red + "\\x1b[2J")
    }
}

/// How a device is named.
struct DeviceArgumentTests {
    private let scratch = ScratchDirectory()

    @Test func `the sole device need not be named, and of several the numbers are told`() throws {
        let state = StateDirectory(path: scratch.path)
        func complaint() -> String {
            do { _ = try DeviceArgument.sole(state) } catch { return "\(error)" }
            return ""
        }
        #expect(complaint().contains("There is none: ublk-script add SCRIPT makes one"))
        try state.writeRecord(Array("{}".utf8), of: DeviceID(3))
        #expect(try DeviceArgument.sole(state) == DeviceID(3))
        try state.writeRecord(Array("{}".utf8), of: DeviceID(11))
        #expect(complaint().contains("There are 3, 11"))
    }
}
