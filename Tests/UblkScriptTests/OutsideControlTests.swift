import Glibc
import SystemPackage
import Testing

@testable import UblkScript

/// The letters between a server and the process that gives its control commands.
@Suite struct OutsideControlTests {
    private func error(_ answer: OutsideAnswer) -> DeviceError? {
        do throws(DeviceError) {
            _ = try answer.result(.deleteDevice, DeviceID(3))
            return nil
        } catch { return error }
    }

    @Test func `an answer comes out as it went in`() throws {
        var answer = OutsideAnswer(number: 7)
        answer.text = "no partition scan: EBUSY"
        #expect(OutsideAnswer(answer.letter) == answer)
        #expect(try answer.result(.startDevice, DeviceID(3)) == "no partition scan: EBUSY")
        answer.isStopSeen = true
        #expect(OutsideAnswer(answer.letter) == answer)
        answer.text = ""
        #expect(OutsideAnswer(answer.letter) == answer)
    }

    @Test func `the driver's errno is the driver's errno again`() {
        var answer = OutsideAnswer(number: 7)
        answer.isOK = false
        answer.errno = ENODEV
        answer.text = "two\nlines"
        #expect(OutsideAnswer(answer.letter) == answer)
        #expect(
            error(answer) == .command(.deleteDevice, DeviceID(3), .operationNotSupportedByDevice)
        )
        answer.errno = 0
        #expect(error(answer) == .unsupported("two\nlines"))
    }

    @Test(arguments: ["", "7", "7 +", "x + 0 text", "7 + x text"])
    func `what is no answer is none`(letter: String) {
        #expect(OutsideAnswer(letter) == nil)
    }

    @Test func `letters stay apart, and the end is seen`() {
        var ends: [Int32] = [-1, -1]
        #expect(unsafe socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &ends) == 0)
        defer { close(ends[1]) }
        #expect(Companion.write("first", to: ends[0]))
        #expect(Companion.write("second", to: ends[0]))
        #expect(Companion.read(ends[1]) == "first")
        #expect(Companion.read(ends[1]) == "second")
        close(ends[0])
        #expect(Companion.read(ends[1]) == nil)
        #expect(!Companion.write("third", to: ends[1]))
    }
}
