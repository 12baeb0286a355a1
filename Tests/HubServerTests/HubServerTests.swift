import Foundation
import Logging
import Testing

@testable import HubServer

/// What the `curl` command got.
private struct Answer: Sendable {
    let status: Int
    let headers: [String: String]
    let headerBytes: Int
    let body: [UInt8]
    let connections: Int

    /// - Parameter arguments: of curl; URLs may be several.
    static func get(_ arguments: [String]) async throws -> Answer {
        // A thread of its own: the server needs those of the cooperative pool, which Dispatch shares.
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread { continuation.resume(with: Result { try Answer(arguments) }) }
        }
    }

    private init(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/curl")
        process.arguments = ["-s", "-i", "--path-as-is", "--max-time", "10", "-w", "%{stderr}%{num_connects}\n"] + arguments
        let (output, report) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = report
        try process.run()
        let bytes = [UInt8](output.fileHandleForReading.readDataToEndOfFile())
        let text = String(decoding: report.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        connections = text.split(separator: "\n").compactMap { Int($0) }.reduce(0, +)
        let end = bytes.indices.first { bytes[$0...].starts(with: Array("\r\n\r\n".utf8)) } ?? bytes.count
        headerBytes = end + 4
        let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n")
        status = lines.first.flatMap { Int($0.split(separator: " ")[1]) } ?? 0
        headers = Dictionary(
            lines.dropFirst().map { line in
                let colon = line.firstIndex(of: ":")!
                return (line[..<colon].lowercased(), line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces))
            }, uniquingKeysWith: { $1 })
        body = Array(bytes.dropFirst(end + 4))
    }
}

/// A hub over a directory of its own, on a free port.
private func withHub(_ body: (_ url: String, _ directory: String) async throws -> Void) async throws {
    let directory = NSTemporaryDirectory() + "chunkmesh-hub-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let (ports, listening) = AsyncStream.makeStream(of: Int.self)
    let hub = HubServer(directory: directory, host: "127.0.0.1", port: 0, logger: Logger(label: "hub")) { listening.yield($1) }
    let running = Task { try await hub.run() }
    var iterator = ports.makeAsyncIterator()
    let port = try #require(await iterator.next())
    try await body("http://127.0.0.1:\(port)", directory)
    running.cancel()
    try await running.value
}

