import Synchronization
import SystemPackage

/// The commands that were given to `/dev/ublk-control` for a device, by its server and the process beside it, in their
/// order: what a trace begins with.
///
/// Kept from the first one on, as there are few: ADD_DEV is over before anybody can ask. Any thread.
final class CommandLog: Sendable {
    struct Entry: Equatable, Sendable {
        let kind: ControlCommand.Kind
        /// When it was answered, on the machine's monotonic clock.
        let time: UInt64
        /// How long that took.
        let nanoseconds: UInt64
        /// 0 or a negative errno; nil: it failed without an answer of the driver.
        let result: Int32?
        /// Its argument, and what came of it, in words.
        let text: String
    }

    private struct State {
        var entries: [Entry] = []
        /// Number of the first entry that is there.
        var first = 0
    }

    private let state = Mutex(State())
    private let clock: WaitClock
    /// Polls for the end of something could go on for ever.
    private static let entriesMax = 256

    init(clock: WaitClock) { self.clock = clock }

    var now: UInt64 { clock.now() }

    /// - Parameter begun: when it was given.
    func note(_ kind: ControlCommand.Kind, begun: UInt64, _ error: DeviceError?, _ text: String) {
        let now = clock.now()
        let entry = Entry(
            kind: kind,
            time: now,
            nanoseconds: now - min(begun, now),
            result: error == nil ? 0 : error?.errno.map { -$0.rawValue },
            text: text
        )
        state.withLock { state in
            if state.entries.count == Self.entriesMax {
                state.entries.removeFirst()
                state.first += 1
            }
            state.entries.append(entry)
        }
    }

    /// Entries from number `first` on, and the number of the next one.
    func entries(from first: Int) -> (entries: [Entry], next: Int) {
        state.withLock { state in
            let next = state.first + state.entries.count
            let skipped = min(max(0, first - state.first), state.entries.count)
            return (Array(state.entries.dropFirst(skipped)), next)
        }
    }
}

/// A way to the driver that notes each command.
struct NotedAccess: DriverAccess {
    let access: any DriverAccess
    let log: CommandLog

    func control() throws(DeviceError) -> any ControlTransport {
        NotedControl(try access.control(), log)
    }

    func presentIDs() -> [DeviceID] { access.presentIDs() }

    func openCharacterDevice(_ device: DeviceID) throws(Errno) -> Int32 {
        try access.openCharacterDevice(device)
    }

    func checkNode(_ path: String) throws(DeviceNode.Problem) { try access.checkNode(path) }
    func mayUse(_ path: String) -> Bool { access.mayUse(path) }
    func hasDisk(_ device: DeviceID) -> Bool { access.hasDisk(device) }
    func isDiskBusy(_ device: DeviceID) -> Bool { access.isDiskBusy(device) }
    func scanPartitions(_ device: DeviceID) throws(Errno) { try access.scanPartitions(device) }
    func syncDisk(_ device: DeviceID) { access.syncDisk(device) }
}

private final class NotedControl: ControlTransport {
    private let transport: any ControlTransport
    private let log: CommandLog

    init(_ transport: any ControlTransport, _ log: CommandLog) {
        (self.transport, self.log) = (transport, log)
    }

    func run(
        _ command: ControlCommand,
        payload: inout [UInt8],
        seconds: Int
    ) throws(DeviceError) -> Int32 {
        let asked = payload
        let begun = log.now
        do throws(DeviceError) {
            let answer = try transport.run(command, payload: &payload, seconds: seconds)
            log.note(command.kind, begun: begun, nil, command.text(asked: asked, answer: payload))
            return answer
        } catch {
            log.note(command.kind, begun: begun, error, command.text(asked: asked, answer: nil))
            throw error
        }
    }
}
