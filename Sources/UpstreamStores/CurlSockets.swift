internal import CCurl
internal import ChunkModel
internal import Glibc

/// The sockets of a `CurlWorker`, and how far the hub may run ahead of us on each.
///
/// A receiver that stops reading does not stop the sender before the window that it has offered is full, and on a thin line the windows of
/// eight downloads hold seconds of traffic: a read that comes then waits for all of it. So downloads that nobody waits for offer no more
/// than what keeps the line full. Touched on the worker's thread alone.
final class CurlSockets {
    /// Milliseconds between two looks.
    static let interval = 100
    /// The smallest window that is offered, in bytes: eleven full segments.
    static let leastWindow = 16_384
    /// What counts as no bound.
    static let openWindow = 16 << 20
    /// A window holds what came in this time at the rate of the last looks, or in twice the shortest round trip if that is longer: at twice
    /// the time that bytes need, the rate can still double from one look to the next.
    static let windowTime = 0.04
    static let roundTrips = 2.0
    /// How much the last look counts in the rate.
    static let learning = 0.4

    private struct Known {
        var port: UInt16 = 0
        var received: UInt64 = 0
        var rate = 0.0
        var lookedAt: ContinuousClock.Instant?
        var isBounded = false
    }
    private var known: [Int32: Known] = [:]
    private var nextLook = ContinuousClock.now

    /// Lets the transfer's socket be known. Sockets outlive their transfers, so they are told to this object, which the worker keeps for
    /// longer than they live.
    func prepare(_ easy: UnsafeMutableRawPointer, _ transfer: UnsafeMutableRawPointer) {
        let me = Unmanaged.passUnretained(self).toOpaque()
        _ = chunkmesh_curl_set_pointer(easy, CURLOPT_OPENSOCKETDATA, me)
        _ = chunkmesh_curl_set_open_socket(easy) { user, _, address in
            guard let user, let address else { return -1 }
            let fd = Glibc.socket(address.pointee.family, address.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue), address.pointee.protocol)
            if fd >= 0 { Unmanaged<CurlSockets>.fromOpaque(user).takeUnretainedValue().known[fd] = Known() }
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
        guard transfers.contains(where: { $0.socket != nil && $0.priority < .foreground }) else { return CurlWorker.idlePoll }
        guard now >= nextLook else { return max(1, (nextLook - now).milliseconds) }
        nextLook = now + .milliseconds(Self.interval)
        var uses: [Int32: (isUrgent: Bool, isReading: Bool)] = [:]
        for transfer in transfers {
            guard let fd = transfer.socket else { continue }
            let use = uses[fd] ?? (false, false)
            uses[fd] = (use.isUrgent || transfer.priority == .foreground, use.isReading || !transfer.isPaused)
        }
        for (fd, use) in uses {
            // A rate of our own making says nothing of the line.
            if use.isReading || use.isUrgent { adjust(fd, isUrgent: use.isUrgent, now: now) } else { known[fd]?.lookedAt = nil }
        }
        return Self.interval
    }

    /// A request goes out: the first look at its connection is not waited for.
    func begin(_ fd: Int32, isUrgent: Bool) {
        guard var socket = known[fd] else { return }
        socket.lookedAt = nil
        known[fd] = socket
        if isUrgent {
            if socket.isBounded { bound(fd, Self.openWindow) }
            known[fd]?.isBounded = false
        }
    }

    private func adjust(_ fd: Int32, isUrgent: Bool, now: ContinuousClock.Instant) {
        guard var socket = known[fd], let figures = Self.figures(of: fd) else { return }
        defer { known[fd] = socket }
        if let last = socket.lookedAt, now > last, figures.received >= socket.received {
            let rate = Double(figures.received - socket.received) / (now - last).seconds
            socket.rate = socket.rate == 0 ? rate : socket.rate + (rate - socket.rate) * Self.learning
        }
        (socket.received, socket.lookedAt) = (figures.received, now)
        guard !isUrgent else {
            if socket.isBounded { bound(fd, Self.openWindow) }
            socket.isBounded = false
            return
        }
        guard socket.rate > 0 else { return }
        let time = max(Self.windowTime, Self.roundTrips * figures.roundTrip)
        bound(fd, Int(min(max(socket.rate * time, Double(Self.leastWindow)), Double(Self.openWindow))))
        socket.isBounded = true
    }

    // MARK: The kernel's (linux/tcp.h)

    /// `TCP_WINDOW_CLAMP`: the most that is offered. The kernel moves it with its own estimate of the path, so it is set again each time.
    private func bound(_ fd: Int32, _ bytes: Int) {
        var value = Int32(clamping: bytes)
        setsockopt(fd, Int32(IPPROTO_TCP), 10, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    /// `tcpi_bytes_received` and `tcpi_min_rtt` (seconds) of `TCP_INFO`; `nil` where the kernel tells none.
    private static func figures(of fd: Int32) -> (received: UInt64, roundTrip: Double)? {
        withUnsafeTemporaryAllocation(byteCount: 256, alignment: 8) { buffer in
            var size = socklen_t(buffer.count)
            guard getsockopt(fd, Int32(IPPROTO_TCP), 11, buffer.baseAddress, &size) == 0, size >= 152 else { return nil }
            let roundTrip = buffer.loadUnaligned(fromByteOffset: 148, as: UInt32.self)
            return (
                buffer.loadUnaligned(fromByteOffset: 128, as: UInt64.self), roundTrip == .max ? 0 : Double(min(roundTrip, 2_000_000)) / 1e6
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
