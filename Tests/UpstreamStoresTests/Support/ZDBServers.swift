import ChunkModel
import Foundation
import Glibc
import Synchronization

@testable import UpstreamStores

extension ZDBUpstream {
    convenience init(
        url: String, counters: UpstreamCounters = UpstreamCounters(), rate: ReceiveRate = ReceiveRate(), transfer: TransferLimits = .chunk,
        attempts: Int = 1, failures: Int = 100, pool: ZDBPool.Limits = ZDBPool.Limits(), concurrency: Int = 64
    ) throws(UpstreamError) {
        let address = try ZDBAddress(url)
        self.init(
            address: address, transfer: transfer, rate: rate, gate: .forTest(address, transfer, attempts, failures, counters, concurrency),
            pool: pool)
    }
}

extension ZDBSink {
    convenience init(
        url: String, counters: UpstreamCounters = UpstreamCounters(), transfer: TransferLimits = .chunk, attempts: Int = 1
    ) throws(UpstreamError) {
        let address = try ZDBAddress(url)
        self.init(
            address: address, transfer: transfer, rate: ReceiveRate(), gate: .forTest(address, transfer, attempts, 100, counters, 64))
    }
}

extension UpstreamGate {
    fileprivate static func forTest(
        _ address: ZDBAddress, _ transfer: TransferLimits, _ attempts: Int, _ failures: Int, _ counters: UpstreamCounters,
        _ concurrency: Int
    ) -> UpstreamGate {
        let retry = RetryLimits(attempts: attempts, firstWait: .milliseconds(5), longestWait: .milliseconds(10))
        let limits = UpstreamLimits(
            transfer: transfer, retry: retry, circuit: Circuit.Limits(failures: failures), concurrency: concurrency)
        return UpstreamGate(label: address.label, limits: limits, counters: counters, random: UpstreamRandom(SeededGenerator(state: 3)))
    }
}

extension Chunk {
    /// `bytes` under their id.
    static func of(_ bytes: [UInt8], length: ChunkID.Length = .full) -> Chunk {
        let buffer = ChunkBuffer(copying: bytes)
        return Chunk(verifying: buffer, as: buffer.withBytes { ChunkID(ofStored: $0, length: length) })!
    }
}

/// A server program that ends with this object.
final class ServerProcess: @unchecked Sendable {
    let port: Int
    let directory: String
    private let process = Process()

    private init(_ program: String, _ arguments: (_ directory: String) -> [String], port: Int?) throws {
        directory = try TestFiles.directory()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments(directory)
        process.standardOutput = port == nil ? output : FileHandle.nullDevice
        try process.run()
        if let port {
            self.port = port
        } else {
            var line: [UInt8] = []
            while let byte = try? output.fileHandleForReading.read(upToCount: 1)?.first, byte != UInt8(ascii: "\n") { line.append(byte) }
            self.port = Int(String(decoding: line, as: UTF8.self)) ?? 0
            precondition(self.port > 0, "the server did not start")
        }
    }

    deinit {
        kill(process.processIdentifier, SIGKILL)
        try? FileManager.default.removeItem(atPath: directory)
    }

    /// Ends the server; afterwards nobody listens.
    func stop() async {
        kill(process.processIdentifier, SIGKILL)
        _ = await eventually { !Listener.canConnect(port) }
    }

    /// The stand-in for zdb of the shared fixtures.
    ///
    /// - Parameter namespaces: `NAME` or `NAME:PASSWORD`, empty ones beside the default one.
    static func zdb(_ namespaces: String...) async throws -> ServerProcess { try await offPool { try zdb(at: 0, namespaces) } }

    /// Blocking.
    static func zdb(at port: Int, _ namespaces: [String] = []) throws -> ServerProcess {
        let package = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../..").standardized
        let fixtures = ProcessInfo.processInfo.environment["CHUNKMESH_FIXTURES"] ?? package.path + "/../shared/fixtures"
        let script = fixtures + "/tools/mini_zdb.py"
        let python = FileManager.default.isExecutableFile(atPath: "/usr/bin/python3") ? "/usr/bin/python3" : "/usr/local/bin/python3"
        return try ServerProcess(
            python, { directory in [script, "\(port)"] + namespaces.map { "\($0)=\(directory)" } }, port: nil)
    }

