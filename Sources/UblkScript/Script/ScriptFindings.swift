import CLua
import CUring
import Glibc

/// A warning of `check`: a declaration that can never have an effect.
struct ScriptFinding: Codable, Equatable, Sendable {
    /// File and line of the declaration.
    let origin: String
    let text: String
}

/// Finds rules, functions and files of a script that can never have an effect on the device it declares.
///
/// Reports only what is certain, not what may still change by `ctl`, a mark or a state. Made while a plan is made.
struct ScriptFindings {
    private(set) var list: [ScriptFinding] = []
    private let config: DeviceConfig
    private let source: ScriptSource
    /// Size of the device; nil when it is not known yet.
    private let sizeBytes: UInt64?
    /// The line of the first rule that ends the search for every IO of an op.
    private var settledBy: [IOOp: Int32] = [:]

    init(_ config: DeviceConfig, _ source: ScriptSource) {
        self.config = config
        self.source = source
        sizeBytes = config.sizeBytes ?? config.file.flatMap { Self.bytes(of: source.resolve($0)) }
    }

    private mutating func add(_ line: Int32, _ text: String) {
        list.append(ScriptFinding(origin: "\(source.name):\(line)", text: text))
    }

    // MARK: The device

    /// Checks the number of queues and the files.
    mutating func lookAtDevice(queues origin: String?) {
        if config.queues > SystemCall.cpus {
            list.append(
                ScriptFinding(
                    origin: origin ?? source.name,
                    text: "queues = \(config.queues): the driver gives at most one to a CPU, "
                        + "and this machine has \(SystemCall.cpus)"
                )
            )
        }
        if config.ownBacking == 0, let file = config.file {
            lookAtFile(file, config.sizeBytes, origin: source.name)
        }
        for backing in config.backings {
            if let file = backing.file {
                lookAtFile(file, backing.sizeBytes, origin: backing.origin)
            }
        }
    }

