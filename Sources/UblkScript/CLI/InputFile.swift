import SystemPackage

/// A text file that an option names: read once, so that a pipe will do.
enum InputFile {
    /// Larger ones are not what was meant.
    static let bytesMax = 1 << 30

    /// - Parameter hint: what to do when there is none, as the end of a sentence.
    /// - Throws: ``Failure`` with the path.
    static func text(_ path: String, hint: String = "") throws -> String {
        do throws(WholeFile.Problem) {
            let content =
                path == "-"
                ? try WholeFile.readInput(bytesMax: bytesMax)
                : try WholeFile.read(path, bytesMax: bytesMax, takesPipe: true)
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
