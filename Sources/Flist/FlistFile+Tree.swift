internal import Synchronization

extension FlistFile {
    /// Rows that a page holds at most.
    public static let maxPage = 4096

    /// The inode `ino`, whether the root leads to it or not; `nil` when there is none.
    ///
    /// - Throws: `badEntry` when its row is refused.
    public func inode(_ ino: Int64) throws(FlistError) -> FlistEntry? {
        if ino == Self.rootIno { return root() }
        switch try withConnection({ try $0.inode(ino) }) {
        case nil: return nil
        case .good(let entry)?: return entry
        case .refused(let problem)?: throw FlistError(.badEntry, problem.line)
        }
    }

    /// The entry called `name` in the directory `parent`; `nil` when there is none. Of several, the one with the lowest inode number.
    ///
    /// - Throws: `notFound` or `notDirectory` when `parent` is no directory; `badEntry` when the only entry of that name is refused.
    public func lookup(parent: Int64, name: [UInt8]) throws(FlistError) -> FlistEntry? {
        try requireDirectory(parent)
        return try find(name, in: parent)
    }

    private func requireDirectory(_ ino: Int64) throws(FlistError) {
        guard ino != Self.rootIno else { return }
        guard let entry = try inode(ino) else { throw FlistError(.notFound, "no inode \(ino)") }
        guard entry.isDirectory else { throw FlistError(.notDirectory, "\(FlistPath.quoted(entry.name)): not a directory (inode \(ino))") }
    }

    /// `lookup` in a directory that is known to be one.
    ///
    /// Two ways lead there: all entries of that name, and all entries of that directory. Which is the shorter one is not known
    /// beforehand (`__init__.py` is everywhere, and a directory may hold a million files), so both are walked in turns.
    func find(_ name: [UInt8], in parent: Int64) throws(FlistError) -> FlistEntry? {
        guard FlistPath.refusal(ofName: name) == nil else { return nil }
        var refused: EntryProblem?
        let found = try withConnection { connection -> FlistEntry? in
            func matching(_ numbers: [Int64], anyParent: Bool) throws -> FlistEntry? {
                for number in numbers where number != Self.rootIno {
                    switch anyParent ? try connection.inode(number) : try connection.child(number, of: parent) {
                    case .good(let entry)? where entry.name == name && entry.parent == parent: return entry
                    case .refused(let problem)? where problem.path == name:
                        if try !anyParent || connection.isParent(parent, of: number) { refused = refused ?? problem }
                    default: break
                    }
                }
                return nil
            }
            var limit = 32
            var afterName: Int64?
            var afterChild: Int64?
            while true {
                if connection.hasNames {
                    let numbers = try connection.numbers(named: name, asBlob: false, after: afterName, limit: limit)
                    afterName = numbers.last ?? afterName
                    let hit = try matching(numbers, anyParent: true)
                    if hit != nil || numbers.count < limit {
                        // Names stored as BLOB sort apart; there is hardly ever one.
                        var afterBlob: Int64?
                        while true {
                            let blobs = try connection.numbers(named: name, asBlob: true, after: afterBlob, limit: 1024)
                            afterBlob = blobs.last ?? afterBlob
                            if let other = try matching(blobs, anyParent: true) {
                                if let hit, hit.ino < other.ino { return hit }
                                return other
                            }
                            if blobs.count < 1024 { return hit }
                        }
                    }
                }
                let numbers = try connection.childNumbers(of: parent, after: afterChild, limit: limit)
                afterChild = numbers.last ?? afterChild
                if let hit = try matching(numbers, anyParent: false) { return hit }
                if numbers.count < limit { return nil }
                limit = min(limit * 2, Self.maxPage)
            }
        }
        if found == nil, refused == nil {
            refused = try withConnection { try $0.problems(of: parent) }.first { $0.path == name && !$0.isKept }
        }
        if found == nil, let refused { throw FlistError(.badEntry, refused.line) }
        return found
    }

    /// A page of the directory `ino`: up to `limit` (1 to `maxPage`) rows in order of inode number, beginning after the row `after`.
    ///
    /// Pass `nil` first, then each page's `next` until that is `nil`. A page may hold fewer entries than rows, since refused
    /// rows are reported instead.
    public func children(of ino: Int64, after: Int64? = nil, limit: Int = 1024) throws(FlistError) -> FlistPage {
        try requireDirectory(ino)
        let limit = max(1, min(limit, Self.maxPage))
        var reader = FlistDirectoryReader(flist: self, directory: ino)
        if let after {
            if let kept = readers.withLock({ $0.removeValue(forKey: DirectoryPosition(directory: ino, after: after)) }) {
                reader = kept
            } else {
                // Not continued from the page before (or too many listings at once): read up to there again for the names.
                try reader.skip(to: after)
            }
        }
        let page = try reader.next(limit: limit)
        if let next = page.next {
            let left = reader
            readers.withLock { readers in
                if readers.count >= Self.keptReaders { readers.removeAll() }
                readers[DirectoryPosition(directory: ino, after: next)] = left
            }
        }
        return page
    }
}
