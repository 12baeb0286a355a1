import CLinux
import ChunkModel
import Glibc
import Logging
import MeshKeys
import PeerExchange
import PeerProtocol
import Synchronization
import Testing

/// One test after the other: some count the descriptors of the process.
@Suite(.serialized) enum ExchangeTests {}

/// Answers by a closure; counts what it was told.
final class TestHandler: PeerRequestHandler {
    typealias Answer = @Sendable (PeerRequest, PeerResponder) -> Void
    private let answer: Answer
    let cancelledCount = Atomic(0)
    /// Responders that the answer wanted to keep.
    let kept = Mutex<[PeerResponder]>([])
    init(_ answer: @escaping Answer) { self.answer = answer }
    func handle(_ request: PeerRequest, from peer: NodeID, responder: PeerResponder) { answer(request, responder) }
    func cancelled(_ id: PeerResponder.ID) { cancelledCount.add(1, ordering: .relaxed) }
}

/// Collects the events of one request.
final class Events: Sendable {
    private struct State {
        var all: [PeerResponse] = []
        var waiter: CheckedContinuation<PeerResponse, Never>?
    }
    private let state = Mutex(State())

    func add(_ response: PeerResponse) {
        let waiter = state.withLock { state -> CheckedContinuation<PeerResponse, Never>? in
            state.all.append(response)
            guard response.isFinal else { return nil }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: response)
    }

    var finals: Int { state.withLock { $0.all.filter(\.isFinal).count } }
    var pendings: Int { state.withLock { $0.all.count - $0.all.filter(\.isFinal).count } }

    func final() async -> PeerResponse {
        await withCheckedContinuation { continuation in
            let done = state.withLock { state -> PeerResponse? in
                if let final = state.all.first(where: \.isFinal) { return final }
                state.waiter = continuation
                return nil
            }
            if let done { continuation.resume(returning: done) }
        }
    }
}

struct TestNode: Sendable {
    static let meshKeys = MeshKeyRing(keys: [[UInt8](repeating: 42, count: 32)])!
    let identity = NodeIdentity.random()
    let exchange: PeerExchange

    init(
        keys: MeshKeyRing? = meshKeys, listen: [String] = ["127.0.0.1:0"], handler: any PeerRequestHandler = TestHandler { $1.missing() },
        configure: (inout ExchangeConfiguration) -> Void = { _ in }
    ) throws {
        var configuration = ExchangeConfiguration(listen: listen.compactMap { NodeAddress($0) })
        configure(&configuration)
        var logger = Logger(label: "test")
        logger.logLevel = .critical
        exchange = PeerExchange(
            configuration: configuration, identity: identity, keys: keys, handler: handler, pool: ChunkBufferPool(), logger: logger)
        try exchange.start()
    }

    var address: NodeAddress { NodeAddress("127.0.0.1:\(exchange.boundPort ?? 0)")! }

    func send(_ request: PeerRequest, to other: TestNode, deadline: Duration = .seconds(20)) -> (events: Events, id: RequestID) {
        let events = Events()
        let id = exchange.send(request, to: other.identity.id, at: other.address, deadline: deadline) { events.add($0) }
        return (events, id)
    }

    func ask(_ request: PeerRequest, of other: TestNode, deadline: Duration = .seconds(20)) async -> PeerResponse {
        await send(request, to: other, deadline: deadline).events.final()
    }
}

/// A chunk of `size` bytes, in a file that has no name any more.
struct TestChunk {
    let id: ChunkID
    let bytes: [UInt8]

    init(_ size: Int, seed: Int = 1) {
        bytes = (0..<size).map { UInt8(truncatingIfNeeded: ($0 &+ seed) &* 2_654_435_761 >> 7) }
        id = bytes.withUnsafeBytes { ChunkID(ofStored: $0) }
    }

    func open() -> Int32 { TestFile.make(bytes) }
    var request: PeerRequest { PeerRequest(.chunk(id, .ifHeld, flist: nil)) }
}