private func write(_ bytes: [UInt8], _ path: String) throws {
    try FileManager.default.createDirectory(atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data(bytes).write(to: URL(fileURLWithPath: path))
}

private func content(_ count: Int) -> [UInt8] {
    let words = (0..<(count + 7) / 8).map { UInt64($0) &* 0x9e37_79b9_7f4a_7c15 }
    return words.withUnsafeBytes { Array($0.prefix(count)) }
}

private let hex = "ab" + String(repeating: "0123456789", count: 6) + "cd"

@Suite(.serialized) struct HubServerTests {
    @Test(arguments: [0, 1, 131_071, 131_072, 131_073, 524_288, 2_000_000])
    func chunksOfAllSizesAreServedInBothLayouts(size: Int) async throws {
        let bytes = content(size)
        for stored in ["ab/\(hex)", hex] {
            try await withHub { url, directory in
                try write(bytes, "\(directory)/\(stored)")
                for asked in ["ab/\(hex)", hex] {
                    let answer = try await Answer.get(["\(url)/\(asked)"])
                    #expect(answer.status == 200)
                    #expect(answer.body == bytes)
                    #expect(answer.headers["content-length"] == "\(size)")
                }
            }
        }
    }

    @Test func headersOfChunksAreFewAndLetThemBeKept() async throws {
        try await withHub { url, directory in
            try write(content(100), "\(directory)/ab/\(hex)")
            let answer = try await Answer.get(["\(url)/ab/\(hex)"])
            #expect(Set(answer.headers.keys) == ["content-length", "etag", "cache-control", "date"])
            #expect(answer.headers["cache-control"] == "max-age=31536000, immutable")
            #expect(answer.headerBytes < 180, "\(answer.headerBytes) bytes")
            let again = try await Answer.get(["-H", "If-None-Match: \"x\", W/\(answer.headers["etag"]!)", "\(url)/ab/\(hex)"])
            #expect(again.status == 304)
            #expect(again.body.isEmpty)
        }
    }

    @Test func connectionsAreKeptAlive() async throws {
        try await withHub { url, directory in
            try write(content(300_000), "\(directory)/ab/\(hex)")
            #expect(try await Answer.get(Array(repeating: "\(url)/ab/\(hex)", count: 5)).connections == 1)
            #expect(try await Answer.get(["\(url)/missing", "\(url)/ab/\(hex)", "\(url)/../x", "\(url)/ab/\(hex)"]).connections == 1)
        }
    }

    @Test func filesOfTheDirectoryAreServedAndRevalidated() async throws {
        try await withHub { url, directory in
            try write(content(1_000), "\(directory)/my image.fl")
            let first = try await Answer.get(["\(url)/my%20image.fl"])
            #expect(first.body == content(1_000))
            let tag = try #require(first.headers["etag"])
            #expect(tag.hasPrefix("\""))
            #expect(try #require(first.headers["last-modified"]).hasSuffix(" GMT"))
            #expect(try await Answer.get(["-H", "If-None-Match: \(tag)", "\(url)/my%20image.fl"]).status == 304)
            let date = "If-Modified-Since: \(first.headers["last-modified"]!)"
            #expect(try await Answer.get(["-H", date, "\(url)/my%20image.fl"]).status == 304)
            try write(content(1_001), "\(directory)/my image.fl")
            let second = try await Answer.get(["-H", "If-None-Match: \(tag)", "\(url)/my%20image.fl"])
            #expect(second.status == 200)
            #expect(second.headers["etag"] != tag)
        }
    }

    @Test func headTellsTheLengthOnly() async throws {
        try await withHub { url, directory in
            try write(content(1_000), "\(directory)/ab/\(hex)")
            let answer = try await Answer.get(["-I", "\(url)/ab/\(hex)"])
            #expect(answer.status == 200)
            #expect(answer.headers["content-length"] == "1000")
            #expect(answer.body.isEmpty)
            #expect(try await Answer.get(["-X", "POST", "-d", "x", "\(url)/ab/\(hex)"]).status == 405)
            #expect(try await Answer.get(["-X", "DELETE", "\(url)/ab/\(hex)"]).status == 405)
            #expect(FileManager.default.fileExists(atPath: "\(directory)/ab/\(hex)"))
        }
    }

    @Test func singleRangesAreServed() async throws {
        try await withHub { url, directory in
            let bytes = content(300_000)
            try write(bytes, "\(directory)/image.fl")
            func get(_ range: String, _ more: [String] = []) async throws -> Answer {
                try await Answer.get(["-H", "Range: \(range)"] + more + ["\(url)/image.fl"])
            }
            let middle = try await get("bytes=1000-199999")
            #expect(middle.status == 206)
            #expect(middle.body == Array(bytes[1_000..<200_000]))
            #expect(middle.headers["content-range"] == "bytes 1000-199999/300000")
            #expect(try await get("bytes=299999-").body == [bytes[299_999]])
            #expect(try await get("bytes=-5").body == Array(bytes.suffix(5)))
            #expect(try await get("bytes=0-999999999999999999999999").body == bytes)
            let behind = try await get("bytes=300000-")
            #expect(behind.status == 416)
            #expect(behind.headers["content-range"] == "bytes */300000")
            for odd in ["bytes=5-1", "bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "bytes=-"] {
                #expect(try await get(odd).status == 200, "\(odd)")
            }
            #expect(try await get("bytes=0-1", ["-H", "If-Range: \"other\""]).status == 200)
        }
    }

    @Test func nothingElseIsServed() async throws {
        try await withHub { url, directory in
            let outside = directory + "-outside"
            try write([1], outside)
            defer { try? FileManager.default.removeItem(atPath: outside) }
            try write([1], "\(directory)/.hidden")
            try write([1], "\(directory)/sub/file")
            try write([1], "\(directory)/cd/\(hex)")
            try FileManager.default.createSymbolicLink(atPath: "\(directory)/link", withDestinationPath: outside)
            try FileManager.default.createSymbolicLink(atPath: "\(directory)/dot", withDestinationPath: ".hidden")
            try FileManager.default.createSymbolicLink(atPath: "\(directory)/within", withDestinationPath: "sub/file")
            #expect(mkfifo("\(directory)/fifo", 0o600) == 0)
            let name = (outside as NSString).lastPathComponent
            let paths = [
                "", "/", "//", "/.hidden", "/%2ehidden", "/sub", "/sub/", "/sub/file", "/cd/\(hex)", "/../\(name)", "/%2e%2e%2f\(name)",
                "/..%2f\(name)", "/sub/../image", "/link", "/dot", "/fifo", "/%00", "/%zz", "/%", "/.", "/..", "/ab/\(hex)", "/\(hex)",
                "/" + String(repeating: "x", count: 300), "/ab/\(hex.uppercased())",
            ]
            for path in paths { #expect(try await Answer.get(["\(url)\(path)"]).status == 404, "\(path)") }
            #expect(try await Answer.get(["\(url)/within"]).status == 200)
        }
    }

    @Test func faultsAtTheStartAreOneClearLine() async throws {
        let missing = HubServer(directory: "/nonexistent/hub", host: "127.0.0.1", port: 0, logger: Logger(label: "hub"))
        await #expect {
            try await missing.run()
        } throws: {
            "\($0)" == "/nonexistent/hub: No such file or directory"
        }
        try await withHub { url, directory in
            let port = try #require(Int(url.split(separator: ":").last!))
            let second = HubServer(directory: directory, host: "127.0.0.1", port: port, logger: Logger(label: "hub"))
            await #expect {
                try await second.run()
            } throws: {
                "\($0)" == "cannot listen on 127.0.0.1:\(port): Address already in use"
            }
        }
    }
}
