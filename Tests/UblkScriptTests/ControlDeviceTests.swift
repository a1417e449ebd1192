import CUring
import SystemPackage
import Testing

@testable import UblkScript

/// The control plane against a recording that answers as a driver would.
@Suite struct ControlDeviceTests {
    /// Runs `body` and answers the error it throws; nil when it throws none.
    private func error(_ body: () throws(DeviceError) -> Void) -> DeviceError? {
        do throws(DeviceError) {
            try body()
            return nil
        } catch { return error }
    }

    private let params: DeviceParams = {
        var params = DeviceParams(sizeBytes: 1 << 30)
        params.volatileCache = true
        params.discard = .init(granularityBytes: 4096, maxBytes: 1 << 30)
        params.writeZeroes = .init(granularityBytes: 4096, maxBytes: 1 << 30)
        return params
    }()

    @Test func `features are the driver's eight bytes`() throws {
        let control = RecordedControl { _, payload throws(DeviceError) in
            payload = Bytes.of(0x7fff as UInt64)
        }
        let features = try ControlDevice(control).features()
        #expect(features.rawValue == 0x7fff)
        #expect(control.kinds == [.getFeatures])
    }

    @Test func `add answers what the driver made of it`() throws {
        let control = RecordedControl { _, payload throws(DeviceError) in
            var info = Bytes.load(ublk_dev_info.self, from: payload)
            info.dev_id = 12
            info.nr_hw_queues = 2
            info.max_io_buf_bytes = 1 << 19
            info.flags = 0x42
            info.ublksrv_pid = -1
            info.owner_uid = 1000
            info.owner_gid = 100
            payload = Bytes.of(info)
        }
        let asked = DeviceInfo(
            id: nil,
            queues: 8,
            depth: 64,
            maxIOBytes: 1 << 19,
            features: [.noAutoPartitionScan, .completeInTask]
        )
        let granted = try ControlDevice(control).add(asked)
        #expect(granted.id == DeviceID(12))
        #expect(granted.queues == 2, "capped at the CPUs")
        #expect(granted.depth == 64)
        #expect(granted.features == [.completeInTask, .ioctlEncode])
        #expect(granted.state == .dead)
        #expect(granted.serverPID == -1)
        #expect(granted.ownerUID == 1000)
        #expect(granted.ownerGID == 100)
    }

    @Test func `set params reads back and is content when everything was kept`() throws {
        let kept = params.raw
        let control = RecordedControl { command, payload throws(DeviceError) in
            guard command.kind == .getParams else { return }
            var answer = kept
            // The driver adds the device numbers.
            answer.types |= UBLK_PARAM_DEVT.rawValue
            answer.devt.disk_major = 259
            payload = Bytes.of(answer)
        }
        try ControlDevice(control).setParams(params, of: DeviceID(3))
        #expect(control.kinds == [.setParams, .getParams])
        #expect(control.sent.map(\.command.device) == [DeviceID(3), DeviceID(3)])
    }

    @Test(arguments: [
        "type", "attributes", "logical", "physical", "io_min", "io_opt", "chunk", "max_io", "size",
        "granularity", "discard", "write_zeroes",
    ])
    func `set params refuses when the driver changed something`(what: String) {
        let kept = params.raw
        let control = RecordedControl { command, payload throws(DeviceError) in
            guard command.kind == .getParams else { return }
            var answer = kept
            switch what {
            case "type": answer.types &= ~UBLK_PARAM_DISCARD.rawValue
            case "attributes": answer.basic.attrs = 0
            case "logical": answer.basic.logical_bs_shift = 12
            case "physical": answer.basic.physical_bs_shift = 9
            case "io_min": answer.basic.io_min_shift = 9
            case "io_opt": answer.basic.io_opt_shift = 16
            case "chunk": answer.basic.chunk_sectors = 128
            case "max_io": answer.basic.max_sectors = 8
            case "size": answer.basic.dev_sectors -= 8
            case "granularity": answer.discard.discard_granularity = 512
            case "discard": answer.discard.max_discard_sectors = 0
            default: answer.discard.max_write_zeroes_sectors = 0
            }
            payload = Bytes.of(answer)
        }
        let found = error { () throws(DeviceError) in
            try ControlDevice(control).setParams(params, of: DeviceID(3))
        }
        guard case .unsupported(let text) = found else {
            Issue.record("\(what): \(String(describing: found))")
            return
        }
        #expect(text.contains("device 3"))
        #expect(text.contains("SET_PARAMS"))
    }

    @Test func `set params that the driver refuses is not read back`() {
        let control = RecordedControl { command, _ throws(DeviceError) in
            throw .command(command.kind, command.device, .invalidArgument)
        }
        let found = error { () throws(DeviceError) in
            try ControlDevice(control).setParams(params, of: DeviceID(3))
        }
        #expect(found == .command(.setParams, DeviceID(3), .invalidArgument))
        #expect(control.kinds == [.setParams])
    }

