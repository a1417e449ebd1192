import Glibc
import SystemPackage

/// What is left to do for a device when its server has to end in the middle of something, done by a process of
/// its own.
///
/// A thread of the server may be stuck where nothing can interrupt it, in a script's C function or in the kernel.
/// Only the end of the process lets go of everything then: the driver fails its IOs. Afterwards somebody has to
/// delete the device. A device is told from others by its cookie, which is chosen before ADD_DEV, so that one
/// is found whose number nobody had been told yet.
struct Aftermath: Sendable {
    /// ``DeviceInfo/cookie`` of the device.
    let cookie: UInt64
    /// Files that were made for a device that never came up.
    var files: [String] = []

    /// The word that makes this program such a process; not for people.
    static let word = "aftermath"

    /// Ends this process at once; the device and `files` are removed afterwards.
    func endProcess() -> Never {
        let words = [Self.word, "\(getpid())", "\(cookie)"] + files
        _ = try? ChildProcess(words, inNewSession: true)
        _exit(1)
    }

    // MARK: The other process

    /// Does what the command line asks for, when it is one for us; otherwise returns.
    static func runIfAsked(_ arguments: [String]) {
        guard arguments.count > 3, arguments[1] == word, let server = Int32(arguments[2]),
            let cookie = UInt64(arguments[3])
        else { return }
        SystemCall.setThreadName("ublk-script")
        _ = ServerProcess.waitForExit(server, seconds: 60)
        try? Aftermath(cookie: cookie, files: Array(arguments.dropFirst(4))).clean(patiently: true)
        _exit(0)
    }

    /// Deletes the device and the files.
    ///
    /// - Parameter patiently: an ADD_DEV of the dead process may still be under way.
    func clean(
        patiently: Bool = false,
        state: StateDirectory = .standard,
        _ driver: any DriverAccess = KernelDriver(),
        clock: WaitClock = .machine
    ) throws(DeviceError) {
        for file in files { unsafe unlink(file) }
        let control = ControlDevice(try driver.control())
        for _ in 0..<(patiently ? 20 : 1) {
            for id in driver.presentIDs() {
                guard let info = try? control.info(of: id), info.cookie == cookie else { continue }
                // Before DEL: afterwards the number, and with it these names, may be another device's.
                state.remove(id)
                // Kernels before 6.15 notice a death with every IO held only at the 30 s request
                // timeout.
                try control.delete(id, seconds: 75)
                _ = control.waitUntilGone(id, clock: clock)
                return
            }
            if patiently { clock.pause(50) }
        }
    }
}

/// Looks, while a device comes up, for those who may call it off: a signal, or the end of `add`.
///
/// The main thread cannot: it waits for the driver, for queues and for scripts. Called off, the process ends at
/// once and an ``Aftermath`` follows.
final class BringUpWatch {
    private var threads: ThreadList
    private let endFD: Int32

    /// - Parameters:
    ///   - newFiles: of the device; the aftermath removes them.
    ///   - signalFD: tells of blocked signals; they stay there for who looks next.
    ///   - answerFD: the child's side of the answer to `add`; nil when nobody waits for one.
    init(
        _ aftermath: Aftermath,
        _ newFiles: NewFiles,
        signalFD: Int32,
        answerFD: Int32?
    ) throws(DeviceError) {
        do throws(Errno) { endFD = try SystemCall.makeEventFD() } catch {
            throw .system(call: "eventfd", path: "", error)
        }
        let fds = [endFD, signalFD] + (answerFD.map { [$0] } ?? [])
        var threads = ThreadList()
        let problem = threads.start("ublk-bring-up") {
            var events = fds.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            while unsafe poll(&events, nfds_t(events.count), -1) <= 0 {}
            guard events[0].revents == 0 else { return }
            newFiles.handOver { files in
                var aftermath = aftermath
                aftermath.files = files
                aftermath.endProcess()
            }
        }
        self.threads = threads
        if let problem { throw .unsupported("the server cannot have a thread (\(problem.name))") }
    }

    deinit { end() }

    /// The device is up, or given up: from now on others look.
    func end() {
        var one: UInt64 = 1
        _ = unsafe write(endFD, &one, 8)
        threads.joinAll()
    }
}
