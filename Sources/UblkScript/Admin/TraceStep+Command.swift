/// The commands for `/dev/ublk-control` as steps of a trace.
extension TraceStep {
    /// - Parameter origin: when the trace began; nil where there is no such step.
    init?(_ command: CommandLog.Entry, origin: UInt64) {
        guard let kind = Kind(rawValue: command.kind.rawValue) else { return nil }
        self.init(t: command.time - min(origin, command.time), step: kind)
        if command.time < origin { ago = origin - command.time }
        nanoseconds = command.nanoseconds
        if !command.text.isEmpty { what = command.text }
        guard let result = command.result else { return }
        take(result: Int64(result))
    }

    /// Steps of queues and commands, each in the order of time, as one list.
    static func merged(_ commands: [TraceStep], _ steps: [TraceStep]) -> [TraceStep] {
        guard !commands.isEmpty else { return steps }
        var merged: [TraceStep] = []
        var rest = commands[...]
        for step in steps {
            while let next = rest.first, next.ago != nil || next.t <= step.t {
                merged.append(next)
                rest.removeFirst()
            }
            merged.append(step)
        }
        return merged + rest
    }
}

extension TraceStep.Kind {
    /// It is a command for `/dev/ublk-control`, and no step of a queue.
    var isCommand: Bool { ControlCommand.Kind(rawValue: rawValue) != nil }
}
