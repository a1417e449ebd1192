import CUring
import Testing

@testable import UblkScript

/// What goes to the driver, byte by byte, without one.
///
/// Little-endian hosts: the bytes are written as those see them.
///
/// An SQE128's first 64 bytes are the same for all control commands but for `cmd_op`; the 32 bytes of the command start
/// at 48. `RecordedControl.submission` says which fd, address and user data stand in.
@Suite(.enabled(if: 1.littleEndian == 1, "the bytes are those of little-endian hosts"))
struct ControlGoldenTests {
    /// The whole SQE128 of a control command: `command` stands at byte 48.
    private func expected(code: String, command: String) -> [UInt8] {
        let before = Golden.bytes(
            """
            2e                      | opcode        IORING_OP_URING_CMD
            00                      | flags
            00 00                   | ioprio
            07 00 00 00             | fd            7
            \(code)                 | cmd_op
            00 00 00 00             | __pad1        must be 0
            00 * 8                  | addr
            00 00 00 00             | len
            00 00 00 00             | uring_cmd_flags
            03 00 00 00 00 00 00 04 | user_data     control, sequence 3
            00 00                   | buf_index
            00 00                   | personality
            00 00 00 00             | splice_fd_in
            """
        )
        let after = Golden.bytes("00 * 48 | the rest of the second half")
        return before + Golden.bytes(command) + after
    }

    private func check(
        _ control: RecordedControl,
        code: String,
        command: String,
        _ location: SourceLocation = #_sourceLocation
    ) {
        let difference = Golden.difference(
            control.submission(),
            expected(code: code, command: command)
        )
        #expect(difference == "same", sourceLocation: location)
    }

    @Test func `GET_FEATURES`() throws {
        let control = RecordedControl()
        _ = try ControlDevice(control).features()
        check(
            control,
            code: "13 75 20 80",
            command: """
                ff ff ff ff             | dev_id        none
                ff ff                   | queue_id      none
                08 00                   | len           8, exactly
                00 11 22 33 44 55 66 77 | addr
                00 * 8                  | data
                00 00                   | dev_path_len
                00 * 6                  | pad, reserved
                """
        )
        #expect(control.sent[0].payload == [UInt8](repeating: 0, count: 8))
    }

    @Test func `ADD_DEV of a chosen number`() throws {
        let control = RecordedControl()
        var info = DeviceInfo(
            id: DeviceID(5),
            queues: 2,
            depth: 128,
            maxIOBytes: 512 << 10,
            features: [.userCopy, .noAutoPartitionScan]
        )
        // Kernels before 6.12.117 believed these two.
        info.state = .live
        info.serverPID = 4711
        _ = try ControlDevice(control).add(info)
        check(
            control,
            code: "04 75 20 c0",
            command: """
                05 00 00 00             | dev_id        5, as in the payload
                ff ff                   | queue_id      ADD_DEV insists
                40 00                   | len           64
                00 11 22 33 44 55 66 77 | addr
                00 * 16                 | data, dev_path_len, pad, reserved
                """
        )
        let payload = Golden.bytes(
            """
            02 00                   | nr_hw_queues
            80 00                   | queue_depth
            00 00                   | state         always 0
            00 00                   | io_desc_size  0 without its flag
            00 00 08 00             | max_io_buf_bytes
            05 00 00 00             | dev_id
            00 00 00 00             | ublksrv_pid   always 0
            00 00 00 00             | pad1
            80 00 04 00 00 00 00 00 | flags         USER_COPY, NO_AUTO_PART_SCAN
            00 * 8                  | ublksrv_flags
            00 * 8                  | owner_uid, owner_gid
            00 * 16                 | reserved
            """
        )
        #expect(Golden.difference(control.sent[0].payload, payload) == "same")
    }

    @Test func `ADD_DEV of the next free number`() throws {
        let control = RecordedControl()
        let info = DeviceInfo(id: nil, queues: 1, depth: 1, maxIOBytes: 4096, features: [])
        _ = try ControlDevice(control).add(info)
        let submission = control.submission()
        #expect(Array(submission[48..<52]) == Golden.bytes("ff ff ff ff | dev_id: pick one"))
        let payload = control.sent[0].payload
        #expect(Array(payload[12..<16]) == Golden.bytes("ff ff ff ff | dev_id: pick one"))
    }

