import CLua

/// What rules, ranges, counters, buckets, dicts, marks and states may be called: a word, as it can be written in a line
/// of a workload, a label of the ledger and on a terminal.
///
/// Pure functions, any thread.
enum NameText {
    /// It is a name of printable ASCII, as nearly all are: told without a copy, as handlers name marks while they run.
    static func isPlain(_ name: UnsafeRawBufferPointer) -> Bool {
        guard (1...US_NAME_BYTES_MAX).contains(name.count) else { return false }
        return unsafe name.allSatisfy { (0x21...0x7e).contains($0) }
    }

    /// As ``flaw(_:)``, of a text that may be of any length.
    static func flaw(bytes name: UnsafeRawBufferPointer) -> String? {
        guard name.count <= US_NAME_BYTES_MAX else { return "it has \(name.count) bytes" }
        return flaw(unsafe Array(name))
    }

    /// Why it is no such name, as in "byte 2 is a blank"; nil: it is one.
    static func flaw(_ name: [UInt8]) -> String? {
        guard !name.isEmpty, name.count <= US_NAME_BYTES_MAX else {
            return "it has \(name.count) bytes"
        }
        var place = 0
        while place < name.count {
            let length = UTF8Text.length(name[place...])
            let flaw =
                length == 0 ? "no UTF-8" : characterFlaw(Array(name[place..<place + length]))
            if let flaw { return "byte \(place + 1) is \(flaw)" }
            place += length
        }
        return nil
    }

    /// What a character is that no name has; nil: names may have it.
    private static func characterFlaw(_ text: [UInt8]) -> String? {
        if text[0] == UInt8(ascii: " ") { return "a blank" }
        if text[0] < UInt8(ascii: " ") || text[0] == 0x7f { return "a control character" }
        if text[0] == 0xc2, text[1] < 0xa0 { return "a control character" }  // C1
        // What Swift makes of bytes that are no text.
        if text == [0xef, 0xbf, 0xbd] { return "no UTF-8" }
        // No-break space, the spaces and line ends of U+2000 to U+202F, the ideographic one.
        if text == [0xc2, 0xa0] || text == [0xe3, 0x80, 0x80] { return "a blank" }
        if text.count == 3, text[0] == 0xe2, text[1] == 0x80,
            text[2] <= 0x8f || (0xa8...0xaf).contains(text[2])
        {
            return "a blank"
        }
        return nil
    }
}

/// Characters of UTF-8.
enum UTF8Text {
    /// How many bytes the first character has; 0: they are none.
    ///
    /// - Parameter text: at least one byte.
    static func length(_ text: some RandomAccessCollection<UInt8>) -> Int {
        var rest = text.prefix(4).makeIterator()
        guard let first = rest.next() else { return 0 }
        let length =
            switch first {
            case ..<0x80: 1
            case 0xc2..<0xe0: 2
            case 0xe0..<0xf0: 3
            case 0xf0..<0xf5: 4
            default: 0
            }
        guard length > 1 else { return length }
        for place in 1..<length {
            guard let byte = rest.next(), byte & 0xc0 == 0x80 else { return 0 }
            // Overlong, a surrogate, or past the last character.
            if place == 1,
                (first == 0xe0 && byte < 0xa0) || (first == 0xed && byte > 0x9f)
                    || (first == 0xf0 && byte < 0x90) || (first == 0xf4 && byte > 0x8f)
            {
                return 0
            }
        }
        return length
    }
}
