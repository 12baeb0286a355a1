import ControlModel
import Foundation
import Logging
import Testing

@testable import ControlAPI

/// Files and directories over HTTP and WebDAV, by curl, from a node that is scripted.
@Suite struct FilesTests {
    struct Answer: Sendable {
        let status: Int
        let headers: [String: String]
        let body: [UInt8]
        var text: String { String(decoding: body, as: UTF8.self) }
    }

    /// Serves a scripted node on a Unix socket; the closure asks for a path with curl's options.
    private func withAPI(_ body: (@Sendable (String, [String]) async throws -> Answer) async throws -> Void) async throws {
        let socket = NSTemporaryDirectory() + "api-\(UUID().uuidString.prefix(8)).sock"
        var logger = Logger(label: "api")
        logger.logLevel = .critical
        let api = ControlAPI(node: ScriptedNode(), socket: socket, listen: nil, logger: logger)
        let running = Task { try await api.run() }
        let ask: @Sendable (String, [String]) async throws -> Answer = { path, options in
            try await offPool {
                let process = Process()
                process.executableURL = URL(fileURLWithPath: "/usr/bin/curl")
                process.arguments =
                    ["-s", "-i", "--path-as-is", "--max-time", "10", "--unix-socket", socket] + options + ["http://localhost" + path]
                let output = Pipe()
                process.standardOutput = output
                try process.run()
                let bytes = [UInt8](output.fileHandleForReading.readDataToEndOfFile())
                process.waitUntilExit()
                guard let end = bytes.firstRange(of: Array("\r\n\r\n".utf8)) else { return Answer(status: 0, headers: [:], body: []) }
                let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
                let pairs = lines.dropFirst().compactMap { line -> (String, String)? in
                    guard let colon = line.firstIndex(of: ":") else { return nil }
                    return (line[..<colon].lowercased(), line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces))
                }
                return Answer(
                    status: lines[0].split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0,
                    headers: Dictionary(pairs) { $1 }, body: Array(bytes[end.upperBound...]))
            }
        }
        for _ in 0..<500 where try await ask("/healthz", []).status != 200 { try await Task.sleep(for: .milliseconds(10)) }
        try await body(ask)
        running.cancel()
        try? await running.value
    }

    /// What shows before the head is sent is an answer of its own; later the connection ends short of what was announced.
    @Test func contentThatCannotBeHadIsSaid() async throws {
        try await withAPI { ask in
            let answer = try await ask("/v1/flists/a/files/failing", ["-H", "Range: bytes=5-9"])
            #expect(answer.status == 503 && answer.text.contains("\"error\""))
            #expect(answer.headers["content-range"] == nil && answer.headers["content-type"] == "application/json")
            let whole = try await ask("/v1/flists/a/files/failing", [])
            #expect(whole.status == 200 && whole.body.isEmpty && whole.headers["content-length"] == "\(ScriptedNode.content.count)")
        }
    }

    @Test(arguments: ["/v1/flists/a/files/x.txt", "/v1/flists/a/files/ready", "/v1/flists/a/files/stored"]) func severalRangesComeInParts(
        path: String
    ) async throws {
        try await withAPI { ask in
            let wanted = [600_000..<600_010, 0..<1, 499_990..<1_000_010, 1_199_999..<1_200_000]
            let header = wanted.map { "\($0.lowerBound)-\($0.upperBound - 1)" }.joined(separator: ",")
            let answer = try await ask(path, ["-H", "Range: bytes=" + header + ",5000000-"])
            #expect(answer.status == 206 && answer.headers["content-range"] == nil)
            #expect(answer.headers["content-length"] == "\(answer.body.count)")
            let type = try #require(answer.headers["content-type"])
            let boundary = try #require(type.components(separatedBy: "boundary=").last)
            #expect(type == "multipart/byteranges; boundary=" + boundary)
            var rest = answer.body[...]
            // The first lies within the third: both are one, in the first's place.
            for range in [499_990..<1_000_010, 0..<1, 1_199_999..<1_200_000] {
                let kind = path.hasSuffix("txt") ? "text/plain; charset=utf-8" : "application/octet-stream"
                let head =
                    "\r\n--\(boundary)\r\nContent-Type: \(kind)\r\n"
                    + "Content-Range: bytes \(range.lowerBound)-\(range.upperBound - 1)/1200000\r\n\r\n"
                #expect(rest.starts(with: head.utf8), "\(String(decoding: rest.prefix(200), as: UTF8.self))")
                rest = rest.dropFirst(head.utf8.count)
                #expect(rest.prefix(range.count).elementsEqual(ScriptedNode.content[range]))
                rest = rest.dropFirst(range.count)
            }
            #expect(rest.elementsEqual("\r\n--\(boundary)--\r\n".utf8))

            // One that is left, or made of several, is no part.
            for (header, range) in [("0-9,5000000-", 0..<10), ("0-499999,500000-999999", 0..<1_000_000), ("-5,-3", 1_199_995..<1_200_000)] {
                let single = try await ask(path, ["-H", "Range: bytes=" + header])
                #expect(single.status == 206 && single.body.elementsEqual(ScriptedNode.content[range]), "\(header)")
                #expect(single.headers["content-range"] == "bytes \(range.lowerBound)-\(range.upperBound - 1)/1200000")
            }
            let whole = try await ask(path, ["-H", "Range: bytes=" + (0...64).map { "\($0 * 1000)-\($0 * 1000)" }.joined(separator: ",")])
            #expect(whole.status == 200 && whole.body == ScriptedNode.content)
            #expect(try await ask(path, []).body == ScriptedNode.content)
            let none = try await ask(path, ["-H", "Range: bytes=1200000-,-0"])
            #expect(none.status == 416 && none.headers["content-range"] == "bytes */1200000")
        }
        // What tests beside this one read is let go of soon, too.
        for _ in 0..<1000 where SharedBytes.count != 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(SharedBytes.count == 0)
    }

    @Test func namesAreBytes() async throws {
        try await withAPI { ask in
            for (path, status) in [
                ("x%ff%0A", 200), ("a%252Fb", 200), ("a%2Fb", 400), ("a%2fb", 400), ("a%00", 400), ("a%", 400), ("a%4", 400),
                ("absent", 404),
                ("..%2f..", 400), ("../../x", 200),
            ] { #expect(try await ask("/v1/flists/n/files/" + path, []).status == status, "\(path)") }
            let tree = try await ask("/v1/flists/n/tree/a%2Fb", [])
            #expect(tree.status == 400)
            #expect(try await ask("/v1/flists/http%3A%2F%2Fh%2Fx.fl/files/f", []).status == 200)
        }
    }

    @Test func directoriesAreIndexed() async throws {
        try await withAPI { ask in
            let moved = try await ask("/v1/flists/n%20m/files/dir%3F", [])
            #expect(moved.status == 200)
            for path in ["/v1/flists/n%20m/files", "/v1/flists/n%20m/files/dir", "/v1/flists/n%20m/files/dir/x%FF?q=1"] {
                let moved = try await ask(path, [])
                #expect(moved.status == 301)
                #expect(moved.headers["location"] == path.split(separator: "?")[0] + "/", "\(path)")
            }
            let index = try await ask("/v1/flists/n/files/dir/", [])
            #expect(index.status == 200 && index.headers["content-type"] == "text/html; charset=utf-8")
            #expect(index.headers["x-content-type-options"] == "nosniff")
            for part in [
                "<a href=\"../\">../</a>", "<a href=\"a%20%26%20b%20%3Ci%3E%22%27%25\">a &amp; b &lt;i&gt;&quot;&#39;%</a>",
                "1994-11-06 08:49  7\n", "<a href=\"%FF%0Ax\">\u{FFFD}\u{FFFD}x</a>", "<a href=\"sub%3Adir/\">sub:dir/</a>", "\nnull ",
            ] { #expect(index.text.contains(part), "\(part) in \(index.text)") }
            #expect(!index.text.contains("href=\"null"))
            let root = try await ask("/v1/flists/n/files/", [])
            #expect(!root.text.contains("../"))
            let head = try await ask("/v1/flists/n/files/dir/", ["-I"])
            #expect(head.status == 200 && head.headers["content-length"] == nil && head.body.isEmpty)
            let long = try await ask("/v1/flists/n/files/long/", [])
            #expect(long.text.components(separatedBy: "<a href=\"file-").count == ScriptedNode.longCount + 1)
            #expect(long.text.hasSuffix("</pre></body></html>\n"))
            let json = try await ask("/v1/flists/n/files/dir", ["-H", "Accept: application/json"])
            #expect(json.status == 200 && json.text.contains("\"entries\":[]"))
            #expect(try await ask("/v1/flists/n/files/dir/", ["-H", "Accept: text/html, application/json;q=0.9"]).text.contains("<html>"))
        }
    }

    @Test func webDAVReads() async throws {
        try await withAPI { ask in
            let options = try await ask("/v1/flists/n/files/", ["-X", "OPTIONS"])
            #expect(options.status == 200 && options.headers["dav"] == "1" && options.headers["allow"] == "OPTIONS, GET, HEAD, PROPFIND")
            let one = try await ask("/v1/flists/n/files/dir", ["-X", "PROPFIND", "-H", "Depth: 1"])
            #expect(one.status == 207 && one.headers["content-type"] == "application/xml; charset=utf-8")
            for href in ["/dir/", "/dir/%FF%0Ax", "/dir/sub%3Adir/"] {
                #expect(one.text.contains("<D:href>/v1/flists/n/files\(href)</D:href>"), "\(href)")
            }
            #expect(!one.text.contains("null") && one.text.components(separatedBy: "<D:collection/>").count == 3)
            #expect(try Self.isXML(one.body))
            let zero = try await ask("/v1/flists/n/files/dir/", ["-X", "PROPFIND", "-H", "Depth: 0"])
            #expect(zero.status == 207 && zero.text.components(separatedBy: "<D:response>").count == 2)
            let file = try await ask("/v1/flists/n/files/x.txt", ["-X", "PROPFIND", "-H", "Depth: 1"])
            for part in [
                "<D:href>/v1/flists/n/files/x.txt</D:href>", "<D:getcontentlength>1200000<", "<D:getetag>&quot;tag&quot;<",
                "<D:getlastmodified>Sun, 06 Nov 1994 08:49:37 GMT<", "<D:getcontenttype>text/plain; charset=utf-8<", "<D:resourcetype></",
            ] { #expect(file.text.contains(part), "\(part)") }
            let long = try await ask("/v1/flists/n/files/long/", ["-X", "PROPFIND", "-H", "Depth: 1"])
            #expect(long.text.components(separatedBy: "<D:response>").count == ScriptedNode.longCount + 2)
            for depth in [["-H", "Depth: infinity"], []] {
                let all = try await ask("/v1/flists/n/files/", ["-X", "PROPFIND"] + depth)
                #expect(all.status == 403 && all.text.contains("<D:propfind-finite-depth/>"))
            }
            func find(_ body: String) async throws -> Int {
                try await ask("/v1/flists/n/files/", ["-X", "PROPFIND", "-H", "Depth: 0", "-d", body]).status
            }
            #expect(try await find("<propfind xmlns='DAV:'><propname/></propfind>") == 207)
            #expect(
                try await find("<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><propfind xmlns='DAV:'><prop>&e;</prop></propfind>")
                    == 400)
            #expect(try await find(String(repeating: " ", count: DAVAnswer.maxBodyBytes + 1)) == 400)
            #expect(try await ask("/v1/flists/n/files/absent", ["-X", "PROPFIND", "-H", "Depth: 0"]).status == 404)
            #expect(try await ask("/v1/flists/n/files/x", ["-X", "PROPFIND", "-H", "Depth: 2"]).status == 400)
            for method in ["PUT", "POST", "DELETE", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "PROPPATCH", "PATCH"] {
                let refused = try await ask("/v1/flists/n/files/x", ["-X", method])
                #expect(refused.status == 405 && refused.headers["allow"] == "OPTIONS, GET, HEAD, PROPFIND", "\(method)")
            }
        }
    }

    @Test func pagesOfOtherOriginsReadNothing() async throws {
        try await withAPI { ask in
            for method in ["GET", "PROPFIND", "OPTIONS"] {
                #expect(try await ask("/v1/flists/n/files/", ["-X", method, "-H", "Origin: http://evil.example"]).status == 403)
                #expect(try await ask("/v1/flists/n/files/", ["-X", method, "-H", "Host: evil.example"]).status == 403)
            }
            let page = try await ask("/", [])
            #expect(page.headers["content-security-policy"]?.contains("connect-src 'self'") == true)
        }
    }

    private static func isXML(_ bytes: [UInt8]) throws -> Bool {
        var reader = XMLReader(bytes)
        while try reader.next() != nil {}
        return true
    }
}