    @Test func `SET_PARAMS with everything on`() throws {
        let control = RecordedControl { command, payload throws(DeviceError) in
            // Reading back is another test's.
            if command.kind == .getParams { payload = [UInt8](repeating: 0xff, count: 112) }
        }
        var params = DeviceParams(sizeBytes: 1 << 30)
        params.logicalBlockBytes = 4096
        params.physicalBlockBytes = 8192
        params.ioMinBytes = 8192
        params.ioOptBytes = 64 << 10
        params.maxIOBytes = 1 << 20
        params.readOnly = true
        params.rotational = true
        params.volatileCache = true
        params.fua = true
        params.discard = .init(granularityBytes: 65536, maxBytes: 1 << 30)
        params.writeZeroes = .init(granularityBytes: 4096, maxBytes: 512 << 20)
        try? ControlDevice(control).setParams(params, of: DeviceID(5))
        check(
            control,
            code: "08 75 20 c0",
            command: """
                05 00 00 00             | dev_id
                ff ff                   | queue_id
                70 00                   | len           112
                00 11 22 33 44 55 66 77 | addr
                00 * 16                 | data, dev_path_len, pad, reserved
                """
        )
        let payload = Golden.bytes(
            """
            70 00 00 00             | len           112
            03 00 00 00             | types         BASIC, DISCARD
            0f 00 00 00             | attrs         READ_ONLY ROTATIONAL VOLATILE_CACHE FUA
            0c                      | logical_bs_shift
            0d                      | physical_bs_shift
            10                      | io_opt_shift
            0d                      | io_min_shift
            00 08 00 00             | max_sectors   2048
            00 00 00 00             | chunk_sectors
            00 00 20 00 00 00 00 00 | dev_sectors   2 Mi
            00 * 8                  | virt_boundary_mask
            00 00 00 00             | discard_alignment
            00 00 01 00             | discard_granularity
            00 00 20 00             | max_discard_sectors
            00 00 10 00             | max_write_zeroes_sectors
            01 00                   | max_discard_segments
            00 00                   | reserved0
            00 * 16                 | devt
            00 * 32                 | zoned
            00 * 4                  | tail of the structure
            """
        )
        #expect(Golden.difference(control.sent[0].payload, payload) == "same")
    }

    @Test func `SET_PARAMS without discard and write zeroes sends the basic parameters only`() {
        let raw = DeviceParams(sizeBytes: 1 << 20).raw
        let payload = Golden.bytes(
            """
            70 00 00 00             | len           112
            01 00 00 00             | types         BASIC
            00 00 00 00             | attrs
            09                      | logical_bs_shift   512
            0c                      | physical_bs_shift  4096
            09                      | io_opt_shift  none given: the logical block
            0c                      | io_min_shift  4096
            00 04 00 00             | max_sectors   1024
            00 00 00 00             | chunk_sectors
            00 08 00 00 00 00 00 00 | dev_sectors   2048
            00 * 80                 | the rest
            """
        )
        #expect(Golden.difference(Bytes.of(raw), payload) == "same")
    }

    @Test func `write zeroes alone still gives a granularity`() {
        var params = DeviceParams(sizeBytes: 1 << 20)
        params.writeZeroes = .init(granularityBytes: 8192, maxBytes: 1 << 20)
        let raw = params.raw
        #expect(raw.types == 3)
        #expect(raw.discard.discard_granularity == 8192)
        #expect(raw.discard.max_discard_sectors == 0)
        #expect(raw.discard.max_discard_segments == 0)
        #expect(raw.discard.max_write_zeroes_sectors == 2048)
    }

    @Test func `GET_PARAMS`() throws {
        let control = RecordedControl()
        _ = try ControlDevice(control).getParams(of: DeviceID(1))
        check(
            control,
            code: "09 75 20 80",
            command: """
                01 00 00 00             | dev_id
                ff ff                   | queue_id
                70 00                   | len           112
                00 11 22 33 44 55 66 77 | addr
                00 * 16                 | data, dev_path_len, pad, reserved
                """
        )
        let payload = Golden.bytes(
            """
            70 00 00 00 | len 112: how much the driver may write
            00 * 108    | answered
            """
        )
        #expect(Golden.difference(control.sent[0].payload, payload) == "same")
    }

