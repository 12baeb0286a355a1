internal import ChunkModel

extension StoreOpener {
    /// A URL taken apart as its scheme demands.
    enum Opening {
        case directory(url: String)
        case http(UpstreamURL)
        case s3(S3URL)
        case server(BlockServerURL)
        case zdb(ZDBAddress)

        /// - Throws: `.unusable` with the reason.
        init(_ url: String) throws(UpstreamError) {
            let scheme = url.prefix { $0 != ":" }.lowercased()
            switch scheme {
            case "dir":
                _ = try DirUpstream.paths(of: url)
                self = .directory(url: url)
            case "http", "https": self = .http(try UpstreamURL(url))
            case "s3", "s3s": self = .s3(try S3URL(url))
            case "server": self = .server(try BlockServerURL(url))
            case "zdb", "redis", "ardb": self = .zdb(try ZDBAddress(url))
            case "s3+tls", "s3s+tls":
                throw .unusable(line: "\(UpstreamURL.label(of: url)): no tool agrees on \(scheme)://; for S3 over TLS write s3s://")
            case _ where scheme.isEmpty || !scheme.allSatisfy(\.isSchemeCharacter) || scheme.utf8.count == url.utf8.count:
                throw .unusable(line: "\(UpstreamURL.label(of: url)): not the URL of a store")
            default: throw .unusable(line: "\(UpstreamURL.label(of: url)): stores of the kind \(scheme):// are not supported")
            }
        }

        /// Without credentials.
        var label: String {
            switch self {
            case .directory(let url): UpstreamURL.label(of: url)
            case .http(let url): url.label
            case .s3(let url): url.label
            case .server(let url): url.label
            case .zdb(let address): address.label
            }
        }

        /// What an flist may say of it: nothing that lets one in. Queries go too, since many hold a token; an S3 store's region stays.
        var recorded: String {
            switch self {
            case .directory(let url): url
            case .http(let url): url.label
            case .s3(let url): url.label + (url.writtenRegion.map { "?region=\($0)" } ?? "")
            case .server(let url): url.label
            case .zdb(let address): address.label
            }
        }

        /// The host that it leads to; `nil` for a directory and for a unix socket.
        var endpoint: Endpoint? {
            switch self {
            case .directory: nil
            case .http(let url): url.endpoint
            case .s3(let url): url.endpoint
            case .server(let url): url.base.endpoint
            case .zdb(let address): address.endpoint
            }
        }
    }

    func makeStore(_ opening: Opening, _ gate: UpstreamGate) throws(UpstreamError) -> any UpstreamStore {
        switch opening {
        case .directory(let url): try DirUpstream(url: url, gate: gate, rate: curl.rate)
        case .http(let url): HTTPUpstream(url: url, curl: curl, transfer: limits.transfer, credentials: credentials, gate: gate)
        case .s3(let url): S3Upstream(url: url, curl: curl, transfer: limits.transfer, credentials: credentials, gate: gate)
        case .server(let url): BlockServerUpstream(url: url, curl: curl, transfer: limits.transfer, credentials: credentials, gate: gate)
        case .zdb(let address):
            ZDBUpstream(address: address, transfer: limits.transfer, rate: curl.rate, credentials: credentials, gate: gate)
        }
    }

    func makeSink(_ opening: Opening, _ gate: UpstreamGate) throws(UpstreamError) -> any ChunkSink {
        switch opening {
        case .directory(let url): return try DirSink(url: url, gate: gate)
        case .s3(let url): return S3Upstream(url: url, curl: curl, transfer: limits.transfer, credentials: credentials, gate: gate)
        case .server(let url):
            return BlockServerUpstream(url: url, curl: curl, transfer: limits.transfer, credentials: credentials, gate: gate)
        case .zdb(let address):
            return ZDBSink(address: address, transfer: limits.transfer, rate: curl.rate, credentials: credentials, gate: gate)
        case .http(let url):
            throw .unusable(line: "\(url.label): nothing can be stored over plain \(url.scheme); name a dir, s3, zdb or server store")
        }
    }
}
