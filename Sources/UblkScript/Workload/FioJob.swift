/// What of fio's job files has a meaning here: one job, with its keys or those of `[global]` before it.
///
/// Keys that change nothing of what a device is asked for are taken with a note; any other one that is not known is
/// refused, rather than left out: the run would not be what the file says.
struct FioJob: Sendable {
    static let keys = [
        "rw", "bs", "iodepth", "numjobs", "size", "offset", "number_ios", "rate_iops", "randseed",
        "rwmixread",
    ]

    /// How fio asks, what it reports and how it checks, none of which there is here: every read is checked anyhow.
    static let idleKeys: Set = [
        "allow_file_create", "buffer_compress_percentage", "buffer_pattern", "buffered",
        "clat_percentiles", "cpus_allowed", "create_on_open", "create_serialize", "description",
        "direct", "directory", "disable_bw", "disable_clat", "disable_lat", "disable_slat",
        "do_verify", "exitall", "fallocate", "filename", "gtod_reduce", "group_reporting",
        "invalidate", "ioengine", "iodepth_batch", "iodepth_batch_complete",
        "iodepth_batch_complete_max", "iodepth_batch_complete_min", "iodepth_batch_submit",
        "ioscheduler", "lat_percentiles", "log_avg_msec", "log_hist_msec", "name", "new_group",
        "nice", "norandommap", "overwrite", "per_job_logs", "percentile_list", "prio", "prioclass",
        "randrepeat", "refill_buffers", "scramble_buffers", "stonewall", "thread", "unlink",
        "verify", "verify_backlog", "verify_dump", "verify_fatal", "wait_for_previous",
        "write_bw_log", "write_hist_log", "write_iops_log", "write_lat_log", "zero_buffers",
    ]

    /// What to tell about keys that were taken and mean nothing here; nil: there are none.
    let note: String?

    private let name: String
    /// Line of the job's section.
    private let line: Int
    private let settings: [String: Setting]

    /// - Parameters:
    ///   - name: of the file, in messages.
    ///   - lines: those that are neither empty nor comments; the first begins a section.
    init(name: String, lines: [(line: Int, text: Substring)]) throws(ConfigError) {
        var settings: [String: Setting] = [:]
        var idle: [String] = []
        var job: (line: Int, section: Substring)?
        for (line, text) in lines {
            let origin = "\(name):\(line)"
            guard !text.hasPrefix("[") else {
                guard text.hasSuffix("]"), text.count > 2 else {
                    throw ConfigError(
                        origin: origin,
                        text: "\(text): a section as in [job] is expected"
                    )
                }
                if text == "[global]", job == nil { continue }
                guard job == nil else {
                    throw ConfigError(
                        origin: origin,
                        text:
                            "\(text): one job is expected, and the one of line \(job?.line ?? 0) is it"
                    )
                }
                job = (line, text)
                continue
            }
            let key = Self.key(text)
            if Self.idleKeys.contains(key) {
                idle.append("\(key) (line \(line))")
                continue
            }
            let setting = try Self.setting(text, origin: origin)
            settings[setting.key] = setting
        }
        guard let job else {
            throw ConfigError(
                origin: name,
                text: "there is no job in it; a section as in [job] is expected"
            )
        }
        self.name = name
        self.settings = settings
        note =
            idle.isEmpty ? nil : "\(name): these mean nothing here: " + idle.joined(separator: ", ")
        line = job.line
    }

    private static func setting(
        _ text: Substring,
        origin: String
    ) throws(ConfigError) -> Setting {
        let key = key(text)
        guard keys.contains(key) else {
            throw ConfigError(
                origin: origin,
                text: "\(key): not known here. Known are: \(keys.joined(separator: ", "))"
            )
        }
        let value = WorkloadFile.trimmed(text.dropFirst(text.prefix { $0 != "=" }.count + 1))
        let isSize = ["bs", "size", "offset"].contains(key)
        return Setting(
            key: key,
            value: .string(isSize ? size(value) : String(value)),
            origin: origin
        )
    }

    private static func key(_ text: Substring) -> String {
        String(WorkloadFile.trimmed(text.prefix { $0 != "=" }))
    }

    /// fio writes sizes as `4k`, `4kb` or `4KiB`, all of which are 4096 bytes by its default.
    private static func size(_ text: Substring) -> String {
        var text = text.uppercased()
        if text.hasSuffix("B") { text.removeLast() }
        if text.hasSuffix("I") { text.removeLast() }
        return text
    }

    /// The workload on one device.
    func workload(config: DeviceConfig, sizeBytes: UInt64) throws(ConfigError) -> Workload {
        let names = Workload.names.filter { $0 != "mixed" } + ["readwrite"]
        let rw = try settings["rw"]?.choice(names) ?? "read"
        guard var workload = Workload(named: rw) else {
            preconditionFailure("a choice of names that are none")
        }
        if config.isReadOnly, workload.weights[.write] != nil {
            throw ConfigError(origin: origin("rw"), text: "rw = \(rw): the device is read-only")
        }
        if let share = try settings["rwmixread"]?.integer(0...100), workload.weights.count == 2 {
            workload.weights = [.read: UInt64(share), .write: UInt64(100 - share)]
        }
        let block = UInt64(config.logicalBlockBytes)
        let most = min(UInt64(config.maxIOBytes), sizeBytes)
        workload.blockBytes = try settings["bs"]?.bytes(block...most) ?? min(4096, most)
        workload.blockBytesMax = workload.blockBytes
        // Each of the jobs has its own depth, rate and number of requests.
        let jobs = Int(try settings["numjobs"]?.integer(1...1024) ?? 1)
        workload.streams = jobs
        workload.depth =
            jobs * Int(try settings["iodepth"]?.integer(1...Int64(DeviceInfo.depthMax)) ?? 1)
        workload.rate =
            UInt64(jobs) * UInt64(try settings["rate_iops"]?.integer(1...1_000_000_000) ?? 0)
        workload.seed = try settings["randseed"]?.integer(0...Int64.max).magnitude
        try place(&workload, block, sizeBytes)
        return workload
    }

    /// Where the job works, and how many requests that makes.
    private func place(
        _ workload: inout Workload,
        _ block: UInt64,
        _ sizeBytes: UInt64
    ) throws(ConfigError) {
        let step = workload.blockBytes
        workload.offsetBytes = try settings["offset"]?.bytes(0...sizeBytes - step) ?? 0
        let rest = sizeBytes - workload.offsetBytes
        let span = try settings["size"]?.bytes(step...rest) ?? rest
        workload.spanBytes = span
        for (key, value) in [("bs", step), ("offset", workload.offsetBytes)]
        where value % block != 0 {
            throw ConfigError(
                origin: origin(key),
                text: "\(key) = \(value): whole blocks of \(block) bytes are expected"
            )
        }
        let count = try settings["number_ios"]?.integer(1...1_000_000_000_000)
        let requests = count.map { UInt64($0) } ?? span / step
        let all = requests.multipliedReportingOverflow(by: UInt64(workload.streams))
        guard !all.overflow, all.partialValue <= 1 << 40 else {
            throw ConfigError(
                origin: origin("size"),
                text:
                    "\(span) bytes make more than 2^40 requests; number_ios= says how many there are"
            )
        }
        workload.requests = Int(all.partialValue)
    }

    private func origin(_ key: String) -> String { settings[key]?.origin ?? "\(name):\(line)" }
}
