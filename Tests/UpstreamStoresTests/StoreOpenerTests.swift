import ChunkModel
import Foundation
import Synchronization
import Testing

@testable import UpstreamStores

@Suite struct StoreOpenerTests {
    let curl = CurlMulti()
    let pool = ChunkBufferPool()

    private func opener() -> StoreOpener { StoreOpener(curl: curl, limits: UpstreamLimits(retry: RetryLimits(attempts: 1))) }

    @Test func oneURLIsOneStore() throws {
        let opener = opener()
        let first = try opener.open("http://h/a")
        #expect(ObjectIdentifier(first as AnyObject) == ObjectIdentifier(try opener.open("http://h/a") as AnyObject))
        #expect(ObjectIdentifier(first as AnyObject) != ObjectIdentifier(try opener.open("http://h/b") as AnyObject))
        #expect(opener.reports.map(\.label) == ["http://h/a", "http://h/b"])
    }

    @Test func onlySoManyAreKept() throws {
        let opener = opener()
        for number in 0..<(StoreOpener.maxStores + 10) {
            _ = try opener.open("http://h/\(number)")
            _ = try opener.open("http://h/0")
        }
        #expect(opener.reports.count == StoreOpener.maxStores)
        #expect(opener.reports.contains { $0.label == "http://h/0" } && !opener.reports.contains { $0.label == "http://h/1" })
    }

    @Test(arguments: [
        ("http://u:s3cret@h/a?key=s3cret", "http://h/a"), ("https://h:8443", "https://h:8443"), ("dir:///a@b/c", "dir:///a@b/c"),
        ("s3://u:s3cret@h:9000/b?region=r", "s3://h:9000/b"), ("s3s://u:s3cret%2F@[::1]/b/c/", "s3s://[::1]/b/c"), ("S3://h/b", "s3://h/b"),
        ("server://http://u:s3cret@h:1?token=s3cret", "server://http://h:1"), ("server://https://h/x/", "server://https://h/x"),
    ])
    func labelsHoldNoSecret(url: String, label: String) throws {
        #expect(try opener().open(url).label == label)
        #expect(throws: Never.self) { try StoreOpener.check(url) }
        #expect(try StoreOpener.recorded(url) == label + (url.contains("region") ? "?region=r" : ""))
    }

    @Test(arguments: [
        ("s3+tls://u:s3cret@h/b", "write s3s://"), ("s3s+tls://h/b", "write s3s://"), ("ftp://u:s3cret@h/", "of the kind ftp://"),
        ("s3://u:s3cr/et@h/b", "write / as %2F"), ("s3://u@h/b", "has no secret"), ("s3://h", "write s3://host:port/bucket"),
        ("s3://u:s3cret@h/b%20c", "write s3://host:port/bucket"), ("s3://h/b?region=../x", "region takes"),
        ("s3:///b", "s3://"), ("server://h:1?token=s3cret", "server://http://host:port"), ("server://ftp://u:s3cret@h", "server://http://"),
        ("server://http://h?token=s3%0acret", "the token holds"), ("http://", "URL"), ("dir://x", "dir:///absolute/path"),
        ("s3://h/" + String(repeating: "b", count: 3_000), "not a URL"), ("://s3cret@h", "not the URL"), ("", "not the URL"),
        ("a\nb://h", "not the URL"),
    ])
    func badURLsAreRefusedWithoutTheirSecrets(url: String, expected: String) {
        for body in [{ _ = try opener().open(url) }, { _ = try opener().openSink(url) }, { try StoreOpener.check(url) }] {
            #expect { try body() } throws: { error in
                guard case UpstreamError.unusable(let line) = error else { return false }
                return line.contains(expected) && !line.contains("s3cr") && line.utf8.count < 400
            }
        }
    }

    @Test(
        arguments: [
            ("http://User:pw@Host/p", "http://host:80"), ("https://h?x@y", "https://h:443"), ("dir:///a", nil), ("h", nil),
            ("s3://a:b@H:9/b", "s3://h:9"), ("server://http://h:1", "server://h:1"), ("server://http://evil", "server://evil:80"),
            ("https://[::1]:2/", "https://[::1]:2"),
        ] as [(String, String?)])
    func origins(url: String, expected: String?) { #expect(StoreOpener.origin(url) == expected) }

    @Test(arguments: [
        "http:/u:s3cret@h", "http://u:s3c/s3cret@h/x", "https://u:s3cret@h:99999/", "s3:u:s3cret@h", "server://http:/u:s3cret@h",
        "redis://:s3cret@h", "http://u:s3cret@h/\(String(repeating: "x", count: 5_000))", "dir:///a\nb", "x://y://u:s3cret@h", "u:s3cret@h",
    ])
    func malformedURLsKeepTheirSecretsToo(url: String) {
        #expect(!UpstreamURL.label(of: url).contains("s3c") && !UpstreamURL.label(of: url).contains("\n"))
        do throws(UpstreamError) {
            // libcurl forgives a missing slash.
            #expect(!(try StoreOpener.recorded(url)).contains("s3c"))
        } catch {
            #expect(!error.description.contains("s3c"))
        }
    }

    @Test func anyRouteIsTakenApartWithoutATrap() {
        let seeds = [
            "s3://u:p%2F@h:9000/b/c?region=r", "s3s://[::1]:1/b", "http://u:p@h:80/a?q#f", "server://http://u:p@h:1?token=t%20",
            "dir:///a%20b",
        ].map { Array($0.utf8) }
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(state: seed)
        for _ in 0..<500 {
            var bytes = seeds.randomElement(using: &generator)!
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.insert(Array("%:/@?#[]&=\u{0}".utf8).randomElement(using: &generator)!, at: place)
                default: bytes = Array(bytes[..<place] + bytes[(place / 2)...])
                }
                if bytes.isEmpty { bytes = [0x3a] }
            }
            let text = String(decoding: bytes, as: UTF8.self)
            do throws(UpstreamError) {
                let recorded = try StoreOpener.recorded(text)
                // What is recorded for others leads to the same place, and is a URL again.
                #expect(StoreOpener.origin(recorded) == StoreOpener.origin(text), "seed \(seed): \(text) → \(recorded)")
            } catch {
                #expect(!error.description.contains("\n") && error.description.utf8.count < 2_000, "seed \(seed): \(text)")
            }
            _ = S3Answer(bytes)
            _ = try? CredentialsFile(parsing: "machine \(text)", place: "x")
        }
    }

    @Test func httpIsReadOnly() {
        #expect { try opener().openSink("http://u:s3cret@h/x") } throws: {
            "\($0)" == "http://h/x: nothing can be stored over plain http; name a dir, s3, zdb or server store"
        }
    }

    @Test func hostileErrorBodiesAreScannedWithinBounds() {
        #expect(S3Answer([]).code == nil)
        #expect(
            S3Answer(Array("<Error><Code>SlowDown</Code><Region>eu-1</Region>".utf8))
                == S3Answer(Array("<Region>eu-1</Region><Code>SlowDown<".utf8)))
        for body in [
            "<Code>", "<Code></Code>", "<Code>a b</Code>", "<Code>\u{1b}[1m</Code>", "<Code>\(String(repeating: "a", count: 65))</Code>",
            "<Cod",
        ] {
            #expect(S3Answer(Array(body.utf8)).code == nil, "\(body)")
        }
    }

    @Test func placesAreBoundedAndUrgentOnesComeFirst() async throws {
        let places = Places(1)
        let order = Order()
        let (open, gate) = AsyncStream<Void>.makeStream()
        let (openForReaders, readersGate) = AsyncStream<Void>.makeStream()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await places.take(.prefetch) { for await _ in open { break } } }
            #expect(await eventually { places.load.active == 1 })
            // Beside it there is a place for a reader.
            group.addTask { await places.take(.foreground) { for await _ in openForReaders { break } } }
            #expect(await eventually { places.load.active == 2 })
            for priority in [FetchPriority.prefetch, .readAhead, .foreground] {
                group.addTask { await places.take(priority) { order.add(priority) } }
                #expect(await eventually { places.load.waiting == Int(priority.rawValue) + 1 })
            }
            // One that gives up leaves no hole.
            let impatient = Task { await places.take(.foreground) { true } }
            #expect(await eventually { places.load.waiting == 4 })
            impatient.cancel()
            #expect(await impatient.value == nil)
            gate.finish()
            // The reader's place is for no one else.
            #expect(await eventually { order.all == [.foreground] })
            readersGate.finish()
        }
        #expect(order.all == [.foreground, .readAhead, .prefetch])
        #expect(places.load == (0, 0))
    }
}

