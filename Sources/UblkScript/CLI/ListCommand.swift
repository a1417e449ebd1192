import ArgumentParser
import SystemPackage

/// `list`: prints the ublk devices.
///
/// Never waits for a device; for its server, ``DeviceListing/statusSeconds`` at most.
struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List ublk devices.",
        discussion: """
            -v tells all that there is to know of a device: what each of its flags is for, its parameters, how the server \
            gets at the data of an IO and why so, what becomes of IO when the server dies, the threads that serve its \
            queues and what they have to do, and where its files are. With --json that is the field details.
            """
    )

    @Argument(help: "Only these devices.", completion: DeviceArgument.completion)
    var devices: [String] = []

    @Option(name: [.customShort("n"), .long], help: "Only this device.")
    var number: String?

    @Flag(
        name: [.customShort("v"), .long],
        help: "Also what each number and each flag of a device stands for."
    )
    var verbose = false

    @Flag(help: "Print JSON, one array.")
    var json = false

    func run() throws {
        let wanted = try (devices + (number.map { [$0] } ?? [])).map(DeviceArgument.parse)
        if let twice = wanted.first(where: { id in wanted.count { $0 == id } > 1 }) {
            throw ValidationError("device \(twice) is named twice")
        }
        var listings: [DeviceListing] = []
        var others: [DeviceID] = []
        let state = try ServerClient.state()
        do {
            let control = try ControlDevice()
            for id in wanted.isEmpty ? Self.allIDs() : wanted {
                do throws(DeviceError) {
                    let reading = state.readRecord(id).map { RecordReading($0) }
                    let info = try control.info(of: id)
                    var listing = DeviceListing(
                        info,
                        id: id,
                        record: reading?.record,
                        isRecordDamaged: reading == .damaged
                    )
                    listing.recordFormat = reading?.newerFormat
                    if verbose {
                        listing.details = DeviceDetails(info, id: id, record: reading?.record)
                    }
                    listing.askServer(reading?.record)
                    listings.append(listing)
                } catch {
                    // Deleted since the ids were listed.
                    if wanted.isEmpty, error.errno == .operationNotSupportedByDevice { continue }
                    guard wanted.isEmpty, error.isOutOfReach else { throw error }
                    others.append(id)
                }
            }
        } catch { throw Failure(error) }
        if json {
            Output.line(JSON.text(listings))
        } else {
            for listing in listings { Output.line(listing.text) }
        }
        guard !others.isEmpty else { return }
        let names = others.map(\.description).joined(separator: ", ")
        Output.error("there are devices that are not yours, which root may list: \(names)")
    }

    /// The ids of all devices, and of deleted ones that are still in use.
    private static func allIDs() -> [DeviceID] {
        let present = KernelDriver().presentIDs()
        let used = DeviceUsers.usedIDs().subtracting(present)
        return (present + used).sorted { $0.rawValue < $1.rawValue }
    }
}
