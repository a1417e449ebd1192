// A script as words of a request, so that a server runs the text that the command read.

extension ScriptSource {
    /// The text as one word: words are UTF-8 without NUL, which a script need not be, so `%`, NUL and all bytes that
    /// are not ASCII are written as `%XX`.
    var textAsWord: String {
        var word: [UInt8] = []
        word.reserveCapacity(text.count)
        for byte in text {
            if byte == 0 || byte >= 0x80 || byte == UInt8(ascii: "%") {
                word += [UInt8(ascii: "%"), Self.digit(byte >> 4), Self.digit(byte & 15)]
            } else {
                word.append(byte)
            }
        }
        return String(decoding: word, as: UTF8.self)
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") + value - 10
    }

    /// Decodes ``textAsWord``; nil when the word is not well-formed.
    static func text(ofWord word: String) -> [UInt8]? {
        var text: [UInt8] = []
        text.reserveCapacity(word.utf8.count)
        var rest = word.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                text.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(value),
                let low = rest.popFirst().flatMap(value)
            else { return nil }
            text.append(high << 4 | low)
        }
        return text
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        Character(UnicodeScalar(digit)).hexDigitValue.map { UInt8($0) }
    }

    /// The words of a request: origin, recorded path, path, text.
    var asWords: [String] { [origin.rawValue, recordedPath, path, textAsWord] }

    /// Parses the words of ``asWords``; fails for any others.
    init?(words: some Collection<String>) {
        let words = Array(words)
        guard words.count == 4, let origin = Origin(rawValue: words[0]),
            let text = Self.text(ofWord: words[3])
        else { return nil }
        self.init(path: words[2], text: text, origin: origin, recordedPath: words[1])
    }
}
