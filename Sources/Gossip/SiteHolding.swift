internal import ChunkModel

/// Names what one other site holds of one flist.
struct SiteHoldingKey: Hashable, Sendable {
    let site: String
    let flist: FlistDigest
}

/// What another site said that its nodes hold of an flist, as far as anybody here wants to know.
struct SiteHolding: Sendable {
    /// `nil`: nobody there has any of it, or nothing was heard yet.
    var bitmap: Bitmap?
    /// Fingerprint of the bitmap, so that one that has not changed does not travel.
    var version: UInt64 = 0
    /// When the site last answered; also with "none".
    var heardAt: UInt64?
    /// Forgotten then, unless asked for again.
    var demandUntil: UInt64
    var nextAsk: UInt64
    /// Until the next question; grows while nothing is heard.
    var pause: UInt64 = GossipLimits.holdingRetry

    /// Nobody there has any of it.
    mutating func forget() { (bitmap, version) = (nil, 0) }

    init(demandUntil: UInt64, now: UInt64) { (self.demandUntil, nextAsk) = (demandUntil, now) }
}

extension GossipLimits {
    /// Pairs of site and flist that a node keeps; further ones are not asked for.
    static let siteHoldings = 256
    /// Bytes of all bitmaps of other sites; beyond it a site is taken to hold nothing, and that is counted.
    static let siteBitmapBytes = 16 << 20
    /// How long a demand lasts without being renewed.
    static let holdingDemand: UInt64 = 60 * .second
    /// The first pause after a question that nobody could answer yet, doubled each time up to `holdingRefresh`.
    static let holdingRetry: UInt64 = 200 * .millisecond
    /// Between two questions about what is known.
    static let holdingRefresh: UInt64 = 5 * .second
    /// Large bitmaps are asked for more rarely still, so that one takes no more than this of the line, bytes a second.
    static let holdingBytesPerSecond = 16 << 10
    /// Aggregated bitmaps of this site kept for others that ask, and for how long.
    static let siteUnions = 8
    static let siteUnionTime: UInt64 = 2 * .second
}
