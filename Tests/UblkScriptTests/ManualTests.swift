import Testing

@testable import UblkScript

/// Manual pages and completions, which are made from what the program says of itself.
@Suite(
    .enabled(
        if: SourceTree.text(of: "scripts/lib-install/manuals") != nil,
        "the sources are not here"
    ),
    .enabled(if: ProgramRun.program != nil, "the program was not built")
)
struct ManualTests {
    private let scratch = ScratchDirectory()

    /// Runs a shell line in a folder with the manual pages in `man`.
    private func run(_ line: String) -> ProgramRun {
        ProgramRun(
            shell: """
                cd \(scratch.path)
                program=\(ProgramRun.program ?? "")
                (
                set -eu
                \(SourceTree.root)/scripts/lib-install/manuals "$program" man
                \(line)
                )
                status=$?
                rm -rf man
                exit $status
                """,
            in: scratch
        )
    }

    /// Text with single blanks between its words.
    private func words(_ text: String) -> String {
        text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }

    @Test(.enabled(if: TestHost.has("man", "mandoc"), "man and mandoc are not here"))
    func `every page renders without a warning`() {
        let run = run(
            """
            export LC_ALL=C.UTF-8
            for page in man/*; do
              MANROFFSEQ= MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z $page >/dev/null
            done
            mandoc -T lint -W warning man/*
            """
        )
        #expect(run.exitCode == 0, "\(run.output)")
        #expect(run.output == "" && run.errors == "", "\(run.output)\(run.errors)")
    }

    @Test(.enabled(if: TestHost.has("man"), "man is not here"))
    func `each command has a page, with all that its help says`() {
        let names = ProgramRun(["--help"], in: scratch).output.split(separator: "\n")
            .drop { $0 != "SUBCOMMANDS:" }.dropFirst()
            .filter {
                $0.hasPrefix("  ") && $0.dropFirst(2).first?.isLetter == true
                    && !$0.hasPrefix("  See")
            }
            .compactMap { $0.split(separator: " ").first.map(String.init) }
        #expect(names.count > 15)
        let run = run(
            """
            export LC_ALL=C.UTF-8 MANWIDTH=80 COLUMNS=80
            ls man/*.1 | xargs
            for name in \(names.joined(separator: " ")); do
              echo "=== $name"
              man -l man/ublk-script-$name.1
              echo "=== help"
              $program $name --help
            done
            """
        )
        #expect(run.exitCode == 0, "\(run.errors)")
        let parts = run.output.split(separator: "=== ").map(String.init)
        #expect(parts.count == 1 + 2 * names.count)
        let pages = ["man/ublk-script.1"] + names.map { "man/ublk-script-\($0).1" }
        let made = parts.first.map { $0.split(whereSeparator: \.isWhitespace).map(String.init) }
        #expect(made?.sorted() == pages.sorted())
        for (name, index) in zip(names, stride(from: 1, to: parts.count, by: 2)) {
            let page = words(parts[index])
            for (text, line) in Self.paragraphs(parts[index + 1]) {
                #expect(page.contains(words(text)), "the page of \(name): \(line)")
            }
        }
    }

    /// What a help text says, as it has to be in the page, and the line of the help where it begins.
    private static func paragraphs(_ help: String) -> [(text: String, line: String)] {
        var found: [(text: String, line: String)] = []
        for line in help.split(separator: "\n", omittingEmptySubsequences: false).dropFirst() {
            let isHeading = line.hasSuffix(":") && line.uppercased() == line
            let begins = ["OVERVIEW: ", "USAGE: ", "  -", "  <"].contains { line.hasPrefix($0) }
            if line.isEmpty || isHeading || begins { found.append(("", String(line))) }
            guard !line.isEmpty, !isHeading else { continue }
            var text = line
            for label in ["OVERVIEW: ", "USAGE: "] where text.hasPrefix(label) {
                text = text.dropFirst(label.count)
            }
            found[found.count - 1].text += " " + text
        }
        // The line of NAME has no full stop.
        if found.first?.text.hasSuffix(".") == true { found[0].text.removeLast() }
        return found.map { (withPages($0.text), $0.line) }
    }

    /// Documents are named as their pages.
    private static func withPages(_ text: String) -> String {
        text.split(separator: " ", omittingEmptySubsequences: false).map { part in
            let word = String(part)
            guard word.hasPrefix("docs/"), let end = word.range(of: ".md") else { return word }
            let name = word[..<end.lowerBound].dropFirst(5)
            return "ublk-script-\(name)(7)\(word[end.upperBound...])"
        }.joined(separator: " ")
    }

    @Test(.enabled(if: TestHost.has("man"), "man is not here"))
    func `the page of the language has each heading and each name of a table`() throws {
        let run = run(
            "LC_ALL=C.UTF-8 MANWIDTH=200 man -l man/ublk-script-scripting.7"
        )
        let page = words(run.output)
        let document = try #require(SourceTree.text(of: "docs/scripting.md"))
        var checked = 0
        for line in document.split(separator: "\n") {
            let isHeading = line.hasPrefix("## ")
            guard isHeading || line.hasPrefix("| `") else { continue }
            let name =
                isHeading
                ? line.dropFirst(3).uppercased()
                : String(line.dropFirst(3).prefix { $0 != "`" })
            checked += 1
            #expect(page.contains(words(name.replacing("\\", with: ""))), "\(line)")
        }
        #expect(checked > 100)
        #expect(!page.contains("](") && !page.contains("**") && !page.contains("```"))
    }

    @Test func `bash completes commands, scripts, options and their words`() {
        let run = ProgramRun(
            shell: """
                cd \(scratch.path)
                ln -s \(ProgramRun.program ?? "") ublk-script
                PATH=$PWD:$PATH
                source <(ublk-script --generate-completion-script bash)
                complete() {
                  COMP_WORDS=(ublk-script "$@") COMP_CWORD=$# COMP_LINE="ublk-script $*" COMPREPLY=()
                  COMP_POINT=${#COMP_LINE}
                  _ublk-script ublk-script "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"
                  echo "${COMPREPLY[*]}"
                }
                complete recov
                complete add nvme
                complete add --led
                complete simulate error --rw randr
                complete ledger --action hea
                complete wait 0 mar
                complete ctl 0 rel
                """,
            in: scratch
        )
        #expect(
            run.output == """
                recover
                nvme-reset
                --ledger
                randread randrw
                healed
                mark
                release reload

                """,
            "\(run.errors)"
        )
    }

    @Test(.enabled(if: TestHost.has("zsh", "fish"), "zsh and fish are not here"))
    func `zsh and fish take their completions`() {
        let run = ProgramRun(
            shell: """
                cd \(scratch.path)
                for shell in zsh fish; do
                  \(ProgramRun.program ?? "") --generate-completion-script $shell >completions
                  $shell --no-exec completions || echo "$shell: $?"
                done
                """,
            in: scratch
        )
        #expect(run.output == "" && run.errors == "", "\(run.output)\(run.errors)")
    }
}
