import CLua
import Glibc
import Testing

@testable import UblkScript

/// Scripts that nobody would write: the loader, the rules and the verdicts take whatever comes.
///
/// `UBLK_TEST_FUZZ` gives another number of rounds.
@Suite struct FuzzTests {
    private static let seed = TestHost.seed(for: "fuzz")

    private static func rounds(_ usual: Int) -> Int {
        TestHost.variable("UBLK_TEST_FUZZ").flatMap { Int($0) } ?? usual
    }

    // MARK: Mutated scripts

    private static let pieces = [
        "nil", "true", "-1", "0", "1e300", "0/0", "math.huge", "\"\"", "\"4K\"", "\"1ms\"", "{}",
        "{ {} }", "print",
        "fail(\"EIO\")", "delay(1)", "hang()", "drop()", "zero()", "done()", "to(0)",
        "store(\"all\")",
        "corrupt(\"flip\")", "misdirect(512)", "ranges()", "dist.const(1)", "bucket { iops = 1 }",
        "dict(\"d\")",
        "backing()", "read", "write", "op", "range", "p", "nth", "every", "error", "=", ",", "(",
        ")", "{", "}", "end",
        "function", "return", "local", "..", "#", "\0", "\u{fe}", "--[[", "]]",
    ]

    /// A few changes to a text: bytes, lines, words.
    private func mutated(_ text: String, _ random: inout SplitMix64) -> String {
        var words = text.split(separator: " ", omittingEmptySubsequences: false).map(String.init)
        for _ in 0...random.below(4) where !words.isEmpty {
            let place = Int(random.below(UInt64(words.count)))
            let piece = Self.pieces[Int(random.below(UInt64(Self.pieces.count)))]
            switch random.below(5) {
            case 0: words.remove(at: place)
            case 1: words.insert(piece, at: place)
            case 2: words[place] = piece
            case 3: words.swapAt(place, Int(random.below(UInt64(words.count))))
            default: words[place] = String(words[place].dropLast(1)) + piece
            }
        }
        return words.joined(separator: " ")
    }

    @Test func `scripts with a few changes load, or say by file and line why not`() {
        var random = SplitMix64(seed: Self.seed)
        var loaded = 0
        for round in 0..<Self.rounds(1500) {
            let scripts = ShippedScript.all
            let script = scripts[Int(random.below(UInt64(scripts.count)))]
            let text = mutated(script.text, &random)
            var options = Script.Options()
            options.loadLimitNanoseconds = 100_000_000
            do throws(ScriptError) {
                let state = try Script(
                    ScriptSource(path: "t.lua", text: text),
                    shared: SharedObjects(queues: 1),
                    options: options
                )
                _ = try? state.declarations()
                loaded += 1
            } catch {
                let place = "seed \(Self.seed), round \(round), \(script.name): \(error)"
                #expect(error.text.hasPrefix("t.lua:"), "\(place)")
            }
        }
        #expect(loaded > 50, "seed \(Self.seed): some still load")
    }

    // MARK: Random verdicts

    private static let errnos = Quantity.blockErrnoNames

    private func time(_ random: inout SplitMix64) -> String {
        ["\"1us\"", "\"30us\"", "0", "1", "dist.uniform { min = 0, max = \"1ms\" }"][
            Int(random.below(5))
        ]
    }

    /// One verdict that exists, with arguments at and beyond their limits.
    private func verdict(_ random: inout SplitMix64) -> String {
        func pick(_ list: [String]) -> String { list[Int(random.below(UInt64(list.count)))] }
        let offset = pick([
            "0", "512", "4096", "length", "offset", "1048576 - length", "1048576", "2^62 // 1",
        ])
        switch random.below(12) {
        case 0: return "fail(\"\(pick(Self.errnos))\")"
        case 1: return "delay(\(time(&random)))"
        case 2: return "hang(\(pick(["\"1us\"", "\"1ms\""])))"
        case 3: return "drop()"
        case 4: return "zero()"
        case 5: return "done()"
        case 6: return "done((\"x\"):rep(\(pick(["0", "1", "length", "length"]))))"
        case 7: return "to(\(offset), \(pick(["nil", "own", "memory", "file"])))"
        case 8:
            let at = pick(["0", "512", "length // 2", "length"])
            return
                "to(\(offset), \(pick(["nil", "memory", "file"])), \(at), \(pick(["nil", "512", "length // 2 + 1"])))"
        case 9: return "misdirect(\(pick(["512", "-512", "1048576", "-2^40 // 1"])))"
        case 10:
            let mode = pick(["flip", "set", "zero", "garbage", "stuck"])
            let at = pick(["0", "511", "100"])
            return "corrupt { mode = \"\(mode)\", at = \(at), sticky = \(pick(["true", "false"])) }"
        default:
            let keep = pick(["all", "none", "prefix", "suffix", "middle"])
            return "store { keep = \"\(keep)\", unit = \(pick(["512", "4096", "1048576"])) }"
        }
    }

    private func sum(_ random: inout SplitMix64) -> String {
        (0...random.below(3)).map { _ in verdict(&random) }.joined(separator: " + ")
    }

    /// The driver's rules are assertions of the simulator: a wrong result or a lost request would stop the test.
    @Test func `any verdict ends each IO in one of the ways there are`() throws {
        var random = SplitMix64(seed: Self.seed, stream: 1)
        var errors = 0
        for _ in 0..<Self.rounds(150) {
            let bodies = (0..<6).map { _ in sum(&random) }
            let script = """
                local own, memory, file = backing(), backing { size = "1M" }, backing { file = "/b", size = "1M" }
                local n = 0
                local function any(io, offset, length)
                  n = n + 1
                  if n % 7 == 0 then io:flip(0, n % 8) end
                  if n % 6 == 0 then return \(bodies[0]) end
                  if n % 6 == 1 then return \(bodies[1]) end
                  if n % 6 == 2 then return \(bodies[2]) end
                  if n % 6 == 3 then own:read(0, 512) return \(bodies[3]) end
                  if n % 6 == 4 then file:read(0, 512) return \(bodies[4]) end
                  return \(bodies[5])
                end
                read, write, flush, discard, write_zeroes = any, any, any, any, any
                """
            let result = try simulate(
                script,
                seed: random.below(1 << 32),
                settings: ["size": "1M", "cache": "volatile", "memory": "4M"]
            ) {
                $0.workload.requests = 300
                $0.workload.blockBytes = 512
                $0.workload.blockBytesMax = 16384
                $0.faults = FileFaults(shortChance: 0.2, retryChance: 0.1)
            }
            #expect(result.finished.count == 300, "seed \(Self.seed)\n\(script)")
            errors += result.report.scriptErrors.count
            for text in result.report.scriptErrors.texts {
                #expect(text.hasPrefix("test.lua:"), "seed \(Self.seed): \(text)\n\(script)")
            }
        }
        #expect(errors > 0, "some of it cannot be")
    }
}
