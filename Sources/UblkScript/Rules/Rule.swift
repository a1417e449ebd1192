import CLua

/// One `rule{}`, compiled: what it matches and what it does.
///
/// Plain data; each queue has its own copy.
///
/// All matchers must match. They are tried in this order: op, range, conditions, history (`age`, `seen`), the rule's
/// own count (`skip`, `nth`, `every`), chance (`p`), `times`. So the count counts IOs that match op, range, conditions
/// and history, and `times` counts those the rule acted on.
@safe
struct Rule {
    /// The line of the rule in its script, for messages.
    var line: Int32 = 0
    /// Bits of ``IOOp``.
    var ops: UInt32 = IOOp.allBits
    /// The bytes that an IO must overlap; nil: any.
    var range: RangeSet?
    var conditions = RuleConditions()
    /// ``conditions`` has at least one condition.
    var hasConditions = false
    var history = RuleHistory()
    /// The number of matching IOs that are ignored at first.
    var skip: UInt64 = 0
    /// The rule acts on the nth matching IO only; 0: not given.
    var nth: UInt64 = 0
    /// The rule acts on every nth matching IO, where n is this number; 0: not given.
    var every: UInt64 = 0
    /// The rule acts when a random 64-bit number is below this one; nil: always.
    var chance: UInt64?
    /// The number of matching IOs in a row that the rule acts on once it acts, the first included; 0 means 1.
    var run: UInt32 = 0
    /// The most IOs that the rule acts on, over all queues; 0: no limit.
    var times: UInt64 = 0

    /// The bytes of an IO that the rule acted on are removed from ``range``, so that they fail only once.
    var isOnce = false
    /// The mark that is set whenever the rule acts; nil: none.
    var mark: Cell?
    /// The cell of the device's state, which is set to ``newState`` when the rule acts; nil: the state stays.
    var state: Cell?
    /// Number of the cell that names the state.
    var newState: Int64 = 0

    /// A write, discard or write-zeroes that succeeds removes its bytes from ``range``.
    var heals = false
    /// The rule's bit in the mask of heal rules, given by ``RuleSet``; 0 when it does not heal.
    var healBit: UInt64 = 0
    /// What the rule adds to the decision about an IO.
    var decision = us_decision()
    // Safety: in memory of the script, which outlives the rules.
    /// The segments of the decision; nil: it has none.
    var segments: UnsafePointer<us_segment>?
    /// The delay that the rule adds, when that is not one fixed time.
    var timing = RuleTiming()
    var hasTiming = false
    /// The rule does nothing but add such a delay: when that is 0, it has not acted.
    var onlyDelays = false
    /// The rule changes data, or how it is stored.
    var hasEffects = false
    /// The ledger records each IO that the rule matches (`log`).
    var isLogged = false

    /// The ledger may record that the rule acted.
    ///
    /// A rule that only heals is recorded when an IO has healed.
    var isRecorded: Bool {
        isTerminal || decision.delay_ns != 0 || hasTiming || hasEffects || isLogged
    }

    /// The search ends at this rule when it acts.
    var isTerminal: Bool {
        decision.outcome != UInt8(US_OUTCOME_PASS.rawValue) || decision.hangs != 0
    }
}

extension Rule {
    /// The keys that stand for an outcome, each of which excludes the others.
    private static let outcomeKeys = Outcome.all.compactMap(\.ruleKey)
    /// The keys that together make a verdict.
    private static let verdictKeys: [String] =
        [outcomeKeys[0], "delay"] + outcomeKeys[1...] + ["hang", "ignore_fua"]
    static let actions: [String] =
        [outcomeKeys[0]] + RuleTiming.keys + ["heal", "once"] + outcomeKeys[1...]
        + ["hang", "ignore_fua", "log", "mark", "set_state", "verdict"]
    static let keys =
        ["op", "range"] + RuleConditions.keys + [
            "age", "seen", "trigger", "skip", "nth", "every", "p", "run", "times", "name",
        ]
        + actions

