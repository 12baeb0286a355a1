import FoundationEssentials

/// One JSON object on stdout whose long lists are written as they come, so that memory does not grow with them.
final class JSONStream {
    /// Bytes that are gathered before they are written.
    private static let pieceBytes = 64 << 10

    private let encoder = JSONEncoder()
    private var pending: [UInt8] = [UInt8(ascii: "{")]
    private var hasFields = false
    private var itemsOfList: Int?

    init() { encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes] }

    /// From here on, `item` adds to the list `name`.
    func beginList(_ name: String) {
        endList()
        begin(name)
        pending.append(UInt8(ascii: "["))
        itemsOfList = 0
    }

    func item(_ value: some Encodable) throws {
        if itemsOfList ?? 0 > 0 { pending.append(UInt8(ascii: ",")) }
        itemsOfList = (itemsOfList ?? 0) + 1
        pending += try encoder.encode(value)
        if pending.count > Self.pieceBytes { flush() }
    }

    /// The fields of an object, put into the document, which ends with it.
    func end(with object: some Encodable) throws {
        endList()
        let fields = Array(try encoder.encode(object).dropFirst())
        if hasFields, fields.count > 1 { pending.append(UInt8(ascii: ",")) }
        pending += fields + [UInt8(ascii: "\n")]
        flush()
    }

    private func begin(_ name: String) {
        if hasFields { pending.append(UInt8(ascii: ",")) }
        hasFields = true
        pending += Array("\"\(name)\":".utf8)
    }

    private func endList() {
        if itemsOfList != nil { pending.append(UInt8(ascii: "]")) }
        itemsOfList = nil
    }

    private func flush() {
        Terminal.write(1, pending)
        pending.removeAll(keepingCapacity: true)
    }
}

/// A name, path or link target as JSON documents show it: text, and the bytes in hex where they are no UTF-8.
struct ForeignText {
    let text: String
    let hex: String?

    init(_ bytes: [UInt8]) {
        let valid = String(validating: bytes, as: UTF8.self)
        text = valid ?? String(decoding: bytes, as: UTF8.self)
        hex = valid == nil ? bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() : nil
    }
}
