import Glibc
import SystemPackage

/// Deletes a device after its server had to end abruptly; done by a separate process.
///
/// A thread of the server may be stuck where nothing can interrupt it, in a script's C function or in the kernel.
/// Then only the end of the process releases everything: the driver fails the device's IOs. Afterwards somebody has
/// to delete the device. The device is identified by its cookie, which is chosen before ADD_DEV, because the server
/// may have ended before it learned the number.
struct Aftermath: Sendable {
    /// ``DeviceInfo/cookie`` of the device.
    let cookie: UInt64
    /// Files that were made for the device, which did not come up.
    var files: [String] = []

    /// The command-line word that starts this program as such a process; internal.
    static let word = "aftermath"

    /// Starts the cleanup process and ends this one at once.
    func endProcess() -> Never {
        let words = [Self.word, "\(getpid())", "\(cookie)"] + files
        _ = try? ChildProcess(words, inNewSession: true)
        _exit(1)
    }

    // MARK: The other process

    /// Cleans up and exits when the command line is that of a cleanup process; otherwise returns.
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
                // Before DEL, because afterwards another device may have the number and these file names.
                state.remove(id)
                // Kernels before 6.15 notice the death of a server that holds every IO only at the
                // request timeout of 30 s.
                try control.delete(id, seconds: 75)
                _ = control.waitUntilGone(id, clock: clock)
                return
            }
            if patiently { clock.pause(50) }
        }
    }
}

/// A thread that watches, while a device comes up, for what cancels that: a signal, or the end of `add`.
///
/// The main thread cannot watch, because it waits for the driver, for queues and for scripts. On cancellation the
/// process ends at once and an ``Aftermath`` process cleans up; a device that is recovered just goes on waiting for a
/// server.
final class BringUpWatch {
    private var threads: ThreadList
    private let endFD: Int32

    /// - Parameters:
    ///   - aftermath: nil: the device stays.
    ///   - newFiles: files made for the device, to be removed.
    ///   - signalFD: a signalfd, which is polled but not read.
    ///   - answerFD: the server's end of the socket to `add`; nil when no `add` waits for an answer.
    init(
        _ aftermath: Aftermath?,
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
                guard var aftermath else {
                    for file in files { unsafe unlink(file) }
                    _exit(1)
                }
                aftermath.files = files
                aftermath.endProcess()
            }
        }
        self.threads = threads
        if let problem { throw .unsupported("the server cannot have a thread (\(problem.name))") }
    }

    deinit { end() }

    /// Ends the watch, once the device is up or given up.
    func end() {
        SystemCall.notify(endFD)
        threads.joinAll()
    }
}
