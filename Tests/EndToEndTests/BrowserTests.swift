import Foundation
import Testing

private let chromiumIsThere = ["chromium", "chromium-headless-shell"].contains {
    FileManager.default.isExecutableFile(atPath: "/usr/bin/" + $0)
}

/// What people see: the dashboard, and files of flists, in a real browser (Tests/Support/browser.py). Passed over where no Chromium is
/// installed (scripts/common.sh names the package).
@Suite(.serialized, .enabled(if: chromiumIsThere, "no Chromium is installed")) struct BrowserTests {
    private func browser(_ bench: Bench, _ scenario: String, _ arguments: String...) async throws -> Outcome {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Support/browser.py").path
        return try await bench.run("/usr/bin/python3", [script, scenario, bench.path] + arguments, within: .seconds(90))
    }

    private func shell(_ bench: Bench, _ script: String) async throws {
        let done = try await bench.run("/bin/bash", ["-c", "set -e; cd \"$0\"; " + script, bench.path])
        try #require(done.status == 0, "\(done.errors)")
    }

    /// Packs `tree` into `x.fl`.
    private func pack(_ bench: Bench) async throws {
        let packed = try await bench.run(
            "chunkmesh", ["flist", "pack", bench.sub("tree"), "-o", bench.sub("x.fl"), "--store", "dir://" + bench.sub("hub")])
        try #require(packed.status == 0, "\(packed.errors)")
    }

    @Test func theDashboardShowsWhatTheNodeDoes() async throws {
        try await withBench { bench in
            try await shell(bench, "mkdir tree hub; head -c 3000000 /dev/urandom >tree/big")
            try await pack(bench)
            let first = try await bench.daemon("first")
            let second = try await bench.daemon("second", seeds: [first])
            for daemon in [first, second] {
                let job = try await daemon.json("prefetch", bench.sub("x.fl"), "--scope", "node")
                #expect(job.text("state") == "done")
            }
            let seen = try await browser(bench, "dashboard", second.url, "second", "first", "x.fl")
            #expect(seen.status == 0, "\(seen.errors)")
        }
    }

    @Test func everyLinkOfAnIndexLeadsToItsFile() async throws {
        try await withBench { bench in
            try await shell(
                bench,
                """
                mkdir -p tree/dir/sub 'tree/odd & <b>' hub; cd tree
                echo one >'a b&c.txt'; echo two >'100%'; echo three >'dir/#x?y;z.txt'; echo four >'dir/sub/ünï'; printf five >'odd & <b>/"quoted".txt'
                echo six >"it's"; echo seven >'<script>.txt'; echo eight >'dir/%41.txt'; echo nine >'javascript:alert(1)'; echo ten >'dir/..txt'
                echo '<html><body>eleven</body></html>' >shown.txt; head -c 1500000 /dev/urandom >big.bin
                """)
            try await pack(bench)
            let daemon = try await bench.daemon()
            _ = try await daemon.json("stat", bench.sub("x.fl") + ":/")
            let seen = try await browser(bench, "index", daemon.url + "/v1/flists/x.fl/files/", bench.sub("tree"))
            #expect(seen.status == 0, "\(seen.errors)")
            let counts = try seen.json()
            #expect(counts.int("shown") == 7 && counts.int("saved") == 5)
        }
    }

    @Test func aPageOfAnFlistRunsNothing() async throws {
        try await withBench { bench in
            try await shell(bench, "mkdir tree hub")
            let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../Support/browser.py").path
            let made = try await bench.run("/usr/bin/python3", [script, "hostile", bench.sub("tree")])
            try #require(made.status == 0, "\(made.errors)")
            try await pack(bench)
            let daemon = try await bench.daemon()
            _ = try await daemon.json("stat", bench.sub("x.fl") + ":/")
            let seen = try await browser(bench, "sandbox", daemon.url + "/v1/flists/x.fl/files/", bench.sub("tree"), daemon.url)
            #expect(seen.status == 0, "\(seen.errors)")
        }
    }
}
