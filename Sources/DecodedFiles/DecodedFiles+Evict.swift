internal import Glibc
internal import Synchronization

extension DecodedFiles {
    /// Takes room for a block, evicting where it must.
    func reserve(_ bytes: Int64, for file: DecodedFile) -> Bool {
        switch room.reserve(bytes) {
        case .granted: return true
        case .full: return false
        case .tooMuch(let over): evict(over, sparing: file)
        }
        if case .granted = room.reserve(bytes) { return true }
        // A file larger than all the room begins anew; what clients hold of it stays readable, and counts until they let go.
        let own = file.state.withLock { $0.bytes }
        if own > room.maxBytes / 2 { remove([file]) }
        return false
    }

    /// Lets go of files until `need` bytes and some more are free: those used longest ago first, and those that clients hold after all others, since
    /// their room becomes free only when the clients let go too.
    func evict(_ need: Int64, sparing: DecodedFile?) {
        evicting.withLock { _ in
            let goal = need + room.maxBytes / Self.evictionShare
            let all = table.withLock { Array($0.files.values) }.filter { $0 !== sparing }
            let looked = all.map { file -> (file: DecodedFile, isHeld: Bool, used: UInt64, bytes: Int64, isBusy: Bool) in
                let (isHeld, bytes, isBusy) = file.state.withLock { (!$0.holders.isEmpty, $0.bytes, !$0.fills.isEmpty) }
                return (file, isHeld, file.used.load(ordering: .relaxed), bytes, isBusy)
            }
            var freed: Int64 = 0
            var going: [DecodedFile] = []
            let order = looked.filter { !$0.isBusy }.sorted { ($0.isHeld ? 1 : 0, $0.used) < ($1.isHeld ? 1 : 0, $1.used) }
            for entry in order {
                // Beyond the need itself nobody is disturbed.
                guard freed < (entry.isHeld ? need : goal) || table.withLock({ $0.files.count }) - going.count >= Self.maxFiles else {
                    break
                }
                freed += entry.bytes
                going.append(entry.file)
            }
            remove(going)
        }
    }

    /// The names go, and the clients that hold descriptors are told.
    func remove(_ files: [DecodedFile]) {
        for file in files {
            let isGone = table.withLock { table in
                guard table.files[file.identity] === file else { return false }
                table.files[file.identity] = nil
                unlinkat(descriptor, file.identity.name, 0)
                return true
            }
            guard isGone else { continue }
            let holders = file.state.withLock { state in
                state.isGone = true
                state.handle = nil
                defer { state.holders = [:] }
                return state.holders.values.map { $0 }
            }
            counters.withLock { $0.evictedFiles += 1 }
            for tell in holders { tell() }
        }
    }

    /// Lets go of the file; whoever asks for its content gets a new one.
    public func forget(_ file: DecodedFile) { remove([file]) }
}
