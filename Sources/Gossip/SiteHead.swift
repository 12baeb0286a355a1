public import MeshKeys

/// A node that speaks for its site with other sites.
public struct SiteGateway: Hashable, Sendable {
    public let id: NodeID
    public let address: NodeAddress

    public init(id: NodeID, address: NodeAddress) { (self.id, self.address) = (id, address) }
}

/// What a site says of itself to other sites.
public struct SiteHead: Hashable, Sendable {
    public let name: String
    /// Those elected now, at most `GossipLimits.gatewaysTold`.
    public let gateways: [SiteGateway]
    /// Live nodes.
    public let nodes: Int
    /// Flists of which somebody there holds chunks.
    public let flists: Int

    init(name: String, gateways: [SiteGateway], nodes: Int, flists: Int) {
        (self.name, self.nodes, self.flists) = (name, nodes, flists)
        self.gateways = Array(gateways.prefix(GossipLimits.gatewaysTold))
    }

    func encode(to writer: inout WireWriter) {
        writer.string(Array(name.utf8))
        writer.number(gateways.count)
        for gateway in gateways {
            writer.node(gateway.id)
            writer.address(gateway.address)
        }
        writer.number(nodes)
        writer.number(flists)
    }

    init(from reader: inout WireReader) throws {
        name = try reader.siteName()
        var gateways: [SiteGateway] = []
        for _ in 0..<(try reader.number(upTo: GossipLimits.gatewaysTold)) {
            gateways.append(SiteGateway(id: try reader.node(), address: try reader.address()))
        }
        self.gateways = gateways
        nodes = try reader.number(upTo: GossipLimits.members + 1)
        flists = try reader.number(upTo: GossipLimits.flistsAtSite)
    }

    /// The same with the sender's address where it did not know its own, and without gateways that nobody could reach.
    func completed(by sender: NodeID, at address: NodeAddress) -> SiteHead {
        let reachable = gateways.compactMap { gateway -> SiteGateway? in
            guard gateway.address.isUnspecified else { return gateway.address.port == 0 ? nil : gateway }
            guard gateway.id == sender else { return nil }
            let port = gateway.address.port == 0 ? address.port : gateway.address.port
            return NodeAddress(ip: address.ip, port: port).map { SiteGateway(id: sender, address: $0) }
        }
        return SiteHead(name: name, gateways: reachable, nodes: nodes, flists: flists)
    }
}

/// Another site as this node knows it.
public struct OtherSite: Sendable, Equatable {
    public let name: String
    public let gateways: [SiteGateway]
    public let nodes: Int
    public let flists: Int
    /// Smoothed time from asking one of its gateways to the answer in nanoseconds, measured here or by this site's gateways.
    public let roundTrip: UInt64?
    /// It answered lately: chunks may be asked of it.
    public let isReachable: Bool
    /// Every gateway that it had lately, for sums of what was exchanged with it.
    public let known: [NodeID]
}

/// Which other sites a node may ask for chunks.
public enum SiteAllowance: Sendable, Equatable {
    case only(Set<String>)
    case any

    public static let none = SiteAllowance.only([])

    public func allows(_ site: String) -> Bool {
        switch self {
        case .any: true
        case .only(let names): names.contains(site)
        }
    }
}

extension WireReader {
    /// A site's name in UTF-8; nothing that grows when repaired.
    mutating func siteName() throws -> String {
        let name = String(decoding: try string(upTo: GossipLimits.nameBytes), as: UTF8.self)
        guard name.utf8.count <= GossipLimits.nameBytes else { throw WireError() }
        return name
    }
}

extension GossipLimits {
    /// Nodes of a site that speak with other sites.
    static let gateways = 2
    /// Gateways of one site in one message; with a name of 64 bytes a fact holds three.
    static let gatewaysTold = 3
    /// Flists that a site may say it has: a figure for people.
    static let flistsAtSite = 1 << 20
    /// Other sites known at a time. Beyond it new ones are refused and counted.
    public static let sites = 64
    /// Of those, the ones that others only told of and that did not answer yet.
    static let hearsaySites = 16
    /// Gateways remembered of one site, the newest first, so that it is found again when those of today are gone.
    static let siteAddresses = 8
    /// Heads of third sites in one message between sites.
    static let headsTold = 3
}
