import Glibc

// Usage: chunkmesh-fuzz TARGET [libFuzzer's options and folders]
//        chunkmesh-fuzz --list            names and bounds, one target a line
//        chunkmesh-fuzz --seeds TARGET DIRECTORY

@_silgen_name("LLVMFuzzerRunDriver")
func runDriver(
    _ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// libFuzzer's callback takes no context.
nonisolated(unsafe) var chosen: FuzzTarget?

func fail(_ text: String) -> Never {
    let line = "chunkmesh-fuzz: \(text)\n"
    _ = write(STDERR_FILENO, line, line.utf8.count)
    exit(2)
}

/// libFuzzer starts itself again with its own options alone, for -merge and -jobs: the target is found in the environment then.
let targetVariable = "CHUNKMESH_FUZZ_TARGET"
var arguments = CommandLine.arguments
if arguments.count > 1, arguments[1].hasPrefix("-"), !["--list", "--seeds"].contains(arguments[1]), let name = getenv(targetVariable) {
    arguments.insert(String(cString: name), at: 1)
}
switch arguments.count > 1 ? arguments[1] : "--list" {
case "--list":
    for target in FuzzTarget.all { print(target.name, target.maxLength, target.maxMegabytes, target.maxSeconds) }
case "--seeds":
    guard arguments.count == 4, let target = FuzzTarget.named(arguments[2]) else { fail("--seeds takes a target and a directory") }
    for seed in target.seeds() where seed.count <= target.maxLength {
        // Named by content, so that a second run adds nothing.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in seed { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        ScratchFile.write(seed, to: "\(arguments[3])/seed-\(String(hash, radix: 16))")
    }
case let name:
    guard let target = FuzzTarget.named(name) else { fail("no target \(name)") }
    chosen = target
    setenv(targetVariable, name, 1)
    var words: [UnsafeMutablePointer<CChar>?] = [strdup(arguments[0])]
    words.append(strdup("-max_len=\(target.maxLength)"))
    words.append(strdup("-rss_limit_mb=\(target.maxMegabytes)"))
    words.append(strdup("-malloc_limit_mb=\(target.maxMegabytes / 4)"))
    words.append(strdup("-timeout=\(target.maxSeconds)"))
    for argument in arguments.dropFirst(2) { words.append(strdup(argument)) }
    var count = CInt(words.count)
    words.append(nil)
    let status = words.withUnsafeMutableBufferPointer { words in
        var start = words.baseAddress!
        return runDriver(&count, &start) { bytes, count in
            chosen?.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
            return 0
        }
    }
    exit(status)
}