enum TestFile {
    static func make(_ bytes: [UInt8]) -> Int32 {
        let fd = Glibc.open("/tmp", O_RDWR | O_CLOEXEC | 0o20200000, 0o600)
        var at = 0
        while at < bytes.count { at += bytes.withUnsafeBytes { write(fd, $0.baseAddress! + at, bytes.count - at) } }
        return fd
    }
}

func describe(_ response: PeerResponse) -> String {
    switch response {
    case .data(let buffer): "data \(buffer.count)"
    case .failed(let error): "failed: \(error)"
    default: "\(response)"
    }
}

/// Polls until `condition` holds.
func eventually(_ seconds: Double = 5, _ condition: () -> Bool) async -> Bool {
    let clock = ContinuousClock()
    let end = clock.now + .seconds(seconds)
    while !condition() {
        guard clock.now < end else { return false }
        try? await Task.sleep(for: .milliseconds(5))
    }
    return true
}

/// A plain socket that speaks whatever a test wants.
final class RawSocket {
    let fd: Int32
    init(fd: Int32) { self.fd = fd }

    init(to address: NodeAddress) throws {
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var raw = sockaddr_in()
        raw.sin_family = sa_family_t(AF_INET)
        raw.sin_port = address.port.bigEndian
        raw.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let done = withUnsafePointer(to: &raw) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        try #require(done == 0)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(fd) }

    func write(_ bytes: [UInt8]) {
        var at = 0
        while at < bytes.count {
            let n = bytes.withUnsafeBytes { send(fd, $0.baseAddress! + at, bytes.count - at, Int32(MSG_NOSIGNAL)) }
            if n <= 0 { return }
            at += n
        }
    }

    /// Exactly `count` bytes, or what came before the end.
    func read(_ count: Int) -> [UInt8] {
        var out = [UInt8](repeating: 0, count: count)
        var at = 0
        while at < count {
            let n = out.withUnsafeMutableBytes { recv(fd, $0.baseAddress! + at, count - at, 0) }
            if n <= 0 { break }
            at += n
        }
        return Array(out.prefix(at))
    }

    /// Shakes hands as a client.
    func session(identity: NodeIdentity = .random(), keys: MeshKeyRing = TestNode.meshKeys) throws -> SessionKeys {
        var handshake = ClientHandshake(identity: identity, ring: keys, expected: nil, ephemeralSecret: Sodium.randomBytes(32))
        write(handshake.hello)
        let (session, proof) = try handshake.receive(read(Handshake.replyBytes))
        write(proof)
        return session
    }
}

/// A listening socket, for servers that misbehave.
final class RawServer: Sendable {
    let fd: Int32
    let address: NodeAddress

    init() throws {
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var raw = sockaddr_in()
        raw.sin_family = sa_family_t(AF_INET)
        raw.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let fd = fd
        withUnsafeMutablePointer(to: &raw) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(fd, $0, size)
                _ = listen(fd, 8)
                _ = getsockname(fd, $0, &size)
            }
        }
        address = try #require(NodeAddress("127.0.0.1:\(UInt16(bigEndian: raw.sin_port))"))
    }

    deinit { close(fd) }

    /// Accepts one connection on a thread of its own and hands it to `body`, with the session when a key ring is given.
    func serve(_ identity: NodeIdentity, _ body: @escaping @Sendable (RawSocket, inout SessionKeys) -> Void) {
        runThread { [fd] in
            let socket = RawSocket(fd: accept(fd, nil, nil))
            var handshake = ServerHandshake(identity: identity, ring: TestNode.meshKeys, ephemeralSecret: Sodium.randomBytes(32))
            guard case .reply(let reply, var keys) = handshake.receive(socket.read(Handshake.helloBytes)) else { return }
            socket.write(reply)
            body(socket, &keys)
        }
    }
}

private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

func runThread(_ body: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    pthread_create(
        &thread, nil,
        { raw in
            Unmanaged<ThreadBody>.fromOpaque(raw!).takeRetainedValue().run()
            return nil
        }, Unmanaged.passRetained(ThreadBody(body)).toOpaque())
    pthread_detach(thread)
}