    /// A real redis without files, also at `redis.sock` in its directory.
    static func redis(password: String? = nil) async throws -> ServerProcess {
        let server = try await offPool {
            let port = try Listener.freePort()
            return try ServerProcess(
                "/usr/bin/redis-server",
                { directory in
                    [
                        "--port", "\(port)", "--bind", "127.0.0.1", "--unixsocket", "\(directory)/redis.sock", "--save", "", "--appendonly",
                        "no", "--dir", directory, "--daemonize", "no",
                    ] + (password.map { ["--requirepass", $0] } ?? [])
                }, port: port)
        }
        let isUp = await eventually { Listener.canConnect(server.port) }
        precondition(isUp, "redis-server did not start")
        return server
    }

    /// Sends one command over a connection of its own.
    func command(_ arguments: String..., entering url: String? = nil) async throws -> PlainReply {
        let client = ZDBClient(
            address: try ZDBAddress(url ?? "zdb://127.0.0.1:\(port)"), transfer: .chunk, rate: ReceiveRate(), counters: UpstreamCounters())
        let request = RESPRequest(arguments.map { Array($0.utf8) })
        return PlainReply(
            try await client.perform(request, priority: .foreground, replyLimit: 100_000, buffers: ChunkBufferPool(keep: 0)))
    }
}

/// A server on loopback, or at a unix socket, that does with each connection what the test wants.
final class Listener: @unchecked Sendable {
    let port: Int
    private let descriptor: Int32
    private let count = Mutex(0)

    /// Connections accepted so far.
    var connections: Int { count.withLock { $0 } }

    /// - Parameter serve: runs on a thread of its own; the connection is closed when it returns.
    init(socket path: String? = nil, _ serve: @escaping @Sendable (Connection) -> Void) throws {
        if let path {
            descriptor = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            port = 0
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
            }
            precondition(bound == 0)
        } else {
            (descriptor, port) = try Self.loopbackSocket()
        }
        listen(descriptor, 16)
        Thread.detachNewThread { [self] in
            while true {
                let accepted = accept(descriptor, nil, nil)
                if accepted < 0 { break }
                let number = count.withLock { count in
                    count += 1
                    return count
                }
                Thread.detachNewThread {
                    serve(Connection(descriptor: accepted, number: number))
                    close(accepted)
                }
            }
        }
    }

    func stop() {
        shutdown(descriptor, Int32(SHUT_RDWR))
        close(descriptor)
    }

    static func freePort() throws -> Int {
        let (descriptor, port) = try loopbackSocket()
        close(descriptor)
        return port
    }

    static func canConnect(_ port: Int) -> Bool {
        let descriptor = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = loopback(port)
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        } == 0
    }

    private static func loopback(_ port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    private static func loopbackSocket() throws -> (descriptor: Int32, port: Int) {
        let descriptor = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let named = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) == 0 && getsockname(descriptor, pointer, &length) == 0
            }
        }
        guard named else { throw POSIXError(.EADDRNOTAVAIL) }
        return (descriptor, Int(UInt16(bigEndian: address.sin_port)))
    }

    /// One accepted connection; blocking.
    final class Connection {
        /// From 1.
        let number: Int
        private let descriptor: Int32
        private var buffer: [UInt8] = []

        init(descriptor: Int32, number: Int) { (self.descriptor, self.number) = (descriptor, number) }

        func send(_ text: String) { send(Array(text.utf8)) }

        func send(_ bytes: [UInt8]) {
            var done = 0
            while done < bytes.count {
                let sent = bytes.withUnsafeBytes {
                    Glibc.send(descriptor, $0.baseAddress! + done, bytes.count - done, Int32(MSG_NOSIGNAL))
                }
                guard sent > 0 else { return }
                done += sent
            }
        }

        func send(value: [UInt8]) { send(Array("$\(value.count)\r\n".utf8) + value + [13, 10]) }

        /// The next command's arguments; `nil` at the end.
        func command() -> [[UInt8]]? {
            guard let count = length() else { return nil }
            var arguments: [[UInt8]] = []
            for _ in 0..<count {
                guard let size = length() else { return nil }
                while buffer.count < size + 2 { guard fill() else { return nil } }
                arguments.append(Array(buffer[..<size]))
                buffer.removeFirst(size + 2)
            }
            return arguments
        }

        /// Keeps the connection open until the other side closes it.
        func waitForEnd() { while fill() { buffer = [] } }

        private func length() -> Int? {
            while true {
                if let end = buffer.firstIndex(of: 10) {
                    let number = Int(String(decoding: buffer[1..<(end - 1)], as: UTF8.self))
                    buffer.removeFirst(end + 1)
                    return number
                }
                guard fill() else { return nil }
            }
        }

        private func fill() -> Bool {
            var piece = [UInt8](repeating: 0, count: 65_536)
            let got = recv(descriptor, &piece, piece.count, 0)
            guard got > 0 else { return false }
            buffer += piece[..<got]
            return true
        }
    }
}
