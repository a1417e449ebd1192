import CLua

extension us_decision {
    /// The decision as a script would write it: `fail("EIO") + delay(5ms)`.
    var text: String {
        var decision = self
        var text = [CChar](repeating: 0, count: 256)
        unsafe us_decision_text(&decision, &text, text.count)
        let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// True when the decision changes the data of the IO or how it is stored, apart from its outcome.
    @inline(__always)
    var changesData: Bool {
        us_changes_data(UInt32(corrupt.mode), UInt32(store.keep), UInt32(ignores_fua))
    }

    /// True when the IO is carried out as if there were no script.
    var isNothing: Bool {
        var decision = self
        return unsafe us_decides_nothing(&decision)
    }
}
