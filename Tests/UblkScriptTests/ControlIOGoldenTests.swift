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
