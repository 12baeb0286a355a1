import Glibc
import MeshKeys

/// A plain UDP socket on loopback that sends and records whatever it likes.
final class Wiretap {
    private let descriptor: Int32
    let address: NodeAddress

    init() throws {
        let descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        self.descriptor = descriptor
        var local = sockaddr_in()
        local.sin_family = sa_family_t(AF_INET)
        local.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &local) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
                _ = bind(descriptor, raw, size)
                _ = getsockname(descriptor, raw, &size)
            }
        }
        address = NodeAddress(ip: [127, 0, 0, 1], port: UInt16(bigEndian: local.sin_port))!
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8], to target: NodeAddress) {
        var remote = sockaddr_in()
        remote.sin_family = sa_family_t(AF_INET)
        remote.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        remote.sin_port = target.port.bigEndian
        withUnsafePointer(to: &remote) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
                _ = sendto(descriptor, bytes, bytes.count, 0, raw, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    /// The next datagram; `nil` after two seconds without one.
    func receive() -> [UInt8]? { receive(within: 2_000) }

    /// - Parameter milliseconds: how long to wait for it.
    func receive(within milliseconds: Int) -> [UInt8]? {
        var patience = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var buffer = [UInt8](repeating: 0, count: 2_048)
        let count = recv(descriptor, &buffer, buffer.count, 0)
        return count > 0 ? Array(buffer.prefix(count)) : nil
    }
}