@Suite struct DirSinkTests {
    @Test(arguments: [0, 1, 524_288, 1_200_000]) func whatIsStoredIsThereWhole(size: Int) async throws {
        let parent = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: parent) }
        let opener = StoreOpener(curl: CurlMulti())
        let buffer = ChunkBuffer(copying: TestFiles.content(size))
        let chunk = Chunk(computed: ChunkID(ofStored: buffer.bytes), of: buffer)
        // A space, written as an escape; the directory is made.
        let url = "dir://\(parent)/a%20store"
        let sink = try opener.openSink(url)
        #expect(try await sink.contains(chunk.id) == false)
        try await sink.store(chunk)
        try await sink.store(chunk)
        #expect(try await sink.contains(chunk.id) == (size > 0))
        #expect(try await opener.open(url).fetch(chunk.id, pool: ChunkBufferPool()).count == size)
        let folder = "\(parent)/a store/\(chunk.id.hex.prefix(2))"
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [chunk.id.hex])
        #expect(opener.reports.map(\.statistics.storedBytes) == [2 * size])
    }

    @Test func aFailureLeavesNothingBehind() async throws {
        let parent = try TestFiles.directory()
        defer { try? FileManager.default.removeItem(atPath: parent) }
        let buffer = ChunkBuffer(copying: [1, 2, 3])
        let chunk = Chunk(computed: ChunkID(ofStored: buffer.bytes), of: buffer)
        let opener = StoreOpener(curl: CurlMulti())
        for path in ["\(parent)/no/such", "\(parent)/taken"] {
            if path.hasSuffix("taken") {
                try FileManager.default.createDirectory(
                    atPath: "\(path)/\(chunk.id.hex.prefix(2))/\(chunk.id.hex)/x", withIntermediateDirectories: true)
            }
            let sink = try opener.openSink("dir://\(path)")
            await #expect { try await sink.store(chunk) } throws: {
                "\($0)".contains("cannot be stored: ") && "\($0)".hasPrefix("dir://\(path)")
            }
            #expect(try await sink.contains(chunk.id) == false)
        }
        let left = try FileManager.default.subpathsOfDirectory(atPath: parent).filter { $0.contains("tmp") }
        #expect(left.isEmpty, "\(left)")
    }
}

private final class Order: Sendable {
    private let list = Mutex<[FetchPriority]>([])
    func add(_ priority: FetchPriority) { list.withLock { $0.append(priority) } }
    var all: [FetchPriority] { list.withLock { $0 } }
}
