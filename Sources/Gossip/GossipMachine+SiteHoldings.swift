public import ChunkModel
internal import MeshKeys

/// What other sites hold of the flists that are wanted here.
///
/// Nobody tells it unasked. A node that wants chunks of an flist asks a gateway of its own site; the gateway asks one of the other
/// site's, keeps the answer for all who ask here, and asks again every few seconds while anybody does. So a bitmap crosses the line
/// between two sites for two gateways at most, and a node keeps bitmaps only of the flists that it wants, one for each other site,
/// whatever the number of nodes there.
extension GossipMachine {
    enum HoldingStatus: UInt8 {
        /// The answer is not known yet.
        case pending = 0
        /// Nobody there has any of it.
        case none = 1
        /// As in the version that the asker has.
        case same = 2
        case bitmap = 3
    }

    // MARK: For the shell

    /// Chunks of the flists are wanted: what the allowed sites hold of them is found out, and kept up for `GossipLimits.holdingDemand`.
    public mutating func seek(_ flists: some Sequence<FlistDigest>, at sites: SiteAllowance, now: UInt64) -> [GossipDirective] {
        let flists = Array(flists)
        for (name, entry) in book.sites.sorted(by: { $0.key < $1.key }) where sites.allows(name) && isUsable(entry) {
            for flist in flists { demand(SiteHoldingKey(site: name, flist: flist), now) }
        }
        tickSites(now)
        return drain()
    }

    /// Gateways of allowed sites where somebody holds the chunk; the nearest site first, the gateways of one site in their order.
    public func siteHolders(of flist: FlistDigest, _ index: Int, at sites: SiteAllowance) -> [SiteGateway] {
        if book.holdings.isEmpty { return [] }
        var found: [SiteBook.Entry] = []
        for (name, entry) in book.sites where sites.allows(name) && isUsable(entry) {
            if book.holdings[SiteHoldingKey(site: name, flist: flist)]?.bitmap?.contains(index) == true { found.append(entry) }
        }
        found.sort { a, b in
            (a.roundTrip ?? a.toldRoundTrip ?? .max, a.head.name) < (b.roundTrip ?? b.toldRoundTrip ?? .max, b.head.name)
        }
        return found.flatMap(\.head.gateways)
    }

    /// An allowed site that can be reached has not said yet what it holds of the flist.
    public func awaitsSites(of flist: FlistDigest, at sites: SiteAllowance) -> Bool {
        book.sites.contains { name, entry in
            guard sites.allows(name), isUsable(entry) else { return false }
            return book.holdings[SiteHoldingKey(site: name, flist: flist)]?.heardAt == nil
        }
    }

    /// Chunks of the flist that the site says its nodes hold; `nil` while that is not known.
    public func siteBitmap(of site: String, _ flist: FlistDigest) -> Bitmap? {
        book.holdings[SiteHoldingKey(site: site, flist: flist)]?.bitmap
    }

    /// A gateway was asked for a chunk that its site was said to hold, and did not have it: it counts as missing there until the site
    /// tells of a change.
    mutating func dropSiteHave(_ gateway: NodeID, _ flist: FlistDigest, _ index: Int) {
        for entry in book.sites.values where entry.addresses.contains(where: { $0.id == gateway }) {
            book.holdings[SiteHoldingKey(site: entry.head.name, flist: flist)]?.bitmap?.set(index, to: false)
        }
    }

    // MARK: Asking

    private mutating func demand(_ key: SiteHoldingKey, _ now: UInt64) {
        let until = now &+ GossipLimits.holdingDemand
        if book.holdings[key] != nil {
            book.holdings[key]?.demandUntil = until
        } else if book.holdings.count < GossipLimits.siteHoldings {
            book.holdings[key] = SiteHolding(demandUntil: until, now: now)
            book.due = min(book.due, now)
        } else {
            counters.sitesRefused += 1
        }
    }

