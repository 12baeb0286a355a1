import Testing

@testable import UpstreamStores

private let start = ContinuousClock.now

@Suite struct CircuitTests {
    @Test func itRestsLongerEachTimeAndProbesOnce() {
        var circuit = Circuit(Circuit.Limits(failures: 2))
        circuit.failed(now: start, reason: "a")
        #expect(circuit.admit(now: start) == .go)
        circuit.failed(now: start, reason: "b")
        #expect(circuit.admit(now: start + .seconds(1)) == .resting(.seconds(1), reason: "b"))
        var now = start + .seconds(2)
        for rest in [4, 8, 10, 10] {
            #expect(circuit.admit(now: now) == .probe)
            #expect(circuit.admit(now: now) == .resting(.zero, reason: "b"))
            circuit.failed(now: now, reason: "b")
            #expect(circuit.admit(now: now) == .resting(.seconds(rest), reason: "b"))
            now += .seconds(rest)
        }
        #expect(circuit.admit(now: now) == .probe)
        circuit.probeAbandoned(now: now)
        #expect(circuit.admit(now: now) == .probe)
        circuit.succeeded()
        #expect(circuit.admit(now: now) == .go)
        circuit.failed(now: now, reason: "later", pause: .seconds(3_600))
        #expect(circuit.admit(now: now) == .resting(.seconds(10), reason: "later"))
    }
}

@Suite struct RetryLimitsTests {
    @Test func waitsDoubleUpToABound() {
        let limits = RetryLimits(attempts: 5, firstWait: .seconds(1), longestWait: .seconds(3))
        let waits = (1...5).map { limits.wait(after: $0, retryAfter: nil, fraction: 1) }
        #expect(waits == [.seconds(1), .seconds(2), .seconds(3), .seconds(3), nil])
        #expect(limits.wait(after: 1, retryAfter: nil, fraction: 0) == .zero)
        #expect(limits.wait(after: 1, retryAfter: .seconds(7), fraction: 0.5) == .seconds(7))
        #expect(limits.wait(after: 1, retryAfter: .seconds(11), fraction: 0.5) == nil)
    }
}

@Suite struct TokenBucketTests {
    @Test func debtIsPaidOffAtTheRate() {
        var bucket = TokenBucket(bytesPerSecond: 1_000_000, now: start)
        #expect(bucket.delay(now: start) == .zero)
        bucket.charge(1_250_000, now: start)
        let delay = bucket.delay(now: start)
        #expect(delay > .milliseconds(999) && delay < .milliseconds(1_001))
        #expect(bucket.delay(now: start + .milliseconds(1_001)) == .zero)
        // An hour of silence is worth a quarter of a second.
        bucket.charge(250_000, now: start + .seconds(3_600))
        #expect(bucket.delay(now: start + .seconds(3_600)) > .zero)
    }
}

@Suite struct S3URLTests {
    /// A mark that combines with the slash before it; found by fuzzing.
    @Test func hostsOutsideASCIIAreRefused() throws {
        #expect(throws: UpstreamError.self) { try S3URL("s3://\u{741}host/bucket") }
        #expect(try S3URL("s3://host:9000/bucket/prefix").base == "http://host:9000/bucket/prefix")
    }
}
