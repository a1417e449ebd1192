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
    }

    func run() throws {
        do {
            let features = try ControlDevice().features()
            if json {
                return Output.line(
                    JSON.text(
                        Report(features: features.rawValue, names: features.named.map(\.name))
                    )
                )
            }
            Output.line("ublk_drv features: 0x\(String(features.rawValue, radix: 16))")
            for (name, bit) in features.named {
                let padding = String(repeating: " ", count: max(1, 24 - name.count))
                Output.line("\t\(name)\(padding)0x\(String(bit, radix: 16))")
            }
        } catch { throw Failure(error) }
    }
}
