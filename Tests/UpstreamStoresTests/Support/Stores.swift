import ChunkModel

@testable import UpstreamStores

extension UpstreamLimits {
    init(transfer: TransferLimits, retry: RetryLimits, circuit: Circuit.Limits, concurrency: Int = Self.defaultConcurrency) {
        self.init(transfer: transfer, retry: retry, concurrency: concurrency)
        self.circuit = circuit
    }
}

extension HTTPUpstream {
    /// With a gate of its own, as `StoreOpener` makes it.
    convenience init(
        url: String, curl: CurlMulti, transfer: TransferLimits = .chunk, retry: RetryLimits = RetryLimits(),
        circuit: Circuit.Limits = Circuit.Limits(), random: UpstreamRandom = UpstreamRandom()
    ) throws(UpstreamError) {
        let parsed = try UpstreamURL(url)
        let limits = UpstreamLimits(transfer: transfer, retry: retry, circuit: circuit)
        self.init(
            url: parsed, curl: curl, transfer: transfer,
            gate: UpstreamGate(label: parsed.label, limits: limits, counters: curl.counters, random: random))
    }
}

extension DirUpstream {
    convenience init(url: String, counters: UpstreamCounters = UpstreamCounters()) throws(UpstreamError) {
        try self.init(
            url: url, gate: UpstreamGate(label: url, limits: UpstreamLimits(retry: RetryLimits(attempts: 1)), counters: counters))
    }
}
