import ChunkModel
import ReadProtocol

extension FuzzTarget {
    /// A stream as the daemon reads it from a program on its machine, and as the program reads the daemon's: cut at a place of the input's choice.
    static let readFrames = FuzzTarget(
        name: "read-frames", maxLength: 4_096,
        seeds: {
            let requests: [ReadRequest] = [
                .hello(version: 1), .open(id: 1, name: "image.fl"),
                .read(id: 2, flist: 1, ino: 3, offset: 4, length: 5, priority: .readAhead), .whole(id: 3, flist: 1, ino: 2, fill: true),
                .prefetch(id: 4, flist: 1), .cancel(id: 2), .close(flist: 1), .release(content: 7),
            ]
            let digest = FlistDigest(Blake2b.hash256([1]))
            let answers: [ReadAnswer] = [
                .hello(version: 1, software: "x"),
                .opened(id: 1, flist: 2, digest: digest, isLegacy: false, path: "/a", tables: "/b"),
                .ready(id: 2, content: 3, start: 4, end: 5, isWhole: true, hasDescriptor: true), .bytes(id: 1, count: 9),
                .partial(id: 1, readyBytes: 2, size: 3), .done(id: 1), .failed(id: 1, code: .busy, message: "wait"), .gone(content: 1),
            ]
            return [[5] + requests.flatMap(\.encoded), [9] + answers.flatMap(\.encoded)]
        },
        run: { bytes in
            guard let cut = bytes.first else { return }
            let stream = Array(bytes.dropFirst())
            let middle = min(Int(cut), stream.count)
            for isServer in [true, false] {
                var frames = ReadFrames()
                do throws(ReadViolation) {
                    for piece in [stream[..<middle], stream[middle...]] {
                        frames.append(piece)
                        while let body = try frames.next() {
                            if isServer {
                                let request = try ReadRequest(decoding: body)
                                fuzzCheck(try ReadRequest(decoding: request.encoded[4...]) == request, "a request reads differently")
                            } else {
                                let answer = try ReadAnswer(decoding: body)
                                fuzzCheck(try ReadAnswer(decoding: answer.encoded[4...]) == answer, "an answer reads differently")
                                if case .bytes(_, let count) = answer { _ = frames.take(upTo: Int(count)) }
                            }
                        }
                    }
                } catch {
                    fuzzCheck(!error.description.isEmpty, "a violation without a line")
                }
            }
        })
}
