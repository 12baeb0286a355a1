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
    /// Seconds; `nil` for never.
    private func delay(_ bucket: inout TokenBucket, after seconds: Double) -> Double? {
        bucket.delay(now: start + .seconds(seconds))?.seconds
    }

    @Test func debtIsPaidOffAtTheRate() {
        var bucket = TokenBucket(bytesPerSecond: 1_000_000, now: start)
        let first = delay(&bucket, after: 0)
        bucket.charge(1_100_000, now: start)
        let owing = delay(&bucket, after: 0) ?? -1
        let paid = delay(&bucket, after: 1.001)
        // An hour of silence is worth a tenth of a second.
        bucket.charge(100_000, now: start + .seconds(3_600))
        let later = delay(&bucket, after: 3_600) ?? -1
        #expect(first == 0 && paid == 0 && later > 0)
        #expect(owing > 0.999 && owing < 1.001)
    }

    @Test func anotherRateForgetsNoDebtAndGivesNothingAway() {
        var bucket = TokenBucket(bytesPerSecond: 1_000_000, now: start)
        bucket.charge(600_000, now: start)
        for turn in 1...1_000 { bucket.set(bytesPerSecond: turn.isMultiple(of: 2) ? 1_000_000 : 500_000, now: start) }
        let owing = delay(&bucket, after: 0) ?? -1
        bucket.set(bytesPerSecond: 0, now: start)
        let never = delay(&bucket, after: 3_600)
        bucket.set(bytesPerSecond: 1_000, now: start + .seconds(3_600))
        let slow = delay(&bucket, after: 3_600) ?? -1
        #expect(abs(owing - 0.5) < 0.001 && never == nil && slow > 499)
    }
}

@Suite struct S3URLTests {
    /// A mark that combines with the slash before it; found by fuzzing.
    @Test func hostsOutsideASCIIAreRefused() throws {
        #expect(throws: UpstreamError.self) { try S3URL("s3://\u{741}host/bucket") }
        #expect(try S3URL("s3://host:9000/bucket/prefix").base == "http://host:9000/bucket/prefix")
    }
}
