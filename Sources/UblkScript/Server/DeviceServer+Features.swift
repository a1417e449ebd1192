/// What a server asks the driver for.
///
/// Main thread.
extension DeviceServer {
    func wanted(of offered: Features) throws(DeviceError) -> DeviceInfo {
        let recovery = plan.config.recovery
        if let feature = recovery.features.subtracting(offered).known.first {
            throw .lacking(feature, for: "recovery = \"\(recovery.rawValue)\"")
        }
        // The server asks for the partition scan itself, after START_DEV and before faults are armed, so that the
        // scan's reads neither hang nor count.
        var useful: Features = [.noAutoPartitionScan]
        if recovery != .off { useful.insert(.quiesce) }
        let needed = recovery.features.union(data.mode.features)
        var wanted = DeviceInfo(
            id: request.id,
            queues: plan.config.queues,
            depth: plan.config.depth,
            maxIOBytes: plan.config.maxIOBytes,
            features: offered.intersection(useful).union(needed)
        )
        wanted.cookie = request.cookie
        return wanted
    }
}
