import Logging

/// `resize`: gives a running device another size.
///
/// Main thread. A device that grows: its store, then its queues, then the driver, so that IO never comes for bytes that
/// are not there. One that shrinks: the driver first. The store never becomes smaller: what is beyond the end can be
/// read again when the device grows.
extension DeviceServer {
    /// How long the queues may take to hear of it: one may be in a handler.
    private static let tellSeconds = 10.0
    /// As that, when it comes to nothing: one that has not heard of the new size is not waited for again.
    private static let tellAgainSeconds = 1.0

    func resize(_ request: ResizeRequest) -> AdminAnswer {
        do {
            let (was, wanted) = (sizeBytes, try wanted(request))
            guard wanted != was else {
                return .done("\(id.blockPath) has \(Quantity.text(bytes: was)) already")
            }
            try wanted > was ? grow(to: wanted) : shrink(to: wanted)
            remember(wanted)
            let text =
                "\(id.blockPath) has \(Quantity.text(bytes: wanted)) now; it had \(Quantity.text(bytes: was))"
            logger.info("\(text)")
            return .done(text)
        } catch {
            logger.warning("resize failed: \(error)")
            return .refused(AdminRefusal("\(error)"))
        }
    }

    /// The size that is asked for, checked: the driver checks nothing.
    private func wanted(_ request: ResizeRequest) throws(DeviceError) -> UInt64 {
        guard try lifecycle.driver.features().contains(.updateSize) else {
            throw .unsupported(
                """
                this kernel's driver cannot change the size of a device that runs (UPDATE_SIZE, from 6.16): delete the \
                device and add it anew
                """
            )
        }
        guard plan.config.backings.isEmpty else {
            throw .unsupported(
                """
                device \(id): its script says where the data is (backing{}) and how much there is. Change its size \
                there, delete the device and add it anew
                """
            )
        }
        guard !plan.config.isShared else {
            throw .unsupported(
                """
                device \(id) shares \(plan.config.file ?? "its file") with others, which would keep their size. Delete \
                all of them, give the file another size, and add them anew
                """
            )
        }
        let wanted =
            switch request.size {
            case .bytes(let bytes): bytes
            case .more(let bytes): sizeBytes + bytes
            }
        let block = UInt64(plan.config.logicalBlockBytes)
        guard wanted >= block, wanted % block == 0, wanted <= reachBytes else {
            throw .unsupported(
                """
                device \(id): a size of \(Quantity.text(bytes: wanted)): a multiple of the logical block (\(block) bytes) \
                up to \(Quantity.text(bytes: reachBytes)) is expected
                """
            )
        }
        guard wanted >= sizeBytes || request.isForced else {
            throw .unsupported(
                """
                device \(id) has \(Quantity.text(bytes: sizeBytes)): with \(Quantity.text(bytes: wanted)) what is behind \
                that would be cut off. --force does it
                """
            )
        }
        return wanted
    }

    private func grow(to wanted: UInt64) throws {
        let before = backings
        var fileBytes: UInt64?
        let storeBytes = try backings.resize(to: wanted) { file, bytes in
            fileBytes = try file.grow(to: bytes)
        }
        do throws(DeviceError) {
            try tell(DeviceSize(deviceBytes: wanted, storeBytes: storeBytes))
            try lifecycle.updateSize(to: wanted, self)
        } catch {
            // The driver may still do it; a store that is larger than its device does no harm.
            if case .timeout = error { throw error }
            // Nobody has seen what is new.
            backings = before
            let size = DeviceSize(deviceBytes: sizeBytes, storeBytes: before.views[0].sizeBytes)
            // One that is late hears of both sizes, in their order.
            _ = queues.ask { .resize(size, $0) }.wait(seconds: Self.tellAgainSeconds)
            if let fileBytes { backings.ownFile?.shrink(to: fileBytes) }
            throw error
        }
    }

    private func shrink(to wanted: UInt64) throws {
        try lifecycle.updateSize(to: wanted, self)
        let storeBytes = try backings.resize(to: wanted) { _, _ in }
        // A queue that is late only knows a longer device until then.
        _ = queues.ask { .resize(DeviceSize(deviceBytes: wanted, storeBytes: storeBytes), $0) }
    }

    private func tell(_ size: DeviceSize) throws(DeviceError) {
        let silent = queues.ask { .resize(size, $0) }.wait(seconds: Self.tellSeconds).silent
        guard let queue = silent.first else { return }
        throw .unsupported(
            "device \(id): queue \(queue.rawValue) did not answer within \(Int(Self.tellSeconds)) s: try again"
        )
    }

    /// A reload, a restart and `list` know the device by its new size.
    private func remember(_ sizeBytes: UInt64) {
        plan.config.sizeBytes = sizeBytes
        request.setSize(sizeBytes)
        guard var record else { return }
        record.sizeBytes = sizeBytes
        record.settings = request.settings
        record.driver = DeviceRecord.Driver(info, params)
        do throws(DeviceError) { try keep(record) } catch {
            logger.warning("the record of the device could not be written: \(error)")
        }
    }
}
