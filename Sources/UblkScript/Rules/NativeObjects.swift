import CLua

/// Hands over the table of functions through which the Lua functions in C reach the objects that scripts hold
/// (`CLua/include/objects.h`).
///
/// None of the functions calls Lua, so Lua never unwinds through Swift. The IO path uses the Swift types directly.
enum NativeObjects {
    /// Initialising this hands the table over.
    private static let isHandedOver: Bool = {
        var functions = unsafe us_object_functions(
            random: .table,
            hash: { unsafe DataHash.of($0, length: $1) },
            dist: .table,
            cell: .table,
            bucket: .table,
            dict: .table,
            ranges: .table,
            unit: .table
        )
        unsafe us_use_objects(&functions)
        return true
    }()

    /// Hands the table over, once; call before making a Lua state, on any thread.
    static func handOver() { _ = isHandedOver }

    /// Stores a value through C's pointer; false when the value is nil.
    fileprivate static func store(_ value: UInt64?, _ room: UnsafeMutablePointer<UInt64>?) -> Bool {
        guard let value else { return false }
        unsafe room?.pointee = value
        return true
    }

    /// Draws from a random stream whose state C keeps.
    @inline(__always)
    fileprivate static func draw<Number>(
        _ stream: UnsafeMutablePointer<us_random>?,
        _ body: (inout SplitMix64) -> Number
    ) -> Number {
        let stream = unsafe stream.unsafelyUnwrapped
        var numbers = unsafe SplitMix64(state: stream.pointee.state)
        defer { unsafe stream.pointee.state = numbers.state }
        return body(&numbers)
    }
}

extension us_random_functions {
    static var table: Self {
        unsafe Self(
            stream: { us_random(state: SplitMix64(seed: $0, queue: $1, stream: $2).state) },
            next: { stream in unsafe NativeObjects.draw(stream) { $0.next() } },
            unit: { stream in unsafe NativeObjects.draw(stream) { $0.unit() } }
        )
    }
}

extension us_unit_functions {
    static var table: Self {
        unsafe Self(
            bytes: { text, length, bytes in
                let text = unsafe UnsafeRawBufferPointer(start: text, count: length)
                return unsafe NativeObjects.store(QuantityText(text)?.bytes, bytes)
            },
            time: { text, length, nanoseconds in
                let text = unsafe UnsafeRawBufferPointer(start: text, count: length)
                return unsafe NativeObjects.store(QuantityText(text)?.nanoseconds, nanoseconds)
            },
            name_flaw: { name, length, room in
                let name = unsafe UnsafeRawBufferPointer(start: name, count: length)
                guard unsafe !NameText.isPlain(name),
                    let flaw = unsafe NameText.flaw(bytes: name)
                else { return false }
                let bytes = Array(flaw.utf8.prefix(Int(US_NAME_FLAW_MAX) - 1)) + [0]
                for (place, byte) in bytes.enumerated() {
                    unsafe room?[place] = CChar(bitPattern: byte)
                }
                return true
            },
            utf8_length: { unsafe UTF8Text.length(UnsafeRawBufferPointer(start: $0, count: $1)) }
        )
    }
}
