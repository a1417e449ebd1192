import CUring
import Testing

@testable import UblkScript

/// FETCH and COMMIT_AND_FETCH as 64-byte SQEs.
///
/// Little-endian hosts.
@Suite(.enabled(if: 1.littleEndian == 1, "the bytes are those of little-endian hosts"))
struct ControlIOGoldenTests {
    private func submission(
        code: UInt32,
        queue: UInt16,
        tag: UInt16,
        result: Int32,
        buffer: UInt64,
        registration: UInt64 = 0
    ) -> [UInt8] {
        unsafe filledSubmission(bytes: 64) { sqe in
            unsafe uring_prep_ublk_io(sqe, code, queue, tag, result, buffer, registration)
            unsafe sqe.pointee.user_data = UserData(.request, tag: Tag(tag)).rawValue
        }
    }

    private func expected(
        code: String,
        tag: String,
        addr: String = "00 * 8",
        command: String
    ) -> [UInt8] {
        Golden.bytes(
            """
            2e                      | opcode        IORING_OP_URING_CMD
            01                      | flags         IOSQE_FIXED_FILE
            00 00                   | ioprio
            00 00 00 00             | fd            registered file 0
            \(code)                 | cmd_op
            00 00 00 00             | __pad1        must be 0
            \(addr)                 | addr
            00 00 00 00             | len
            00 00 00 00             | uring_cmd_flags
            \(tag) 00 00 00 00 00 01 | user_data    request, tag
            00 * 8                  | buf_index, personality, splice_fd_in
            """
        ) + Golden.bytes(command)
    }

    @Test func `FETCH_IO_CMDS into the buffers of group 0`() {
        let found = unsafe filledSubmission(bytes: 64) { sqe in
            unsafe uring_prep_ublk_batch_fetch(sqe, 0x0102, 0)
            unsafe sqe.pointee.user_data = UserData(.tags).rawValue
        }
        let expected = Golden.bytes(
            """
            2e                      | opcode        IORING_OP_URING_CMD
            21                      | flags         IOSQE_FIXED_FILE, IOSQE_BUFFER_SELECT
            00 00                   | ioprio
            00 00 00 00             | fd            registered file 0
            27 75 10 c0             | cmd_op
            00 00 00 00             | __pad1        must be 0
            00 * 8                  | addr
            00 00 00 00             | len
            02 00 00 00             | uring_cmd_flags IORING_URING_CMD_MULTISHOT
            00 00 00 00 00 00 00 09 | user_data     tags
            00 00                   | buf_group
            00 * 6                  | personality, splice_fd_in
            02 01                   | q_id
            00 00                   | flags
            00 00                   | nr_elem
            02                      | elem_bytes
            00                      | reserved
            00 * 8                  | reserved2
            """
        )
        #expect(Golden.difference(found, expected) == "same")
    }

    @Test func `COMMIT_IO_CMDS of three elements with addresses`() {
        let place = unsafe UnsafePointer<ublk_batch_element>(bitPattern: 0x0102_0304_0500)
        let found = unsafe filledSubmission(bytes: 64) { sqe in
            unsafe uring_prep_ublk_batch(sqe, UBLK_IO_COMMIT_IO_CMDS, 1, place, 3)
            unsafe sqe.pointee.user_data = UserData(.committed, tag: Tag(3)).rawValue
        }
        let expected = Golden.bytes(
            """
            2e                      | opcode        IORING_OP_URING_CMD
            01                      | flags         IOSQE_FIXED_FILE
            00 00                   | ioprio
            00 00 00 00             | fd            registered file 0
            26 75 10 c0             | cmd_op
            00 00 00 00             | __pad1        must be 0
            00 05 04 03 02 01 00 00 | addr
            00 00 00 00             | len
            00 00 00 00             | uring_cmd_flags
            03 00 00 00 00 00 00 08 | user_data     committed, how many
            00 * 8                  | buf_index, personality, splice_fd_in
            01 00                   | q_id
            02 00                   | flags         UBLK_BATCH_F_HAS_BUF_ADDR
            03 00                   | nr_elem
            10                      | elem_bytes
            00                      | reserved
            00 * 8                  | reserved2
            """
        )
        #expect(Golden.difference(found, expected) == "same")
    }

    @Test func `FETCH_REQ of a tag whose next request is to be registered`() {
        let found = submission(
            code: UBLK_IO_FETCH_REQ,
            queue: 1,
            tag: 0x0102,
            result: 0,
            buffer: 0,
            registration: ublk_auto_buf_reg(0x0102)
        )
        let expected = expected(
            code: "20 75 10 c0",
            tag: "02 01",
            // index, UBLK_AUTO_BUF_REG_FALLBACK, reserved
            addr: "02 01 01 00 00 00 00 00",
            command: """
                01 00                   | q_id
                02 01                   | tag
                00 00 00 00             | result
                00 * 8                  | addr
                """
        )
        #expect(Golden.difference(found, expected) == "same")
    }

    @Test func `FETCH_REQ`() {
        let found = submission(
            code: UBLK_IO_FETCH_REQ,
            queue: 1,
            tag: 0x0102,
            result: 0,
            buffer: 0x7766_5544_3322_1100
        )
        let expected = expected(
            code: "20 75 10 c0",
            tag: "02 01",
            command: """
                01 00                   | q_id
                02 01                   | tag
                00 00 00 00             | result
                00 11 22 33 44 55 66 77 | addr      the tag's buffer
                """
        )
        #expect(Golden.difference(found, expected) == "same")
    }

    @Test func `COMMIT_AND_FETCH_REQ of bytes done`() {
        let found = submission(
            code: UBLK_IO_COMMIT_AND_FETCH_REQ,
            queue: 3,
            tag: 7,
            result: 0x0008_0000,
            buffer: 0x1000
        )
        let expected = expected(
            code: "21 75 10 c0",
            tag: "07 00",
            command: """
                03 00                   | q_id
                07 00                   | tag
                00 00 08 00             | result    512 KiB
                00 10 00 00 00 00 00 00 | addr
                """
        )
        #expect(Golden.difference(found, expected) == "same")
    }

    @Test func `COMMIT_AND_FETCH_REQ of an error carries the negative errno`() {
        let found = submission(
            code: UBLK_IO_COMMIT_AND_FETCH_REQ,
            queue: 0,
            tag: 0x0fff,
            result: -61,
            buffer: 0
        )
        let expected = expected(
            code: "21 75 10 c0",
            tag: "ff 0f",
            command: """
                00 00                   | q_id
                ff 0f                   | tag       4095
                c3 ff ff ff             | result    -ENODATA
                00 * 8                  | addr
                """
        )
        #expect(Golden.difference(found, expected) == "same")
    }
}
