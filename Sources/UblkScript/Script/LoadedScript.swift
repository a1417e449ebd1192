/// A script loaded for one queue; made from its text in two steps.
///
/// A script itself declares the size of its device, its memory limit and its seed. So it is run once to find these out
/// (``Plan``), and then once per queue to be used. All runs see the same text and the same seed. Servers, the simulator
/// and `check` all load scripts this way, so what one accepts the others accept too. Queue thread.
///
///     plan(source, overrides) ─► Plan: configuration, seed, rules ─► LoadedScript, one per queue
struct LoadedScript: ~Copyable {
    let script: Script
    var rules: RuleSet

    /// The facts about a script that are known before any queue runs it.
    struct Plan: Sendable {
        let source: ScriptSource
        /// `device{}` and the overrides, checked, with ``seed`` for a seed.
        var config: DeviceConfig
        /// The seed that was given, or one picked at random.
        let seed: UInt64
        /// The seed is the script's or the command line's, so another run is the same.
        fileprivate(set) var isSeedGiven = false
        /// The parameters of `params{}` with the values of this device, by name.
        let parameters: [Setting]
        /// The parameters that the command line gives.
        let arguments: [String: String]
        /// The keys of `device{}` that the command line gives.
        fileprivate let settings: [String: String]
        /// The label of each `rule{}`, in file order.
        let rules: [RuleLabel]
        /// The keys and values of each rule, as text.
        let ruleTexts: [String]
        /// Rules and handlers that can never act.
        let findings: [ScriptFinding]
        /// The ledger's number of the first rule; a reload continues after the rules of the previous script.
        var firstRule: Int32 = 0
        /// The bank of objects without a name (``SharedObjects``): 0 or 1, in turn from one reload to the next.
        var bank = 0
        /// The origin of each setting of the device, by key.
        let origins: [String: String]
        /// Bits of ``IOOp``: the ops with a handler.
        let handlers: UInt32
        /// True when the script defines `ctl()`.
        let hasControl: Bool
        /// True when the script uses `after()` or `every()`.
        let hasTimers: Bool

        var ruleCount: Int { rules.count }
        var hasHandlers: Bool { handlers != 0 }
        /// True when some function of the script can run while the device does.
        var needsWatchdog: Bool { hasHandlers || hasControl || hasTimers }

        /// Loads the script for one queue, on the thread that will run it.
        ///
        /// - Parameters:
        ///   - queue: the queue's number.
        ///   - shared: the device's shared objects, made for all of its queues.
        ///   - counters: the device's counters, made for ``ruleCount`` rules.
        ///   - ledger: the queue's ledger.
        ///   - logFD: the file that `log()` writes to; -1: none.
        ///   - now: the time on the device's clock.
        func load(
            queue: QueueID,
            shared: SharedObjects,
            counters: RuleCounters,
            ledger: Ledger,
            logFD: Int32,
            now: Instant = Instant(nanoseconds: 0),
            goesOn: Bool = false
        ) throws(ScriptProblem) -> LoadedScript {
            try LoadedScript(
                self,
                queue: queue,
                shared: shared,
                counters: counters,
                ledger: ledger,
                logFD: logFD,
                now: now,
                goesOn: goesOn
            )
        }

        /// Loads the script once more, for one of its tests.
        ///
        /// - Parameter shared: the objects of a device that has loaded the script already. The test shares the named
        ///   ones, and has unnamed ones of its own.
        func loadTests(shared: SharedObjects, logFD: Int32) throws(ScriptProblem) -> Script {
            let options = Script.Options(
                memoryBytes: config.scriptMemoryBytes,
                seed: seed,
                bank: 1 - bank,
                logFD: logFD,
                arguments: arguments,
                settings: settings,
                keepsTests: true
            )
            return try LoadedScript.loaded(source, shared, options)
        }
    }

    /// Runs `source` on private objects, its log muted, and checks what it declares.
    ///
    /// - Parameters:
    ///   - overrides: values for keys of `device{}`; every other key is a parameter of the script.
    ///   - usualSeed: the seed when neither the script nor `overrides` has one; nil: a random one.
    static func plan(
        _ source: ScriptSource,
        overrides: [Setting] = [],
        usualSeed: UInt64? = nil
    ) throws(ScriptProblem) -> Plan {
        let first = try firstOptions(overrides, usualSeed)
        var plan = try probe(source, overrides, first)
        if let wanted = plan.config.seed, wanted != plan.seed {
            // The script's own seed was not known in the first run, and its declarations may depend on the seed.
            var options = first
            options.seed = wanted
            plan = try probe(source, overrides, options)
        }
        plan.isSeedGiven = plan.config.seed != nil
        plan.config.seed = plan.seed
        return plan
    }

    /// The options of the first run, taken from the command line alone, as `device{}` is not known yet.
    private static func firstOptions(
        _ overrides: [Setting],
        _ usualSeed: UInt64?
    ) throws(ScriptProblem) -> Script.Options {
        // 32 bits, short enough for a person to type again.
        let seed = usualSeed ?? UInt64(UInt32.random(in: 1 ... .max))
        var options = Script.Options(seed: seed)
        for setting in overrides {
            // The command line has text only.
            guard case .string(let text) = setting.value else { continue }
            if DeviceConfig.keys.contains(setting.key) {
                options.settings[setting.key] = text
            } else {
                options.arguments[setting.key] = text
            }
        }
        do throws(ConfigError) {
            for setting in overrides where setting.key == "seed" {
                options.seed = try setting.seed()
            }
            for setting in overrides where setting.key == "memory" {
                options.memoryBytes = try setting.scriptMemory()
            }
        } catch { throw .config(error) }
        return options
    }

