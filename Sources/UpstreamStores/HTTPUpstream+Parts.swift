internal import ChunkModel

extension HTTPUpstream {
    enum PartsOutcome {
        case chunk(ChunkBuffer)
        /// 404.
        case missing
        /// Not what was asked for: it is to be asked for whole.
        case unusable
    }

    private struct Answer: Sendable {
        let part: Int
        let result: Result<CurlResponse, TransferFailure>
    }

    /// Whether a chunk is asked for in parts: somebody waits for a whole block of it, nothing else is under way, and the server is far away and
    /// known to serve parts. Over TLS the handshakes of more connections would cost more than they bring.
    func isForParts(_ priority: FetchPriority) -> Bool {
        priority == .foreground && FetchUrgency.current?.isWholeBlock == true && url.scheme == "http" && curl.isIdle
            && gate.concurrency >= ChunkParts.count && curl.servers.isForParts(url.endpoint)
    }

    /// All parts of the chunk at once.
    func inParts(
        _ id: ChunkID, _ layout: StoreLayout, _ priority: FetchPriority, _ pool: ChunkBufferPool
    ) async throws(AttemptFailure) -> PartsOutcome {
        let buffer = pool.take()
        let sinks = (0..<ChunkParts.count).map { PartBody($0, of: buffer) }
        var results: [Int: CurlResponse] = [:]
        var failure: TransferFailure?
        await withTaskGroup(of: Answer.self) { group in
            for (part, sink) in sinks.enumerated() {
                var request = request(for: id, layout, priority, sink)
                request.headers.append(ChunkParts.header(of: part))
                request.bodyStatuses = [206]
                // No typed error in this closure: Swift 6.3 mixes up the result's parts then, with optimisation.
                group.addTask { [curl, request] in Answer(part: part, result: await curl.result(of: request)) }
            }
            for await answer in group {
                switch answer.result {
                case .success(let response):
                    results[answer.part] = response
                    // What does not fit makes the rest useless.
                    if response.status != 206, response.status != 416 { group.cancelAll() }
                case .failure(let error):
                    // Those that are cancelled then are not the cause.
                    if failure == nil || failure?.isCancellation == true { failure = error }
                    group.cancelAll()
                }
            }
        }
        let place = "\(label)/\(layout.name(of: id))"
        if let odd = results.values.first(where: { $0.status != 206 && $0.status != 416 }) {
            switch odd.status {
            case 404: return .missing
            case 200: break
            default: throw AttemptFailure(status: odd, at: place, counters: gate.counters)
            }
        } else if let failure, failure.kind != .tooLong {
            throw AttemptFailure(failure, at: place)
        }
        let answers = sinks.enumerated().compactMap { part, sink in
            results[part].map {
                ChunkParts.Answer(status: $0.status, range: $0.contentRange.flatMap(ChunkParts.ContentRange.init), received: sink.received)
            }
        }
        guard let length = ChunkParts.length(answers), length <= buffer.capacity else {
            curl.servers.noteWrongParts(of: url.endpoint)
            return .unusable
        }
        buffer.count = length
        return .chunk(buffer)
    }
}
