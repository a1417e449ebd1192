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