    /// Checks whether the server will be able to open or make a file.
    private mutating func lookAtFile(_ file: String, _ wanted: UInt64?, origin: String) {
        func add(_ text: String) {
            list.append(ScriptFinding(origin: origin, text: "file = \"\(file)\": \(text)"))
        }
        let path = source.resolve(file)
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            if let reason = Self.reasonAgainstMaking(path, errno, wanted) { add(reason) }
            return
        }
        guard !DeviceNode.isFileAmongDevices(status) else {
            return add("it is a regular file in /dev, where only devices are used")
        }
        guard let bytes = Self.bytes(of: path) else {
            return add("it is neither a regular file nor a block device")
        }
        let needed = wanted ?? UInt64(config.logicalBlockBytes)
        if bytes < needed {
            add("it has \(bytes) bytes, \(needed) are needed, and it is never grown")
        }
    }

    /// The reason why a file that does not exist cannot be made; nil when it can.
    private static func reasonAgainstMaking(
        _ path: String,
        _ errno: Int32,
        _ wanted: UInt64?
    ) -> String? {
        if errno == ENOTDIR { return "a part of its path is no folder" }
        guard errno == ENOENT else { return nil }
        if let folder = AbsolutePath.kernelFolder(of: path) {
            return "it does not exist, and no file is made below \(folder); is its name right?"
        }
        guard wanted != nil else {
            return "it does not exist, and no size is given to make it with"
        }
        let folder = path.lastIndex(of: "/").map { String(path[...$0]) } ?? "."
        return unsafe access(folder, F_OK) == 0 ? nil : "there is no folder \(folder) to make it in"
    }

    /// The size of a file or block device; nil for anything else.
    private static func bytes(of path: String) -> UInt64? {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return UInt64(status.st_size)
        case S_IFBLK:
            // In sectors. A device that sysfs does not list is taken to be large enough.
            let number = DeviceNode.number(status.st_rdev)
            let sectors = DeviceNode.word("/sys/dev/block/\(number)/size").flatMap { UInt64($0) }
            return sectors.map { $0 * 512 } ?? .max
        default: return nil
        }
    }

    // MARK: Rules

    /// Checks a rule; to be called in file order.
    mutating func lookAtRule(_ rule: Rule, _ label: RuleLabel) {
        let ops = IOOp.allCases.filter { rule.ops & $0.bit != 0 }
        if ops.allSatisfy({ settledBy[$0] != nil }),
            let line = ops.compactMap({ settledBy[$0] }).max()
        {
            add(rule.line, "the rule never acts: every such IO ends at the rule of line \(line)")
        }
        if let reason = reasonAgainst(rule, ops) {
            add(rule.line, "the rule never acts: \(reason)")
        } else {
            lookAtActions(rule)
        }
        guard rule.isUnconditional, label.trigger == nil else { return }
        for op in ops where settledBy[op] == nil { settledBy[op] = rule.line }
    }

    private func reasonAgainst(_ rule: Rule, _ ops: [IOOp]) -> String? {
        let missing = ops.compactMap(missing)
        if missing.count == ops.count, let first = missing.first { return first }
        let offered = ops.filter { self.missing($0) == nil }
        if rule.chance == 0 { return "p = 0" }
        return reasonAgainst(rule.conditions, offered) ?? reasonAgainstRange(rule)
    }

    /// The reason why no IO of that op arrives; nil when some may.
    private func missing(_ op: IOOp) -> String? {
        switch op {
        case .read: nil
        case .flush:
            config.hasVolatileCache
                ? nil : "no flush arrives, because the device has no cache = \"volatile\""
        case .write: config.isReadOnly ? "the device is read-only" : nil
        case .discard:
            config.isReadOnly || config.discard == nil
                ? "the device does not offer discard" : nil
        case .writeZeroes:
            config.isReadOnly || config.writeZeroes == nil
                ? "the device does not offer write_zeroes" : nil
        }
    }

    private func reasonAgainst(_ conditions: RuleConditions, _ ops: [IOOp]) -> String? {
        if let reason = reasonAgainstFlags(conditions.flagsSet, ops) { return reason }
        if conditions.queue >= Int32(config.queues) {
            return "queue = \(conditions.queue): the device has 0 to \(config.queues - 1)"
        }
        if conditions.tag >= Int32(config.depth) {
            return "tag = \(conditions.tag): the device has 0 to \(config.depth - 1)"
        }
        if conditions.depth > Int(config.depth) {
            return "depth = \(conditions.depth): a queue has \(config.depth) tags"
        }
        let longest = ops.map(longest).max() ?? 0
        if conditions.lengthMin > longest {
            return
                "len is \(conditions.lengthMin) or more, and no such IO is longer than \(longest) bytes"
        }
        let block = UInt64(config.logicalBlockBytes)
        if conditions.lengthMax < block, !(ops.contains(.flush) && conditions.lengthMin == 0) {
            return "len is \(conditions.lengthMax) or less, and a block has \(block) bytes"
        }
        if case .bytes(let offset, let count, _, _) = conditions.content,
            offset + UInt64(count) > UInt64(config.maxIOBytes)
        {
            return "content ends behind the longest write, which has \(config.maxIOBytes) bytes"
        }
        return isOverAtOnce(conditions.before) ? "before has come when the device starts" : nil
    }

    private func isOverAtOnce(_ limit: RuleConditions.Limit) -> Bool {
        let parts = [limit.time, limit.ops, limit.bytes].compactMap { $0 }
        return limit.mark == nil && !parts.isEmpty && parts.allSatisfy { $0 == 0 }
    }

    private func reasonAgainstFlags(_ flags: UInt32, _ ops: [IOOp]) -> String? {
        if flags & US_IO_FUA.rawValue != 0 {
            if !config.hasFUA {
                return
                    "no IO has the flag fua, because the device has no fua = true beside cache = \"volatile\""
            }
            if !ops.contains(.write), !ops.contains(.writeZeroes) {
                return "only writes have the flag fua"
            }
        }
        if flags & US_IO_NOUNMAP.rawValue != 0, !ops.contains(.writeZeroes) {
            return "only write_zeroes has the flag nounmap"
        }
        return nil
    }

    private func longest(_ op: IOOp) -> UInt64 {
        switch op {
        case .read, .write: UInt64(config.maxIOBytes)
        case .flush: 0
        case .discard: config.discard?.maxBytes ?? 0
        case .writeZeroes: config.writeZeroes?.maxBytes ?? 0
        }
    }

    private func reasonAgainstRange(_ rule: Rule) -> String? {
        guard let size = sizeBytes, let hull = rule.range?.hull, hull.start >= size else {
            return nil
        }
        return "its range begins at \(hull.start), and the device ends at \(size)"
    }

    /// Checks the actions of a rule that may act.
    private mutating func lookAtActions(_ rule: Rule) {
        if let size = sizeBytes, let hull = rule.range?.hull, hull.end > size,
            // A range that starts at 0 and is larger than the device is meant to cover all of it.
            hull.start > 0
        {
            add(
                rule.line,
                "a part of its range lies past the end of the device, which is at \(size)"
            )
        }
        guard rule.decision.ignores_fua != 0 else { return }
        if !config.hasFile {
            add(
                rule.line,
                "ignore_fua changes nothing: memory keeps no promise that could be broken"
            )
        } else if !config.hasFUA {
            add(rule.line, "ignore_fua changes nothing: no write is marked FUA without fua = true")
        }
    }

    // MARK: Functions

    /// Checks handlers, and functions whose name is nearly that of a handler.
    ///
    /// - Parameters:
    ///   - handlers: bits of ``IOOp``.
    ///   - functions: all global functions.
    mutating func lookAtFunctions(
        handlers: UInt32,
        hasControl: Bool,
        _ functions: [(name: String, line: Int32)]
    ) {
        for op in IOOp.allCases where handlers & op.bit != 0 {
            let line = functions.first { $0.name == op.name }?.line ?? 0
            if let reason = missing(op) {
                add(line, "\(op.name)() is never called: \(reason)")
            } else if let rule = settledBy[op] {
                add(
                    line,
                    "\(op.name)() is never called: every such IO ends at the rule of line \(rule)"
                )
            }
        }
        var names = IOOp.allCases.filter { handlers & $0.bit == 0 }.map(\.name)
        if !hasControl { names.append("ctl") }
        let known = Set(IOOp.allCases.map(\.name) + ["ctl"])
        for function in functions where !known.contains(function.name) {
            guard let meant = names.first(where: { Self.isNearly($0, function.name) }) else {
                continue
            }
            add(
                function.line,
                "\(function.name)() is called by nobody but the script: is \(meant)() meant?"
            )
        }
    }

    /// True when the names differ in case, by one letter added, removed or replaced, or by two neighbours swapped.
    static func isNearly(_ name: String, _ other: String) -> Bool {
        let (a, b) = (Array(name), Array(other))
        if name == other.lowercased() { return true }
        let start = zip(a, b).prefix { $0 == $1 }.count
        let end = zip(a.reversed(), b.reversed()).prefix { $0 == $1 }.count
        switch a.count - b.count {
        case 1, -1: return start + end >= min(a.count, b.count)
        case 0:
            let differing = a.count - start - end
            return differing == 1
                || differing == 2 && a[start] == b[start + 1] && a[start + 1] == b[start]
        default: return false
        }
    }
}

extension Rule {
    /// True when the rule ends the search for every IO of its ops.
    fileprivate var isUnconditional: Bool {
        isTerminal && range == nil && !hasConditions && !history.isGiven
            && skip | nth | times == 0 && every <= 1 && chance == nil
    }
}
