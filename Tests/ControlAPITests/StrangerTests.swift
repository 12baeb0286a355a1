import ChunkModel
import Foundation
import Glibc
import Logging
import Testing

@testable import ControlAPI

/// What reaches the API's port from a browser on the node's machine, and from other machines. Real sockets.
@Suite struct StrangerTests {
    /// Serves a scripted node at an address while `body` runs.
    private func withPort(_ host: String = "127.0.0.1", _ body: (UInt16, ScriptedNode) async throws -> Void) async throws {
        let port = UInt16.random(in: 20_000...60_000)
        let node = ScriptedNode()
        var logger = Logger(label: "api")
        logger.logLevel = .critical
        let socket = NSTemporaryDirectory() + "api-\(UUID().uuidString.prefix(8)).sock"
        let api = ControlAPI(node: node, socket: socket, listen: (host, Int(port)), logger: logger)
        let running = Task { try await api.run() }
        for _ in 0..<500 where await ask(port, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").isEmpty {
            try await Task.sleep(for: .milliseconds(10))
        }
        try await body(port, node)
        running.cancel()
        try? await running.value
    }

    /// The head and the body of the answer to a request, as a browser would send it; the connection is closed after it.
    private func ask(_ port: UInt16, _ request: String) async -> String {
        (try? await offPool { Self.exchange(port, request) }) ?? ""
    }

    private static func exchange(_ port: UInt16, _ request: String) -> String {
        let fd = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { close(fd) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var patience = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard connected == 0 else { return "" }
        let text = Array(request.replacingOccurrences(of: "HTTP/1.1\r\n", with: "HTTP/1.1\r\nConnection: close\r\n").utf8)
        send(fd, text, text.count, Int32(MSG_NOSIGNAL))
        var out: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = recv(fd, &buffer, buffer.count, 0)
            guard count > 0 else { return String(decoding: out, as: UTF8.self) }
            out += buffer.prefix(count)
        }
    }

    private func status(_ answer: String) -> String { String(answer.split(separator: " ").dropFirst().first ?? "") }

    @Test func aNameBentToThisMachineReachesNothing() async throws {
        try await withPort { port, _ in
            for host in [
                "evil.example:\(port)", "evil.example", "127.0.0.1.evil.example", "[evil]", "[::1].evil.example", "localhost.evil",
            ] {
                #expect(status(await ask(port, "GET /v1/stats HTTP/1.1\r\nHost: \(host)\r\n\r\n")) == "403", "\(host)")
            }
            for host in ["127.0.0.1:\(port)", "localhost:\(port)", "[::1]:\(port)", "192.168.0.7"] {
                #expect(status(await ask(port, "GET /v1/stats HTTP/1.1\r\nHost: \(host)\r\n\r\n")) == "200", "\(host)")
            }
        }
    }

    @Test func aPageOfAnotherOriginCannotPost() async throws {
        try await withPort { port, node in
            let body = "{\"flist\":\"http://h/x.fl\"}"
            func post(_ path: String, _ headers: String) async -> String {
                await ask(
                    port,
                    "POST \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\n\(headers)Content-Type: text/plain\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
                )
            }
            for headers in [
                "Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin: http://127.0.0.1:1\r\n", "Sec-Fetch-Site: cross-site\r\n",
                "Sec-Fetch-Site: same-site\r\n",
            ] {
                for path in ["/v1/prefetch", "/v1/keys/rotate", "/v1/keys/revoke", "/v1/cache/gc"] {
                    #expect(status(await post(path, headers)) == "403", "\(path) \(headers)")
                }
            }
            #expect(node.prefetches.withLock { $0.isEmpty })
            #expect(status(await post("/v1/prefetch", "Origin: http://127.0.0.1:\(port)\r\nSec-Fetch-Site: same-origin\r\n")) == "202")
        }
    }

    @Test func contentOfAnFlistIsNoPageOfTheAPI() async throws {
        try await withPort { port, _ in
            let answer = await ask(port, "GET /v1/flists/x/files/a.html HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=0-0\r\n\r\n")
                .lowercased()
            // A browser shows it, but runs nothing of it, and counts it as of no origin: what it asked for would be refused.
            #expect(answer.contains("content-type: text/html"))
            #expect(answer.contains("x-content-type-options: nosniff"))
            #expect(answer.contains("content-security-policy: default-src 'none'; sandbox"))
            let index = await ask(port, "GET /v1/flists/x/files/dir/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").lowercased()
            #expect(index.contains("content-security-policy: default-src 'none'; style-src") && !index.contains("script-src"))
        }
    }

    @Test func keysAreForUsersOfTheMachineOnly() async throws {
        try await withPort { port, _ in
            #expect(status(await ask(port, "GET /v1/keys HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")) == "200")
        }
        // A port that other machines reach has the figures, but no keys, whoever asks.
        try await withPort("0.0.0.0") { port, _ in
            #expect(status(await ask(port, "GET /v1/stats HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")) == "200")
            for request in [
                "GET /v1/keys", "POST /v1/keys/rotate", "GET /v1/keys/revoked", "POST /v1/keys/revoke", "DELETE /v1/keys/revoked/00",
            ] {
                #expect(
                    status(await ask(port, "\(request) HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")) == "403", "\(request)")
            }
        }
    }
}
