public import ChunkModel
internal import Logging
internal import Synchronization

/// Pins keep chunks from being evicted: those of an flist, under its digest. They hold for chunks that are not here yet, too,
/// and survive a restart. In memory a pin takes 4 bytes, and the entry that the chunk has anyway.
extension ChunkStore {
    private var pinDirectory: String { directory + "/pins" }

    /// Pins `ids` for `owner`, in place of what it pinned before.
    ///
    /// - Throws: when the pins cannot be written (nothing changes then), or are too many.
    public func pin(owner: FlistDigest, _ ids: [ChunkID]) throws {
        guard ids.count <= ChunkStoreLimits.maxPinnedIDs else {
            throw ChunkStoreError.tooLarge(what: "the list of chunks to pin", limit: Int64(ChunkStoreLimits.maxPinnedIDs))
        }
        let isTooMany = state.withLock { $0.pins[owner] == nil && $0.pins.count >= ChunkStoreLimits.maxPinOwners }
        if isTooMany { throw ChunkStoreError.tooLarge(what: "the number of pinned flists", limit: Int64(ChunkStoreLimits.maxPinOwners)) }
        try StateDirectory(pinDirectory).writeAtomically(owner.hex, PinFile.encode(ids))
        setPins(owner, ids)
    }

    /// Takes the owner's pins back; the chunks stay until they are evicted.
    ///
    /// - Returns: whether there were any.
    @discardableResult
    public func unpin(owner: FlistDigest) throws -> Bool {
        let wasThere = try StateDirectory(pinDirectory).remove(owner.hex)
        let slots = state.withLock { $0.pins.removeValue(forKey: owner) }
        release(slots ?? [])
        return wasThere || slots != nil
    }

    /// Whose pins there are.
    public var pinOwners: [FlistDigest] { state.withLock { $0.pins.keys.sorted() } }

    /// Whether the chunk is pinned by anyone, held or not.
    public func isPinned(_ id: ChunkID) -> Bool {
        state.withLock { state in state.table.slot(of: id).map { state.table[$0].pins > 0 } ?? false }
    }

    /// Reads the pin files at the start.
    func loadPins() {
        do {
            let pins = try StateDirectory(pinDirectory)
            try pins.removeLeftovers()
            for name in try pins.names().prefix(ChunkStoreLimits.maxPinOwners) {
                guard let owner = FlistDigest(hex: name), name == owner.hex else { continue }
                guard let bytes = try pins.read(name, maxBytes: PinFile.maxBytes), let ids = PinFile.decode(bytes) else {
                    logger.error("pins are damaged: pin the flist again", metadata: ["file": "\(pinDirectory)/\(name)"])
                    continue
                }
                setPins(owner, ids)
            }
        } catch {
            logger.error("pins cannot be read", metadata: ["error": "\(error)"])
        }
    }

    private func setPins(_ owner: FlistDigest, _ ids: [ChunkID]) {
        var slots: [ChunkTable.Slot] = []
        slots.reserveCapacity(ids.count)
        state.withLock { $0.table.reserve(more: ids.count) }
        for start in stride(from: 0, to: ids.count, by: ChunkStoreLimits.walkBatch) {
            let batch = ids[start..<min(start + ChunkStoreLimits.walkBatch, ids.count)]
            state.withLock { state in
                for id in batch { slots.append(state.table.pin(id)) }
            }
        }
        // A chunk that stands in the flist several times is pinned once.
        slots.sort()
        var once: [ChunkTable.Slot] = []
        var again: [ChunkTable.Slot] = []
        for slot in slots { if once.last == slot { again.append(slot) } else { once.append(slot) } }
        release(again)
        let before = state.withLock { $0.pins.updateValue(once, forKey: owner) }
        release(before ?? [])
    }

    private func release(_ slots: [ChunkTable.Slot]) {
        for start in stride(from: 0, to: slots.count, by: ChunkStoreLimits.walkBatch) {
            let batch = slots[start..<min(start + ChunkStoreLimits.walkBatch, slots.count)]
            state.withLock { state in
                for slot in batch { state.table.unpin(slot) }
            }
        }
    }
}
