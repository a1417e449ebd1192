import CLua
import CUring
import Testing

@testable import UblkScript

/// The driver's structures byte by byte, and the small values of `UAPI/`.
///
/// The numbers are those of the kernel's UAPI header, sizes and offsets compiled from 6.12's and 7.2's.
@Suite struct UAPILayoutTests {
    @Test func `a control command has the driver's layout`() {
        typealias Command = ublk_ctrl_cmd
        #expect(MemoryLayout<Command>.size == 32)
        #expect(MemoryLayout<Command>.stride == 32)
        #expect(MemoryLayout<Command>.offset(of: \.dev_id) == 0)
        #expect(MemoryLayout<Command>.offset(of: \.queue_id) == 4)
        #expect(MemoryLayout<Command>.offset(of: \.len) == 6)
        #expect(MemoryLayout<Command>.offset(of: \.addr) == 8)
        #expect(MemoryLayout<Command>.offset(of: \.data) == 16)
        #expect(MemoryLayout<Command>.offset(of: \.dev_path_len) == 24)
    }

    @Test func `a device's info has the driver's layout`() {
        typealias Info = ublk_dev_info
        #expect(MemoryLayout<Info>.size == 64)
        #expect(MemoryLayout<Info>.stride == 64)
        #expect(MemoryLayout<Info>.offset(of: \.nr_hw_queues) == 0)
        #expect(MemoryLayout<Info>.offset(of: \.queue_depth) == 2)
        #expect(MemoryLayout<Info>.offset(of: \.state) == 4)
        #expect(MemoryLayout<Info>.offset(of: \.io_desc_size) == 6)
        #expect(MemoryLayout<Info>.offset(of: \.max_io_buf_bytes) == 8)
        #expect(MemoryLayout<Info>.offset(of: \.dev_id) == 12)
        #expect(MemoryLayout<Info>.offset(of: \.ublksrv_pid) == 16)
        #expect(MemoryLayout<Info>.offset(of: \.flags) == 24)
        #expect(MemoryLayout<Info>.offset(of: \.ublksrv_flags) == 32)
        #expect(MemoryLayout<Info>.offset(of: \.owner_uid) == 40)
        #expect(MemoryLayout<Info>.offset(of: \.owner_gid) == 44)
    }

    @Test func `the parameters have the layout of kernel 6.12`() {
        typealias Params = ublk_params
        #expect(MemoryLayout<Params>.size == 112)
        #expect(MemoryLayout<Params>.offset(of: \.len) == 0)
        #expect(MemoryLayout<Params>.offset(of: \.types) == 4)
        #expect(MemoryLayout<Params>.offset(of: \.basic) == 8)
        #expect(MemoryLayout<Params>.offset(of: \.discard) == 40)
        #expect(MemoryLayout<Params>.offset(of: \.devt) == 60)
        #expect(MemoryLayout<Params>.offset(of: \.zoned) == 76)
        #expect(MemoryLayout<ublk_param_basic>.size == 32)
        #expect(MemoryLayout<ublk_param_basic>.offset(of: \.logical_bs_shift) == 4)
        #expect(MemoryLayout<ublk_param_basic>.offset(of: \.physical_bs_shift) == 5)
        #expect(MemoryLayout<ublk_param_basic>.offset(of: \.io_opt_shift) == 6)
        #expect(MemoryLayout<ublk_param_basic>.offset(of: \.io_min_shift) == 7)
        #expect(MemoryLayout<ublk_param_basic>.offset(of: \.max_sectors) == 8)
        #expect(MemoryLayout<ublk_param_basic>.offset(of: \.chunk_sectors) == 12)
        #expect(MemoryLayout<ublk_param_basic>.offset(of: \.dev_sectors) == 16)
        #expect(MemoryLayout<ublk_param_basic>.offset(of: \.virt_boundary_mask) == 24)
        #expect(MemoryLayout<ublk_param_discard>.size == 20)
        #expect(MemoryLayout<ublk_param_discard>.offset(of: \.discard_granularity) == 4)
        #expect(MemoryLayout<ublk_param_discard>.offset(of: \.max_discard_sectors) == 8)
        #expect(MemoryLayout<ublk_param_discard>.offset(of: \.max_write_zeroes_sectors) == 12)
        #expect(MemoryLayout<ublk_param_discard>.offset(of: \.max_discard_segments) == 16)
        #expect(MemoryLayout<ublk_param_devt>.size == 16)
    }

