internal import BlockingThreads
internal import ChunkModel
internal import ChunkStore
internal import ControlModel
internal import Flist
internal import Gossip
internal import GossipTransport
internal import Logging
internal import MeshKeys
internal import Minisign
internal import PeerExchange
internal import UpstreamStores

/// Signatures of flists: found, checked, kept, passed on.
extension FlistOpener {
    /// Peers that are asked for a signature; those beyond are not.
    static let maxSignaturePeers = 8
    /// A peer that has not sent its few hundred bytes by then is passed over.
    static let signatureDeadline: Duration = .seconds(5)
    /// Between two questions to the peers for the signature of an flist that came without one.
    static let signaturePause: Duration = .seconds(5)

    /// Who signed the flist, by the best signature that can be had; it is kept beside the file.
    ///
    /// - Parameters:
    ///   - offered: what came with the flist itself: a wrong one refuses it.
    ///   - others: what peers sent; `nil`: they are asked when it is needed.
    ///   - url: where to look at last.
    /// - Throws: `NodeError` when a signature of a trusted key is wrong, or none of a trusted key is there and `trust.requireSigned` is set.
    ///   The file is removed then, unless it is open already.
    func settled(
        _ entry: FlistFiles.Entry, name: String, offered: MinisignSignature? = nil, others: [MinisignSignature]? = nil, url: String? = nil
    ) async throws -> FlistSignature? {
        do {
            let found = try await search(entry, name: name, offered: offered, others: others, url: url)
            if found?.isTrusted != true {
                let by = found.map { "is signed with the key \($0.signature.keyID), which is none of trust.keys" } ?? "is not signed"
                guard !parts.trust.requiresSigned else {
                    throw NodeError.badRequest("\(name) \(by); trust.requireSigned refuses it")
                }
                if parts.trust.isActive, found != nil {
                    parts.logger.notice(
                        "flist signed with an unknown key: taken as not signed",
                        metadata: ["flist": "\(name)", "key": "\(found!.signature.keyID)"])
                }
            }
            if let found { try await keep(found, of: entry.digest) }
            return found
        } catch {
            if parts.flists.entry(entry.digest) == nil {
                _ = try? await parts.threads.run { [files] in try files.remove(entry.digest) }
            }
            throw error
        }
    }

    /// A trusted one, else one that may be passed on.
    private func search(
        _ entry: FlistFiles.Entry, name: String, offered: MinisignSignature?, others: [MinisignSignature]?, url: String?
    ) async throws -> FlistSignature? {
        var found = Candidates()
        if let offered, let best = found.take(try await judged(offered, entry)) { return best }
        if let wrong = found.wrong { throw NodeError.badRequest("\(name): \(wrong)") }
        if let stored = await stored(entry.digest), let best = found.take(try await judged(stored, entry)) { return best }
        if found.unknown == nil || parts.trust.isActive {
            for signature in others == nil ? await signatures(of: entry.digest) : others! {
                if let best = found.take(try await judged(signature, entry)) { return best }
            }
        }
        if let url, let signature = try await signature(besideURL: url, name: name),
            let best = found.take(try await judged(signature, entry))
        {
            return best
        }
        // Nobody has a good one, and somebody has one that a trusted key did not make.
        if let wrong = found.wrong {
            await parts.threads.run { [files] in files.removeSignature(of: entry.digest) }
            throw NodeError.badRequest("\(name): \(wrong)")
        }
        return found.unknown
    }

    private struct Candidates {
        var unknown: FlistSignature?
        var wrong: MinisignError?

        /// - Returns: the signature when none can be better.
        mutating func take(_ judged: Result<FlistSignature, MinisignError>) -> FlistSignature? {
            switch judged {
            case .success(let signature) where signature.isTrusted: return signature
            case .success(let signature): unknown = unknown ?? signature
            case .failure(let error): wrong = error
            }
            return nil
        }
    }

    private func judged(_ signature: MinisignSignature, _ entry: FlistFiles.Entry) async throws -> Result<FlistSignature, MinisignError> {
        do {
            return .success(try await parts.threads.run { [trust = parts.trust] in try trust.judge(signature, of: entry.path) })
        } catch let error as MinisignError where error.code == .wrong {
            return .failure(error)
        } catch {
            throw NodeError.unavailable("\(error)")
        }
    }

    private func stored(_ digest: FlistDigest) async -> MinisignSignature? {
        await parts.threads.run { [files] in files.signature(of: digest).flatMap { try? MinisignSignature($0) } }
    }

    private func keep(_ found: FlistSignature, of digest: FlistDigest) async throws {
        let bytes = found.signature.fileBytes
        try await parts.threads.run { [files] in
            if files.signature(of: digest) != bytes { try files.setSignature(bytes, of: digest) }
        }
    }

