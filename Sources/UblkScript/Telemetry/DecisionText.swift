import CLua

extension us_decision {
    /// As a script would write it: `fail("EIO") + delay(5ms)`.
    var text: String {
        var decision = self
        var text = [CChar](repeating: 0, count: 256)
        unsafe us_decision_text(&decision, &text, text.count)
        let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether it says what happens to data, other than by how the IO ends.
    @inline(__always)
    var changesData: Bool {
        us_changes_data(UInt32(corrupt.mode), UInt32(store.keep), UInt32(ignores_fua))
    }

    /// The IO goes on as if nobody had been asked.
    var isNothing: Bool {
        var decision = self
        return unsafe us_decides_nothing(&decision)
    }
}
