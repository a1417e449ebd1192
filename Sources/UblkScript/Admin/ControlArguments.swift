import CLua

// Parsers of the arguments of the words of `ctl`.

extension Release {
    /// Parses an order, a count, an errno, and IOs as QUEUE:TAG such as 0:17, in any order.
    init(words: some Sequence<String>) throws(AdminRefusal) {
        var given: [String: String] = [:]
        func once(_ kind: String, _ word: String) throws(AdminRefusal) {
            guard let before = given.updateValue(word, forKey: kind) else { return }
            throw AdminRefusal("release: two \(kind)s are named: \(before) and \(word)")
        }
        for word in words {
            if let order = Order.all.first(where: { $0.word == word }) {
                try once("order", word)
                self.order = order
            } else if let count = Int(word), count >= US_RELEASE_COUNT_MIN {
                try once("count", word)
                self.count = count
            } else if let place = Self.place(word) {
                guard !places.contains(place) else {
                    throw AdminRefusal("release: \(word) is named twice")
                }
                places.append(place)
            } else if let errno = Quantity.blockErrno(named: word) {
                try once("errno", word)
                self.errno = errno
            } else {
                let orders = Order.all.map(\.word).joined(separator: ", ")
                throw AdminRefusal(
                    "release: \"\(word)\" is no order (\(orders)), no count above 0, no QUEUE:TAG and no errno "
                        + "(\(Quantity.blockErrnoNames.joined(separator: ", ")))"
                )
            }
        }
    }

    /// Parses `QUEUE:TAG`; nil when the word is none.
    private static func place(_ word: String) -> Place? {
        let parts = word.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let queue = UInt16(parts[0]), let tag = UInt16(parts[1]) else {
            return nil
        }
        return Place(queue: queue, tag: tag)
    }
}

extension LiveRequest {
    static func rule(_ words: [String]) throws(AdminRefusal) -> LiveRequest {
        if words.isEmpty { return .rules }
        guard words.count == 2, words[0] == "on" || words[0] == "off" else {
            throw AdminRefusal(
                "rule: \"rule\", \"rule on NAME\" or \"rule off NAME\" is expected; NAME is a rule's name, its line or all"
            )
        }
        return .turnRules(words[1], isOn: words[0] == "on")
    }

    static let rangesUsage = """
        ranges: "ranges", "ranges NAME list", "ranges NAME count", "ranges NAME clear", \
        "ranges NAME add OFFSET LENGTH ..." or "ranges NAME remove OFFSET LENGTH ..." is expected
        """

    static func ranges(_ words: [String]) throws(AdminRefusal) -> LiveRequest {
        guard let name = words.first else { return .sets }
        guard words.count > 1 else { return .set(name, nil) }
        switch (words[1], words.count) {
        case ("list", 2): return .set(name, .list)
        case ("count", 2): return .set(name, .count)
        case ("clear", 2): return .set(name, .clear)
        case ("add", 4...): return .set(name, .add(try extents(words.dropFirst(2))))
        case ("remove", 4...): return .set(name, .remove(try extents(words.dropFirst(2))))
        default: throw AdminRefusal(rangesUsage)
        }
    }

    private static func extents(
        _ words: ArraySlice<String>
    ) throws(AdminRefusal) -> [ExtentReport] {
        guard words.count.isMultiple(of: 2) else { throw AdminRefusal(rangesUsage) }
        var extents: [ExtentReport] = []
        var rest = words
        while let first = rest.popFirst(), let second = rest.popFirst() {
            guard let offset = Quantity.bytes(first), let length = Quantity.bytes(second),
                length > 0, length <= UInt64(Int64.max) - offset
            else {
                throw AdminRefusal(
                    "ranges: \(first) \(second): an offset and a length above 0 are expected, "
                        + "as bytes or \"4K\", \"1M\", \"8s\""
                )
            }
            extents.append(ExtentReport(offset: offset, length: length))
        }
        return extents
    }

    static func mark(_ words: [String]) throws(AdminRefusal) -> LiveRequest {
        guard words.count == 1 else { throw AdminRefusal("mark: one name is expected") }
        return .mark(try name(words[0]))
    }

    static func state(_ words: [String]) throws(AdminRefusal) -> LiveRequest {
        guard words.count <= 1 else { throw AdminRefusal("state: at most one name is expected") }
        guard let word = words.first else { return .state }
        return .setState(try name(word))
    }

    private static func name(_ word: String) throws(AdminRefusal) -> String {
        if let flaw = Quantity.nameFlaw(word) {
            throw AdminRefusal("\"\(word)\" (\(flaw)): \(Quantity.nameRule) is expected")
        }
        return word
    }
}

/// The argument of `reload`: another script for a device, or the present one read again, and settings.
struct ReloadRequest: Sendable {
    let source: ScriptSource
    let isOther: Bool
    let settings: [Setting]

    /// Parses the words of the request.
    ///
    /// - Parameter words: `same` or `other`, the script as ``ScriptSource/asWords``, then settings.
    init(words: [String]) throws(AdminRefusal) {
        guard let source = ScriptSource(words: words.dropFirst().prefix(4)) else {
            throw AdminRefusal("reload: a script is expected")
        }
        self.source = source
        isOther = words[0] == "other"
        do throws(ConfigError) { settings = try Setting.arguments(Array(words.dropFirst(5))) } catch
        {
            throw AdminRefusal("\(error)")
        }
    }
}

/// The argument of `resize`.
struct ResizeRequest: Equatable, Sendable {
    enum Size: Equatable, Sendable {
        case bytes(UInt64)
        /// So many more than the device has.
        case more(UInt64)
    }

    let size: Size
    /// Also when the device becomes smaller.
    let isForced: Bool

    init(_ size: Size, isForced: Bool = false) {
        self.size = size
        self.isForced = isForced
    }

    /// Parses the words of the request: `SIZE` or `+SIZE`, then perhaps `force`.
    init(words: [String]) throws(AdminRefusal) {
        let text = words.first ?? ""
        let isMore = text.hasPrefix("+")
        guard let bytes = Quantity.bytes(String(text.dropFirst(isMore ? 1 : 0))),
            bytes <= DeviceConfig.sizeMax
        else {
            throw AdminRefusal(
                "\"\(text)\" is no size: 2G, 512M, 4096, or +1G for so much more is expected"
            )
        }
        size = isMore ? .more(bytes) : .bytes(bytes)
        isForced = words.dropFirst().first == "force"
    }

    /// The words of the request.
    var words: [String] {
        let text =
            switch size {
            case .bytes(let bytes): "\(bytes)"
            case .more(let bytes): "+\(bytes)"
            }
        return isForced ? [text, "force"] : [text]
    }
}