    /// Compiles the settings of one `rule{}`.
    ///
    /// - Parameter makeRanges: makes the set of the bytes of `range = { offset, length }`.
    init(
        _ settings: [Setting],
        line: Int32,
        origin: String,
        names: RuleNames,
        makeRanges: (_ offset: UInt64, _ length: UInt64) -> UInt?
    ) throws(ConfigError) {
        self.line = line
        try Self.checkVerdictAlone(settings)
        for setting in settings {
            switch setting.key {
            case "op": ops = try Self.ops(setting)
            case "range": try readRange(setting, makeRanges)
            case "skip": skip = UInt64(try setting.integer(1...Int64.max))
            case "p": chance = Self.threshold(try setting.number(0...1))
            case "every": every = UInt64(try setting.integer(1...Int64.max))
            case "nth": nth = UInt64(try setting.integer(1...Int64.max))
            case "run": run = UInt32(try setting.integer(1...1_000_000))
            case "seen": history.seen = UInt8(try setting.integer(1...255))
            case "age": history.age = try setting.nanoseconds(1...Self.timeMax)
            case "times": times = UInt64(try setting.integer(1...Int64.max))
            case "name": _ = try Self.name(setting)
            case "trigger": _ = try Self.trigger(setting)
            default:
                if try conditions.read(setting, names) {
                    hasConditions = true
                } else if try timing.read(setting, names) {
                    hasTiming = true
                } else {
                    try readAction(setting, names)
                }
            }
        }
        hasEffects = decision.changesData
        try check(origin: origin)
        onlyDelays =
            hasTiming && !isTerminal && decision.delay_ns == 0 && !hasEffects && !heals
            && !isOnce && mark == nil && state == nil && !isLogged
    }

    /// Reads the name of a rule, as used on the command line, in `stats` and in the ledger.
    static func name(_ setting: Setting) throws(ConfigError) -> String {
        let text = try setting.name()
        // In "ctl rule off R", "all" means all rules, and a number is a line.
        guard text != "all" else { throw setting.refused("another name: all means every rule,") }
        guard Int(text) == nil else {
            throw setting.refused("another name: a number means the rule of that line,")
        }
        return text
    }

    /// Reads the path of a trigger file: the rule acts only while the file exists.
    static func trigger(_ setting: Setting) throws(ConfigError) -> String {
        let path = try setting.text()
        guard path.utf8.count < 4096 else {
            throw setting.refused("a path of less than 4096 bytes")
        }
        return path
    }

    private mutating func readAction(
        _ setting: Setting,
        _ names: RuleNames
    ) throws(ConfigError) {
        switch setting.key {
        case "delay":
            var verdict = us_decision()
            verdict.delay_ns = try setting.nanoseconds(0...Self.timeMax)
            try add(verdict, setting)
        case "heal": heals = try setting.bool()
        case "hang": try readHang(setting)
        case "verdict": try readVerdict(setting)
        case "ignore_fua":
            var verdict = us_decision()
            verdict.ignores_fua = try setting.bool() ? 1 : 0
            try add(verdict, setting)
        case "log": isLogged = try setting.bool()
        case "once": isOnce = try setting.bool()
        case "mark": mark = try names.cell(US_CELL_MARK, try setting.name(), setting)
        case "set_state":
            state = try names.cell(US_CELL_STATE, "", setting)
            newState = try names.state(setting)
        default:
            if let outcome = Outcome.all.first(where: { $0.ruleKey == setting.key }) {
                return try readOutcome(outcome, setting)
            }
            throw ConfigError(
                origin: setting.origin,
                text: "rule has no key \"\(setting.key)\". It has: "
                    + Self.keys.joined(separator: ", ")
            )
        }
    }

    /// The longest time a script may give, nanoseconds: 366 days, as anything longer is taken for a mistake.
    static let timeMax: UInt64 = 366 * 86400 * 1_000_000_000

    private mutating func readHang(_ setting: Setting) throws(ConfigError) {
        var verdict = us_decision()
        if case .bool(let hangs) = setting.value {
            verdict.hangs = hangs ? 1 : 0
        } else {
            verdict.hangs = 1
            verdict.hang_ns = try setting.nanoseconds(UInt64(US_HANG_NS_MIN)...Self.timeMax)
        }
        try add(verdict, setting)
    }

    private mutating func readOutcome(_ outcome: Outcome, _ setting: Setting) throws(ConfigError) {
        var verdict = us_decision()
        verdict.outcome = outcome.number
        if verdict.outcome == UInt8(US_OUTCOME_FAIL.rawValue) {
            guard case .string(let name) = setting.value,
                let errno = Quantity.blockErrno(named: name)
            else {
                throw setting.refused("one of " + Quantity.blockErrnoNames.joined(separator: ", "))
            }
            verdict.error = errno
        } else if try !setting.bool() {
            return
        }
        try add(verdict, setting)
    }

    /// Adds the verdict of one key to the rule's decision, as the verdicts of a handler are added.
    private mutating func add(_ verdict: us_decision, _ setting: Setting) throws(ConfigError) {
        var verdict = verdict
        // Each key is given at most once, and `verdict` excludes the others, so only outcomes can conflict.
        guard unsafe us_decision_add(&decision, &verdict, nil, 0) else {
            throw ConfigError(
                origin: setting.origin,
                text: "a rule has one outcome: \(Self.list(Self.outcomeKeys)) exclude each other"
            )
        }
    }

    private static func list(_ words: [String]) -> String {
        words.dropLast().joined(separator: ", ") + " and " + (words.last ?? "")
    }

