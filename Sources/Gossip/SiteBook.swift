internal import ChunkModel
internal import MeshKeys

/// What a node knows of other sites. Bounded by the number of sites and by what is wanted from them, never by their nodes.
struct SiteBook: Sendable {
    /// One other site.
    struct Entry: Sendable {
        var head: SiteHead
        /// Gateways of today and of before, the newest first.
        var addresses: [SiteGateway] = []
        /// Gateways that others of this site named lately, to be asked before those of `head`.
        var tryFirst: [SiteGateway] = []
        /// When one of its nodes spoke to this node.
        var heardAt: UInt64?
        /// When a gateway of this site last had it among what it publishes.
        var toldAt: UInt64?
        /// What that gateway measured.
        var toldRoundTrip: UInt64?
        /// When it was entered, or last heard or told of.
        var newsAt: UInt64
        var nextHello: UInt64
        var lastHello: UInt64 = 0
        /// There is news for the site since the last hello: its answer does not put off the next one.
        var hasNews = false
        /// One of its nodes, or a gateway of this site, vouched for it at some time.
        var isConfirmed = false
        /// Hellos in a row that were not answered.
        var failures = 0
        var pending: (nonce: UInt64, sentAt: UInt64)?
        var roundTrip: UInt64?

        /// The next hello goes out as soon as it may.
        mutating func hurry(_ now: UInt64) {
            hasNews = true
            nextHello = min(nextHello, max(now, lastHello &+ GossipLimits.helloPause))
        }

        mutating func remember(_ gateways: [SiteGateway]) {
            let ids = Set(gateways.map(\.id))
            addresses = Array((gateways + addresses.filter { !ids.contains($0.id) }).prefix(GossipLimits.siteAddresses))
        }
    }
    /// What this site holds together of an flist.
    struct Union: Sendable {
        let bitmap: Bitmap
        let version: UInt64
        let madeAt: UInt64
    }

    var sites: [String: Entry] = [:]
    var holdings: [SiteHoldingKey: SiteHolding] = [:]
    var unions: [FlistDigest: Union] = [:]
    /// Join addresses that turned out to be of another site.
    var foreignSeeds: [NodeAddress: String] = [:]
    /// When `tickSites` is wanted.
    var due: UInt64 = .max
    /// The gateways that other sites were told last.
    var told: [SiteGateway] = []
    /// When a site was last told to this site's gateways by this node, who is none.
    var relayedAt: [String: UInt64] = [:]

    var bitmapBytes: Int { holdings.values.reduce(0) { $0 + ($1.bitmap?.count ?? 0) / 8 } }
}

extension GossipLimits {
    /// Between two hellos to a site that answers, with up to a quarter more.
    static let helloInterval: UInt64 = 30 * .second
    /// The least between two hellos to one site, whatever changes here; also the first wait for an answer, doubled up to
    /// `helloInterval`.
    static let helloPause: UInt64 = 3 * .second
    /// A site that did not answer this often is not asked for chunks, and no longer told of.
    static let helloPatience = 3
    /// A site that nobody heard of for this long is forgotten; one that never answered at all, sooner.
    static let siteMemory: UInt64 = 3_600 * .second
    static let hearsayMemory: UInt64 = 180 * .second
    /// How often a node that is no gateway tells its gateways of the same site.
    static let siteRelay: UInt64 = 5 * .second
    /// Membership changes are looked at together after this, when the gateways may have changed.
    static let electionPause: UInt64 = 500 * .millisecond
}
