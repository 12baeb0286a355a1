internal import Glibc

// exchange-bench: what the exchange costs, beside what it is compared with. `scripts/bench-exchange` runs it and prints ratios.
//
//   exchange-bench make DIR COUNT BYTES              files of random bytes, named by their chunk id
//   exchange-bench serve DIR PORT [--seal]           serves them by id, one I/O thread, until it gets SIGTERM; --seal seals chunk bytes
//   exchange-bench load HOST PORT DIR [--conns 8] [--seconds 5] [--discard]
//                                                    asks for random chunks; --discard does not copy their bytes out of the kernel
//   exchange-bench load-http …                       the same client over HTTP, for nginx
//   exchange-bench receive HOST PORT DIR OUT [--seconds 5]    receive, verify, store
//   exchange-bench baseline DIR OUT [--seconds 5]             BLAKE2b-256 of the same files and a copy to a file
//
// Results are one line: bytes, chunks, seconds, CPU seconds (user and system) of this process.

let arguments = BenchArguments(Array(CommandLine.arguments.dropFirst()))
do {
    switch arguments.command {
    case "make": try Bench.make(directory: arguments.word(1), count: arguments.number(2), bytes: arguments.number(3))
    case "serve": try Bench.serve(directory: arguments.word(1), port: arguments.number(2), seals: arguments.has("--seal"))
    case "load":
        try Load.run(
            port: arguments.number(2), names: Bench.names(in: arguments.word(3)), connections: arguments.option("--conns", 8),
            seconds: arguments.option("--seconds", 5), discard: arguments.has("--discard"))
    case "load-http":
        try HTTPLoad.run(
            port: arguments.number(2), names: Bench.names(in: arguments.word(3)), connections: arguments.option("--conns", 8),
            seconds: arguments.option("--seconds", 5), discard: arguments.has("--discard"))
    case "receive":
        try Bench.receive(
            host: arguments.word(1), port: arguments.number(2), directory: arguments.word(3), out: arguments.word(4),
            seconds: arguments.option("--seconds", 5))
    case "baseline":
        try Bench.baseline(directory: arguments.word(1), out: arguments.word(2), seconds: arguments.option("--seconds", 5))
    default: throw BenchError("usage: exchange-bench make|serve|load|receive|baseline …, see the head of Sources/exchange-bench/main.swift")
    }
} catch {
    let line = "exchange-bench: \(error)\n"
    _ = write(STDERR_FILENO, line, line.utf8.count)
    exit(error is BenchError ? 2 : 1)
}
