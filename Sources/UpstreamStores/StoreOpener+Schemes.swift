internal import ChunkModel

extension StoreOpener {
    /// A URL taken apart as its scheme demands.
    enum Opening {
        case directory(url: String)
        case http(UpstreamURL)
        case zdb(ZDBAddress)

        /// - Throws: `.unusable` with the reason.
        init(_ url: String) throws(UpstreamError) {
            let scheme = url.prefix { $0 != ":" }.lowercased()
            switch scheme {
            case "dir":
                _ = try DirUpstream.paths(of: url)
                self = .directory(url: url)
            case "http", "https": self = .http(try UpstreamURL(url))
            case "zdb", "redis", "ardb": self = .zdb(try ZDBAddress(url))
            case "s3+tls", "s3s+tls":
                throw .unusable(line: "\(UpstreamURL.label(of: url)): no tool agrees on \(scheme)://; for S3 over TLS write s3s://")
            default: throw .unusable(line: "\(UpstreamURL.label(of: url)): stores of the kind \(scheme):// are not supported")
            }
        }

        /// Without credentials.
        var label: String {
            switch self {
            case .directory(let url): url
            case .http(let url): url.label
            case .zdb(let address): address.label
            }
        }
    }

    func makeStore(_ opening: Opening, _ gate: UpstreamGate) throws(UpstreamError) -> any UpstreamStore {
        switch opening {
        case .directory(let url): try DirUpstream(url: url, gate: gate)
        case .http(let url): HTTPUpstream(url: url, curl: curl, transfer: limits.transfer, gate: gate)
        case .zdb(let address): ZDBUpstream(address: address, transfer: limits.transfer, rate: curl.rate, gate: gate)
        }
    }

    func makeSink(_ opening: Opening, _ gate: UpstreamGate) throws(UpstreamError) -> any ChunkSink {
        switch opening {
        case .directory(let url): try DirSink(url: url, gate: gate)
        case .zdb(let address): ZDBSink(address: address, transfer: limits.transfer, rate: curl.rate, gate: gate)
        case .http(let url):
            throw .unusable(line: "\(url.label): nothing can be stored over plain \(url.scheme); name a dir, s3, zdb or server store")
        }
    }
}