    @Test func `START_USER_RECOVERY and END_USER_RECOVERY`() throws {
        let control = RecordedControl()
        try ControlDevice(control).startRecovery(DeviceID(5))
        check(
            control,
            code: "10 75 20 c0",
            command: """
                05 00 00 00             | dev_id
                ff ff                   | queue_id
                00 00                   | len           none
                00 * 8                  | addr
                00 * 16                 | data, dev_path_len, pad, reserved
                """
        )
        let end = RecordedControl()
        try ControlDevice(end).endRecovery(DeviceID(5), serverPID: 4711)
        check(
            end,
            code: "11 75 20 c0",
            command: """
                05 00 00 00             | dev_id
                ff ff                   | queue_id
                00 00                   | len           none
                00 * 8                  | addr
                67 12 00 00 00 00 00 00 | data          the server's pid
                00 * 8                  | dev_path_len, pad, reserved
                """
        )
    }

    @Test func `GET_DEV_INFO`() throws {
        let control = RecordedControl()
        _ = try ControlDevice(control).info(of: DeviceID(0x01_0203))
        check(
            control,
            code: "02 75 20 80",
            command: """
                03 02 01 00             | dev_id
                ff ff                   | queue_id
                40 00                   | len           64
                00 11 22 33 44 55 66 77 | addr
                00 * 16                 | data, dev_path_len, pad, reserved
                """
        )
        #expect(control.sent[0].payload == [UInt8](repeating: 0, count: 64))
    }

    @Test func `GET_DEV_INFO2 carries the path before the structure`() throws {
        let control = RecordedControl()
        _ = try ControlDevice(control).infoByPath(of: DeviceID(3))
        check(
            control,
            code: "12 75 20 80",
            command: """
                03 00 00 00             | dev_id
                ff ff                   | queue_id
                4c 00                   | len           12 + 64
                00 11 22 33 44 55 66 77 | addr
                00 * 8                  | data
                0c 00                   | dev_path_len  12, with its NUL
                00 * 6                  | pad, reserved
                """
        )
        let payload = Array("/dev/ublkc3".utf8) + [UInt8](repeating: 0, count: 1 + 64)
        #expect(Golden.difference(control.sent[0].payload, payload) == "same")
    }

    @Test func `GET_QUEUE_AFFINITY`() throws {
        let control = RecordedControl()
        let mask = try ControlDevice(control).affinity(of: QueueID(2), device: DeviceID(1))
        check(
            control,
            code: "01 75 20 80",
            command: """
                01 00 00 00             | dev_id
                ff ff                   | queue_id      the queue is in data
                80 00                   | len           128: room for 1024 CPUs
                00 11 22 33 44 55 66 77 | addr
                02 00 00 00 00 00 00 00 | data          queue 2
                00 * 8                  | dev_path_len, pad, reserved
                """
        )
        #expect(mask.count % 8 == 0)
        #expect(mask.count * 8 >= Int(sys_cpu_count()), "the driver wants a bit for each CPU")
    }

    @Test func `START_DEV`() throws {
        let control = RecordedControl()
        try ControlDevice(control).start(DeviceID(1), serverPID: 0x0102_0304)
        check(
            control,
            code: "06 75 20 c0",
            command: """
                01 00 00 00             | dev_id
                ff ff                   | queue_id
                00 00                   | len
                00 * 8                  | addr          nothing to read
                04 03 02 01 00 00 00 00 | data          the server's pid
                00 * 8                  | dev_path_len, pad, reserved
                """
        )
    }

    @Test func `STOP_DEV and DEL_DEV_ASYNC carry a number only`() throws {
        let command = """
            01 00 00 00             | dev_id
            ff ff                   | queue_id
            00 * 26                 | len, addr, data, dev_path_len, pad, reserved
            """
        let stop = RecordedControl()
        try ControlDevice(stop).stop(DeviceID(1))
        check(stop, code: "07 75 20 c0", command: command)
        let delete = RecordedControl()
        try ControlDevice(delete).delete(DeviceID(1))
        check(delete, code: "14 75 20 80", command: command)
    }

    @Test(arguments: [
        (ControlCommand.Kind.deleteDeviceAndWait, "05 75 20 c0"),
        (.updateSize, "15 75 20 c0"), (.quiesceDevice, "16 75 20 c0"),
        (.tryStopDevice, "17 75 20 c0"), (.unregisterBuffer, "19 75 20 c0"),
    ])
    func `a command of another program carries a number and one argument`(
        kind: ControlCommand.Kind,
        code: String
    ) throws {
        let control = RecordedControl()
        try ControlDevice(control).give(kind, DeviceID(1), data: 0x0102, seconds: 1)
        check(
            control,
            code: code,
            command: """
                01 00 00 00             | dev_id
                ff ff                   | queue_id
                00 * 10                 | len, addr
                02 01 00 00 00 00 00 00 | data
                00 * 8                  | dev_path_len, pad, reserved
                """
        )
    }
}
