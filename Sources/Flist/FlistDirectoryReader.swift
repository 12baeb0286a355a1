/// A part of a directory's listing.
public struct FlistPage: Sendable {
    /// In order of inode number.
    public var entries: [FlistEntry] = []
    /// What was left out; `path` is the name as stored.
    public var problems: [EntryProblem] = []
    /// What to pass as `after` for the next page; `nil` when this was the last one.
    public var next: Int64?
}

/// Where a listing stands.
struct DirectoryPosition: Hashable, Sendable {
    let directory: Int64
    let after: Int64?
}

/// Lists one directory page by page, and remembers which names it has given (8 bytes each) to find duplicates.
package struct FlistDirectoryReader: Sendable {
    let flist: FlistFile
    let directory: Int64
    private(set) var after: Int64?
    private var seen: Set<Int> = []

    package init(flist: FlistFile, directory: Int64) { (self.flist, self.directory) = (flist, directory) }

    /// Up to `limit` further rows.
    package mutating func next(limit: Int) throws(FlistError) -> FlistPage { try next(limit: limit, last: .max) }

    /// Passes over the rows up to `row`, taking note of their names.
    package mutating func skip(to row: Int64) throws(FlistError) {
        while try next(limit: FlistFile.maxPage, last: row).next != nil {}
        after = row
    }

    private mutating func next(limit: Int, last: Int64) throws(FlistError) -> FlistPage {
        let position = after
        let directory = directory
        let (numbers, verdicts, problems) = try flist.withConnection { connection in
            let numbers = try connection.childNumbers(of: directory, after: position, limit: limit).filter { $0 <= last }
            let verdicts = try connection.children(numbers, of: directory)
            return (numbers, verdicts, position == nil ? try connection.problems(of: directory) : [])
        }
        var page = FlistPage(problems: problems)
        for verdict in verdicts {
            switch verdict {
            case .refused(let problem): page.problems.append(problem)
            case .good(let entry):
                // Equal hashes are rarely, but possibly, different names: the look-up, where the first one wins, decides.
                if !seen.insert(entry.name.hashValue).inserted, try flist.find(entry.name, in: directory)?.ino != entry.ino {
                    page.problems.append(EntryProblem(ino: entry.ino, path: entry.name, reason: "duplicate name; the first one counts"))
                } else {
                    page.entries.append(entry)
                }
            }
        }
        after = numbers.last ?? after
        page.next = numbers.count < limit ? nil : after
        return page
    }
}
