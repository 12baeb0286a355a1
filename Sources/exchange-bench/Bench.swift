internal import CLinux
internal import ChunkModel
internal import Glibc
internal import Logging
internal import MeshKeys
internal import PeerExchange
internal import PeerProtocol
internal import Synchronization

enum Bench {
    /// Key and server identity that all runs share; nothing but benchmarks talks with them.
    static let keys = MeshKeyRing(keys: [[UInt8](repeating: 7, count: MeshKeyRing.keyBytes)])!
    static let serverIdentity = NodeIdentity(seed: [UInt8](repeating: 9, count: 32))!
    /// Requests that a receiving client keeps under way, and chunks that may wait to be stored.
    static let underWay = 8

    static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }

    static func report(bytes: Int, chunks: Int, seconds: Double) {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func value(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) * 1e-6 }
        print(bytes, chunks, seconds, value(usage.ru_utime), value(usage.ru_stime))
    }

    static func names(in directory: String) throws -> [ChunkID] {
        guard let open = opendir(directory) else { throw BenchError("\(directory) cannot be read") }
        defer { closedir(open) }
        var out: [ChunkID] = []
        while let entry = readdir(open) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if let id = ChunkID(hex: name) { out.append(id) }
        }
        guard !out.isEmpty else { throw BenchError("\(directory) holds no chunks") }
        return out
    }

    static func store(_ bytes: UnsafeRawBufferPointer, at path: String) throws {
        let fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        guard fd >= 0 else { throw BenchError("\(path) cannot be written") }
        defer { close(fd) }
        var at = 0
        while at < bytes.count {
            let count = pwrite(fd, bytes.baseAddress! + at, bytes.count - at, at)
            guard count > 0 else { throw BenchError("\(path) cannot be written") }
            at += count
        }
        ftruncate(fd, bytes.count)
    }

    static func make(directory: String, count: Int, bytes: Int) throws {
        mkdir(directory, 0o755)
        for _ in 0..<count {
            let content = Sodium.randomBytes(bytes)
            try content.withUnsafeBytes { try store($0, at: directory + "/" + ChunkID(ofStored: $0).hex) }
        }
    }

    static func logger() -> Logger {
        var logger = Logger(label: "exchange-bench")
        logger.logLevel = .warning
        return logger
    }

    /// - Parameter seals: bulk bytes travel sealed, as with mesh.sealChunks.
    static func serve(directory: String, port: Int, seals: Bool) throws {
        var configuration = ExchangeConfiguration(listen: [NodeAddress(ip: [127, 0, 0, 1], port: UInt16(clamping: port))!])
        configuration.threads = 1
        configuration.sealsBulk = seals
        configuration.chunksPerSecond = 1_000_000
        let exchange = PeerExchange(
            configuration: configuration, identity: serverIdentity, keys: keys, handler: FileHandler(directory: directory),
            pool: ChunkBufferPool(), logger: logger())
        var stopSignals = sigset_t()
        sigemptyset(&stopSignals)
        sigaddset(&stopSignals, SIGTERM)
        sigaddset(&stopSignals, SIGINT)
        pthread_sigmask(SIG_BLOCK, &stopSignals, nil)
        try exchange.start()
        var signal: Int32 = 0
        sigwait(&stopSignals, &signal)
        exchange.stop()
    }

    static func receive(host: String, port: Int, directory: String, out: String, seconds: Int) throws {
        let names = try names(in: directory)
        guard let address = NodeAddress("\(host):\(port)") else { throw BenchError("\(host) is no numeric address") }
        var configuration = ExchangeConfiguration(listen: [NodeAddress(ip: [127, 0, 0, 1], port: 0)!])
        configuration.threads = 1
        let exchange = PeerExchange(
            configuration: configuration, identity: .random(), keys: keys, handler: FileHandler(directory: directory),
            pool: ChunkBufferPool(), logger: logger())
        try exchange.start()
        let arrivals = Arrivals()
        func ask() {
            let id = names.randomElement()!
            exchange.send(
                PeerRequest(.chunk(id, .ifHeld, flist: nil)), to: serverIdentity.id, at: address, deadline: .seconds(30)
            ) { response in
                switch response {
                case .data(let buffer): arrivals.put((id, buffer))
                case .pending: break
                // What was under way when the time was over.
                case .failed(.stopped): arrivals.put(nil)
                case .message, .missing, .busy, .refused, .failed:
                    let line = "exchange-bench: unexpected answer: \(response)\n"
                    _ = write(STDERR_FILENO, line, line.utf8.count)
                    arrivals.put(nil)
                }
            }
        }
        mkdir(out, 0o755)
        let begin = now()
        for _ in 0..<underWay { ask() }
        var (bytes, chunks) = (0, 0)
        while now() < begin + Double(seconds) {
            guard let (id, buffer) = arrivals.take() else { throw BenchError("the server does not answer") }
            ask()
            guard let chunk = Chunk(verifying: buffer, as: id) else { throw BenchError("chunk \(id) is wrong") }
            try chunk.buffer.withBytes { try store($0, at: "\(out)/\(chunks % 256)") }
            bytes += chunk.byteCount
            chunks += 1
        }
        report(bytes: bytes, chunks: chunks, seconds: now() - begin)
        exchange.stop()
    }

    static func baseline(directory: String, out: String, seconds: Int) throws {
        let names = try names(in: directory)
        mkdir(out, 0o755)
        let buffer = ChunkBuffer(capacity: ChunkLimits.maxStoredBytes)
        let begin = now()
        var (bytes, chunks) = (0, 0)
        while now() < begin + Double(seconds) {
            let id = names.randomElement()!
            let fd = open("\(directory)/\(id.hex)", O_RDONLY | O_CLOEXEC)
            buffer.count = max(0, read(fd, buffer.base, buffer.capacity))
            close(fd)
            guard buffer.withBytes({ Blake2b.hash256($0) }).hex == id.hex else { throw BenchError("chunk \(id) is wrong") }
            try buffer.withBytes { try store($0, at: "\(out)/\(chunks % 256)") }
            bytes += buffer.count
            chunks += 1
        }
        report(bytes: bytes, chunks: chunks, seconds: now() - begin)
    }
}

/// Serves the files of a directory, as a cache would.
private struct FileHandler: PeerRequestHandler {
    let directory: String

    func handle(_ request: PeerRequest, from peer: NodeID, responder: PeerResponder) {
        guard case .chunk(let id, _, _) = request.kind else { return responder.refused(.unknownKind) }
        let fd = open("\(directory)/\(id.hex)", O_RDONLY | O_CLOEXEC)
        var facts = stat()
        guard fd >= 0, fstat(fd, &facts) == 0 else {
            if fd >= 0 { close(fd) }
            return responder.missing()
        }
        responder.sendFile(fd, length: Int(facts.st_size))
    }

    func cancelled(_ id: PeerResponder.ID) {}
}

/// What I/O threads hand to the storing thread. Bounded by the requests under way.
private final class Arrivals: @unchecked Sendable {
    private let items = Mutex<[(ChunkID, ChunkBuffer)?]>([])
    private let count: UnsafeMutablePointer<sem_t>

    init() {
        count = .allocate(capacity: 1)
        sem_init(count, 0, 0)
    }

    deinit {
        sem_destroy(count)
        count.deallocate()
    }

    func put(_ item: (ChunkID, ChunkBuffer)?) {
        items.withLock { $0.append(item) }
        sem_post(count)
    }

    func take() -> (ChunkID, ChunkBuffer)? {
        while sem_wait(count) != 0 {}
        return items.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    }
}