    @Test func `info by path finds the structure behind the path`() throws {
        let control = RecordedControl { command, payload throws(DeviceError) in
            var info = ublk_dev_info()
            info.dev_id = 10
            info.queue_depth = 99
            info.state = 1
            payload = Array(payload.prefix(Int(command.pathLength))) + Bytes.of(info)
        }
        let info = try ControlDevice(control).infoByPath(of: DeviceID(10))
        #expect(info.id == DeviceID(10))
        #expect(info.depth == 99)
        #expect(info.state == .live)
    }

    @Test func `looking has a short time limit, changing a long one`() throws {
        let control = RecordedControl()
        let device = ControlDevice(control)
        _ = try device.info(of: DeviceID(0))
        _ = try device.getParams(of: DeviceID(0), seconds: 1)
        try device.stop(DeviceID(0))
        try device.delete(DeviceID(0), seconds: 75)
        let limits = control.sent.map(\.seconds)
        #expect(limits == [ControlDevice.querySeconds, 1, ControlDevice.changeSeconds, 75])
    }

    // MARK: Messages

    private func text(_ kind: ControlCommand.Kind, _ id: UInt32?, _ errno: Errno) -> String {
        DeviceError.command(kind, id.map { DeviceID($0) }, errno).description
    }

    @Test func `EEXIST of ADD_DEV names the device and two ways out`() {
        let text = text(.addDevice, 4, .fileExists)
        #expect(text.contains("device 4 exists"))
        #expect(text.contains("-n"))
        #expect(text.contains("delete"))
    }

    @Test func `ENODEV names the device and list`() {
        for kind in [ControlCommand.Kind.getDeviceInfo, .stopDevice, .deleteDevice] {
            let text = text(kind, 4, .operationNotSupportedByDevice)
            #expect(text.contains("no ublk device 4"))
            #expect(text.contains("ublk-script list"))
        }
    }

    @Test func `EPERM says that root is needed`() {
        #expect(text(.addDevice, nil, .notPermitted).contains("needs root"))
        #expect(text(.deleteDevice, 2, .notPermitted).contains("needs root"))
    }

    @Test func `EACCES of ADD_DEV is the driver's limit and names its parameter`() {
        let text = text(.addDevice, nil, .permissionDenied)
        #expect(text.contains("limit of devices"))
        #expect(text.contains("/sys/module/ublk_drv/parameters/ublks_max"))
    }

    @Test func `EACCES of another command keeps its name`() {
        let text = text(.setParams, 4, .permissionDenied)
        #expect(text.contains("SET_PARAMS of device 4"))
        #expect(text.contains("EACCES"))
    }

    @Test func `any other errno is named with command and device`() {
        let text = text(.startDevice, 4, .invalidArgument)
        #expect(text.contains("START_DEV of device 4"))
        #expect(text.contains("EINVAL"))
        #expect(self.text(.addDevice, nil, .invalidArgument).contains("(new)"))
    }

    @Test func `a device for which there is no memory is told how to become smaller`() {
        let text = text(.addDevice, nil, .noMemory)
        #expect(text.contains("no memory for this device's queues (ENOMEM)"))
        #expect(text.contains("fewer queues (-q), less depth (-d), a smaller max_io="))
    }

    @Test func `a time-out names command, device, limit and likely reason`() {
        let text = DeviceError.timeout(.stopDevice, DeviceID(4), seconds: 30).description
        #expect(text.contains("STOP_DEV of device 4"))
        #expect(text.contains("30 s"))
        #expect(text.contains("an IO its server holds"))
    }

    @Test func `a missing driver, a closed door and a missing io_uring say what to do`() {
        #expect(DeviceError.noDriver.description.contains("modprobe ublk_drv"))
        #expect(DeviceError.noPermission.description.contains("sudo"))
        let text = DeviceError.noUring(.noFunction).description
        #expect(text.contains("ENOSYS"))
        #expect(text.contains("kernel.io_uring_disabled"))
    }

    @Test func `only the driver's own answer has an errno`() {
        #expect(
            DeviceError.command(.stopDevice, nil, .noSuchFileOrDirectory).errno
                == .noSuchFileOrDirectory
        )
        #expect(DeviceError.timeout(.stopDevice, nil, seconds: 1).errno == nil)
        #expect(DeviceError.noDriver.errno == nil)
    }

    @Test func `without a driver the real control device says so`() throws {
        guard !TestHost.hasDriver else { return }
        let found = error { () throws(DeviceError) in _ = try ControlDevice() }
        #expect(found == .noDriver)
    }
}
