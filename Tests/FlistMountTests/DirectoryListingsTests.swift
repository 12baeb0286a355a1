import FlistTools
import Foundation
import Testing

@testable import Flist
@testable import FlistMount

/// Listings by windows, beside what the flist itself lists.
@Suite struct DirectoryListingsTests {
    /// `directories` times 600 files in a directory each, after 3 files of the root.
    private func withFlist(_ directories: Int, _ body: (FlistFile) throws -> Void) throws {
        let root = NSTemporaryDirectory() + "cm-listings-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: root) }
        for directory in 0..<directories {
            let path = "\(root)/tree/d\(directory)"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            for file in 0..<600 { try Data().write(to: URL(fileURLWithPath: "\(path)/\(file)")) }
        }
        for file in 0..<3 { try Data().write(to: URL(fileURLWithPath: "\(root)/tree/a\(file)")) }
        _ = try FlistPacker.pack(
            PackOptions(
                directory: root + "/tree", output: root + "/made.fl", stores: [PackStore(url: "dir://" + root, sink: DirStore(path: root))])
        )
        try body(try FlistFile(path: root + "/made.fl"))
    }

    /// As the kernel lists: some entries at a time, and once more at the end.
    private func listed(_ listings: DirectoryListings, _ directory: Int64) throws -> [FlistEntry] {
        var out: [FlistEntry] = []
        var last: Int64 = 0
        while true {
            var room = 100
            let before = out.count
            try listings.list(directory, after: last) { entry in
                guard room > 0 else { return false }
                room -= 1
                out.append(entry)
                return true
            }
            if out.count == before { return out }
            last = out[out.count - 1].ino
        }
    }

    @Test func whoWalksATreeFindsTheNextDirectoryRead() throws {
        try withFlist(5) { flist in
            let listings = DirectoryListings(flist: flist)
            let root = try listed(listings, FlistFile.rootIno)
            let directories = root.filter(\.isDirectory).map(\.ino)
            #expect(root.count == 8 && directories.count == 5)
            for (index, directory) in directories.enumerated() {
                // One directory is no walk; and nothing lies behind the last.
                let expected = index == 0 || index == 4 ? nil : directories[index + 1]
                #expect(listings.follower(of: directory) == expected)
                if let expected {
                    listings.readAhead(expected)
                    #expect(listings.follower(of: directory) == nil, "it is at hand")
                }
                var reader = FlistDirectoryReader(flist: flist, directory: directory)
                #expect(try listed(listings, directory) == reader.next(limit: 1000).entries)
            }
            // From elsewhere: no walk, and what is not there does no harm.
            #expect(listings.follower(of: 999_999_999) == nil)
            #expect(listings.follower(of: .min) == nil)
            listings.readAhead(999_999_999)
            #expect(try listed(listings, 999_999_999).isEmpty)
        }
    }
}