    /// Reads `verdict`, which can express all that the other action keys can, and more.
    private mutating func readVerdict(_ setting: Setting) throws(ConfigError) {
        guard case .verdict(let address, let dist) = setting.value,
            let verdict = unsafe UnsafePointer<us_decision>(bitPattern: address)
        else { throw setting.refused("a verdict, such as delay(\"5ms\") + fail(\"EIO\"),") }
        try add(unsafe verdict.pointee, setting)
        if decision.segment_count != 0 {
            unsafe segments = UnsafeRawPointer(verdict + 1).assumingMemoryBound(to: us_segment.self)
        }
        timing.delay = Distribution(address: dist)
        hasTiming = hasTiming || dist != 0
    }

    private static func checkVerdictAlone(_ settings: [Setting]) throws(ConfigError) {
        guard let verdict = settings.first(where: { $0.key == "verdict" }),
            settings.contains(where: { verdictKeys.contains($0.key) })
        else { return }
        throw ConfigError(
            origin: verdict.origin,
            text: "verdict excludes \(list(verdictKeys)): say these in the verdict"
        )
    }

    private mutating func readRange(
        _ setting: Setting,
        _ makeRanges: (UInt64, UInt64) -> UInt?
    ) throws(ConfigError) {
        switch setting.value {
        case .ranges(let address):
            range = RangeSet(address: address)
        case .list(let items) where items.count == 2:
            let parts = items.map { Setting(key: "range", value: $0, origin: setting.origin) }
            let offset = try parts[0].bytes(0...DeviceConfig.sizeMax)
            let length = try parts[1].bytes(1...DeviceConfig.sizeMax)
            guard let address = makeRanges(offset, length) else {
                throw ConfigError(origin: setting.origin, text: "range: out of memory")
            }
            range = RangeSet(address: address)
        default:
            throw setting.refused("a ranges object or { offset, length }")
        }
    }

    private static func ops(_ setting: Setting) throws(ConfigError) -> UInt32 {
        let names: [Setting.Value] =
            if case .list(let items) = setting.value { items } else { [setting.value] }
        var mask: UInt32 = 0
        for name in names {
            guard case .string(let text) = name, let op = IOOp(name: text) else {
                throw setting.refused(
                    "one of read, write, flush, discard, write_zeroes, or a list of them"
                )
            }
            mask |= op.bit
        }
        guard mask != 0 else { throw setting.refused("at least one op") }
        return mask
    }

    /// The probability `p` as an upper bound for a uniform 64-bit number; nil for 1.
    private static func threshold(_ p: Double) -> UInt64? {
        p >= 1 ? nil : UInt64(p * 0x1p64)
    }

    /// Refuses a rule with an op to which its decision cannot apply.
    private func checkOps(origin: String) throws(ConfigError) {
        var decision = decision
        let able = unsafe us_decision_ops(&decision)
        guard ops & ~able != 0 else { return }
        let unable: String = IOOp.allCases.first { $0.bit & ops & ~able != 0 }?.name ?? ""
        let names = IOOp.allCases.filter { $0.bit & able != 0 }.map { "\"\($0.name)\"" }
        throw ConfigError(
            origin: origin,
            text:
                "\(decision.text) cannot apply to a \(unable): add op = \(names.joined(separator: " or "))"
        )
    }

    private func check(origin: String) throws(ConfigError) {
        func refuse(_ text: String) -> ConfigError { ConfigError(origin: origin, text: text) }
        if heals {
            if range == nil { throw refuse("heal needs the range it heals") }
            let healing = IOOp.write.bit | IOOp.discard.bit | IOOp.writeZeroes.bit
            if ops & ~healing != 0 {
                throw refuse("heal works on op = \"write\", \"discard\" or \"write_zeroes\" only")
            }
            if Outcome(decision)?.changesMedia == false {
                throw refuse(
                    "heal beside error or drop: an IO that fails or is dropped heals nothing"
                )
            }
        }
        try checkOps(origin: origin)
        if range != nil, ops == IOOp.flush.bit {
            throw refuse("a flush has no range")
        }
        if isOnce, range == nil {
            throw refuse("once needs the range it takes bytes out of")
        }
        if conditions.content != nil, ops != IOOp.write.bit {
            throw refuse("content can be looked at in a write only: add op = \"write\"")
        }
        try timing.check(origin: origin)
        if nth != 0, every != 0, nth % every != 0 {
            throw refuse(
                "the \(nth)th IO is none of every \(every): nth and every exclude each other"
            )
        }
        if conditions.endsBeforeItBegins {
            throw refuse("before comes no later than after: the rule could never act")
        }
        let doesNothing = !heals && !isTerminal && mark == nil && state == nil && !isLogged
        if doesNothing, !isOnce, !hasTiming, !hasEffects, decision.delay_ns == 0 {
            throw refuse(
                "the rule does nothing: give one of " + Self.actions.joined(separator: ", ")
            )
        }
    }
}
