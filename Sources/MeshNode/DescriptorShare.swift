internal import Glibc
internal import PeerExchange

extension ExchangeConfiguration {
    /// Descriptors of the process of which peers' connections may take one: the rest is for chunks, the API and upstream.
    static let descriptorShare: UInt = 3
    /// Accepted connections that even a process with few descriptors allows.
    static let fewestConnections: UInt = 16

    /// With as many connections at most as the process has descriptors for.
    func withinDescriptors() -> ExchangeConfiguration {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return self }
        var configuration = self
        let most = max(Self.fewestConnections, UInt(limit.rlim_cur) / Self.descriptorShare)
        configuration.maxConnections = min(maxConnections, Int(clamping: most))
        return configuration
    }
}
