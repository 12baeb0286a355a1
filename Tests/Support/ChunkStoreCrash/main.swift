// Stores chunks in a loop until it is killed, and prints the id of each one once it is stored; a helper of ChunkStoreTests.
import ChunkModel
import ChunkStore
import Glibc
import Logging

let store = try ChunkStore(
    ChunkStoreConfiguration(directory: CommandLine.arguments[1], maxBytes: 1 << 40, minFree: .bytes(0)),
    logger: Logger(label: "crash") { _ in SwiftLogNoOpLogHandler() })
while true {
    let buffer = ChunkBuffer(copying: Sodium.randomBytes(Int.random(in: 1...60_000)))
    let chunk = Chunk(verifying: buffer, as: ChunkID(ofStored: buffer.bytes))!
    guard store.insert(chunk) == .stored else { continue }
    let line = Array("\(chunk.id)\n".utf8)
    // Unbuffered, so that what was printed was stored.
    guard write(1, line, line.count) == line.count else { exit(1) }
}
