import ControlModel
import Flist
import FoundationEssentials
import MeshKeys
@testable import NodeConfiguration
@testable import UpstreamStores

extension FuzzTarget {
    /// Route URLs of an flist.
    static let upstreamURL = FuzzTarget(
        name: "upstream-url", maxLength: 3_000,
        seeds: {
            [
                "https://user:pass@hub.example.org:8443/a/b?token=1#x", "http://[::1]/", "dir:///srv", "zdb://h:9900/ns", "HTTP://h//",
                "http://a@b@c/",
            ]
            .map { Array($0.utf8) }
        },
        run: { bytes in
            let text = String(decoding: bytes, as: UTF8.self)
            let label = UpstreamURL.label(of: text)
            fuzzCheck(label.utf8.count <= 4 * 160, "a label of \(label.utf8.count) bytes")
            fuzzCheck(!label.utf8.contains { $0 < 0x20 || $0 == 0x7f }, "a label with control characters")
            guard let url = try? UpstreamURL(text) else { return }
            fuzzCheck(url.scheme == "http" || url.scheme == "https", "another scheme")
            fuzzCheck(url.url(of: "ab").contains("/ab"), "a URL without the name")
        })

    /// A configuration file, and its values as the environment has them.
    static let configuration = FuzzTarget(
        name: "configuration", maxLength: 4_096,
        seeds: {
            [
                """
                node: {name: a, site: "b"}
                mesh:
                  listen: 0.0.0.0:7946
                  advertise: 10.0.0.1
                  seeds: [a:1, "[::1]:2"]
                  multicast: false
                cache: {dir: /x, maxSize: 20GiB, minFree: 5%}
                upstream:
                  urls:
                    - https://hub.example.org
                  override: true
                  maxRate: 8mbit
                  concurrency: 3
                api: {socket: /s, listen: ""}
                """, "a: &a [*a, *a]\nb: *a\n", "node:\n  name: !!binary aGFsbG8=\n  ? [x]\n  : y\n", "<<: {node: 1}\n",
                String(repeating: "[", count: 4_000),
            ].map { Array($0.utf8) }
        },
        run: { bytes in
            ScratchFile.with(bytes, suffix: ".yaml") { path in
                do {
                    let configuration = try Configuration.load(file: path, environment: [:])
                    fuzzCheck((1...64).contains(configuration.node.name.utf8.count), "a name over the limit")
                } catch {
                    fuzzCheck(error is ConfigurationError, "an error without a place: \(error)")
                }
            }
            let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            for key in ConfigurationKey.all {
                do { _ = try Configuration.load(file: nil, environment: [key.environmentName: text]) } catch {
                    fuzzCheck(error is ConfigurationError, "an error without a place: \(error)")
                }
            }
        })

    static let meshKeys = FuzzTarget(
        name: "mesh-key-file", maxLength: 2_048,
        seeds: { [Array("# key\n\(Base64.encode([UInt8](repeating: 3, count: 32)))\n".utf8), Array("AAAA\n====".utf8)] },
        run: { bytes in
            ScratchFile.with(bytes, suffix: ".key") { path in
                do { _ = try MeshKeyRing.load(file: path) } catch {
                    fuzzCheck(error is ConfigurationError, "an error without a place: \(error)")
                }
            }
            if let decoded = Base64.decode(String(decoding: bytes, as: UTF8.self)) {
                fuzzCheck(Array(Base64.encode(decoded).utf8) == bytes, "base64 of two spellings")
            }
        })

    /// JSON of a daemon, as the command line reads it. (Requests, which the daemon reads, are of the same types.)
    static let controlAnswers = FuzzTarget(
        name: "control-json", maxLength: 4_096,
        seeds: {
            [
                #"{"flists":[{"name":"a","digest":"00","chunks":1,"bytes":2,"pinned":true,"node":{"chunks":1,"bytes":2,"complete":true},"#
                    + #""site":{"chunks":1,"complete":true,"minCopies":1}}],"jobs":[]}"#, #"{"error":"x"}"#,
                #"{"path":"/","entries":[],"next":9223372036854775807}"#, #"{"peers":[{"id":"a","state":"alive"}]}"#, "[[[[[[",
            ].map { Array($0.utf8) }
        },
        run: { bytes in
            let data = Data(bytes)
            let decoder = JSONDecoder()
            _ = try? decoder.decode(Status.self, from: data)
            _ = try? decoder.decode(Stats.self, from: data)
            _ = try? decoder.decode(Peers.self, from: data)
            _ = try? decoder.decode(Job.self, from: data)
            _ = try? decoder.decode(Tree.self, from: data)
            _ = try? decoder.decode([KnownFlist].self, from: data)
            _ = try? decoder.decode(FlistVerification.self, from: data)
            _ = try? decoder.decode(CacheReport.self, from: data)
            _ = try? decoder.decode(ErrorAnswer.self, from: data)
            _ = try? decoder.decode(PrefetchRequest.self, from: data)
            _ = try? decoder.decode(OpenRequest.self, from: data)
        })
}
