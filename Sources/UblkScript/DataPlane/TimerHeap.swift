/// The deadlines of delayed and held IOs: a binary heap with at most one entry per tag.
///
/// Each tag has its index in the heap, so that an entry can be removed early (a released hang)
/// without leaving a stale entry behind. Fixed capacity, no allocation after init. Queue thread only.
@safe
struct TimerHeap: ~Copyable {
    // Safety: both arrays have `capacity` elements; tags and positions are checked against it.
    private struct Entry {
        var deadline: Instant
        var tag: Tag
    }
    private static let absent = Int32(-1)

    private let capacity: Int
    private var count = 0
    private let entries: UnsafeMutablePointer<Entry>
    private let places: UnsafeMutablePointer<Int32>

    init(depth: Int) {
        capacity = depth
        unsafe entries = .allocate(capacity: depth)
        unsafe entries.initialize(
            repeating: Entry(deadline: Instant(nanoseconds: 0), tag: Tag(0)),
            count: depth
        )
        unsafe places = .allocate(capacity: depth)
        unsafe places.initialize(repeating: Self.absent, count: depth)
    }

    deinit {
        unsafe entries.deallocate()
        unsafe places.deallocate()
    }

    /// The earliest deadline, nil when there is none.
    var nextDeadline: Instant? { count == 0 ? nil : unsafe entries[0].deadline }

    /// - Precondition: the tag has no deadline.
    mutating func push(_ tag: Tag, deadline: Instant) {
        precondition(tag.index < capacity && (unsafe places[tag.index]) == Self.absent)
        count += 1
        rise(Entry(deadline: deadline, tag: tag), from: count - 1)
    }

    /// Takes out the earliest entry that is due, nil when none is.
    mutating func popDue(at now: Instant) -> Tag? {
        guard count > 0, unsafe entries[0].deadline <= now else { return nil }
        let tag = unsafe entries[0].tag
        remove(tag)
        return tag
    }

    /// Takes the tag's entry out; nothing happens when it has none.
    mutating func remove(_ tag: Tag) {
        precondition(tag.index < capacity)
        let place = unsafe Int(places[tag.index])
        guard place >= 0 else { return }
        unsafe places[tag.index] = Self.absent
        count -= 1
        guard place < count else { return }
        let last = unsafe entries[count]
        if place > 0, unsafe last.deadline < entries[(place - 1) / 2].deadline {
            rise(last, from: place)
        } else {
            sink(last, from: place)
        }
    }

    private mutating func rise(_ entry: Entry, from start: Int) {
        var place = start
        while place > 0 {
            let parent = (place - 1) / 2
            guard unsafe entry.deadline < entries[parent].deadline else { break }
            unsafe put(entries[parent], at: place)
            place = parent
        }
        put(entry, at: place)
    }

    private mutating func sink(_ entry: Entry, from start: Int) {
        var place = start
        while true {
            var child = 2 * place + 1
            guard child < count else { break }
            if child + 1 < count, unsafe entries[child + 1].deadline < entries[child].deadline {
                child += 1
            }
            guard unsafe entries[child].deadline < entry.deadline else { break }
            unsafe put(entries[child], at: place)
            place = child
        }
        put(entry, at: place)
    }

    private mutating func put(_ entry: Entry, at place: Int) {
        unsafe entries[place] = entry
        unsafe places[entry.tag.index] = Int32(place)
    }
}
