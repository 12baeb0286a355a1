import Logging
import Synchronization
import Testing

@testable import MeshNode

@Suite struct RepeatLimitTests {
    @Test func whatRepeatsIsCountedAndToldLater() {
        var bucket = RepeatLimit.Bucket(now: .zero)
        let first = (0..<100).map { _ in bucket.take(now: .seconds(1)) }
        #expect(first.count { $0 != nil } == RepeatLimit.burst)
        #expect(bucket.take(now: .seconds(2)) == nil)
        #expect(bucket.take(now: .seconds(40)) == UInt64(100 - RepeatLimit.burst + 1))
        #expect(bucket.take(now: .seconds(41)) == nil)
    }

    @Test func afterQuietAllMayBeWrittenAgain() {
        var bucket = RepeatLimit.Bucket(now: .zero)
        for _ in 0..<50 { _ = bucket.take(now: .zero) }
        let later: Duration = RepeatLimit.pause * (RepeatLimit.burst + 5)
        #expect((0..<50).count { _ in bucket.take(now: later) != nil } == RepeatLimit.burst)
    }

    @Test func messagesAreLimitedEachForItself() {
        let sink = Sink()
        let book = RepeatLimit.Book()
        var logger = Logger(label: "test") { _ in RepeatLimit(sink, book) }
        logger.logLevel = .debug
        for i in 0..<100 {
            logger.warning("the same again", metadata: ["i": "\(i)"])
            logger.debug("all of these are asked for")
        }
        logger.error("something else")
        #expect(sink.count("the same again") == RepeatLimit.burst)
        #expect(sink.count("something else") == 1)
        #expect(sink.count("all of these are asked for") == 100)
    }

    private struct Sink: LogHandler {
        private final class Lines: Sendable {
            let all = Mutex<[String]>([])
        }
        private let lines = Lines()
        var metadata: Logger.Metadata = [:]
        var metadataProvider: Logger.MetadataProvider?
        var logLevel: Logger.Level = .trace
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
        func count(_ message: String) -> Int { lines.all.withLock { $0.count { $0 == message } } }
        func log(event: LogEvent) { lines.all.withLock { $0.append("\(event.message)") } }
    }
}
