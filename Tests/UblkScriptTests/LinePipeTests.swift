import Testing

@testable import UblkScript

/// The lines that queues and scripts send to a server's log.
@Suite struct LinePipeTests {
    @Test func `a line of a script is information, whatever its words`() throws {
        let pipe = try LinePipe()
        let harness = try ScriptHarness(
            """
            function ctl(...) log(...) end
            """,
            options: .init(logFD: pipe.writeFD)
        )
        for text in ["error: x", "warning: x", "\u{1}x", "\u{3}x", "\u{3}"] {
            _ = try harness.ctl(text)
        }
        #expect(
            pipe.takeLines()
                == ["error: x", "warning: x", "?x", "?x", "?"].map { .init(level: .info, text: $0) }
        )
    }

    @Test func `a line of the server has the level it was written with`() throws {
        let pipe = try LinePipe()
        for level in [LinePipe.Level.info, .warning, .error] {
            pipe.write(level, "error: \(level)")
        }
        #expect(
            pipe.takeLines() == [
                .init(level: .info, text: "error: info"),
                .init(level: .warning, text: "error: warning"),
                .init(level: .error, text: "error: error"),
            ]
        )
        #expect(pipe.takeLines().isEmpty)
    }

    @Test func `a line that is too long is cut, and keeps its level and its end`() throws {
        let pipe = try LinePipe()
        for level in [LinePipe.Level.error, .warning] {
            pipe.write(level, String(repeating: "x", count: 2 * LinePipe.lineBytesMax))
        }
        let lines = pipe.takeLines()
        #expect(lines.map(\.level) == [.error, .warning])
        #expect(lines.allSatisfy { $0.text.utf8.count == LinePipe.lineBytesMax - 2 })
    }
}
