import ChunkModel
import Foundation
import Glibc
import Synchronization

/// A small HTTP hub over a directory that counts what it is asked for, and can be slow, silent or gone.
final class TestHub: Sendable {
    struct State: Sendable {
        var requests: [String: Int] = [:]
        /// Paths in the order in which they were asked for.
        var log: [String] = []
        var revalidated = 0
        var delay: UInt32 = 0
        var isDown = false
        var connections: Set<Int32> = []
    }
    let directory: String
    let port: UInt16
    private let listener: Int32
    let state = Mutex(State())

    init(directory: String) {
        self.directory = directory
        (listener, port) = Loopback.listener()
        Thread.detachNewThread { [self, listener] in
            while true {
                let fd = accept(listener, nil, nil)
                guard fd >= 0 else { return }
                Thread.detachNewThread { self.serve(fd) }
            }
        }
    }

    var url: String { "http://127.0.0.1:\(port)" }
    func stop() { shutdown(listener, Int32(SHUT_RDWR)) }

    /// From now on every connection is cut.
    func setDown(_ isDown: Bool) {
        state.withLock { state in
            state.isDown = isDown
            if isDown { for fd in state.connections { shutdown(fd, Int32(SHUT_RDWR)) } }
        }
    }

    /// Milliseconds before each answer.
    func setDelay(_ milliseconds: UInt32) { state.withLock { $0.delay = milliseconds } }
    func requests(_ path: String) -> Int { state.withLock { $0.requests[path] ?? 0 } }
    var revalidated: Int { state.withLock { $0.revalidated } }
    /// Answered requests for chunks: how often each chunk went out.
    var chunks: [String: Int] {
        state.withLock { state in
            state.requests.filter { request in ![".fl", ".md5", ".minisig"].contains { request.key.hasSuffix($0) } }
        }
    }
    var chunkRequests: Int { chunks.values.reduce(0, +) }

    private func serve(_ fd: Int32) {
        state.withLock { _ = $0.connections.insert(fd) }
        defer {
            state.withLock { _ = $0.connections.remove(fd) }
            close(fd)
        }
        var pending: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16384)
        let end = Array("\r\n\r\n".utf8)
        while true {
            guard let stop = pending.indices.first(where: { pending[$0...].starts(with: end) }) else {
                let count = recv(fd, &buffer, buffer.count, 0)
                guard count > 0 else { return }
                pending += buffer.prefix(count)
                continue
            }
            let head = String(decoding: pending[..<stop], as: UTF8.self)
            pending.removeFirst(stop + 4)
            let (isDown, delay) = state.withLock { ($0.isDown, $0.delay) }
            if isDown { return }
            if delay > 0 { usleep(delay * 1000) }
            guard send(fd, answer(head)) else { return }
        }
    }

    private func answer(_ head: String) -> [UInt8] {
        let lines = head.components(separatedBy: "\r\n")
        let path = lines[0].split(separator: " ").dropFirst().first.map(String.init) ?? "/"
        guard !path.contains(".."), let content = FileManager.default.contents(atPath: directory + path) else {
            return Array("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".utf8)
        }
        let tag = "\"\(Blake2b.hash256([UInt8](content)).prefix64)\""
        let isKnown = lines.contains { $0.lowercased().hasPrefix("if-none-match:") && $0.contains(tag) }
        state.withLock { state in
            state.requests[path, default: 0] += 1
            state.log.append(path)
            if isKnown { state.revalidated += 1 }
        }
        if isKnown { return Array("HTTP/1.1 304 Not Modified\r\nETag: \(tag)\r\n\r\n".utf8) }
        return Array("HTTP/1.1 200 OK\r\nETag: \(tag)\r\nContent-Length: \(content.count)\r\n\r\n".utf8) + content
    }

    private func send(_ fd: Int32, _ bytes: [UInt8]) -> Bool {
        var at = 0
        while at < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(fd, $0.baseAddress! + at, bytes.count - at, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { return false }
            at += count
        }
        return true
    }
}

enum Loopback {
    /// A listening TCP socket on a port of 127.0.0.1 that is free for UDP too.
    static func listener() -> (fd: Int32, port: UInt16) {
        while true {
            let (tcp, port) = bound(SOCK_STREAM, 0)
            let (udp, other) = bound(SOCK_DGRAM, port)
            close(udp)
            if other == port {
                listen(tcp, 128)
                return (tcp, port)
            }
            close(tcp)
        }
    }

    /// A port that is free at this moment, for TCP and UDP.
    static func port() -> UInt16 {
        let (fd, port) = listener()
        close(fd)
        return port
    }

    private static func bound(_ kind: __socket_type, _ port: UInt16) -> (Int32, UInt16) {
        let fd = socket(AF_INET, Int32(kind.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        address.sin_port = port.bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        return withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
                guard bind(fd, raw, size) == 0, getsockname(fd, raw, &size) == 0 else { return (fd, 0) }
                return (fd, pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { UInt16(bigEndian: $0.pointee.sin_port) })
            }
        }
    }
}
