import ChunkModel
import Foundation
import Glibc
import Synchronization
import Testing

@testable import UpstreamStores

@Suite struct ReceiveWindowTests {
    /// Connections that share a line, and what stands before it: each look comes after a tenth of a second in which every connection had its
    /// window under way once in a round trip, or its share of the line.
    private func settle(connections: Int, line: Double, roundTrip: Double) -> (offered: Double, queue: Double) {
        var windows = [ReceiveWindow](repeating: ReceiveWindow(), count: connections)
        var rates = [Double?](repeating: nil, count: connections)
        var offered = 0.0
        for _ in 0..<60 {
            for i in windows.indices {
                _ = windows[i].look(rate: rates[i], sibling: windows.map(\.rate).max() ?? 0, roundTrip: roundTrip, limit: nil)
            }
            offered = windows.reduce(0) { $0 + Double($1.bytes ?? 1 << 30) }
            // What does not fit the round trip stands in the queue and makes it longer.
            let whole = max(roundTrip, offered / line)
            for i in windows.indices { rates[i] = Double(windows[i].bytes ?? 1 << 30) / whole }
        }
        return (offered, max(0, offered / line - roundTrip))
    }

    @Test(arguments: [
        (2, 2.5e6, 0.0), (8, 2.5e6, 0.0), (8, 2.5e6, 0.04), (16, 2.5e6, 0.04), (3, 12.5e6, 0.1), (8, 12.5e6, 0.2),
    ])
    func `the line stays full and the queue before it short`(connections: Int, line: Double, roundTrip: Double) {
        let (offered, queue) = settle(connections: connections, line: line, roundTrip: roundTrip)
        #expect(offered >= line * roundTrip)
        // A round trip, or what the least windows hold.
        let limit = max(ReceiveWindow.time, roundTrip, Double(connections * ReceiveWindow.leastSegments * ReceiveWindow.segment) / line)
        #expect(queue <= limit * 1.05, "\(queue) s")
    }

    @Test func `a window grows as long as the line gives more, and is given up where the line is fast`() {
        var window = ReceiveWindow()
        var last = 0
        var looks = 0
        while let bytes = window.look(rate: window.bytes.map { Double($0) / 0.04 }, sibling: 0, roundTrip: 0.04, limit: nil), looks < 100 {
            #expect(bytes > last || looks == 0)
            (last, looks) = (bytes, looks + 1)
        }
        #expect(looks > 2 && looks < 20, "\(looks)")
        #expect(window.bytes == nil)
    }

    @Test func `a window holds some full segments, however long they are`() {
        // On loopback a window of less than one is filled when a timer of the sender runs out, 200 ms later.
        var window = ReceiveWindow()
        #expect(window.look(rate: 50_000, sibling: 0, roundTrip: 0, limit: nil, segment: 65_483) == 4 * 65_483)
    }

    @Test func `a new connection begins as the others are, and with a limit no larger than that`() {
        var window = ReceiveWindow()
        #expect(window.look(rate: nil, sibling: 0, roundTrip: 0, limit: nil) == ReceiveWindow.start)
        var second = ReceiveWindow()
        #expect(second.look(rate: nil, sibling: 400_000, roundTrip: 0.1, limit: nil) == 80_000)
        var limited = ReceiveWindow()
        #expect(limited.look(rate: nil, sibling: 0, roundTrip: 0.1, limit: 100_000) == 20_000)
        #expect(limited.look(rate: 1e9, sibling: 0, roundTrip: 0.1, limit: 100_000) == 20_000)
        #expect(limited.look(rate: nil, sibling: 0, roundTrip: 0.1, limit: 0) == 10_000)
    }

    @Test func `it shrinks by half at most, since what was offered is under way`() {
        var window = ReceiveWindow()
        _ = window.look(rate: 1e6, sibling: 0, roundTrip: 0.1, limit: nil)
        #expect(window.bytes == 200_000)
        #expect(window.look(rate: nil, sibling: 0, roundTrip: 0.1, limit: 1_000) == 100_000)
        #expect(
            (0..<5).map { _ in window.look(rate: nil, sibling: 0, roundTrip: 0.1, limit: 1_000) }.last == ReceiveWindow.leastSegments
                * ReceiveWindow.segment)
    }
}

@Suite struct HeldTransferTests {
    private let pool = ChunkBufferPool()

