import Foundation
import Glibc
import Logging
import ServiceLifecycle
import Synchronization
import Testing

@testable import ControlAPI

/// Files that go to the socket from where they lie decoded, past the router. Real sockets.
@Suite(.serialized) struct KeptFilesTests {
    /// A connection that says what it is told to, and reads when it is told to.
    final class Client: Sendable {
        private let fd: Int32

        init(_ port: UInt16, receiveBytes: Int32? = nil) throws {
            fd = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            var patience = timeval(tv_sec: 5, tv_usec: 0)
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
            if var receiveBytes { setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receiveBytes, socklen_t(MemoryLayout<Int32>.size)) }
            let connected = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            if connected != 0 { throw POSIXError(.ECONNREFUSED) }
        }

        deinit { close(fd) }

        func say(_ text: String) {
            let bytes = Array(text.utf8)
            send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        }

        /// One answer, by its length; `nil` when the connection ended before its end.
        func answer() async -> (head: String, body: [UInt8])? {
            try? await offPool { [fd] in
                var got: [UInt8] = []
                var buffer = [UInt8](repeating: 0, count: 1 << 16)
                var end: Int?
                // The head byte by byte: what follows belongs to the body, or to the next answer.
                while end == nil {
                    guard recv(fd, &buffer, 1, 0) == 1 else { return nil }
                    got.append(buffer[0])
                    if got.suffix(4).elementsEqual("\r\n\r\n".utf8) { end = got.count }
                }
                let head = String(decoding: got, as: UTF8.self).lowercased()
                let length = head.components(separatedBy: "content-length: ").dropFirst().first?.prefix { $0.isNumber }
                var body: [UInt8] = []
                let count = head.contains(" 304 ") ? 0 : length.flatMap { Int($0) } ?? 0
                while body.count < count {
                    let n = recv(fd, &buffer, min(buffer.count, count - body.count), 0)
                    guard n > 0 else { return nil }
                    body += buffer.prefix(n)
                }
                return (head, body)
            } ?? nil
        }
    }

    private func withPort(_ body: (UInt16, ScriptedNode) async throws -> Void) async throws {
        let port = UInt16.random(in: 20_000...60_000)
        let node = ScriptedNode()
        var logger = Logger(label: "api")
        logger.logLevel = .critical
        let socket = NSTemporaryDirectory() + "api-\(UUID().uuidString.prefix(8)).sock"
        let api = ControlAPI(node: node, socket: socket, listen: ("127.0.0.1", Int(port)), logger: logger)
        let running = Task { try await api.run() }
        await listens(port)
        try await body(port, node)
        running.cancel()
        try? await running.value
    }

    /// A connection that was answered: one that is being accepted must not meet the end of the server.
    private func listens(_ port: UInt16) async {
        for _ in 0..<500 {
            if let client = try? Client(port) {
                client.say("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                if await client.answer() != nil { return }
            }
            try? await Task.sleep(for: .milliseconds(10))
        }
    }

    private func get(_ path: String, _ headers: String = "", host: String = "127.0.0.1") -> String {
        "GET /v1/flists/a/files/\(path) HTTP/1.1\r\nHost: \(host)\r\n\(headers)\r\n"
    }

    /// The same request past the router and through it: the same answer but for the date.
    @Test func itsAnswersAreTheRouters() async throws {
        try await withPort { port, _ in
            let client = try Client(port)
            for headers in [
                "", "Range: bytes=0-0\r\n", "Range: bytes=100-600000\r\n", "Range: bytes=-5\r\n", "Range: bytes=5000000-\r\n",
                "Range: bytes=0-9,100000-100009\r\n", "If-None-Match: \"tag\"\r\n", "If-Match: \"other\"\r\n",
                "Range: bytes=1-2\r\nIf-Range: \"other\"\r\n", "Connection: keep-alive\r\n",
            ] {
                client.say(get("kept.txt", headers))
                let kept = try #require(await client.answer(), "\(headers)")
                client.say(get("x.txt", headers))
                let routed = try #require(await client.answer(), "\(headers)")
                func lines(_ head: String) -> Set<String> {
                    Set(head.components(separatedBy: "\r\n").filter { !$0.hasPrefix("date: ") })
                }
                // The boundary between parts is drawn, and so is its length.
                if headers.contains(",") {
                    #expect(kept.head.contains("multipart/byteranges") && routed.head.contains("multipart/byteranges"))
                } else {
                    #expect(lines(kept.head) == lines(routed.head), "\(headers)")
                    #expect(kept.body == routed.body, "\(headers)")
                }
            }
            #expect(Self.waiting == 0)
        }
    }

    @Test func whoMayNotAskIsRefused() async throws {
        try await withPort { port, _ in
            for (headers, host) in [
                ("", "evil.example"), ("Origin: null\r\n", "127.0.0.1"), ("Sec-Fetch-Site: cross-site\r\n", "127.0.0.1"),
            ] {
                let client = try Client(port)
                client.say(get("kept.txt", headers, host: host))
                #expect(try #require(await client.answer()).head.contains("403"), "\(headers)\(host)")
            }
        }
    }

    /// Requests of both kinds, sent without waiting: answers come in their order.
    @Test func pipelinedRequestsKeepTheirOrder() async throws {
        try await withPort { port, _ in
            let client = try Client(port)
            let names = (0..<40).map { [0, 3, 4, 9].contains($0 % 11) ? "x.txt" : $0 % 5 == 1 ? "absent" : "kept.txt" }
            client.say(names.enumerated().map { get($1, "Range: bytes=\($0 * 1000)-\($0 * 1000 + 999)\r\n") }.joined())
            for (index, name) in names.enumerated() {
                let answer = try #require(await client.answer(), "answer \(index)")
                if name == "absent" {
                    #expect(answer.head.contains(" 404 "))
                } else {
                    #expect(answer.body == Array(ScriptedNode.content[index * 1000..<index * 1000 + 1000]), "answer \(index)")
                }
            }
        }
    }

    /// Many requests and nobody who reads: what waits to be sent is bounded, and goes when the client does.
    @Test func aClientThatDoesNotReadHoldsLittle() async throws {
        try await withPort { port, _ in
            var client: Client? = try Client(port, receiveBytes: 4096)
            client!.say(String(repeating: get("kept.txt"), count: 300))
            try await eventually("something waits") { Self.waiting > 0 }
            for _ in 0..<20 {
                #expect(Self.waiting <= 4)
                try await Task.sleep(for: .milliseconds(10))
            }
            let other = try Client(port)
            other.say(get("kept.txt"))
            #expect(try #require(await other.answer()).body == ScriptedNode.content)
            client = nil
            try await eventually("nothing waits") { Self.waiting == 0 }
        }
    }

    /// What cannot be read after the head was sent ends the connection: the client gets less than was announced, and nothing wrong.
    @Test func aFileThatCannotBeReadEndsTheConnection() async throws {
        try await withPort { port, _ in
            let client = try Client(port)
            client.say(get("broken") + get("x.txt"))
            #expect(await client.answer() == nil)
            try await eventually("nothing waits") { Self.waiting == 0 }
            let other = try Client(port)
            other.say(get("kept.txt"))
            #expect(try #require(await other.answer()).body == ScriptedNode.content)
        }
    }

    /// An orderly end of the server waits for answers that are on their way, as for those of the router.
    @Test func anEndLetsAnswersGoOut() async throws {
        let port = UInt16.random(in: 20_000...60_000)
        var logger = Logger(label: "api")
        logger.logLevel = .critical
        let socket = NSTemporaryDirectory() + "api-\(UUID().uuidString.prefix(8)).sock"
        let api = ControlAPI(node: ScriptedNode(), socket: socket, listen: ("127.0.0.1", Int(port)), logger: logger)
        let group = ServiceGroup(services: [api], logger: logger)
        let running = Task { try await group.run() }
        await listens(port)
        let client = try Client(port, receiveBytes: 4096)
        // More than the kernel takes at once.
        var asked = 0
        while Self.waiting == 0, asked < 100 {
            client.say(get("kept.txt"))
            asked += 1
            try await Task.sleep(for: .milliseconds(20))
        }
        #expect(Self.waiting > 0)
        await group.triggerGracefulShutdown()
        try await Task.sleep(for: .milliseconds(50))
        for number in 0..<asked { #expect(await client.answer()?.body == ScriptedNode.content, "answer \(number) of \(asked)") }
        try await running.value
    }

    private static var waiting: Int { StoredParts.count + FileSender.sending.load(ordering: .relaxed) }

    private func eventually(_ what: Comment, _ condition: () -> Bool) async throws {
        for _ in 0..<500 {
            if condition() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(condition(), what)
    }
}
