import ArgumentParser

/// `features`: prints the features of this kernel's ublk driver.
struct FeaturesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "features",
        abstract: "Show what this kernel's ublk driver offers."
    )

    @Flag(help: "Print JSON.")
    var json = false

    struct Report: Encodable {
        var features: UInt64
        var names: [String]
        var flags: [Flag]

        struct Flag: Encodable {
            var name: String
            var bit: Int
            var since: String
            var purpose: String
            var isOffered: Bool
        }

        init(_ features: Features) {
            self.features = features.rawValue
            names = features.named.map(\.name)
            flags = Feature.all.enumerated().map { bit, feature in
                Flag(
                    name: feature.name,
                    bit: bit,
                    since: feature.since,
                    purpose: feature.purpose,
                    isOffered: features.rawValue >> UInt64(bit) & 1 != 0
                )
            }
        }

        /// Every flag, with the kernel that came with it first; what is set without being known comes last.
        var text: String {
            var table = TextTable(
                [.left, .left, .left, .left],
                heading: ["flag", "since", "here", "what it is for"]
            )
            for flag in flags {
                table.add([flag.name, flag.since, flag.isOffered ? "yes" : "no", flag.purpose])
            }
            for name in names.dropFirst(flags.count { $0.isOffered }) {
                table.add([name, "later", "yes", "this ublk-script does not know it"])
            }
            return "ublk_drv features: 0x\(String(features, radix: 16))\n" + table.text
        }
    }

    func run() throws {
        do {
            let report = Report(try ControlDevice().features())
            if json { Output.line(JSON.text(report)) } else { Output.record(report.text) }
        } catch { throw Failure(error) }
    }
}
