import CLua
import Glibc
import Synchronization

/// What was done to the sets of ranges of a device, in a file that outlives the process: the next server does it again.
///
/// Records of 32 bytes, one after the other: sets in the order in which they were made, and edits of them. A record is
/// there when its last word is, so that one which a dying process did not finish is the end of the file. When the file
/// would have to grow and has many more records than there are intervals, a new one with the present intervals takes
/// its place. Without room for a record there is no journal any more, which the next server sees: the edit is done, as
/// faults matter more. Used under the registry's lock.
@safe
final class RangeJournal: @unchecked Sendable {
    // Safety: changed under the lock of the registry that has it.
    private let file: MappedFile
    private let path: String
    /// Where the next record goes.
    private var end = RangeJournal.recordBytes
    private var isBroken = false

    /// Another number whenever a record means something else.
    static let layout = 1
    /// The sizes of a file, from that of a new one.
    static let fileBytes = 4096...1 << 30
    private static let recordBytes = 32

    enum Kind: UInt32 {
        /// A set with the name that follows: `first` bytes in as many records as they take.
        case named = 1
        /// A set of a rule; `first`: bank, `second`: number.
        case ofRule
        /// A set of a place in a script; `first`: bank and, from bit 32 on, queue, `second`: number.
        case ofScript
        /// Another set.
        case anonymous
        /// The bytes from `first` to `second`.
        case add, remove
        case clear
    }

    struct Record {
        let kind: UInt32
        let set: UInt32
        var first: UInt64 = 0
        var second: UInt64 = 0

        init(_ kind: Kind, _ set: UInt32, _ first: UInt64 = 0, _ second: UInt64 = 0) {
            self.kind = kind.rawValue
            self.set = set
            self.first = first
            self.second = second
        }
    }

    /// - Parameters:
    ///   - file: of ``fileBytes``: zeroes, or the journal of an earlier process, to be read by ``replay(_:)`` first.
    ///   - path: where the file is.
    init(_ file: MappedFile, path: String) {
        self.file = file
        self.path = path
    }

    /// See ``MappedFile/belong(to:)``.
    func belong(to identity: UInt64) {
        if !isBroken { file.belong(to: identity) }
    }

    // MARK: Writing

    func append(_ record: Record) {
        unsafe append(record, UnsafeRawBufferPointer(start: nil, count: 0))
    }

    /// Notes a new set.
    func append(_ owner: SharedObjects.Owner?, _ name: String, _ set: UInt32) {
        switch owner {
        case .rule(let bank, let number):
            append(Record(.ofRule, set, UInt64(bank), UInt64(number)))
        case .script(let bank, let queue, let number):
            append(Record(.ofScript, set, UInt64(bank) | UInt64(queue) << 32, UInt64(number)))
        case nil where name.isEmpty: append(Record(.anonymous, set))
        case nil:
            var name = name
            name.withUTF8 {
                unsafe append(Record(.named, set, UInt64($0.count)), UnsafeRawBufferPointer($0))
            }
        }
    }

    private func append(_ record: Record, _ text: UnsafeRawBufferPointer) {
        let bytes = Self.recordBytes + Self.rounded(text.count)
        guard hasRoom(bytes) else { return }
        let place = unsafe file.bytes + end
        unsafe place.storeBytes(of: record, as: Record.self)
        if let start = text.baseAddress {
            unsafe memcpy(place + Self.recordBytes, start, text.count)
        }
        unsafe Self.check(place).pointee.store(
            Self.checksum(place, end, text.count),
            ordering: .releasing
        )
        end += bytes
    }

    private func hasRoom(_ bytes: Int) -> Bool {
        guard !isBroken, end + bytes > file.count else { return !isBroken }
        let half = min(file.count + file.count / 2, Self.fileBytes.upperBound) / 4096 * 4096
        if file.grow(to: max(half, file.count + 4096)) { return true }
        file.belong(to: 0)
        isBroken = true
        return false
    }

    private static func rounded(_ bytes: Int) -> Int {
        (bytes + recordBytes - 1) / recordBytes * recordBytes
    }

