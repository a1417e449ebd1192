import CLua

/// Releasing held IOs: by `ctl release`, or by the script's `release()`.
extension Queue where Transport: ~Copyable {
    /// Lets held IOs go on, to their scripted outcome or to an errno.
    ///
    /// - Returns: how many there were.
    mutating func letGo(_ release: Release) -> Int {
        findHeld()
        putInOrder(release.order)
        if !release.places.isEmpty { keep(release.places) }
        let count = min(held.count, release.count)
        for place in 0..<count {
            let tag = held[place]
            if let errno = release.errno { requests[tag].endsWith = errno }
            letGo(tag)
            record(.released, tag)
            advance(tag)
        }
        return count
    }

    private mutating func findHeld() {
        held.removeAll(keepingCapacity: true)
        for index in 0..<configuration.depth where requests[Tag(UInt16(index))].state == .held {
            held.append(Tag(UInt16(index)))
        }
    }

    /// Keeps only the listed ones among the held IOs, in the order of the list.
    private mutating func keep(_ places: [Release.Place]) {
        let all = held
        held.removeAll(keepingCapacity: true)
        for place in places where place.queue == configuration.queue.rawValue {
            let tag = Tag(place.tag)
            if all.contains(tag), !held.contains(tag) { held.append(tag) }
        }
    }

    /// The IOs that are held, those that `pause` holds too.
    mutating func heldIOs() -> [HeldReport] {
        findHeld()
        for index in 0..<configuration.depth where requests[Tag(UInt16(index))].state == .paused {
            held.append(Tag(UInt16(index)))
        }
        putInOrder(US_RELEASE_FIFO)
        return held.map { tag in
            let io = requests[tag].io
            return HeldReport(
                queue: configuration.queue.rawValue,
                tag: tag.rawValue,
                io: io.sequence,
                operation: IOOp(rawValue: io.op)?.name ?? "?",
                offset: io.offset,
                length: io.length,
                isPaused: requests[tag].state == .paused
            )
        }
    }

    private mutating func putInOrder(_ order: Release.Order) {
        held.sort { requests[$0].io.sequence < requests[$1].io.sequence }
        switch order {
        case US_RELEASE_LIFO: held.reverse()
        case US_RELEASE_RANDOM:
            for place in stride(from: held.count - 1, to: 0, by: -1) {
                let other = shuffle.next() % UInt64(place + 1)
                held.swapAt(place, Int(other))
            }
        default: return
        }
    }

    /// Carries out what the script's `release()` asked for.
    @inline(never)
    mutating func releaseForScript() {
        let wish = unsafe us_script_take_release(script.handle)
        _ = letGo(
            Release(
                order: wish.order,
                count: Int(clamping: wish.count),
                errno: wish.error == 0 ? nil : wish.error
            )
        )
    }
}
