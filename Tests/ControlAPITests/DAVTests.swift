import Foundation
import Testing

@testable import ControlAPI

@Suite struct XMLReaderTests {
    private func events(_ text: String) throws(XMLError) -> [XMLReader.Event] {
        var reader = XMLReader(Array(text.utf8))
        var out: [XMLReader.Event] = []
        while let event = try reader.next() { out.append(event) }
        return out
    }

    private func start(_ space: String, _ local: String) -> XMLReader.Event { .start(.init(space: space, local: local)) }

    @Test func namespacesAreThoseOfTheElement() throws {
        let text = """
            \u{FEFF}<?xml version="1.0"?><!-- <a> --><D:a xmlns:D="DAV:" xmlns='u&amp;&#39;&#x7E;&quot;v' other="&lt;">
            text<b><![CDATA[</b>]]></b><D:c xmlns:D="w"/><e xmlns=""/><D:f/></D:a>

            """
        #expect(
            try events(text) == [
                start("DAV:", "a"), start("u&'~\"v", "b"), .end, start("w", "c"), .end, start("", "e"), .end, start("DAV:", "f"), .end,
                .end,
            ])
    }

    @Test(arguments: [
        "", "text", "<a>", "<a></b>", "<a/><b/>", "<a/>x", "<a", "<", "</a>", "<a b></a>", "<a b=c/>", "<a b='<'/>", "<x:a/>", "<a:/>",
        "<:a/>", "<1a/>", "<a/ >", "<ä/>", "<a b='&x;'/>", "<a b='&#200;'/>", "<a b='&#7;'/>", "<a b='&65;'/>", "<a b='&#xx41;'/>",
        "<a b='&'/>", "<!DOCTYPE a><a/>",
        "<!DOCTYPE a [<!ENTITY b \"c\"><!ENTITY d \"&b;&b;\">]><a/>", "<a><!ENTITY b 'c'></a>", "<a>]]><![CDATA[</a>", "<a><!-- </a>",
    ]) func refused(text: String) { #expect(throws: XMLError.self, "\(text)") { try events(text) } }

    @Test func nestingAndNamespacesAreBounded() {
        let deep = XMLReader.maxDepth
        #expect(throws: Never.self) { try events(String(repeating: "<a>", count: deep) + String(repeating: "</a>", count: deep)) }
        #expect(throws: XMLError.self) {
            try events(String(repeating: "<a>", count: deep + 1) + String(repeating: "</a>", count: deep + 1))
        }
        let spaces = (0...XMLReader.maxSpaces).map { "xmlns:n\($0)='u'" }.joined(separator: " ")
        #expect(throws: XMLError.self) { try events("<a \(spaces)/>") }
    }
}

@Suite struct DAVPropertiesTests {
    @Test(arguments: [
        ("", DAVProperties.all), ("<propfind xmlns='DAV:'><allprop/><include><x/></include></propfind>", .all),
        ("<D:propfind xmlns:D='DAV:'><D:propname/></D:propfind>", .names),
        (
            "<propfind xmlns='DAV:'><prop><getetag/><y xmlns='x'><z/></y><getetag/></prop></propfind>",
            .some([.init(space: "DAV:", local: "getetag"), .init(space: "x", local: "y")])
        ),
        ("<propfind xmlns='DAV:'><prop/></propfind>", .some([])),
    ]) func asked(body: String, expected: DAVProperties) throws { #expect(try DAVProperties(Array(body.utf8)) == expected) }

    @Test(arguments: ["<propfind/>", "<x xmlns='DAV:'><allprop/></x>", "<propfind xmlns='DAV:'/>", "{}"])
    func refused(body: String) { #expect(throws: XMLError.self) { try DAVProperties(Array(body.utf8)) } }

    @Test func namesAreBounded() throws {
        func body(_ count: Int) -> [UInt8] {
            Array("<propfind xmlns='DAV:'><prop>\((0..<count).map { "<p\($0)/>" }.joined())</prop></propfind>".utf8)
        }
        #expect(throws: Never.self) { try DAVProperties(body(DAVProperties.maxNames)) }
        #expect(throws: XMLError.self) { try DAVProperties(body(DAVProperties.maxNames + 1)) }
    }

    /// A fuzzer's find: quotes went out as a reference that was not read back.
    @Test func foreignNamesComeOutAsTheyCame() throws {
        let some = try DAVProperties(Array("<propfind xmlns='DAV:'><prop><q xmlns=\"u'&amp;\"/></prop></propfind>".utf8))
        var reader = XMLReader(Array("<r xmlns:D='DAV:'>\(some.answer(for: DAVEntry(ScriptedNode.children[0], below: "/")!))</r>".utf8))
        var names: [XMLReader.Name] = []
        while let event = try reader.next() { if case .start(let name) = event { names.append(name) } }
        #expect(names.contains(.init(space: "u'&", local: "q")))
    }

    @Test func whatIsNotKnownIsNotFound() throws {
        let entry = DAVEntry(ScriptedNode.children[0], below: "/d/")!
        let some = try DAVProperties(
            Array("<propfind xmlns='DAV:'><prop><getcontentlength/><getetag/><q xmlns='a\"b'/><r xmlns=''/></prop></propfind>".utf8))
        let answer = some.answer(for: entry)
        #expect(answer.contains("<D:href>/d/a%20%26%20b%20%3Ci%3E%22%27%25</D:href>"))
        #expect(answer.contains("<D:prop><D:getcontentlength>7</D:getcontentlength></D:prop><D:status>HTTP/1.1 200 OK"))
        #expect(answer.contains("<x:getetag xmlns:x=\"DAV:\"/>") && answer.contains("<r xmlns=\"\"/>") && answer.contains("404 Not Found"))
        #expect(DAVProperties.names.answer(for: entry).contains("<D:resourcetype/>"))
        #expect(DAVProperties.all.answer(for: entry).contains("<D:displayname>a &amp; b &lt;i&gt;&quot;&#39;%</D:displayname>"))
    }
}
