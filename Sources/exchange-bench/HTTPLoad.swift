internal import CLinux
internal import ChunkModel
internal import Glibc

/// The client of `Load`, speaking HTTP/1.1: the same loop, buffer and flags, so that both servers are asked at the same cost.
enum HTTPLoad {
    private struct Session {
        let fd: Int32
        var head: [UInt8] = []
        /// Body bytes awaited; -1 while the head is.
        var left = -1
    }

    static func run(port: Int, names: [ChunkID], connections: Int, seconds: Int, discard: Bool) throws {
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        let requests = names.map { Array("GET /\($0.hex) HTTP/1.1\r\nHost: bench\r\n\r\n".utf8) }
        var sessions = try (0..<connections).map { _ in Session(fd: try Load.dial(port: port)) }
        func ask(_ i: Int) throws {
            let request = requests.randomElement()!
            sessions[i].left = -1
            sessions[i].head.removeAll(keepingCapacity: true)
            guard send(sessions[i].fd, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
                throw BenchError("a request was not sent")
            }
        }
        for (i, session) in sessions.enumerated() {
            var event = epoll_event()
            event.events = EPOLLIN.rawValue
            event.data.u64 = UInt64(i)
            epoll_ctl(epoll, EPOLL_CTL_ADD, session.fd, &event)
            try ask(i)
        }
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: Load.bufferBytes, alignment: 4096)
        defer { buffer.deallocate() }
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        var (bytes, chunks) = (0, 0)
        let begin = Bench.now()
        while Bench.now() < begin + Double(seconds) {
            let count = epoll_wait(epoll, &events, 64, 100)
            for event in events.prefix(Int(max(0, count))) {
                let i = Int(event.data.u64)
                bytes += try receive(&sessions[i], buffer, discard: discard)
                guard sessions[i].left == 0 else { continue }
                chunks += 1
                try ask(i)
            }
        }
        Bench.report(bytes: bytes, chunks: chunks, seconds: Bench.now() - begin)
    }

    private static func receive(_ session: inout Session, _ buffer: UnsafeMutableRawPointer, discard: Bool) throws -> Int {
        let wantsBody = session.left > 0
        let size = wantsBody ? min(session.left, Load.bufferBytes) : 4096
        let flags = Int32(MSG_DONTWAIT) | (discard && wantsBody ? Int32(MSG_TRUNC) : 0)
        let count = recv(session.fd, buffer, size, flags)
        if count < 0, errno == EAGAIN { return 0 }
        guard count > 0 else { throw BenchError("the server closed the connection") }
        if wantsBody {
            session.left -= count
            return count
        }
        session.head.append(contentsOf: UnsafeRawBufferPointer(start: buffer, count: count))
        let text = String(decoding: session.head.prefix(1024), as: UTF8.self)
        let ends = Array("\r\n\r\n".utf8)
        guard let end = session.head.indices.first(where: { session.head[$0...].starts(with: ends) }) else { return 0 }
        guard text.hasPrefix("HTTP/1.1 200"), let field = text.utf8.firstRange(of: "Content-Length: ".utf8) else {
            throw BenchError("the server answered \(text.prefix(20))")
        }
        let digits = text.utf8[field.upperBound...].prefix { (48...57).contains($0) }
        let first = session.head.count - end - ends.count
        session.left = (Int(String(decoding: digits, as: UTF8.self)) ?? 0) - first
        return first
    }
}
