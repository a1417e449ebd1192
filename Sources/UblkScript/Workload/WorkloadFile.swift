/// A workload that was read from a file: requests, one a line, or a job of fio's.
///
///     # @TIME, if it has one; then operation, offset, length, flags
///     write 1M 4K fua
///     @1.5s read 1M 4K
///     flush
///     wait 10s
///     ctl addbad 1M 4K
///
/// Read in two steps: the text by itself, then against the device that it is for. What does not fit is refused with the
/// file's name and line, before anything runs.
struct WorkloadFile: Sendable {
    /// Larger files are no workloads.
    static let linesMax = 1 << 20

    private enum Content {
        case requests([(line: Int, request: SimulatedRequest)], steps: [Int: [WorkloadStep]])
        case job(FioJob)
    }

    private let name: String
    private let content: Content

    /// - Parameter name: of the file, in messages.
    init(name: String, text: String) throws(ConfigError) {
        self.name = name
        // The two that end a line on another system are one Character.
        let lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        guard lines.count <= Self.linesMax else {
            throw ConfigError(origin: name, text: "at most \(Self.linesMax) lines are expected")
        }
        let full = lines.enumerated().compactMap { index, line -> (line: Int, text: Substring)? in
            let text = Self.trimmed(line)
            return text.isEmpty || text.hasPrefix("#") || text.hasPrefix(";")
                ? nil : (index + 1, text)
        }
        if full.first?.text.hasPrefix("[") == true {
            content = .job(try FioJob(name: name, lines: full))
            return
        }
        var requests: [(line: Int, request: SimulatedRequest)] = []
        var steps: [Int: [WorkloadStep]] = [:]
        var last: Instant?
        for (line, text) in full {
            switch try Self.line(text, origin: "\(name):\(line)", after: &last) {
            case .request(let request): requests.append((line, request))
            case .step(let step): steps[requests.count, default: []].append(step)
            }
        }
        guard !requests.isEmpty else {
            throw ConfigError(
                origin: name,
                text:
                    "there is no request in it; a line such as \"write 1M 4K\", or a job of fio's, is expected"
            )
        }
        content = .requests(requests, steps: steps)
    }

    static func trimmed(_ line: Substring) -> Substring {
        func isBlank(_ character: Character) -> Bool {
            character == " " || character == "\t"
        }
        var line = line.drop(while: isBlank)
        while let last = line.last, isBlank(last) { line.removeLast() }
        return line
    }

    /// The workload on one device.
    ///
    /// - Parameter depth: requests in flight; nil: as the file says, else one.
    func workload(
        depth: Int?,
        config: DeviceConfig,
        sizeBytes: UInt64
    ) throws(ConfigError) -> Workload {
        switch content {
        case .job(let job): return try job.workload(config: config, sizeBytes: sizeBytes)
        case .requests(let requests, let steps):
            for (line, request) in requests {
                guard let problem = request.problem(on: config, sizeBytes: sizeBytes) else {
                    continue
                }
                throw ConfigError(origin: "\(name):\(line)", text: "\(request.text): \(problem)")
            }
            var workload = Workload(requests.map(\.request), depth: depth ?? 1)
            workload.steps = steps
            return workload
        }
    }

    /// What to tell whoever gave the file; nil: nothing.
    var note: String? { if case .job(let job) = content { job.note } else { nil } }

    // MARK: A line

    private enum Line {
        case request(SimulatedRequest)
        case step(WorkloadStep)
    }

    /// - Parameter last: the time of the line before, which this one is not to precede.
    private static func line(
        _ text: Substring,
        origin: String,
        after last: inout Instant?
    ) throws(ConfigError) -> Line {
        var words = text.prefix { $0 != "#" }
            .split { $0 == " " || $0 == "\t" }.map(String.init)[...]
        func refuse(_ text: String) -> ConfigError { ConfigError(origin: origin, text: text) }
        var start = last.map { SimulatedRequest.Start.after($0) } ?? .soon
        if let word = words.first, word.hasPrefix("@") {
            guard let nanoseconds = Quantity.nanoseconds(String(word.dropFirst())) else {
                throw refuse("\(word): a time such as @1.5ms or @10s is expected")
            }
            let time = Instant(nanoseconds: nanoseconds)
            guard time >= last ?? time else {
                throw refuse("\(word): it is before the time of a line above")
            }
            (last, start) = (time, .at(time))
            words = words.dropFirst()
        }
        if let step = try WorkloadStep(words, origin: origin, start: start) { return .step(step) }
        guard let word = words.popFirst(), let op = IOOp(name: word) else {
            let names = IOOp.allCases.map(\.name).joined(separator: ", ")
            throw refuse(
                "\"\(text)\": one of \(names), ctl, mark, wait is expected, and @TIME before it at most"
            )
        }
        var request = SimulatedRequest(op: op, start: start)
        if op != .flush {
            guard let offset = words.popFirst().flatMap({ Quantity.bytes($0) }),
                let length = words.popFirst().flatMap({ Quantity.bytes($0) })
            else {
                throw refuse(
                    "\"\(text)\": an offset and a length are expected, as in \(op.name) 1M 4K"
                )
            }
            (request.offsetBytes, request.lengthBytes) = (offset, length)
        }
        for word in words {
            guard let flag = RuleConditions.flagBits.first(where: { $0.name == word }) else {
                let names = RuleConditions.flagBits.map(\.name).joined(separator: ", ")
                throw refuse("\(word): one of the flags \(names) is expected")
            }
            request.flags.insert(IOFlags(rawValue: flag.bits))
        }
        return .request(request)
    }
}