    mutating func tickHoldings(_ gateways: [SiteGateway], isGateway: Bool, _ now: UInt64) {
        guard !book.holdings.isEmpty else { return }
        book.holdings = book.holdings.filter { now < $0.value.demandUntil }
        var asks: [SiteGateway: [SiteHoldingKey]] = [:]
        for (key, holding) in book.holdings where now >= holding.nextAsk {
            book.holdings[key]?.nextAsk = now &+ holding.pause
            book.holdings[key]?.pause = min(holding.pause &* 2, GossipLimits.holdingRefresh)
            let targets: [SiteGateway]
            if isGateway {
                targets = book.sites[key.site].map { isUsable($0) ? $0.head.gateways : [] } ?? []
            } else {
                targets = gateways
            }
            guard !targets.isEmpty else { continue }
            // The same for all flists of one site in one round, so that they go in one question.
            let turn = Int(truncatingIfNeeded: (now / GossipLimits.holdingRetry &+ me.id.value.prefix64) % UInt64(targets.count))
            asks[targets[turn], default: []].append(key)
        }
        for (target, keys) in asks.sorted(by: { $0.key.id < $1.key.id }) {
            out.append(.exchangeState(with: target.id, at: target.address, question(keys)))
        }
        for holding in book.holdings.values { book.due = min(book.due, holding.nextAsk, holding.demandUntil) }
    }

    private func question(_ keys: [SiteHoldingKey]) -> [UInt8] {
        var writer = WireWriter()
        writer.byte(StateKind.siteAsk.rawValue)
        writer.string(Array(me.site.utf8))
        writer.number(keys.count)
        for key in keys {
            writer.string(Array(key.site.utf8))
            writer.raw(key.flist.value.bytes)
            writer.fixed64(book.holdings[key]?.version ?? 0)
        }
        return writer.bytes
    }

    // MARK: Answering

    /// The answer to a node of this site, or to a gateway of another one.
    mutating func answerSites(_ bytes: [UInt8], _ now: UInt64) throws -> [UInt8] {
        var reader = WireReader(bytes)
        guard try reader.byte() == StateKind.siteAsk.rawValue else { throw WireError() }
        let isOwn = try reader.siteName() == me.site
        let isGateway = isOwn && isGateway
        var items = WireWriter()
        var count = 0
        var made = 0
        for _ in 0..<(try reader.number(upTo: GossipLimits.siteHoldings)) {
            let site = try reader.siteName()
            guard let value = Bytes32(try reader.raw(32)) else { throw WireError() }
            let known = try reader.fixed64()
            let key = SiteHoldingKey(site: site, flist: FlistDigest(value))
            var status = HoldingStatus.pending
            var version: UInt64 = 0
            var coded = WireWriter()
            var bitmap: Bitmap?
            if isOwn {
                // A gateway answers for other sites. Who is none does not ask on: two that take each other for one would never end.
                guard site != me.site else { continue }
                if isGateway, book.sites[site].map(isUsable) == true { demand(key, now) }
                if let holding = book.holdings[key], holding.heardAt != nil {
                    (bitmap, version) = (holding.bitmap, holding.version)
                    status = bitmap == nil ? .none : version == known ? .same : .bitmap
                }
            } else {
                guard site == me.site else { continue }
                // One question does not make this node sum up more; the next gets the rest.
                let isMade = book.unions[key.flist].map { now < $0.madeAt &+ GossipLimits.siteUnionTime } ?? false
                if !isMade, contents.holders[key.flist] != nil { made += 1 }
                guard made <= GossipLimits.siteUnions else {
                    items.pending(key)
                    count += 1
                    continue
                }
                let union = union(of: key.flist, now)
                (bitmap, version) = (union?.bitmap, union?.version ?? 0)
                status = bitmap == nil ? .none : version == known ? .same : .bitmap
            }
            if status == .bitmap, let bitmap {
                bitmap.encode(to: &coded)
                // The next question gets it.
                if items.count + coded.count + 256 > GossipLimits.streamStateBytes - 256 { status = .pending }
            }
            items.string(Array(site.utf8))
            items.raw(key.flist.value.bytes)
            items.byte(status.rawValue)
            items.fixed64(version)
            if status == .bitmap, let bitmap {
                items.number(bitmap.count)
                items.string(coded.bytes)
            }
            count += 1
        }
        var writer = WireWriter()
        writer.byte(StateKind.siteTell.rawValue)
        writer.number(count)
        writer.raw(items.bytes)
        return writer.bytes
    }

