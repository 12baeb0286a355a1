import Foundation
import Testing

/// What the commands say while the hub is away.
@Suite(.serialized) struct OfflineTests {
    @Test func statusTellsWhatIsMissingUntilTheHubIsThere() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (flist, _) = try await bench.pack(files: 4, bytes: 50_000, route: "http://127.0.0.1:\(port)")
            let daemon = try await bench.daemon()
            _ = try await daemon.json("prefetch", flist, "--scope", "node", "--no-wait")
            try await eventually("the hub is missed") { try await daemon.json("status")["flists[0].upstream.since"] != nil }
            let status = try await daemon.json("status")
            status.expect("flists[0].upstream.lastTried", "flists[0].upstream.error")
            #expect(status.bool("flists[0].upstream.reachable") == false)
            #expect(status.int("flists[0].node.missing") == 4 && status.int("flists[0].site.missing") == 4)
            let shown = try await daemon.chunkmesh("status").text
            #expect(shown.contains("image.fl: 4 of 4 chunks are missing on this node, 4 at this site"), "\(shown)")
            #expect(shown.contains("upstream does not answer, first failed") && shown.contains("127.0.0.1:\(port)"), "\(shown)")
            try await bench.hub(port: port)
            try await eventually("the job goes on by itself") { try await daemon.json("status").bool("flists[0].node.complete") == true }
            let after = try await daemon.json("status")
            #expect(after.bool("flists[0].upstream.reachable") == true && after.int("flists[0].site.missing") == 0)
            #expect(try await !daemon.chunkmesh("status").text.contains("missing"))
        }
    }
}
