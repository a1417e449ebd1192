import ArgumentParser

/// `quiesce ID`: ends a device's server in order, and leaves the device waiting for another one.
struct QuiesceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "quiesce",
        abstract: "End a device's server without an IO error; recover goes on.",
        discussion: """
            For an upgrade of this program: quiesce, then recover with the new one. New IO waits meanwhile. The \
            device has to have been added with recovery=wait or reissue (with fail, IO fails meanwhile), on a kernel \
            from 6.16 on. With reissue the next server gets what this one holds or delays; else that ends now.
            """
    )

    @OptionGroup var device: DeviceArgument

    @OptionGroup var patience: PatienceOption

    func run() throws {
        let server = try ServerClient(try device.id())
        let seconds = try patience.seconds()
        let pid = server.record.serverPID
        let answer = try server.ask(
            .quiesce,
            ["\(seconds)"],
            seconds: seconds + ServerClient.questionSeconds
        )
        if !answer.isEmpty { Output.error(answer) }
        // The command is done when the process has ended too.
        _ = ServerProcess.waitForExit(pid, seconds: 5)
    }
}
