internal import BlockingThreads
internal import ChunkModel
internal import ControlModel
internal import Gossip
internal import GossipTransport
internal import MeshKeys

/// Flists that nobody at this site knows, from the other sites that may be asked.
extension FlistOpener {
    /// Gateways of other sites that are asked for an flist.
    static let maxGateways = 8
    /// How long a gateway may take to get the file from its own site.
    static let siteDeadline: Duration = .seconds(30)

    /// Gateways of the allowed sites that can be reached, as members: to be asked, and no more.
    nonisolated var siteGateways: [Member] {
        let allowance = parts.sites.allowance
        guard allowance != .none else { return [] }
        let gateways = parts.gossip.read { machine, _ in
            machine.otherSites.filter { $0.isReachable && allowance.allows($0.name) }.flatMap { site in
                site.gateways.map { Member(id: $0.id, name: "site \(site.name)", site: site.name, address: $0.address, incarnation: 0) }
            }
        }
        return Array(gateways.prefix(Self.maxGateways))
    }

    /// The flist that another site knows by this URL; for the time when the hub cannot be asked.
    func digest(knownToSitesAs key: UInt64) async -> FlistDigest? { await askSites(.siteFlistOfURL, key.bytes) }

    /// The flist that another site knows by this name.
    func digest(knownToSitesBy name: String) async -> FlistDigest? {
        let name = Array(name.utf8)
        return name.count <= FlistRecord.maxNameBytes ? await askSites(.siteFlistNamed, name) : nil
    }

    private func askSites(_ kind: MessageKind, _ payload: [UInt8]) async -> FlistDigest? {
        for gateway in siteGateways {
            let reply = await call(gateway, kind: kind.rawValue, payload: payload, deadline: Self.offlineDeadline * 2)
            if let digest = reply.flatMap({ Bytes32($0) }) { return FlistDigest(digest) }
        }
        return nil
    }

    /// Where another site sends the flist's file from, and how long it says that it is.
    func sourcesAtSites(of digest: FlistDigest) async -> [(member: Member, fact: FlistFact)] {
        for gateway in siteGateways {
            let reply = await call(
                gateway, kind: MessageKind.siteFlist.rawValue, payload: digest.value.bytes, deadline: Self.siteDeadline)
            if let reply, reply.count == 8 {
                return [(gateway, FlistFact(fetches: false, fileBytes: UInt64(bytes: reply[...]), chunkCount: 0, name: ""))]
            }
        }
        return []
    }

    // MARK: For other sites

    /// The flist that this site knows by the URL.
    func digestForSites(ofURL key: UInt64) async -> FlistDigest? {
        if let known = parts.flists.find(urlKey: key) { return known.record.digest }
        return await digest(knownToPeersAs: key)
    }

    nonisolated func digestForSites(named name: String) -> FlistDigest? {
        parts.flists.all.first { $0.record.name == name && $0.record.isVouched }?.record.digest ?? announced(name: name)?.0
    }

    /// Bytes of the flist's file, after getting it from the own site; `nil` when nobody there knows it.
    func bytesForSites(of digest: FlistDigest) async -> UInt64? {
        if let known = parts.flists.entry(digest) { return UInt64(clamping: known.flist.fileBytes) }
        guard !parts.gossip.nodes(knowing: digest).isEmpty, let opened = try? await openForPeers(digest) else { return nil }
        return UInt64(clamping: opened.flist.fileBytes)
    }
}