    private static func probe(
        _ source: ScriptSource,
        _ overrides: [Setting],
        _ options: Script.Options
    ) throws(ScriptProblem) -> Plan {
        let shared = SharedObjects(queues: 1)
        let script: Script
        do throws(ScriptError) {
            script = try Script(source, shared: shared, options: options)
        } catch { throw .script(error) }
        do throws(ConfigError) {
            let declarations = try script.declarations()
            let parameters = try parameters(declarations.parameters, overrides)
            let settings = overrides.filter { DeviceConfig.keys.contains($0.key) }
            let config = try DeviceConfig(
                declarations.device + settings,
                backings: declarations.backings
            )
            let origins = (declarations.device + settings).reduce(into: [String: String]()) {
                $0[$1.key] = $1.origin
            }
            return Plan(
                source: source,
                config: config,
                seed: options.seed,
                parameters: parameters,
                arguments: options.arguments,
                settings: options.settings,
                rules: declarations.labels,
                ruleTexts: declarations.ruleTexts,
                findings: findings(declarations, config, script, source, origins["queues"]),
                origins: origins,
                handlers: script.handlers,
                hasControl: script.hasCtl,
                hasTimers: script.nextTimer != nil
            )
        } catch { throw .config(error) }
    }

    private static func findings(
        _ declarations: Declarations,
        _ config: DeviceConfig,
        _ script: borrowing Script,
        _ source: ScriptSource,
        _ queuesOrigin: String?
    ) -> [ScriptFinding] {
        var findings = ScriptFindings(config, source)
        findings.lookAtDevice(queues: queuesOrigin)
        for (rule, label) in zip(declarations.rules, declarations.labels) {
            findings.lookAtRule(rule, label)
        }
        findings.lookAtFunctions(
            handlers: script.handlers,
            hasControl: script.hasCtl,
            script.functions
        )
        return findings.list
    }

    /// The declared parameters with the values of the command line.
    ///
    /// - Throws: for a key that is neither a parameter nor one of `device{}`.
    private static func parameters(
        _ declared: [Setting],
        _ overrides: [Setting]
    ) throws(ConfigError) -> [Setting] {
        var parameters = declared
        for setting in overrides where !DeviceConfig.keys.contains(setting.key) {
            if let index = declared.firstIndex(where: { $0.key == setting.key }) {
                parameters[index] = setting
                continue
            }
            let names = declared.map(\.key).joined(separator: ", ")
            let keys = DeviceConfig.keys.joined(separator: ", ")
            throw ConfigError(
                origin: setting.origin,
                text: names.isEmpty
                    ? "device has no key \"\(setting.key)\". It has: \(keys)"
                    : "there is no \"\(setting.key)\". The script has: \(names); device has: \(keys)"
            )
        }
        return parameters
    }

    private init(
        _ plan: Plan,
        queue: QueueID,
        shared: SharedObjects,
        counters: RuleCounters,
        ledger: Ledger,
        logFD: Int32,
        now: Instant,
        goesOn: Bool
    ) throws(ScriptProblem) {
        let options = Script.Options(
            memoryBytes: plan.config.scriptMemoryBytes,
            seed: plan.seed,
            queue: queue,
            bank: plan.bank,
            now: now,
            logFD: logFD,
            arguments: plan.arguments,
            settings: plan.settings,
            goesOn: goesOn
        )
        let script = try Self.loaded(plan.source, shared, options)
        let list = try Self.rules(of: script, count: counters.count, backings: plan.config.backings)
        rules = RuleSet(
            list,
            counters: counters,
            shared: shared,
            ledger: ledger,
            seed: plan.seed,
            queue: queue,
            firstRule: plan.firstRule
        )
        self.script = script
    }

    fileprivate static func loaded(
        _ source: ScriptSource,
        _ shared: SharedObjects,
        _ options: Script.Options
    ) throws(ScriptProblem) -> Script {
        do throws(ScriptError) {
            return try Script(source, shared: shared, options: options)
        } catch { throw .script(error) }
    }

    private static func rules(
        of script: borrowing Script,
        count: Int,
        backings: [BackingConfig]
    ) throws(ScriptProblem) -> [Rule] {
        do throws(ConfigError) {
            let declarations = try script.declarations()
            let list = declarations.rules
            // Verdicts refer to backings by number.
            guard declarations.backings.elementsEqual(backings, by: { $0.isSame(as: $1) }) else {
                throw ConfigError(
                    origin: script.sourceName,
                    text:
                        "declares its backings differently from run to run; pairs() has no order, ipairs() has one"
                )
            }
            // Counters are indexed by rule, so all runs must declare the same number of rules.
            guard list.count == count else {
                throw ConfigError(
                    origin: script.sourceName,
                    text: "declares \(count) rules on one run and \(list.count) on the next"
                )
            }
            return list
        } catch { throw .config(error) }
    }
}

/// The reason why a script cannot become a device: it does not run, or a declaration is refused.
enum ScriptProblem: Error, CustomStringConvertible, Equatable {
    case script(ScriptError)
    case config(ConfigError)

    var description: String {
        switch self {
        case .script(let error): error.description
        case .config(let error): error.description
        }
    }
}

extension RuleSet {
    /// Gives the rules the device's size and the history tables they need; called before the first IO.
    ///
    /// - Throws: when there is no memory for the tables that `age` and `seen` keep per 4 KiB.
    mutating func attach(
        _ shared: SharedObjects,
        _ script: borrowing Script,
        deviceBytes: UInt64
    ) throws(ScriptError) {
        guard attach(shared, bank: script.bank, deviceBytes: deviceBytes) else {
            throw .noMemoryForHistory(source: script.sourceName, deviceBytes: deviceBytes)
        }
    }
}
