internal import CLinux
internal import ChunkModel
internal import Glibc
internal import MeshKeys
internal import PeerProtocol

/// A client as cheap as the HTTP sink that nginx is measured with: one thread, epoll, one request under way on each connection,
/// the bytes copied to one buffer, or (discard) not copied at all.
enum Load {
    static let bufferBytes = 256 * 1024

    private struct Session {
        let fd: Int32
        var keys: SessionKeys
        var reader = FrameReader()
        var nextID: UInt32 = 1
        var left = 0
    }

    static func run(port: Int, names: [ChunkID], connections: Int, seconds: Int, discard: Bool) throws {
        let epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        var sessions = try (0..<connections).map { _ in try open(port: port) }
        for (i, session) in sessions.enumerated() {
            var event = epoll_event()
            event.events = EPOLLIN.rawValue
            event.data.u64 = UInt64(i)
            epoll_ctl(epoll, EPOLL_CTL_ADD, session.fd, &event)
            try ask(&sessions[i], names)
        }
        let buffer = UnsafeMutableRawPointer.allocate(byteCount: bufferBytes, alignment: 4096)
        defer { buffer.deallocate() }
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        var (bytes, chunks) = (0, 0)
        let begin = Bench.now()
        while Bench.now() < begin + Double(seconds) {
            let count = epoll_wait(epoll, &events, 64, 100)
            for event in events.prefix(Int(max(0, count))) {
                let i = Int(event.data.u64)
                bytes += try receive(&sessions[i], buffer, discard: discard)
                guard sessions[i].left == 0, sessions[i].reader.buffered == 0 else { continue }
                chunks += 1
                try ask(&sessions[i], names)
            }
        }
        Bench.report(bytes: bytes, chunks: chunks, seconds: Bench.now() - begin)
    }

    /// Reads once; `left` is -1 while an answer's head is awaited.
    private static func receive(_ session: inout Session, _ buffer: UnsafeMutableRawPointer, discard: Bool) throws -> Int {
        if session.left > 0 {
            let flags = Int32(MSG_DONTWAIT) | (discard ? Int32(MSG_TRUNC) : 0)
            let count = recv(session.fd, buffer, min(session.left, bufferBytes), flags)
            if count < 0, errno == EAGAIN { return 0 }
            guard count > 0 else { throw BenchError("the server closed the connection") }
            session.left -= count
            return count
        }
        let count = recv(session.fd, buffer, 4096, Int32(MSG_DONTWAIT))
        if count < 0, errno == EAGAIN { return 0 }
        guard count > 0 else { throw BenchError("the server closed the connection") }
        session.reader.append(UnsafeRawBufferPointer(start: buffer, count: count))
        while let frame = try session.keys.receiving.open(&session.reader) {
            switch frame {
            case .pending: continue
            case .data(_, let length):
                var onWire = Int(length)
                if session.keys.sealsBulk {
                    // Not opened: the client shall be as cheap as without.
                    session.keys.receiving.skipBulk(of: onWire)
                    onWire += SessionCipher.bulkPieces(of: onWire) * SessionCipher.bulkOverhead
                }
                let first = session.reader.take(upTo: onWire).count
                session.left = onWire - first
                return first
            default: throw BenchError("the server answered \(frame)")
            }
        }
        return 0
    }

    private static func ask(_ session: inout Session, _ names: [ChunkID]) throws {
        let body = PeerFrame.RequestBody.chunk(names.randomElement()!, .ifHeld, flist: nil)
        let sealed = session.keys.sending.seal(.request(id: session.nextID, body, priority: .foreground, deadline: 30_000))
        session.nextID += 1
        session.left = -1
        guard send(session.fd, sealed, sealed.count, Int32(MSG_NOSIGNAL)) == sealed.count else {
            throw BenchError("a request was not sent")
        }
    }

    private static func open(port: Int) throws -> Session {
        let fd = try dial(port: port)
        var handshake = ClientHandshake(
            identity: .random(), ring: Bench.keys, expected: Bench.serverIdentity.id, ephemeralSecret: Sodium.randomBytes(32))
        send(fd, handshake.hello, handshake.hello.count, Int32(MSG_NOSIGNAL))
        var reply = [UInt8](repeating: 0, count: Handshake.replyBytes)
        guard recv(fd, &reply, reply.count, Int32(MSG_WAITALL)) == reply.count else { throw BenchError("the handshake failed") }
        let (keys, proof) = try handshake.receive(reply)
        send(fd, proof, proof.count, Int32(MSG_NOSIGNAL))
        return Session(fd: fd, keys: keys)
    }

    static func dial(port: Int) throws -> Int32 {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var raw = sockaddr_in()
        raw.sin_family = sa_family_t(AF_INET)
        raw.sin_port = UInt16(clamping: port).bigEndian
        raw.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafePointer(to: &raw) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard connected == 0 else { throw BenchError("nobody listens on port \(port)") }
        var on: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
        return fd
    }
}
