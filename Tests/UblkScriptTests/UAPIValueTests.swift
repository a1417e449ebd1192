import CUring
import Testing

@testable import UblkScript

/// The values of `UAPI/` that people see or type: features, device names, descriptors.
@Suite struct UAPIValueTests {
    @Test func `features are named lowest bit first, unknown bits by their number`() {
        let bits: [UInt64] = [0x1, 0x80, 0x4_0000, 0x8_0000, 0x20_0000, 0x8000_0000_0000_0000]
        let features = Features(rawValue: bits.reduce(0, |))
        #expect(
            features.named.map(\.name) == [
                "SUPPORT_ZERO_COPY", "USER_COPY", "NO_AUTO_PART_SCAN", "SHMEM_ZC", "UNKNOWN_21",
                "UNKNOWN_63",
            ]
        )
        #expect(features.named.map(\.bit) == bits)
        #expect(Features().named.isEmpty)
    }

    @Test func `the named features stand at their documented bits`() {
        let named: [(Features, String)] = [
            (.supportZeroCopy, "SUPPORT_ZERO_COPY"), (.completeInTask, "URING_CMD_COMP_IN_TASK"),
            (.needGetData, "NEED_GET_DATA"), (.userRecovery, "USER_RECOVERY"),
            (.userRecoveryReissue, "USER_RECOVERY_REISSUE"),
            (.unprivilegedDevice, "UNPRIVILEGED_DEV"), (.ioctlEncode, "CMD_IOCTL_ENCODE"),
            (.userCopy, "USER_COPY"), (.zoned, "ZONED"),
            (.noAutoPartitionScan, "NO_AUTO_PART_SCAN"),
        ]
        for (feature, name) in named { #expect(feature.named.map(\.name) == [name]) }
        #expect(Features(rawValue: 0xfffff).named.count == 20, "the mask of kernel 7.2")
    }

    @Test func `features tells of every flag whether this kernel has it`() {
        let lines = FeaturesCommand.Report(Features(rawValue: 0x8000_0000_0000_0081)).text
            .split(separator: "\n").map { $0.split(separator: " ").prefix(3).map(String.init) }
        #expect(lines.first == ["ublk_drv", "features:", "0x8000000000000081"])
        #expect(lines[1] == ["flag", "since", "here"])
        #expect(lines[2] == ["SUPPORT_ZERO_COPY", "6.15", "yes"])
        #expect(lines[3] == ["URING_CMD_COMP_IN_TASK", "6.0", "no"])
        #expect(lines[9] == ["USER_COPY", "6.5", "yes"])
        #expect(lines[22] == ["IO_DESC_SIZE", "7.3", "no"])
        #expect(Array(lines[23...]) == [["UNKNOWN_63", "later", "yes"]])
    }

    @Test func `every feature has a name of its own, a kernel and a purpose of one line`() {
        #expect(Set(Feature.all.map(\.name)).count == Feature.all.count)
        for feature in Feature.all {
            let kernel = feature.since.split(separator: ".").compactMap { Int($0) }
            #expect(kernel.count == 2 && kernel[0] >= 6, "\(feature.name)")
            #expect((20...80).contains(feature.purpose.count), "\(feature.name)")
        }
    }

    @Test(arguments: [
        ("0", 0 as UInt32), ("7", 7), ("1048575", 1_048_575), ("007", 7), ("/dev/ublkb0", 0),
        ("/dev/ublkc12", 12), ("ublkb7", 7), ("ublkc12", 12),
    ])
    func `a device is named by number, name or path`(text: String, id: UInt32) {
        #expect(DeviceID(parsing: text) == DeviceID(id))
    }

    @Test(arguments: [
        "", " 0", "0 ", "-1", "+1", "1048576", "4294967296", "99999999999999999999", "0x1", "1.0",
        "ublkb", "ublk0", "ublkb0p1", "dev/ublkb0", "/dev/ublkb", "/dev/ublkb-1", "/dev/ublkb0p1",
        "/dev/ublkb/dev/ublkc0",
        "/dev/sda", "٣", "1\u{301}",
    ])
    func `anything else is no device`(text: String) {
        #expect(DeviceID(parsing: text) == nil)
    }

    @Test func `a device's paths carry its number`() {
        #expect(DeviceID(3).blockPath == "/dev/ublkb3")
        #expect(DeviceID(3).characterPath == "/dev/ublkc3")
        #expect("\(DeviceID(3))" == "3")
    }

    @Test func `a descriptor counts in bytes and splits op from flags`() {
        let raw = ublk_io_desc(
            op_flags: 1 | 1 << 13 | 1 << 11,
            nr_sectors: 0xffff_ffff,
            start_sector: 1 << 50,
            addr: 0
        )
        let desc = IODesc(raw)
        #expect(desc.opCode == IOOp.write.rawValue)
        #expect(desc.flags.contains(.fua))
        #expect(!desc.flags.contains(.noUnmap))
        #expect(desc.flags.rawValue == 1 << 13 | 1 << 11)
        #expect(desc.lengthBytes == 0xffff_ffff * 512)
        #expect(desc.offsetBytes == 1 << 59)
    }

    @Test func `a flush has no place, whatever the driver left there`() {
        let desc = IODesc(ublk_io_desc(op_flags: 2, nr_sectors: 9, start_sector: 77, addr: 0))
        #expect(desc.opCode == IOOp.flush.rawValue)
        #expect(desc.offsetBytes == 0)
        #expect(desc.lengthBytes == 0)
    }

    @Test func `ops have the driver's numbers and the scripts' names`() {
        let expected: [(IOOp, UInt8, String)] = [
            (.read, 0, "read"), (.write, 1, "write"), (.flush, 2, "flush"),
            (.discard, 3, "discard"), (.writeZeroes, 5, "write_zeroes"),
        ]
        for (op, number, name) in expected {
            #expect(op.rawValue == number)
            #expect(op.name == name)
            #expect(IOOp(name: name) == op)
            #expect(op.bit == 1 << UInt32(number))
        }
        #expect(IOOp.allCases.count == expected.count)
        #expect(IOOp(name: "trim") == nil)
        #expect(IOOp.allBits == 0b101111)
    }

    @Test func `device states have the driver's numbers, an unknown one counts as live`() {
        #expect(
            [0, 1, 2, 3].map { DeviceState(rawValue: $0)?.name } == [
                "DEAD", "LIVE", "QUIESCED", "FAIL_IO",
            ]
        )
        var raw = ublk_dev_info()
        raw.state = 9
        #expect(DeviceInfo(raw).state == .live)
    }

    @Test func `an instant stays at the end of time`() {
        let late = Instant(nanoseconds: .max - 5)
        #expect(late.advanced(byNanoseconds: 5) == Instant(nanoseconds: .max))
        #expect(late.advanced(byNanoseconds: 6) == Instant(nanoseconds: .max))
        #expect(late.nanoseconds(since: Instant(nanoseconds: .max)) == 0)
        #expect(Instant(nanoseconds: 7).nanoseconds(since: Instant(nanoseconds: 3)) == 4)
    }
}
