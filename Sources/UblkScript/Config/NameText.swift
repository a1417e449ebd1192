import CLua

/// The rule for names of rules, ranges, counters, buckets, dicts, marks and states: 1 to US_NAME_BYTES_MAX bytes
/// of UTF-8 without blanks and control characters, so that workload files, the ledger and terminals can show them.
///
/// Pure functions, any thread.
enum NameText {
    /// True for a name of printable ASCII; does not allocate, as handlers name marks on the IO path.
    static func isPlain(_ name: UnsafeRawBufferPointer) -> Bool {
        guard (1...US_NAME_BYTES_MAX).contains(name.count) else { return false }
        return unsafe name.allSatisfy { (0x21...0x7e).contains($0) }
    }

    /// The same as ``flaw(_:)``, without copying a text that is too long.
    static func flaw(bytes name: UnsafeRawBufferPointer) -> String? {
        guard name.count <= US_NAME_BYTES_MAX else { return "it has \(name.count) bytes" }
        return flaw(unsafe Array(name))
    }

    /// The reason why the text is not a name, such as "byte 2 is a blank"; nil when it is one.
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

    /// A description of a character that names must not have; nil for others.
    private static func characterFlaw(_ text: [UInt8]) -> String? {
        if text[0] == UInt8(ascii: " ") { return "a blank" }
        if text[0] < UInt8(ascii: " ") || text[0] == 0x7f { return "a control character" }
        if text[0] == 0xc2, text[1] < 0xa0 { return "a control character" }  // C1
        // U+FFFD, which Swift puts in place of invalid bytes.
        if text == [0xef, 0xbf, 0xbd] { return "no UTF-8" }
        // No-break space, ideographic space, and the spaces and line separators of U+2000 to U+202F.
        if text == [0xc2, 0xa0] || text == [0xe3, 0x80, 0x80] { return "a blank" }
        if text.count == 3, text[0] == 0xe2, text[1] == 0x80,
            text[2] <= 0x8f || (0xa8...0xaf).contains(text[2])
        {
            return "a blank"
        }
        return nil
    }
}

/// Decoding of UTF-8.
enum UTF8Text {
    /// The number of bytes of the first character; 0 when it is not well-formed.
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
            // Overlong, a surrogate, or beyond U+10FFFF.
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
