public import Flist
internal import Synchronization

/// A directory and all below it, one entry after the other; pages of them are looked up at a time. What the flist holds and cannot be used is
/// passed over; `FlistWalker` tells of it.
public struct FlistWalk: AsyncSequence, Sendable {
    /// An entry and where it is.
    public struct Element: Sendable {
        /// From the flist's root.
        public let path: [UInt8]
        public let entry: FlistEntry
    }
    public typealias Failure = FlistReadError

    let flist: ReadableFlist
    let start: [UInt8]

    public func makeAsyncIterator() -> Iterator { Iterator(walk: self) }

    public struct Iterator: AsyncIteratorProtocol {
        /// Entries that are looked up at a time.
        static let page = 512

        let walk: FlistWalk
        private var walker: FlistWalker?
        private var queue: ArraySlice<Element> = []
        private var isOver = false

        init(walk: FlistWalk) { self.walk = walk }

        public mutating func next() async throws(FlistReadError) -> Element? {
            while queue.isEmpty {
                if isOver { return nil }
                if Task.isCancelled { throw FlistReadError(.cancelled, "cancelled") }
                try await readPage()
            }
            return queue.popFirst()
        }

        private mutating func readPage() async throws(FlistReadError) {
            let (begun, walk) = (walker, walk)
            let (next, page, isLast) = try await walk.flist.looked { () throws -> (FlistWalker, [Element], Bool) in
                var walker: FlistWalker
                if let begun {
                    walker = begun
                } else {
                    let flist = walk.flist.flist
                    walker = FlistWalker(flist, below: try flist.resolve(walk.start, followLinks: true), path: walk.start)
                }
                var page: [Element] = []
                while page.count < Self.page {
                    guard let item = try walker.next() else { return (walker, page, true) }
                    if case .entry(let visit) = item { page.append(Element(path: visit.path, entry: visit.entry)) }
                }
                return (walker, page, false)
            }
            (walker, queue, isOver) = (next, page[...], isLast)
        }
    }
}
