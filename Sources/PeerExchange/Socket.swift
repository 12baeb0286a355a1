internal import CLinux
internal import Glibc
internal import MeshKeys

/// The socket calls that connections need.
enum Socket {
    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    static func text(_ error: Int32) -> String { String(cString: strerror(error)) }

    static func withAddress<R>(_ address: NodeAddress, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        func call<A>(_ raw: inout A) -> R {
            withUnsafePointer(to: &raw) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<A>.size)) }
            }
        }
        if address.isIPv6 {
            var raw = sockaddr_in6()
            raw.sin6_family = sa_family_t(AF_INET6)
            raw.sin6_port = address.port.bigEndian
            withUnsafeMutableBytes(of: &raw.sin6_addr) { $0.copyBytes(from: address.ip) }
            return call(&raw)
        }
        var raw = sockaddr_in()
        raw.sin_family = sa_family_t(AF_INET)
        raw.sin_port = address.port.bigEndian
        withUnsafeMutableBytes(of: &raw.sin_addr) { $0.copyBytes(from: address.ip) }
        return call(&raw)
    }

    static func address(_ storage: sockaddr_storage) -> NodeAddress? {
        withUnsafeBytes(of: storage) { raw in
            if storage.ss_family == sa_family_t(AF_INET6) {
                let v6 = raw.loadUnaligned(as: sockaddr_in6.self)
                return NodeAddress(ip: withUnsafeBytes(of: v6.sin6_addr) { Array($0) }, port: UInt16(bigEndian: v6.sin6_port))
            }
            let v4 = raw.loadUnaligned(as: sockaddr_in.self)
            return NodeAddress(ip: withUnsafeBytes(of: v4.sin_addr) { Array($0) }, port: UInt16(bigEndian: v4.sin_port))
        }
    }

    static func set(_ fd: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        setsockopt(fd, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    static func open(_ address: NodeAddress) -> Int32 {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        return socket(address.isIPv6 ? AF_INET6 : AF_INET, kind, 0)
    }

    /// Options of every connection, dialled or accepted.
    static func prepare(_ fd: Int32) {
        set(fd, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        set(fd, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, ExchangeConfiguration.tcpUserTimeoutMilliseconds)
        set(fd, SOL_SOCKET, SO_KEEPALIVE, 1)
        set(fd, Int32(IPPROTO_TCP), TCP_KEEPIDLE, ExchangeConfiguration.keepaliveSeconds)
        set(fd, Int32(IPPROTO_TCP), TCP_KEEPINTVL, ExchangeConfiguration.keepaliveSeconds)
    }

    static func pendingError(_ fd: Int32) -> Int32 {
        var error: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno
    }

    static func boundPort(_ fd: Int32) -> UInt16 {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let done = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &size) }
        }
        return done == 0 ? address(storage)?.port ?? 0 : 0
    }
}
