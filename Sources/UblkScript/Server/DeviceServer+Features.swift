/// What a server asks the driver for.
///
/// Main thread.
extension DeviceServer {
    func wanted(of offered: Features) throws(DeviceError) -> DeviceInfo {
        let recovery = plan.config.recovery
        if let feature = recovery.features.subtracting(offered).known.first {
            throw .lacking(feature, for: "recovery = \"\(recovery.rawValue)\"")
        }
        let isWide = plan.config.descriptorBytes != DeviceInfo.descriptorBytesUsual
        let wide: Features = isWide ? .ioDescriptorSize : []
        if let feature = wide.subtracting(offered).known.first {
            throw .lacking(feature, for: "io_desc_size = \(plan.config.descriptorBytes)")
        }
        // The server asks for the partition scan itself, after START_DEV and before faults are armed, so that the
        // scan's reads neither hang nor count.
        var useful: Features = [.noAutoPartitionScan]
        if recovery != .off { useful.insert(.quiesce) }
        var needed = recovery.features.union(data.mode.features).union(wide)
        if !platform.isAdministrator {
            try checkUnprivileged()
            needed.insert(.unprivilegedDevice)
        }
        var wanted = DeviceInfo(
            id: request.id,
            queues: plan.config.queues,
            depth: plan.config.depth,
            maxIOBytes: plan.config.maxIOBytes,
            features: offered.intersection(useful).union(needed)
        )
        wanted.descriptorBytes = plan.config.descriptorBytes
        wanted.cookie = request.cookie
        return wanted
    }

    /// Refuses what the driver has for root only: it would leave recovery out without a word, and answer EINVAL to the
    /// others.
    private func checkUnprivileged() throws(DeviceError) {
        if plan.config.recovery != .off {
            throw .unsupported(
                """
                recovery = "\(plan.config.recovery.rawValue)" needs root: to users the driver gives no device that \
                outlives its server. Leave it out (recovery=off), or run this with sudo
                """
            )
        }
        guard !data.mode.serverCopies else {
            throw .unsupported(
                """
                data = "\(data.mode.rawValue)" needs root: for users the driver copies all data itself. \
                data = "copy", "need_get_data" and "batch" are left, or run this with sudo
                """
            )
        }
    }
}
