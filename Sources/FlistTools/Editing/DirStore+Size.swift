public import ChunkModel
internal import Glibc

extension DirStore {
    /// How long the chunk is, as it lies there; `nil` when it is in neither place. Nothing of it is read.
    public func storedBytes(_ id: ChunkID) -> Int? {
        for candidate in places(id) {
            var status = stat()
            if stat(candidate, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size > 0 { return Int(status.st_size) }
        }
        return nil
    }
}
