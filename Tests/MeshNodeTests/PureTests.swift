import ChunkModel
import Foundation
import Synchronization
import Testing

@testable import MeshNode

@Suite struct PathSelectionTests {
    @Test(arguments: [
        ("/usr/bin/ls", "/usr/bin/ls", true), ("/usr/bin/ls", "/usr/*", true), ("/usr/bin/ls", "*ls", true),
        ("/usr/bin/ls", "/usr/bin/l?", true),
        ("/usr/bin/ls", "/usr/bin/l", false), ("/usr/bin/ls", "*", true), ("/", "*", true), ("/a", "/a*", true), ("/ab", "/a?c", false),
        ("/abcbc", "/a*bc", true), ("/abcbd", "/a*bc", false), ("/a", "", false), ("", "", true), ("", "*", true), ("/a", "/**", true),
    ]) func globs(path: String, pattern: String, expected: Bool) {
        #expect(PathSelection.matches(Array(path.utf8), Array(pattern.utf8)) == expected)
    }

    @Test func aHostilePatternTakesNoTime() {
        let path = [UInt8](repeating: UInt8(ascii: "a"), count: 4096)
        let pattern = Array((String(repeating: "a*", count: 200) + "b").utf8)
        #expect(!PathSelection.matches(path, pattern))
    }
}

@Suite struct MetricsTextTests {
    @Test func format() {
        var text = MetricsText()
        text.counter("a_total", "Things.", 3)
        text.gauge("b", "Share.", 0.5)
        text.family("c", "gauge", "By kind.")
        text.value("c", 1, labels: ["kind": "x"])
        #expect(
            text.text == """
                # HELP chunkmesh_a_total Things.
                # TYPE chunkmesh_a_total counter
                chunkmesh_a_total 3
                # HELP chunkmesh_b Share.
                # TYPE chunkmesh_b gauge
                chunkmesh_b 0.5
                # HELP chunkmesh_c By kind.
                # TYPE chunkmesh_c gauge
                chunkmesh_c{kind="x"} 1

                """)
    }

    @Test(arguments: [Double.infinity, -.infinity, .nan, 1e300]) func noNumberTraps(number: Double) {
        var text = MetricsText()
        text.value("x", number)
        #expect(text.text.hasPrefix("chunkmesh_x "))
    }
}

@Suite struct WakeupTests {
    @Test func aWakeBeforeTheSleepCounts() async {
        let wakeup = Wakeup()
        wakeup.wake()
        wakeup.wake()
        await wakeup.sleep(.seconds(60))
    }

    @Test func timeEndsASleep() async {
        let begun = ContinuousClock.now
        await Wakeup().sleep(.milliseconds(20))
        #expect(ContinuousClock.now - begun >= .milliseconds(20))
    }

    @Test func cancellationEndsASleep() async {
        let wakeup = Wakeup()
        let task = Task { await wakeup.sleep(.seconds(60)) }
        task.cancel()
        await task.value
    }

    /// Each wake is followed by a look: none is lost, however it falls.
    @Test func noWakeIsLost() async {
        let wakeup = Wakeup()
        let counts = Counts()
        let sleeper = Task {
            while counts.look() < 20_000 { await wakeup.sleep(.seconds(60)) }
        }
        for _ in 0..<20_000 {
            counts.add()
            wakeup.wake()
        }
        await sleeper.value
    }

    private final class Counts: Sendable {
        private let count = Mutex(0)
        func add() { count.withLock { $0 += 1 } }
        func look() -> Int { count.withLock { $0 } }
    }
}

@Suite struct FactTests {
    @Test func factsSurviveTheWay() {
        let profile = NodeProfile(reachesUpstream: true, upstreamBytes: 1 << 40)
        #expect(NodeProfile(profile.encoded) == profile)
        let flist = FlistFact(fetches: true, fileBytes: 7, chunkCount: 9, name: "debian.fl")
        #expect(FlistFact(flist.encoded) == flist)
        let job = JobFact(scope: .site, copies: 3, pin: true)
        #expect(JobFact(job.encoded) == job)
    }

    @Test func anyBytesAreReadWithoutATrap() {
        for count in 0..<40 {
            for seed in 0..<50 {
                let bytes = random(count, seed: UInt64(seed))
                _ = (NodeProfile(bytes), JobFact(bytes))
                if let fact = FlistFact(bytes) { #expect(!fact.name.contains("/") && fact.name.utf8.count <= FlistRecord.maxNameBytes) }
            }
        }
    }

    @Test(arguments: [
        ("http://h/a/debian.fl?x=/y", "debian.fl"), ("/a/b.fl", "b.fl"), ("", "flist"), ("/", "flist"), ("a\u{7}b", "a_b"),
        (String(repeating: "é", count: 100), String(repeating: "é", count: 48)),
    ]) func names(source: String, expected: String) { #expect(FlistRecord.name(of: source) == expected) }
}
