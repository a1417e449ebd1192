import Glibc
import Testing

@testable import UblkScript

/// `scripts/install` and `scripts/package`, into folders of a test's own.
@Suite(
    .enabled(if: SourceTree.text(of: "scripts/install") != nil, "the sources are not here"),
    .enabled(if: ProgramRun.program != nil, "the program was not built")
)
struct InstallTests {
    private let scratch = ScratchDirectory()

    /// Runs a shell line in a folder of its own, which is removed afterwards.
    ///
    /// It has `install` and `uninstall`, which work below `dest` in there, and `files`, which prints what is there.
    private func run(_ line: String) -> ProgramRun {
        ProgramRun(
            shell: """
                cd \(scratch.path)
                mkdir work dest
                export DESTDIR=$PWD/dest program=\(ProgramRun.program ?? "") scripts=\(SourceTree.root)/scripts
                install() { $scripts/install --program "$program" "$@"; }
                uninstall() { $scripts/install --uninstall "$@"; }
                files() { find dest ! -type d; }
                list=dest/usr/local/share/doc/ublk-script/installed
                (
                set -eu
                \(line)
                )
                status=$?
                rm -r work dest
                exit $status
                """,
            in: scratch
        )
    }

    @Test func `install tells each file, again too, and uninstall leaves nothing`() {
        let run = run(
            """
            install >told
            files | grep -vF $list | sed "s|^dest|$DESTDIR|" | sort >work/there
            grep ^/ told | sort | diff - work/there
            grep -qx '/usr/local/bin/ublk-script' <(sed -n 's|^file ||p' $list)
            dest/usr/local/bin/ublk-script --version
            # what another version had, and this one has not
            touch dest/usr/local/bin/older
            echo 'file /usr/local/bin/older' >>$list
            install >told
            grep -qx "removed $DESTDIR/usr/local/bin/older" told
            [ ! -e dest/usr/local/bin/older ]
            uninstall >told
            [ "$(ls dest)" = "" ]
            rm told
            """
        )
        #expect(run.exitCode == 0, "\(run.output)\(run.errors)")
        #expect(run.output == "ublk-script \(UblkScript.version)\n")
    }