    @Test func `while readers have the line nothing else is asked for, and goes on after them`() async throws {
        let hub = try await FlakyHub.start()
        let rate = ReceiveRate()
        let curl = CurlMulti(rate: rate)
        let store = try HTTPUpstream(url: hub.url("plain"), curl: curl)
        let ids = try (0..<4).map { try TestFiles.store(TestFiles.content(70_000, seed: UInt64($0)), below: hub.directory) }
        rate.hold(.all)
        let fetch: @Sendable (ChunkID, FetchUrgency) -> Task<Bool, Never> = { id, urgency in
            FetchUrgency.$current.withValue(urgency) {
                Task { (try? await store.fetch(id, priority: .prefetch, pool: pool)).flatMap { Chunk(verifying: $0, as: id) } != nil }
            }
        }
        let urgency = FetchUrgency(.prefetch)
        let (first, raised, cancelled) = (
            fetch(ids[0], FetchUrgency(.prefetch)), fetch(ids[1], urgency), fetch(ids[2], FetchUrgency(.prefetch))
        )
        // A reader's request passes the others.
        let read = try await store.fetch(ids[3], priority: .foreground, pool: pool)
        #expect(Chunk(verifying: read, as: ids[3]) != nil)
        #expect(try await hub.stats().requests == 1)
        urgency.raise(to: .foreground)
        rate.wakeAll()
        #expect(await raised.value)
        #expect(try await hub.stats().requests == 2)
        cancelled.cancel()
        #expect(await cancelled.value == false)
        rate.hold(.nobody)
        #expect(await first.value)
        #expect(try await hub.stats().requests == 3)
    }

    /// What the hub can still send once nobody reads is what readers at the site have to wait for.
    @Test func `a transfer that is held back stops the hub within a window`() async throws {
        let server = try EndlessServer()
        let rate = ReceiveRate(bytesPerSecond: 2_000_000)
        let curl = CurlMulti(rate: rate)
        let request = CurlRequest(
            url: "http://127.0.0.1:\(server.port)/x", limits: .chunk, maxBodyBytes: EndlessServer.bodyBytes, priority: .prefetch,
            sink: NoBody())
        let task = Task { try? await curl.perform(request) }
        #expect(await eventually { server.acknowledged > 500_000 })
        rate.hold(.all)
        try await Task.sleep(for: .milliseconds(30))
        let atHold = server.acknowledged
        try await Task.sleep(for: .milliseconds(300))
        let after = server.acknowledged
        #expect(after - atHold <= 3 * 60_000, "\(after - atHold) bytes came after the hold")
        rate.hold(.nobody)
        #expect(await eventually { server.acknowledged > after + 300_000 })
        task.cancel()
        _ = await task.value
    }
}

/// Answers one request with a body without end, as fast as it is taken.
private final class EndlessServer: Sendable {
    static let bodyBytes = 1 << 30
    let port: UInt16
    private let listener: Int32
    private let sent = Atomic<Int>(0)
    private let socket = Atomic<Int32>(-1)

    /// Bytes that the client's kernel has taken.
    var acknowledged: Int {
        let fd = socket.load(ordering: .acquiring)
        guard fd >= 0 else { return 0 }
        var waiting: Int32 = 0
        _ = ioctl(fd, UInt(TIOCOUTQ), &waiting)
        return sent.load(ordering: .acquiring) - Int(waiting)
    }

    init() throws {
        let listener = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, size) == 0 && listen(listener, 1) == 0 && getsockname(listener, address, &size) == 0
            }
        }
        try #require(bound)
        port = UInt16(bigEndian: address.sin_port)
        self.listener = listener
        Thread.detachNewThread { [self] in serve() }
    }

    /// Until the client has gone.
    private func serve() {
        let client = accept(listener, nil, nil)
        close(listener)
        guard client >= 0 else { return }
        socket.store(client, ordering: .releasing)
        var request = [UInt8](repeating: 0, count: 4_096)
        _ = recv(client, &request, request.count, 0)
        let head = Array("HTTP/1.1 200 OK\r\nContent-Length: \(Self.bodyBytes)\r\n\r\n".utf8)
        _ = Glibc.send(client, head, head.count, Int32(MSG_NOSIGNAL))
        let piece = [UInt8](repeating: 1, count: 16_384)
        while true {
            let count = Glibc.send(client, piece, piece.count, Int32(MSG_NOSIGNAL))
            guard count > 0 else { break }
            sent.add(count, ordering: .acquiringAndReleasing)
        }
        socket.store(-1, ordering: .releasing)
        close(client)
    }
}