    /// What the nodes of this site hold together; `nil` when nobody has any of it.
    private mutating func union(of flist: FlistDigest, _ now: UInt64) -> SiteBook.Union? {
        if let made = book.unions[flist], now < made.madeAt &+ GossipLimits.siteUnionTime { return made }
        book.unions = book.unions.filter { now < $0.value.madeAt &+ GossipLimits.siteUnionTime }
        let live = (contents.holders[flist] ?? []).filter(\.isLive)
        guard let count = (live.first { $0.node == me.id } ?? live.first)?.bitmap.count else { return nil }
        var all = Bitmap(count: count)
        for holder in live where !all.isComplete {
            var bitmap = holder.bitmap
            for index in holder.dropped { bitmap.set(index, to: false) }
            all.formUnion(bitmap)
        }
        guard !all.isEmpty else { return nil }
        let union = SiteBook.Union(bitmap: all, version: all.fingerprint, madeAt: now)
        if book.unions.count < GossipLimits.siteUnions { book.unions[flist] = union }
        return union
    }

    // MARK: Taking in

    /// The answer of a gateway; another site speaks for itself only.
    mutating func absorbSites(_ bytes: [UInt8], from address: NodeAddress, _ now: UInt64) throws {
        var reader = WireReader(bytes)
        guard try reader.byte() == StateKind.siteTell.rawValue else { throw WireError() }
        let isOwn = gateways.contains { $0.address == address }
        for _ in 0..<(try reader.number(upTo: GossipLimits.siteHoldings)) {
            let site = try reader.siteName()
            guard let value = Bytes32(try reader.raw(32)), let status = HoldingStatus(rawValue: try reader.byte()) else {
                throw WireError()
            }
            let version = try reader.fixed64()
            let count = status == .bitmap ? try reader.number(upTo: GossipLimits.chunksPerNode) : 0
            let coded = status == .bitmap ? try reader.string(upTo: GossipLimits.streamStateBytes) : []
            let key = SiteHoldingKey(site: site, flist: FlistDigest(value))
            guard let holding = book.holdings[key],
                isOwn || book.sites[site]?.addresses.contains(where: { $0.address == address }) == true
            else { continue }
            switch status {
            case .pending: continue
            case .none: book.holdings[key]?.forget()
            // Unless it was asked for anew meanwhile, and is another one now.
            case .same: if holding.bitmap == nil || holding.version != version { continue }
            case .bitmap:
                guard book.bitmapBytes - (holding.bitmap?.count ?? 0) / 8 + count / 8 <= GossipLimits.siteBitmapBytes else {
                    counters.sitesRefused += 1
                    book.holdings[key]?.forget()
                    break
                }
                var bits = WireReader(coded)
                book.holdings[key]?.bitmap = try Bitmap(from: &bits, count: count)
                book.holdings[key]?.version = version
            }
            let pause = max(GossipLimits.holdingRefresh, UInt64(coded.count / GossipLimits.holdingBytesPerSecond) &* .second)
            book.holdings[key]?.heardAt = now
            book.holdings[key]?.pause = pause
            book.holdings[key]?.nextAsk = now &+ pause
        }
    }
}

extension WireWriter {
    fileprivate mutating func pending(_ key: SiteHoldingKey) {
        string(Array(key.site.utf8))
        raw(key.flist.value.bytes)
        byte(GossipMachine.HoldingStatus.pending.rawValue)
        fixed64(0)
    }
}
