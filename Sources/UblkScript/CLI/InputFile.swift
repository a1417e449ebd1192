import SystemPackage

/// Reads a text file that is named on the command line: once, so that it may be a pipe.
enum InputFile {
    /// Tells the user that input is being waited for: the writer of a pipe may be slow, and somebody at a terminal may
    /// not know that a text is expected.
    static func tellOfSilence(_ path: String) {
        Output.error(
            "waiting for \(path): nothing has come for 2 s. Ctrl-C gives up; Ctrl-D ends what is typed on a terminal"
        )
    }

    /// The largest file; a larger one is taken for a mistake.
    static let bytesMax = 1 << 30

    /// Reads a file; `-` is standard input.
    ///
    /// - Parameter hint: what to do when the file does not exist, as the end of a sentence.
    /// - Throws: ``Failure`` with the path.
    static func text(_ path: String, hint: String = "") throws -> String {
        do throws(WholeFile.Problem) {
            let content =
                path == "-"
                ? try WholeFile.readInput(bytesMax: bytesMax) { tellOfSilence("standard input") }
                : try WholeFile.read(path, bytesMax: bytesMax, takesPipe: true) {
                    tellOfSilence(path)
                }
            return String(decoding: content.bytes, as: UTF8.self)
        } catch {
            switch error {
            case .cannotOpen(let errno):
                let isMissing = errno == .noSuchFileOrDirectory
                throw Failure("\(path): \(errno)\(isMissing ? hint : "")")
            case .cannotRead(let errno): throw Failure("\(path): \(errno)")
            case .wrongKind, .tooLong:
                throw Failure(
                    "\(path): a regular file or a pipe of at most \(bytesMax >> 20) MiB is expected"
                )
            case .nobodyWrites: throw Failure("\(path): the pipe is empty, and nobody writes to it")
            }
        }
    }
}
