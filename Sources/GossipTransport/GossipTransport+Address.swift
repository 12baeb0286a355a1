internal import Logging
internal import MeshKeys
internal import NIOCore
internal import NIOPosix

extension GossipTransport {
    /// Between two looks at whether the machine still has the address that the others know.
    static let addressLook: Duration = .seconds(3)

    /// Notices that the machine has got another address (DHCP, another network), and lets the others know. Addresses that were
    /// configured, or that are not the machine's own but a router's, are left as they are.
    func watchAddress() async {
        guard configuration.advertise == nil, configuration.listen.isUnspecified else { return }
        var own: NodeAddress?
        while !Task.isCancelled {
            do { try await Task.sleep(for: Self.addressLook) } catch { return }
            let told = withMachine { machine, _ in machine.me.address }
            guard !told.isUnspecified, let isLocal = try? await threads.runIfActive({ Self.isLocal(told) }) else { continue }
            if isLocal {
                own = told
            } else if own == told {
                logger.info("the machine has another address now; finding out which", metadata: ["address": "\(told)"])
                own = nil
                perform { $0.addressLost(now: $1) }
            } else {
                perform { $0.stillLost(now: $1) }
            }
        }
    }

    private static func isLocal(_ address: NodeAddress) -> Bool {
        // When the kernel does not tell, nothing has changed.
        guard let devices = try? System.enumerateDevices() else { return true }
        return devices.contains { device in device.address.flatMap { nodeAddress($0) }?.0.ip == address.ip }
    }
}
