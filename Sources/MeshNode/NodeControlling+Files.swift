internal import BlockingThreads
public import ControlModel
internal import Flist
internal import ReadAPI

/// The node as its API sees it: files and directories of flists.
extension MeshNode {
    public func entry(_ flist: String, path: [UInt8]) async throws(NodeError) -> ServedEntry {
        let entry = try await reporting { try await self.opener.open(flist) }
        if let kept = served.file(entry.flist, path) { return .file(kept) }
        return try await reporting {
            let inode: FlistEntry
            do {
                inode = try await self.parts.threads.run { try entry.flist.file.resolve(path) }
            } catch let error as FlistError where error.code == .notDirectory || error.code == .linkLoop {
                throw NodeError.notFound(error.message)
            }
            if inode.isDirectory {
                return .directory(FlistDirectory(flist: entry.flist.file, entry: inode, path: path, threads: self.parts.threads))
            }
            guard inode.isFile else {
                throw NodeError.notFound("\(FlistPath.quoted(path)) is neither a file nor a directory: it has no content")
            }
            return .file(try await self.content(inode, of: entry, path: path))
        }
    }

    public func file(_ flist: String, path: [UInt8]) async throws(NodeError) -> any ServedFile {
        guard case .file(let file) = try await entry(flist, path: path) else {
            throw .badRequest("\(FlistPath.quoted(path)) is not a regular file")
        }
        return file
    }

    public func kept(_ flist: String, path: [UInt8]) -> (any ServedFile)? {
        guard let entry = parts.flists.find(flist), let file = served.file(entry.flist, path) else { return nil }
        parts.flists.touch(entry.record.digest, now: parts.clock.now)
        return file
    }

    private func content(_ inode: FlistEntry, of entry: FlistTable.Entry, path: [UInt8]) async throws -> FlistContent {
        let digest = entry.record.digest
        let reader = FlistReader(
            flist: entry.flist.file, source: FetchedBlocks(fetcher: fetcher, flist: digest), threads: parts.threads, cache: decoded,
            pool: parts.pool
        ) { [readTraces] block in readTraces.note(block, of: digest) }
        let file = try await reader.open(inode)
        let known = await parts.threads.run { [decodedFiles] in decodedFiles.existing(size: file.size, blocks: file.blocks) }
        let content = FlistContent(file: file, flist: digest, reading: reading, decoded: known)
        served.keep(content, entry.flist, path)
        return content
    }
}
