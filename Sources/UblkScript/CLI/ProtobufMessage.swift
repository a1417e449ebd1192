/// The bytes of one protobuf message, field by field.
///
/// Written by hand: what is needed of the encoding is three kinds of value, each behind its field's number and kind in
/// one varint.
struct ProtobufMessage {
    private(set) var bytes: [UInt8] = []

    /// The kinds of value that fields have on the wire.
    private enum Wire: UInt64 { case varint = 0, fixed64 = 1, bytes = 2 }

    mutating func add(_ field: UInt64, _ value: UInt64) {
        key(field, .varint)
        varint(value)
    }

    mutating func add(_ field: UInt64, fixed value: UInt64) {
        key(field, .fixed64)
        for byte in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * byte))) }
    }

    mutating func add(_ field: UInt64, _ text: String) { add(field, Array(text.utf8)) }

    mutating func add(_ field: UInt64, _ message: ProtobufMessage) { add(field, message.bytes) }

    private mutating func add(_ field: UInt64, _ content: [UInt8]) {
        key(field, .bytes)
        varint(UInt64(content.count))
        bytes += content
    }

    private mutating func key(_ field: UInt64, _ wire: Wire) { varint(field << 3 | wire.rawValue) }

    /// Seven bits a byte, the lowest first; the eighth says that more follow.
    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }
}
