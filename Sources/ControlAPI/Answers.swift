internal import ControlModel
internal import FoundationEssentials
internal import Hummingbird
internal import NIOCore

/// One JSON document, keys in a fixed order.
func json(_ value: some Encodable, status: HTTPResponse.Status = .ok) -> Response {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(value) else { return answer(.internalServerError, "the answer cannot be written as JSON") }
    var buffer = ByteBufferAllocator().buffer(capacity: data.count + 1)
    buffer.writeBytes(data)
    buffer.writeString("\n")
    return Response(status: status, headers: [.contentType: "application/json"], body: .init(byteBuffer: buffer))
}

func answer(_ status: HTTPResponse.Status, _ line: String) -> Response { json(ErrorAnswer(error: line), status: status) }

func text(_ content: String, type: String, status: HTTPResponse.Status = .ok) -> Response {
    Response(status: status, headers: [.contentType: type], body: .init(byteBuffer: ByteBuffer(string: content)))
}

func octets(_ content: [UInt8], type: String) -> Response {
    Response(status: .ok, headers: [.contentType: type], body: .init(byteBuffer: ByteBuffer(bytes: content)))
}

/// Runs `body`; what the node cannot do becomes an answer with a status that says whose turn it is.
func reporting(_ body: () async throws -> Response) async throws -> Response {
    do {
        return try await body()
    } catch let error as NodeError {
        switch error {
        case .badRequest(let line): return answer(.badRequest, line)
        case .notFound(let line): return answer(.notFound, line)
        case .conflict(let line): return answer(.conflict, line)
        case .unavailable(let line): return answer(.serviceUnavailable, line)
        }
    }
}

/// The JSON body of a request.
///
/// - Parameter maxBodyBytes: a request to the API is small; more is refused.
func body<Value: Decodable>(of request: Request, as type: Value.Type = Value.self, upTo maxBodyBytes: Int = 64 << 10) async throws
    -> Value
{
    var request = request
    guard let buffer = try? await request.collectBody(upTo: maxBodyBytes) else {
        throw NodeError.badRequest("the body is larger than \(maxBodyBytes) bytes")
    }
    do {
        return try JSONDecoder().decode(Value.self, from: Data(buffer.readableBytesView))
    } catch let DecodingError.keyNotFound(key, _) {
        throw NodeError.badRequest("the JSON body lacks \"\(key.stringValue)\"")
    } catch let DecodingError.typeMismatch(_, context), let DecodingError.valueNotFound(_, context) {
        throw NodeError.badRequest("the JSON body is wrong at \(context.codingPath.map(\.stringValue).joined(separator: "."))")
    } catch {
        throw NodeError.badRequest("the body is no JSON of the expected form")
    }
}
