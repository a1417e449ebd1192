import CLua
import Synchronization

/// The named native objects (`ranges`, `counter`, marks, the state) that all queues of one device share.
///
/// Made once per device, outlives its scripts.
///
/// The C side does its own synchronisation (`ranges.h`); this only owns the memory.
@safe
final class SharedObjects: Sendable {
    // Safety: freed in deinit; every script keeps a reference to this object.
    nonisolated(unsafe) let handle: OpaquePointer
    private let histories = Mutex(Histories())

    /// The tables of what has happened to each 4 KiB.
    private struct Histories {
        /// By bank, then by rule.
        var counts: [[Int: HistoryTable<UInt8>]] = [[:], [:]]
        var times: HistoryTable<UInt64>?
    }

    init(queues: Int) {
        guard let handle = unsafe us_shared_new(UInt32(queues)) else {
            preconditionFailure("out of memory")
        }
        unsafe self.handle = handle
    }

    deinit {
        histories.withLock { histories in
            for table in histories.counts.joined() { table.value.free() }
            histories.times?.free()
        }
        unsafe us_shared_free(handle)
    }

    /// The queue's thread starts looking at sets.
    @inline(__always)
    func online(_ queue: QueueID) { unsafe us_shared_online(handle, UInt32(queue.rawValue)) }

    /// The queue's thread may sleep now.
    @inline(__always)
    func offline(_ queue: QueueID) { unsafe us_shared_offline(handle, UInt32(queue.rawValue)) }

    /// The named cell, made when there is none yet; nil when it cannot be.
    func cell(_ kind: us_cell_kind, _ name: String) -> UnsafeMutablePointer<us_cell>? {
        var name = name
        return name.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) {
                unsafe us_shared_cell(handle, kind, $0.baseAddress, $0.count)
            }
        }
    }

    /// The bucket of that name, with a burst of a tenth of a second; nil when it cannot be made.
    func bucket(_ name: String, rate: UInt64) -> OpaquePointer? {
        var name = name
        return name.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) {
                unsafe us_shared_bucket(
                    handle,
                    $0.baseAddress,
                    $0.count,
                    rate,
                    max(1, rate / 10),
                    false
                )
            }
        }
    }

    /// How often each 4 KiB was accessed, for the rule of that number: a new table, or the one there is, emptied; nil
    /// when there is no memory.
    ///
    /// - Parameter bank: as in ``Script/Options/bank``.
    func counts(rule: Int, bank: Int, deviceBytes: UInt64) -> HistoryTable<UInt8>? {
        histories.withLock { histories in
            if let table = histories.counts[bank][rule] {
                table.forget()
                return table
            }
            let table = HistoryTable<UInt8>(deviceBytes: deviceBytes)
            histories.counts[bank][rule] = table
            return table
        }
    }

    /// When each 4 KiB was written last; nil when there is no memory.
    func writeTimes(deviceBytes: UInt64) -> HistoryTable<UInt64>? {
        histories.withLock { histories in
            if histories.times == nil { histories.times = HistoryTable(deviceBytes: deviceBytes) }
            return histories.times
        }
    }

    /// The names of the sets that have one, in the order they were made.
    var rangesNames: [String] { allRangesNames.filter { !$0.hasPrefix("\u{1}") } }

    /// Those that rules have, too.
    private var allRangesNames: [String] {
        var sets = unsafe [OpaquePointer?](repeating: nil, count: 1 << 16)
        let count = unsafe us_shared_named_ranges(handle, &sets, sets.count)
        return unsafe sets.prefix(count).compactMap { unsafe $0 }.map { set in
            unsafe String(cString: us_ranges_name(set))
        }
    }

    /// The set of that name; nil when there is none.
    func ranges(named name: String) -> OpaquePointer? {
        var name = name
        return name.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) {
                unsafe us_shared_find_ranges(handle, $0.baseAddress, $0.count)
            }
        }
    }

    /// When the mark of that name was set last, on the device's clock; nil when it never was.
    func timeOfMark(_ name: String) -> UInt64? {
        guard let cell = unsafe mark(name), unsafe us_cell_get(cell) != 0 else { return nil }
        return unsafe us_cell_time(cell)
    }

    /// How often the mark of that name was set.
    func countOfMark(_ name: String) -> UInt64 {
        guard let cell = unsafe mark(name) else { return 0 }
        return unsafe UInt64(clamping: us_cell_get(cell))
    }

    /// The mark of that name; nil when there is none.
    private func mark(_ name: String) -> UnsafeMutablePointer<us_cell>? {
        var name = name
        return name.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) {
                unsafe us_shared_find_cell(handle, US_CELL_MARK, $0.baseAddress, $0.count)
            }
        }
    }

    /// The name of the device's state; nil until one is set.
    var stateName: String? {
        guard let state = unsafe us_shared_find_cell(handle, US_CELL_STATE, "", 0) else {
            return nil
        }
        let number = unsafe UInt32(truncatingIfNeeded: us_cell_get(state))
        guard let name = unsafe us_shared_cell_at(handle, US_CELL_STATE_NAME, number) else {
            return nil
        }
        return unsafe String(cString: us_cell_name(name))
    }

    /// No name that a script would give.
    private static let rulePrefix = "\u{1}rule "

    /// The set that a rule's `range = { offset, length }` stands for, one for all queues; its address, nil when
    /// there is no memory.
    ///
    /// - Parameters:
    ///   - rule: its number in the script.
    ///   - bank: as in ``Script/Options/bank``.
    func ruleRanges(_ rule: Int, bank: Int, offset: UInt64, length: UInt64) -> UInt? {
        var name = Self.rulePrefix + "\(bank) \(rule)"
        let set = name.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) {
                unsafe us_shared_ranges(handle, $0.baseAddress, $0.count)
            }
        }
        guard let set = unsafe set, unsafe us_ranges_add(set, offset, length) else { return nil }
        return UInt(bitPattern: set)
    }

    /// Empties the sets of ``ruleRanges(_:bank:offset:length:)`` before scripts are loaded into that bank again.
    ///
    /// - Returns: false when there is no memory.
    func clearRuleRanges(bank: Int) -> Bool {
        allRangesNames.filter { $0.hasPrefix(Self.rulePrefix + "\(bank) ") }.allSatisfy { name in
            guard let set = unsafe ranges(named: name) else { return true }
            return unsafe us_ranges_clear(set)
        }
    }

    /// A new anonymous set of one range; its address, nil when there is no memory.
    func makeRanges(offset: UInt64, length: UInt64) -> UInt? {
        guard let set = unsafe us_shared_ranges(handle, "", 0),
            unsafe us_ranges_add(set, offset, length)
        else { return nil }
        return UInt(bitPattern: set)
    }
}