    private static func check(_ place: UnsafeMutableRawPointer) -> UnsafeMutablePointer<
        Atomic<UInt64>
    > {
        unsafe (place + MemoryLayout<Record>.size).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// Of a record and the text behind it; not 0.
    private static func checksum(
        _ place: UnsafeMutableRawPointer,
        _ offset: Int,
        _ textBytes: Int
    ) -> UInt64 {
        let record = unsafe DataHash.of(place, length: UInt64(MemoryLayout<Record>.size))
        let text = unsafe DataHash.of(place + recordBytes, length: UInt64(textBytes))
        return (record ^ text &+ UInt64(offset)) | 1
    }

    // MARK: Another file

    /// True when the next record would need a longer file, and one with the present intervals would be much shorter.
    ///
    /// - Parameter records: how many that would have.
    func isWasteful(records: Int) -> Bool {
        !isBroken && end + Self.recordBytes > file.count
            && end / Self.recordBytes > 4 * records + 1024
    }

    /// An empty journal that is to take this one's place; nil: there is no room.
    func successor() -> RangeJournal? {
        let path = Self.nextPath(path)
        let reach = Self.fileBytes.upperBound
        // This one is in memory, too.
        let file = try? MappedFile(making: path, count: 4096, reach: reach) { _ in true }
        return file.map { RangeJournal($0, path: path) }
    }

    /// Takes the place of another one.
    ///
    /// - Returns: itself under the other one's name; nil: it is not complete.
    func inPlace(of other: RangeJournal) -> RangeJournal? {
        guard !isBroken else { return nil }
        file.belong(to: other.file.owner)
        guard unsafe rename(path, other.path) == 0 else { return nil }
        let journal = RangeJournal(file, path: other.path)
        journal.end = end
        return journal
    }

    static func nextPath(_ path: String) -> String { path + ".next" }

    // MARK: Reading

    /// Calls `body` with each record and the text that belongs to it, until it returns false, or up to the last one
    /// that is complete; the next record goes behind it.
    func replay(_ body: (Record, String) -> Bool) {
        while end + Self.recordBytes <= file.count {
            let place = unsafe file.bytes + end
            let record = unsafe place.load(as: Record.self)
            var text = 0
            if record.kind == Kind.named.rawValue {
                guard record.first <= US_NAME_BYTES_MAX else { return }
                text = Int(record.first)
            }
            let bytes = Self.recordBytes + Self.rounded(text)
            guard end + bytes <= file.count,
                unsafe Self.check(place).pointee.load(ordering: .acquiring)
                    == Self.checksum(place, end, text)
            else { return }
            let name = unsafe UnsafeRawBufferPointer(start: place + Self.recordBytes, count: text)
            guard body(record, unsafe String(decoding: name, as: UTF8.self)) else { return }
            end += bytes
        }
    }
}

extension SharedObjects {
    /// Does again what a journal tells, to no sets so far, and has it go on with what comes.
    func take(_ journal: RangeJournal) {
        var sets: [RangeSet] = []
        journal.replay { record, name in
            guard let kind = RangeJournal.Kind(rawValue: record.kind) else { return false }
            switch kind {
            case .named, .ofRule, .ofScript, .anonymous:
                guard record.set == sets.count, let set = remake(kind, record, name) else {
                    return false
                }
                sets.append(set)
                return true
            case .add, .remove, .clear:
                guard record.set < sets.count else { return false }
                let set = sets[Int(record.set)]
                let (first, length) = (record.first, record.second &- record.first)
                switch kind {
                case .add: return set.add(first, length)
                case .remove: return set.remove(first, length)
                default: return set.clear()
                }
            }
        }
        ranges.edit { $0.journal = journal }
    }

    private func remake(
        _ kind: RangeJournal.Kind,
        _ record: RangeJournal.Record,
        _ name: String
    ) -> RangeSet? {
        let bank = Int(UInt32(truncatingIfNeeded: record.first))
        switch kind {
        case .named: return makeRanges(named: name)
        case .ofRule:
            return makeRanges(of: .rule(bank: bank, number: Int(truncatingIfNeeded: record.second)))
        case .ofScript:
            return makeRanges(
                of: .script(
                    bank: bank,
                    queue: UInt32(truncatingIfNeeded: record.first >> 32),
                    number: UInt32(truncatingIfNeeded: record.second)
                )
            )
        default: return ranges.makeSet()
        }
    }
}
