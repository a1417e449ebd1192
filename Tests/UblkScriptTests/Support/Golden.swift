@testable import UblkScript

/// Expected bytes with the field names beside them.
///
///     2e             | opcode   IORING_OP_URING_CMD
///     00 * 16        | reserved
enum Golden {
    /// The bytes of such a text.
    static func bytes(_ text: String) -> [UInt8] {
        text.split(separator: "\n").flatMap { line in
            let digits = line.prefix { $0 != "|" }.split(separator: " ")
            if digits.count == 3, digits[1] == "*", let count = Int(digits[2]) {
                return [UInt8](repeating: byte(digits[0]), count: count)
            }
            return digits.map { byte($0) }
        }
    }

    private static func byte(_ digits: Substring) -> UInt8 {
        guard digits.count == 2, let byte = UInt8(digits, radix: 16) else {
            preconditionFailure("golden bytes: \(digits)")
        }
        return byte
    }

    /// Where two byte strings differ, for a message that can be read; "same" when they do not.
    static func difference(_ found: [UInt8], _ expected: [UInt8]) -> String {
        guard found != expected else { return "same" }
        guard found.count == expected.count else {
            return "\(found.count) bytes instead of \(expected.count)"
        }
        return zip(found, expected).enumerated().filter { $1.0 != $1.1 }
            .map { "byte \($0): \(hex($1.0)) instead of \(hex($1.1))" }.joined(separator: ", ")
    }

    private static func hex(_ byte: UInt8) -> String {
        (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
}