    @Test func `an io command and an io descriptor have the driver's layout`() {
        #expect(MemoryLayout<ublk_io_cmd>.size == 16)
        #expect(MemoryLayout<ublk_io_cmd>.offset(of: \.q_id) == 0)
        #expect(MemoryLayout<ublk_io_cmd>.offset(of: \.tag) == 2)
        #expect(MemoryLayout<ublk_io_cmd>.offset(of: \.result) == 4)
        #expect(MemoryLayout<ublk_io_cmd>.offset(of: \.addr) == 8)
        #expect(MemoryLayout<ublk_io_desc>.size == 24)
        #expect(MemoryLayout<ublk_io_desc>.stride == 24)
        #expect(MemoryLayout<ublk_io_desc>.offset(of: \.op_flags) == 0)
        #expect(MemoryLayout<ublk_io_desc>.offset(of: \.nr_sectors) == 4)
        #expect(MemoryLayout<ublk_io_desc>.offset(of: \.start_sector) == 8)
        #expect(MemoryLayout<ublk_io_desc>.offset(of: \.addr) == 16)
    }

    @Test(arguments: [
        (ControlCommand.Kind.getQueueAffinity, 0x8020_7501 as UInt32),
        (.getDeviceInfo, 0x8020_7502),
        (.addDevice, 0xc020_7504),
        (.deleteDevice, 0x8020_7514),
        (.startDevice, 0xc020_7506),
        (.stopDevice, 0xc020_7507),
        (.setParams, 0xc020_7508),
        (.getParams, 0x8020_7509),
        (.getDeviceInfo2, 0x8020_7512),
        (.getFeatures, 0x8020_7513),
    ])
    func `a control command has the documented code`(kind: ControlCommand.Kind, code: UInt32) {
        #expect(kind.code == code)
    }

    @Test func `the io commands have the documented codes`() {
        #expect(UBLK_IO_FETCH_REQ == 0xc010_7520)
        #expect(UBLK_IO_COMMIT_AND_FETCH_REQ == 0xc010_7521)
    }

    @Test func `data is copied at the place of its queue and tag`() {
        #expect(ublk_data_position(0, 0) == 0x8000_0000)
        #expect(ublk_data_position(0, 1) == 0x8200_0000)
        #expect(ublk_data_position(3, 4095) == 0x8000_0000 + 3 << 41 + 4095 << 25)
    }

    @Test func `the io is the first member of a request, at any tag`() {
        #expect(MemoryLayout<Request>.offset(of: \.io) == 0)
        let table = RequestTable(depth: 3, queue: QueueID(9), counters: QueueCounters())
        for number in 0..<3 {
            let tag = Tag(UInt16(number))
            unsafe table.io(tag).pointee.sequence = UInt64(number) + 7
            #expect(table[tag].io.sequence == UInt64(number) + 7)
            #expect(table[tag].io.tag == UInt16(number) && table[tag].io.queue == 9)
        }
    }

    @Test(arguments: [UserData.Kind.request, .operation, .wakeup, .control, .cancel])
    func `user data gives back its kind, its tag and the transfer`(kind: UserData.Kind) {
        for (transfer, tag) in [(0, 0), (1, 1), (15, 127), (8, 4095), (255, 0xffff)]
            as [(Int, UInt16)]
        {
            let packed = UserData(kind, tag: Tag(tag), transfer: transfer)
            let unpacked = UserData(rawValue: packed.rawValue)
            #expect(unpacked.kind == kind)
            #expect(unpacked.tag == Tag(tag))
            #expect(unpacked.transfer == transfer)
            let bits = UInt64(kind.rawValue) << 56 | UInt64(transfer) << 16 | UInt64(tag)
            #expect(packed.rawValue == bits)
        }
    }

    @Test func `user data that was never packed has no kind`() {
        #expect(UserData(rawValue: 0).kind == nil)
        #expect(UserData(rawValue: .max).kind == nil)
    }
}
