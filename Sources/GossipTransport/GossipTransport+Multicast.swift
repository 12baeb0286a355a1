internal import Gossip
internal import Glibc
internal import Logging
internal import MeshKeys
internal import NIOCore
internal import NIOPosix
internal import Synchronization

extension GossipTransport {
    /// Seconds from one announcement to the next; the last one repeats.
    static let announceGaps: [Double] = [0.2, 0.3, 0.5, 1, 2, 4, 8, 15, 30]

    /// Announces this node to the LAN, and hears others do so. All nodes of a large mesh together announce about three times in each
    /// half minute, so that parts of it which never heard of each other meet.
    func discover() async {
        var receivers: [(any Channel, isIPv6: Bool)] = []
        for (text, isIPv6) in [("0.0.0.0", false), ("::", true)] {
            if let channel = try? await listenForAnnouncements(text, isIPv6: isIPv6) { receivers.append((channel, isIPv6)) }
        }
        if receivers.isEmpty { logger.warning("multicast discovery is not possible on this host") }
        var joined: Set<String> = []
        var round = 0
        while !Task.isCancelled {
            // Interfaces come and go: they are looked at each time.
            let devices = usableDevices()
            for (channel, isIPv6) in receivers {
                for device in devices where Self.isIPv6(device) == isIPv6 {
                    guard joined.insert("\(device.name) \(device.interfaceIndex) \(isIPv6)").inserted else { continue }
                    await join(channel, device, isIPv6: isIPv6)
                }
            }
            let others = state.withLock { state in state.machine.members.values.count { $0.state.isLive } }
            if round < Self.announceGaps.count - 1 || Int.random(in: 0...others) < 3 {
                announce(on: devices, isIPv6: false)
                // Later, so that nodes that have both know each other by IPv4, whose addresses need no interface.
                do { try await Task.sleep(for: .milliseconds(50)) } catch { break }
                announce(on: devices, isIPv6: true)
            }
            let gap = Self.announceGaps[min(round, Self.announceGaps.count - 1)]
            round += 1
            do { try await Task.sleep(for: .seconds(gap)) } catch { break }
        }
        for (channel, _) in receivers { channel.close(promise: nil) }
    }

    /// Loopback only for those who listen there.
    private func usableDevices() -> [NIONetworkDevice] {
        let devices = (try? System.enumerateDevices()) ?? []
        return devices.filter { device in
            guard let raw = device.address, let (address, _) = Self.nodeAddress(raw) else { return false }
            return configuration.listen.isUnspecified
                ? !address.isLoopback && device.multicastSupported : address.ip == configuration.listen.ip
        }
    }

    private static func isIPv6(_ device: NIONetworkDevice) -> Bool { device.address?.protocol == .inet6 }

    private func listenForAnnouncements(_ any: String, isIPv6: Bool) async throws -> any Channel {
        var bootstrap = bootstrap()
            .channelOption(.socketOption(.so_reuseaddr), value: 1)
            .channelOption(ChannelOptions.socket(SocketOptionLevel(SOL_SOCKET), SocketOptionName(SO_REUSEPORT)), value: 1)
        if isIPv6 {
            bootstrap = bootstrap.channelOption(
                ChannelOptions.socket(SocketOptionLevel(IPPROTO_IPV6), SocketOptionName(IPV6_V6ONLY)), value: 1)
        }
        return try await bootstrap.bind(host: any, port: Int(configuration.multicastPort)).get()
    }

    private func join(_ channel: any Channel, _ device: NIONetworkDevice, isIPv6: Bool) async {
        let text = isIPv6 ? configuration.multicastGroup6 : configuration.multicastGroup4
        guard let multicast = channel as? any MulticastChannel,
            let group = try? SocketAddress(ipAddress: text, port: Int(configuration.multicastPort))
        else { return }
        do {
            // NIO joins no group on loopback, which lacks the interface's flag though the kernel does it.
            if !isIPv6, let options = channel as? any SocketOptionProvider, let raw = device.address,
                let (local, _) = Self.nodeAddress(raw), let (node, _) = Self.nodeAddress(group)
            {
                let membership = RawAddress.membership4(of: node, on: local)
                try await options.unsafeSetSocketOption(level: .ip, name: .ip_add_membership, value: membership).get()
            } else {
                try await multicast.joinGroup(group, device: device).get()
            }
        } catch {
            logger.debug("multicast group not joined", metadata: ["interface": "\(device.name)", "cause": "\(error)"])
        }
    }

    /// One datagram on every interface, from the socket that answers are to come to.
    private func announce(on devices: [NIONetworkDevice], isIPv6: Bool) {
        let channel = state.withLock { isIPv6 ? $0.channel6 : $0.channel4 }
        let text = isIPv6 ? configuration.multicastGroup6 : configuration.multicastGroup4
        guard let channel, let options = channel as? any SocketOptionProvider,
            let group = NodeAddress(ip: IPText.parse(text) ?? [], port: configuration.multicastPort)
        else { return }
        var interfaces: Set<Int> = []
        for device in devices where Self.isIPv6(device) == isIPv6 && interfaces.insert(device.interfaceIndex).inserted {
            guard let index = UInt32(exactly: device.interfaceIndex), let raw = device.address, let (source, _) = Self.nodeAddress(raw),
                let remote = Self.socketAddress(group, scope: isIPv6 ? index : 0)
            else { continue }
            let sealed = state.withLock { state -> [UInt8] in
                state.counters.datagramsSent += 1
                return state.seal.seal(state.machine.announcement())
            }
            // The choice of the interface and the datagram stay together on the event loop.
            channel.eventLoop.execute {
                if !isIPv6 { options.setIPMulticastIF(RawAddress.host4(source)).whenFailure { _ in } }
                self.write(sealed, to: remote, by: channel)
            }
        }
    }
}
