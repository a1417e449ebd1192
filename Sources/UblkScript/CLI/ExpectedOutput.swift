/// The expected output of `simulate`: the file of `--expect`.
///
/// Compared line by line; the file is never written.
struct ExpectedOutput {
    private let path: String
    private let lines: [Substring]

    /// - Throws: ``Failure``; when there is no such file, it tells how to make it.
    init(reading path: String) throws {
        let hint =
            "; the same command without --expect makes it: "
            + "ublk-script simulate SCRIPT --seed N --ledger > \(path)"
        self.init(path: path, text: try InputFile.text(path, hint: hint))
    }

    init(path: String, text: String) {
        self.path = path
        var lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        // The text after the last newline is not a line when it is empty.
        if lines.last?.isEmpty == true { lines.removeLast() }
        self.lines = lines
    }

    /// The error for a run with a random seed, which cannot be repeated.
    var needsSeed: Failure {
        Failure(
            "--expect \(path): a run that can be repeated is expected: --seed N, or seed in device{}"
        )
    }

    /// A description of the first difference from `printed`; nil when there is none.
    func difference(_ printed: [String]) -> String? {
        let most = max(lines.count, printed.count)
        guard
            let index = (0..<most).first(where: { index in
                guard index < lines.count, index < printed.count else { return true }
                return lines[index] != printed[index]
            })
        else { return nil }
        let expected = index < lines.count ? String(lines[index]) : "(the end of the file)"
        let got = index < printed.count ? printed[index] : "(nothing more)"
        return "\(path):\(index + 1): the run differs\n  expected: \(expected)\n  got:      \(got)"
    }

    /// Reports that the output is as expected, or throws.
    func compare(_ printed: [String]) throws {
        if let difference = difference(printed) { throw Failure(difference) }
        Output.line("\(path): as expected, \(lines.count) lines")
    }
}