    /// Opens it again where its routes may be used now and were not, or the other way round.
    ///
    /// - Throws: `NodeError` when the flist is refused; it stays open.
    func settleAgain(_ known: FlistTable.Entry, offered: MinisignSignature? = nil) async throws -> FlistTable.Entry {
        var record = known.record
        guard let path = files.path(of: record.digest) else { return known }
        let entry = FlistFiles.Entry(digest: record.digest, bytes: known.flist.fileBytes, path: path)
        record.signature = try await settled(entry, name: record.name, offered: offered)
        guard record.signature != known.record.signature else { return known }
        return try await load(record, path: path, bytes: entry.bytes, saves: false)
    }

    /// An flist that only came from a peer, once the peers have a signature for it.
    func upgraded(_ known: FlistTable.Entry) async -> FlistTable.Entry {
        let digest = known.record.digest
        guard parts.trust.isActive, !known.record.mayOpenRoutes, mayAskForSignature(of: digest),
            parts.gossip.nodes(knowing: digest).contains(where: \.fact.isSigned)
        else { return known }
        do { return try await settleAgain(known) } catch {
            parts.logger.info("signature of an flist cannot be used", metadata: ["flist": "\(known.record.name)", "error": "\(error)"])
            return known
        }
    }

    // MARK: Where they come from

    /// The signature in the file beside an flist.
    func signature(besideFile path: String) async throws -> MinisignSignature? {
        do {
            return try await parts.threads.run { try MinisignFile.signature(path + MinisignFile.suffix) }
        } catch {
            let line = "\(FlistPath.quoted(Array(path.utf8)))\(MinisignFile.suffix): \(error)"
            guard !parts.trust.isActive else { throw NodeError.badRequest("\(error)") }
            parts.logger.notice("not a signature; left alone", metadata: ["file": "\(line)"])
            return nil
        }
    }

    /// The signature beside an flist on its hub, which is asked only where signatures count.
    func signature(besideURL url: String, name: String) async throws -> MinisignSignature? {
        guard parts.trust.isActive else { return nil }
        let bytes: [UInt8]?
        do throws(UpstreamError) {
            bytes = try await signatures.fetch(of: url, maxBytes: MinisignSignature.maxBytes)
        } catch {
            guard !parts.trust.requiresSigned else {
                throw NodeError.unavailable("the signature of \(name) cannot be had, and trust.requireSigned is set: \(error)")
            }
            parts.logger.warning("signature cannot be had; going on without", metadata: ["flist": "\(name)", "error": "\(error)"])
            return nil
        }
        guard let bytes else { return nil }
        do {
            return try MinisignSignature(bytes)
        } catch {
            throw NodeError.badRequest("\(name)\(MinisignFile.suffix) on the hub: \(error)")
        }
    }

    /// What peers have, each once; those whose signature may count first.
    ///
    /// - Parameter first: is asked whether or not it has announced one.
    func signatures(of digest: FlistDigest, first: NodeID? = nil) async -> [MinisignSignature] {
        var members = parts.gossip.nodes(knowing: digest).filter { $0.fact.isSigned && $0.member.id != first }.map(\.member)
        if let first, let member = parts.gossip.member(first) { members.insert(member, at: 0) }
        if members.isEmpty, parts.flists.entry(digest) == nil, parts.gossip.nodes(knowing: digest).isEmpty { members = siteGateways }
        var found: [MinisignSignature] = []
        await withTaskGroup(of: MinisignSignature?.self) { group in
            for member in members.prefix(Self.maxSignaturePeers) {
                group.addTask {
                    let reply = await self.call(
                        member, kind: MessageKind.flistSignature.rawValue, payload: digest.value.bytes, deadline: Self.signatureDeadline)
                    return reply.flatMap { $0.isEmpty ? nil : try? MinisignSignature($0) }
                }
            }
            for await signature in group {
                if let signature, !found.contains(signature) { found.append(signature) }
            }
        }
        let trust = parts.trust
        return found.filter(trust.mayBeTrusted) + found.filter { !trust.mayBeTrusted($0) }
    }

    /// Before an flist is taken from peers that `trust.requireSigned` would refuse anyway, again and again.
    func checkBeforePull(_ digest: FlistDigest, name: String, _ others: [MinisignSignature]) async throws {
        guard parts.trust.requiresSigned, !others.contains(where: parts.trust.mayBeTrusted) else { return }
        if let stored = await stored(digest), parts.trust.mayBeTrusted(stored) { return }
        throw NodeError.badRequest("\(name): no peer has a signature of it by one of trust.keys; trust.requireSigned refuses it")
    }
}