    @Test func `uninstall leaves what somebody else has put there`() {
        let run = run(
            """
            mkdir -p dest/usr/local/bin
            install >/dev/null
            echo ADD=flakey >dest/etc/ublk-script/3.conf
            uninstall
            echo "there: $(find dest | sort | xargs)"
            """
        )
        #expect(run.exitCode == 0, "\(run.errors)")
        #expect(
            run.output.contains(
                "left, as it is not empty: \(scratch.path)/dest/etc/ublk-script\n"
            ),
            "\(run.output)"
        )
        #expect(
            run.output.hasSuffix(
                "there: dest dest/etc dest/etc/ublk-script dest/etc/ublk-script/3.conf "
                    + "dest/usr dest/usr/local dest/usr/local/bin\n"
            ),
            "\(run.output)"
        )
    }

    private static let refused: [(setUp: String, call: String, message: String)] = [
        (
            "", "PREFIX=usr install",
            "PREFIX=usr: an absolute path is expected, as in PREFIX=/usr/local"
        ),
        ("", "SYSCONFDIR=etc install", "as in SYSCONFDIR=/etc"),
        ("", "PREFIX='/a b' install", "PREFIX=/a b: blanks"),
        ("", "DESTDIR=dest install", "DESTDIR=dest: an absolute path is expected"),
        (
            "", "program=/missing install",
            "/missing is no program; build it: scripts/setup && swift"
        ),
        ("", "program=/bin/false install", "/bin/false does not run here"),
        (
            "mkdir -p dest/usr/local/bin; echo >dest/usr/local/bin/ublk-script", "install",
            "dest/usr/local/bin/ublk-script is there already"
        ),
        (
            "mkdir -p dest/usr/local/share/man/man7/ublk-script-trace.7.gz", "install",
            "/man7/ublk-script-trace.7.gz is a folder"
        ),
        ("echo >dest/usr", "install", "dest/usr is no folder"),
        ("ln -s nowhere dest/etc", "install", "dest/etc is no folder"),
        ("", "uninstall", "with PREFIX=/usr/local this has installed nothing here"),
    ]

    @Test(arguments: refused)
    func `install refuses before it changes anything`(
        setUp: String,
        call: String,
        message: String
    ) {
        let run = run(
            """
            \(setUp)
            find dest | sort >work/before
            status=0
            \(call) || status=$?
            find dest | sort | diff - work/before
            exit $status
            """
        )
        #expect(run.exitCode == 1, "\(call): \(run.output)")
        #expect(run.output.isEmpty, "\(call): \(run.output)")
        #expect(run.errors.contains(message), "\(call): \(run.errors)")
        #expect(run.errors.hasSuffix("install: nothing was changed\n"), "\(call): \(run.errors)")
    }

    @Test(.enabled(if: TestHost.has("systemd-analyze"), "systemd is not here"))
    func `systemd takes the unit, of which nothing is left to fill in`() {
        let run = run(
            """
            unset DESTDIR
            export PREFIX=$PWD/dest/usr SYSCONFDIR=$PWD/dest/etc
            install >/dev/null
            cd dest/usr/lib/systemd/system
            sed '/^#/d; s/modprobe@//g' 'ublk-script@.service' | grep @ || true
            grep -q "^EnvironmentFile=$SYSCONFDIR/ublk-script/%i.conf" 'ublk-script@.service'
            cp 'ublk-script@.service' 'ublk-script@3.service'
            systemd-analyze verify --man=no "$PWD/ublk-script@3.service" 2>&1
            """
        )
        #expect(run.exitCode == 0, "\(run.output)\(run.errors)")
        #expect(run.output == "", "\(run.output)")
    }

    @Test func `the udev rule runs the program that was installed, which knows the word`() {
        let run = run(
            """
            PREFIX=/opt/ublk install >/dev/null
            rule=dest/opt/ublk/lib/udev/rules.d/90-ublk-script.rules
            sed '/^#/d' $rule | grep @ || true
            sed -n 's/.*RUN+="\\([^"]*\\) %k".*/\\1/p' $rule
            # as of a device that is not there
            dest/opt/ublk/bin/ublk-script give-node ublkc1048575 2>&1 || true
            grep -c 'KERNEL=="ublk-control".*GROUP="ublk", MODE="0660"' $rule
            """
        )
        #expect(run.exitCode == 0, "\(run.errors)")
        let lines = run.output.split(separator: "\n")
        #expect(lines.first == "/opt/ublk/bin/ublk-script give-node", "\(run.output)")
        #expect(lines.last == "1", "\(run.output)")
        #expect(run.output.contains("open /dev/ublkc1048575: No such file"), "\(run.output)")
    }

    private static let hasPackageTools = TestHost.has("dpkg", "dpkg-shlibdeps", "strip")

    /// The program for guests, which has Swift's libraries in it.
    private static let release = "\(SourceTree.root)/.build/release/ublk-script"
    private static let hasRelease = unsafe access(release, X_OK) == 0

    @Test(.enabled(if: hasPackageTools, "dpkg-dev is not here"))
    func `no package is made of what cannot be one`() {
        for (call, message) in [
            ("--program /missing", "/missing is no program"),
            ("--program $program", "was it built with --static-swift-stdlib?"),
            ("--output work/missing", "--output work/missing is no folder"),
        ] {
            let run = run(
                """
                unset DESTDIR
                status=0
                $scripts/package --output work \(call) || status=$?
                ls work
                exit $status
                """
            )
            #expect(run.exitCode == 1 && run.output == "", "\(call): \(run.output)")
            #expect(run.errors.contains(message), "\(call): \(run.errors)")
        }
    }

    /// What a Debian package has besides: where, what it needs, sums, and nothing that stays when it is purged.
    @Test(
        .enabled(if: hasPackageTools, "dpkg-dev is not here"),
        .enabled(if: hasRelease, "the release was not built"),
        .enabled(if: geteuid() == 0, "dpkg needs root")
    )
    func `the package installs, and nothing is left of it when it is purged`() {
        let run = run(
            """
            export DEBFULLNAME='A Tester' DEBEMAIL=tester@example.org SOURCE_DATE_EPOCH=1700000000
            unset DESTDIR
            package=$($scripts/package --program \(Self.release) --output "$PWD/work")
            [ "$package" = "$PWD/work/ublk-script_\(UblkScript.version)_$(dpkg --print-architecture).deb" ]
            dpkg-deb --field "$package" Maintainer Depends
            # conffiles have no sum
            dpkg-deb --contents "$package" | awk '!/^d/ { sub(/^\\./, "", $6); print $6 }' | sort >work/files
            dpkg-deb --info "$package" md5sums | sed 's|^[0-9a-f]*  |/|' >work/sums
            dpkg-deb --info "$package" conffiles | sort - work/sums | diff - work/files
            mkdir -p dest/var/lib/dpkg/{info,updates} dest/run
            touch dest/var/lib/dpkg/{status,available}
            dpkg() {
              command dpkg --root="$PWD/dest" --log=/dev/null --force-depends --force-script-chrootless \\
                --force-not-root --force-bad-path "$@" >>work/dpkg 2>&1 || { cat work/dpkg && return 1; }
            }
            dpkg --install "$package"
            (cd dest && md5sum --quiet -c var/lib/dpkg/info/ublk-script.md5sums)
            dest/usr/bin/ublk-script --version
            mkdir dest/run/ublk-script
            touch dest/run/ublk-script/3.json
            if dpkg --remove ublk-script >work/refused; then exit 9; fi
            grep -o 'ublk-script del --all first' work/refused
            rm dest/run/ublk-script/3.json
            dpkg --purge ublk-script
            find dest -mindepth 1 ! -path 'dest/var*' ! -path dest/run
            """
        )
        #expect(run.exitCode == 0, "\(run.output)\(run.errors)")
        let lines = run.output.split(separator: "\n").map(String.init)
        #expect(lines.count == 4, "\(run.output)")
        let depends = lines.first { $0.hasPrefix("Depends: ") }
        for library in ["libc6 (>= ", "liblua5.4-0", "liburing2", "passwd"] {
            #expect(depends?.contains(library) == true, "\(run.output)")
        }
        #expect(lines.contains("Maintainer: A Tester <tester@example.org>"), "\(run.output)")
        #expect(lines.contains("ublk-script \(UblkScript.version)"), "\(run.output)")
        #expect(lines.last == "ublk-script del --all first", "\(run.output)")
    }
}
