import Synchronization

/// What the loop and those who ask look at.
///
/// The main thread.
extension DeviceServer {
    /// A handler raised, and the script's `on_error` is `"stop"`.
    var isStopWanted: Bool {
        seats.contains { $0.control.wantsStop.load(ordering: .relaxed) }
    }

    var readableLines: Int32 { lines.readFD }
    func takeLines() -> [LinePipe.Line] { lines.takeLines() }
    var state: StateDirectory { request.state }
    var rules: [RuleLabel] { plan.rules }
    var seed: UInt64 { plan.seed }
}
