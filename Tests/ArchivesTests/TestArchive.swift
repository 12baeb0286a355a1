import Foundation

/// Archives as Python's tarfile writes them.
enum TestArchive {
    struct Failure: Error, CustomStringConvertible { let description: String }

    /// Runs `code` with `t`, a tarfile open for writing in `mode` (`w`, `w:gz`), `add(name, body, **fields)`, and returns the archive's bytes.
    static func make(_ code: String, mode: String = "w:gz", format: String = "PAX") throws -> [UInt8] {
        let script = """
            import io, sys, tarfile
            out = io.BytesIO()
            t = tarfile.open(fileobj=out, mode='\(mode)', format=tarfile.\(format)_FORMAT)
            def add(name, body=b'', **fields):
                info = tarfile.TarInfo(name)
                info.size = len(body)
                for k, v in fields.items(): setattr(info, k, v)
                t.addfile(info, io.BytesIO(body))
            \(code)
            t.close()
            sys.stdout.buffer.write(out.getvalue())
            """
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["python3", "-c", script]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let bytes = [UInt8](pipe.fileHandleForReading.readDataToEndOfFile())
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw Failure(description: "python3 failed") }
        return bytes
    }

    static func source(_ bytes: [UInt8], step: Int = .max) -> (UnsafeMutableRawBufferPointer) -> Int {
        var rest = bytes[...]
        return { buffer in
            let piece = rest.prefix(min(buffer.count, step))
            buffer.copyBytes(from: piece)
            rest = rest.dropFirst(piece.count)
            return piece.count
        }
    }
}
