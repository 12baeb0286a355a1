internal import ChunkModel
internal import ChunkStore
internal import Flist
internal import Glibc
internal import Gossip
internal import Logging
internal import MeshKeys
internal import NodeConfiguration
internal import PeerExchange

/// What a node finds or makes at its start.
extension MeshNode {
    /// The node's key pair, made at the first start.
    static func identity(in directory: String) throws -> NodeIdentity {
        let state = try StateDirectory(directory)
        if let seed = try state.read("node.key", maxBytes: 64), let identity = NodeIdentity(seed: seed) { return identity }
        let seed = Sodium.randomBytes(32)
        try state.writeAtomically("node.key", seed)
        return NodeIdentity(seed: seed)!
    }

    /// The catalogue only says what can be asked for again: a damaged one is set aside, and the node goes on.
    static func openCatalogue(_ path: String, logger: Logger) throws -> CatalogueFile {
        do {
            return try CatalogueFile(path: path)
        } catch {
            logger.warning(
                "the catalogue of flists is damaged; starting a new one", metadata: ["file": "\(path).damaged", "error": "\(error)"])
            rename(path, path + ".damaged")
            for suffix in ["-wal", "-shm"] { unlink(path + suffix) }
            return try CatalogueFile(path: path)
        }
    }

    static func listenAddress(_ listen: HostPort, hasKey: Bool) throws -> NodeAddress {
        guard let address = NodeAddress(listen.description) else {
            throw ConfigurationError(place: "mesh.listen", reason: "takes a numeric address, not \(listen.host)")
        }
        if !hasKey, address.isUnspecified, let loopback = NodeAddress(ip: [127, 0, 0, 1], port: address.port) { return loopback }
        return address
    }
}

extension NodeAddress {
    /// All addresses of the machine where none is named, IPv4 and IPv6.
    var listenAddresses: [NodeAddress] {
        guard isUnspecified, !isIPv6, let v6 = NodeAddress(ip: [UInt8](repeating: 0, count: 16), port: port) else { return [self] }
        return [self, v6]
    }
}

extension Configuration.LAN {
    var limits: ExchangeLimits { ExchangeLimits(send: maxSend, receive: maxReceive) }
}

extension Configuration.FreeSpace {
    var floor: ChunkStoreConfiguration.Floor {
        switch self {
        case .bytes(let bytes): .bytes(Int64(clamping: bytes))
        case .percent(let percent): .percent(percent)
        }
    }
}
