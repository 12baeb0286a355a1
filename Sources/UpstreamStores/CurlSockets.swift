internal import CCurl
internal import ChunkModel
internal import Glibc

/// The sockets of a `CurlWorker`, and how far the hub may run ahead of us on each (`ReceiveWindow`). Touched on the worker's thread alone.
final class CurlSockets {
    /// Milliseconds between two looks.
    static let interval = 100
    /// What counts as no bound, for the window and for the buffer, which the kernel may make larger.
    static let openWindow = 16 << 20
    static let openBuffer = 1 << 20
    /// Of a connection that has not carried a request yet: the first flight of a server's answer fits.
    static let firstBuffer = 16_384

    private struct Known {
        var port: UInt16 = 0
        var received: UInt64 = 0
        var window = ReceiveWindow()
        var lookedAt: ContinuousClock.Instant?
        /// For a reader.
        var isOpen = false
        /// Bytes on the line that were charged for it.
        var charged = 0
    }
    private let rate: ReceiveRate
    private var known: [Int32: Known] = [:]
    private var nextLook = ContinuousClock.now

    init(rate: ReceiveRate) { self.rate = rate }

    /// Lets the transfer's socket be known. Sockets outlive their transfers, so they are told to this object, which the worker keeps for
    /// longer than they live.
    func prepare(_ easy: UnsafeMutableRawPointer, _ transfer: UnsafeMutableRawPointer) {
        let me = Unmanaged.passUnretained(self).toOpaque()
        _ = chunkmesh_curl_set_pointer(easy, CURLOPT_OPENSOCKETDATA, me)
        _ = chunkmesh_curl_set_open_socket(easy) { user, _, address in
            guard let user, let address else { return -1 }
            let fd = Glibc.socket(address.pointee.family, address.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue), address.pointee.protocol)
            guard fd >= 0 else { return fd }
            // Before the connection is made, for what the first segment offers cannot be taken back.
            _ = CurlSockets.setBuffer(fd, CurlSockets.firstBuffer, isFixed: false)
            Unmanaged<CurlSockets>.fromOpaque(user).takeUnretainedValue().known[fd] = Known()
            return fd
        }
        _ = chunkmesh_curl_set_pointer(easy, CURLOPT_CLOSESOCKETDATA, me)
        _ = chunkmesh_curl_set_close_socket(easy) { user, fd in
            if let user { Unmanaged<CurlSockets>.fromOpaque(user).takeUnretainedValue().known[fd] = nil }
            return close(fd)
        }
        _ = chunkmesh_curl_set_pointer(easy, CURLOPT_PREREQDATA, transfer)
        _ = chunkmesh_curl_set_before_request(easy) { user, _, _, _, port in
            if let user {
                Unmanaged<CurlTransfer>.fromOpaque(user).takeUnretainedValue().isSent(fromPort: UInt16(truncatingIfNeeded: port))
            }
            return CURL_PREREQFUNC_OK
        }
    }

    /// The socket with that port of ours.
    func socket(ofPort port: UInt16) -> Int32? {
        for (fd, socket) in known {
            if socket.port == port { return fd }
            if socket.port == 0, let own = Self.port(of: fd) {
                known[fd]?.port = own
                if own == port { return fd }
            }
        }
        return nil
    }

    /// Offers each transfer the window that it may have.
    ///
    /// - Returns: milliseconds until it is to be looked at again.
    func adjust(_ transfers: [CurlTransfer]) -> Int {
        let now = ContinuousClock.now
        var uses: [Int32: (isUrgent: Bool, isReading: Bool)] = [:]
        for transfer in transfers {
            guard let fd = transfer.socket else { continue }
            let use = uses[fd] ?? (false, false)
            uses[fd] = (use.isUrgent || transfer.hasOpenWindow, use.isReading || !transfer.isPaused)
        }
        for (fd, use) in uses where use.isUrgent { open(fd) }
        guard uses.values.contains(where: { !$0.isUrgent }) else { return CurlWorker.idlePoll }
        guard now >= nextLook else { return max(1, (nextLook - now).milliseconds) }
        nextLook = now + .milliseconds(Self.interval)
        for (fd, use) in uses where !use.isUrgent {
            // How fast a transfer is that was held back says nothing of the line.
            if use.isReading { look(fd, now: now) } else { known[fd]?.lookedAt = nil }
        }
        return Self.interval
    }

    /// A request goes out: the first look at its connection is not waited for.
    func begin(_ fd: Int32, isUrgent: Bool) {
        known[fd]?.lookedAt = nil
        if isUrgent { open(fd) } else { look(fd, now: .now) }
    }

    func noteCharged(_ fd: Int32, _ cost: Int) { known[fd]?.charged += cost }

    /// - Returns: what the connection has cost beside all that was charged for it: headers of all layers, handshakes, what came twice or is
    ///   still unread; `nil` where the kernel tells none. It counts as charged from now on.
    func settle(_ fd: Int32) -> Int? {
        guard let socket = known[fd], let figures = Self.figures(of: fd) else { return nil }
        let missing = max(0, figures.cost - socket.charged)
        known[fd]?.charged += missing
        return missing
    }

    /// The shortest that the kernel has seen, in seconds; `nil` where it has seen none.
    func roundTrip(_ fd: Int32) -> Double? {
        guard known[fd] != nil, let seconds = Self.figures(of: fd)?.roundTrip, seconds > 0 else { return nil }
        return seconds
    }

    private func open(_ fd: Int32) {
        guard let socket = known[fd], !socket.isOpen else { return }
        known[fd]?.isOpen = true
        known[fd]?.window.open()
        bound(fd, nil)
    }

    private func look(_ fd: Int32, now: ContinuousClock.Instant) {
        guard var socket = known[fd], let figures = Self.figures(of: fd) else { return }
        var seen: Double?
        if let last = socket.lookedAt, now > last, figures.received >= socket.received {
            seen = Double(figures.received - socket.received) / (now - last).seconds
        }
        (socket.received, socket.lookedAt) = (figures.received, now)
        let before = socket.window.bytes
        let isNew = socket.isOpen || before == nil
        let sibling = socket.window.rate > 0 ? 0 : known.values.lazy.map(\.window.rate).max() ?? 0
        let window = socket.window.look(
            rate: seen, sibling: sibling, roundTrip: figures.roundTrip, limit: rate.limit, segment: figures.segment)
        socket.isOpen = false
        known[fd] = socket
        // The kernel moves the window with its own estimate of the path, so a bound is set again each time.
        if window != nil || before != nil || isNew { bound(fd, window) }
    }

    // MARK: The kernel's (linux/tcp.h, asm-generic/socket.h)

    /// The most that is offered (`TCP_WINDOW_CLAMP`), and that may lie here unread; `nil` takes the bound away.
    private func bound(_ fd: Int32, _ bytes: Int?) {
        var value = Int32(clamping: bytes ?? Self.openWindow)
        setsockopt(fd, Int32(IPPROTO_TCP), 10, &value, socklen_t(MemoryLayout<Int32>.size))
        guard let bytes else { return _ = Self.setBuffer(fd, Self.openBuffer, isFixed: false) }
        // Where the kernel grants no buffer of that size (net.core.rmem_max), its own growth can.
        if !Self.setBuffer(fd, bytes, isFixed: true) { _ = Self.setBuffer(fd, bytes, isFixed: false) }
    }

    /// `SO_RCVBUF`, of which the kernel makes the double to have room for headers.
    ///
    /// - Parameter isFixed: or let it grow from there as it would by itself (`SO_BUF_LOCK`, since Linux 5.14).
    /// - Returns: whether the kernel grants so much.
    private static func setBuffer(_ fd: Int32, _ bytes: Int, isFixed: Bool) -> Bool {
        var value = Int32(clamping: bytes)
        var size = socklen_t(MemoryLayout<Int32>.size)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, size)
        var granted: Int32 = 0
        getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &size)
        if !isFixed {
            var locks: Int32 = 0
            setsockopt(fd, SOL_SOCKET, 72, &locks, size)
        }
        return Int(granted) >= 2 * bytes
    }

    /// `tcpi_bytes_received`, `tcpi_segs_in`, `tcpi_min_rtt` (seconds) and `tcpi_advmss` of `TCP_INFO`; `nil` where the kernel tells none.
    private static func figures(of fd: Int32) -> (received: UInt64, cost: Int, roundTrip: Double, segment: Int)? {
        withUnsafeTemporaryAllocation(byteCount: 256, alignment: 8) { buffer in
            var size = socklen_t(buffer.count)
            guard getsockopt(fd, Int32(IPPROTO_TCP), 11, buffer.baseAddress, &size) == 0, size >= 152 else { return nil }
            let received = buffer.loadUnaligned(fromByteOffset: 128, as: UInt64.self)
            let segments = buffer.loadUnaligned(fromByteOffset: 140, as: UInt32.self)
            let roundTrip = buffer.loadUnaligned(fromByteOffset: 148, as: UInt32.self)
            return (
                received, Int(clamping: received) &+ Int(segments) &* LineCost.frameHeaderBytes,
                roundTrip == .max ? 0 : Double(min(roundTrip, 2_000_000)) / 1e6,
                max(ReceiveWindow.segment, Int(min(buffer.loadUnaligned(fromByteOffset: 84, as: UInt32.self), 65_535)))
            )
        }
    }

    private static func port(of fd: Int32) -> UInt16? {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let isKnown = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &size) == 0 }
        }
        // The port stands at the same place for IPv4 and IPv6.
        guard isKnown, storage.ss_family == AF_INET || storage.ss_family == AF_INET6 else { return nil }
        return withUnsafeBytes(of: &storage) { UInt16(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self)) }
    }
}
