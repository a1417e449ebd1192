import ArgumentParser

/// `stats [ID ...]`: prints the statistics of devices.
struct StatsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stats",
        abstract: "Print what devices have done so far: IOs, times, faults, rules.",
        discussion: """
            Without a device, of every one. Times are those between the moment a queue got an IO \
            and its answer, by the clock that a queue reads once a turn: what is answered at once \
            took no time. A median or p99 is at most an eighth too high.
            """
    )

    @Argument(help: "Only these devices.", completion: DeviceArgument.completion)
    var devices: [String] = []

    @Option(name: [.customShort("n"), .long], help: "Only this device.")
    var number: String?

    @Flag(help: "Print JSON, one array.")
    var json = false

    @Flag(help: "Print the text exposition format of Prometheus.")
    var prometheus = false

    func validate() throws {
        if json, prometheus { throw ValidationError("--json or --prometheus, not both") }
    }

    func run() throws {
        let named = try (devices + (number.map { [$0] } ?? [])).map(DeviceArgument.parse)
        if let twice = named.first(where: { id in named.count { $0 == id } > 1 }) {
            throw ValidationError("device \(twice) is named twice")
        }
        var problems: [String] = []
        var found: [DeviceStatistics] = []
        for id in named.isEmpty ? StateDirectory.standard.recordedIDs() : named {
            do { found.append(try Self.ask(try ServerClient(id))) } catch let failure as Failure {
                // Print a problem once that all devices have, such as a missing driver.
                if problems.last != failure.text { problems.append(failure.text) }
            }
        }
        if json {
            Output.line(JSON.text(found))
        } else if prometheus {
            try Output.now(PrometheusText(found).text)
        } else {
            for statistics in found { Output.record(StatisticsText(statistics).text) }
            if found.isEmpty, problems.isEmpty {
                throw Failure("there is no device: ublk-script add SCRIPT makes one")
            }
        }
        guard problems.isEmpty else { throw Failure(problems.joined(separator: "\n")) }
    }

    static func ask(_ server: ServerClient) throws -> DeviceStatistics {
        let answer = try server.ask(.controlAsJSON, ["stats"])
        guard let statistics = JSON.decode(DeviceStatistics.self, Array(answer.utf8)) else {
            throw server.isOfAnotherVersion
        }
        return statistics
    }
}
