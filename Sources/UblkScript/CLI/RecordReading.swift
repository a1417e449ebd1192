/// The result of parsing a device's record.
enum RecordReading: Equatable {
    case record(DeviceRecord)
    /// The record has a format that is newer than this program.
    case newer(format: Int)
    case damaged

    private struct Head: Decodable { var format: Int? }

    init(_ bytes: [UInt8]) {
        let format = JSON.decode(Head.self, bytes)?.format
        if let format, format > DeviceRecord.newestFormat {
            self = .newer(format: format)
        } else {
            self = JSON.decode(DeviceRecord.self, bytes).map { .record($0) } ?? .damaged
        }
    }

    /// The record; nil when it cannot be read.
    var record: DeviceRecord? { if case .record(let record) = self { record } else { nil } }

    /// The format of a record that is newer than this program; nil otherwise.
    var newerFormat: Int? { if case .newer(let format) = self { format } else { nil } }

    /// The record, for a command that needs it; throws when it cannot be read.
    func own(_ path: String, _ id: DeviceID) throws -> DeviceRecord {
        switch self {
        case .record(let record): return record
        case .newer(let format):
            throw Failure(
                """
                \(path) is of format \(format), and this ublk-script (\(UblkScript.version)) knows them up to \
                \(DeviceRecord.newestFormat): a newer one made device \(id). Use that one for it.
                """
            )
        case .damaged:
            throw Failure(
                """
                \(path) is damaged, so that nothing tells whether device \(id) is ours.
                If it is: end its server with SIGTERM, which deletes it (ps -C ublk-script), and remove the file.
                """
            )
        }
    }
}
