/// Prometheus' text exposition format, version 0.0.4, read strictly.
///
/// Stricter than Prometheus: every metric has its HELP and TYPE before its samples, which stand together, no line
/// is empty, and histograms are complete.
struct Exposition {
    struct Problem: Error { let text: String }

    struct Series: Hashable {
        let name: String
        let labels: [String: String]
    }

    /// By metric.
    private(set) var types: [String: String] = [:]
    private var helped: Set<String> = []
    private var samples: [Series: Double] = [:]
    private var metric = ""
    private var buckets: [Series: [(le: Double, count: Double)]] = [:]

    func value(_ name: String, _ labels: [String: String]) -> Double? {
        samples[Series(name: name, labels: labels)]
    }

    init(_ text: String) throws {
        // By scalars: "\r\n" is one character.
        var lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
        guard text.isEmpty || lines.last?.isEmpty == true else {
            throw Problem(text: "the last line has no end")
        }
        lines.removeLast()
        for line in lines { try take(String(line)) }
        for (series, buckets) in buckets { try check(series, buckets) }
    }

    private mutating func take(_ line: String) throws {
        func problem(_ text: String) -> Problem { Problem(text: "\(text): \(line)") }
        let words = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false)
        if words.first == "#" {
            guard words.count == 4, Self.isName(words[2]) else { throw problem("a comment") }
            let name = String(words[2])
            switch words[1] {
            case "HELP":
                guard helped.insert(name).inserted, name != metric else { throw problem("again") }
            case "TYPE":
                let kinds = ["counter", "gauge", "histogram"]
                guard kinds.contains(String(words[3])) else { throw problem("no type") }
                guard types.updateValue(String(words[3]), forKey: name) == nil else {
                    throw problem("again")
                }
                metric = name
            default: throw problem("a comment")
            }
            return
        }
        var rest = Substring(line).unicodeScalars
        let name = String(rest.prefix { $0 != "{" && $0 != " " })
        rest = rest.dropFirst(name.unicodeScalars.count)
        let labels = rest.first == "{" ? try Self.labels(&rest) : [:]
        guard Self.isName(name[...]), rest.first == " ",
            let value = Double(String(rest.dropFirst()))
        else { throw problem("no sample") }
        try add(Series(name: name, labels: labels), value, problem("not of the metric \(metric)"))
    }

    private mutating func add(_ series: Series, _ value: Double, _ stray: Problem) throws {
        let isHistogram = types[metric] == "histogram"
        let suffixes = isHistogram ? ["_bucket", "_sum", "_count"] : [""]
        guard !metric.isEmpty, suffixes.contains(where: { metric + $0 == series.name }) else {
            throw stray
        }
        guard samples.updateValue(value, forKey: series) == nil else {
            throw Problem(text: "twice: \(series)")
        }
        guard isHistogram else { return }
        if series.name == metric + "_bucket" {
            var labels = series.labels
            guard let le = labels.removeValue(forKey: "le"),
                let bound = le == "+Inf" ? .infinity : Double(le)
            else { throw Problem(text: "no bound: \(series)") }
            buckets[Series(name: metric, labels: labels), default: []].append((bound, value))
        }
    }

    private func check(_ series: Series, _ buckets: [(le: Double, count: Double)]) throws {
        let isRising = zip(buckets, buckets.dropFirst()).allSatisfy {
            $0.le < $1.le && $0.count <= $1.count
        }
        let last = buckets.last
        guard isRising, last?.le == .infinity,
            value(series.name + "_count", series.labels) == last?.count,
            value(series.name + "_sum", series.labels) != nil
        else { throw Problem(text: "no histogram: \(series)") }
    }

    /// Takes `{a="b",c="d"}` off.
    private static func labels(
        _ rest: inout Substring.UnicodeScalarView
    ) throws -> [String: String] {
        var labels: [String: String] = [:]
        repeat {
            rest = rest.dropFirst()
            let name = String(rest.prefix { $0 != "=" })
            rest = rest.dropFirst(name.unicodeScalars.count)
            guard isName(name[...]), !name.contains(":"), rest.starts(with: "=\"".unicodeScalars)
            else { throw Problem(text: "no label: \(name)") }
            rest = rest.dropFirst(2)
            guard labels.updateValue(try quoted(&rest), forKey: name) == nil else {
                throw Problem(text: "the label \(name) twice")
            }
        } while rest.first == ","
        guard rest.first == "}" else { throw Problem(text: "labels without an end") }
        rest = rest.dropFirst()
        return labels
    }

    /// Up to the next quote, which is taken too.
    private static func quoted(_ rest: inout Substring.UnicodeScalarView) throws -> String {
        var value = String.UnicodeScalarView()
        while let scalar = rest.popFirst() {
            switch scalar {
            case "\"": return String(value)
            case "\\":
                switch rest.popFirst() {
                case "\\": value.append("\\")
                case "\"": value.append("\"")
                case "n": value.append("\n")
                default: throw Problem(text: "a bad escape")
                }
            default: value.append(scalar)
            }
        }
        throw Problem(text: "a value without an end")
    }

    private static func isName(_ text: Substring) -> Bool {
        guard let first = text.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first)
        else { return false }
        return text.unicodeScalars.allSatisfy {
            $0.isASCII && ($0.properties.isAlphabetic || $0.properties.numericType != nil)
                || $0 == "_" || $0 == ":"
        }
    }
}
