# Medians of scripts/bench.sh as a Markdown table. Files: limits.tsv (model, precision, peak in
# GFLOP/s, FLOP a token), results.tsv (model, contender, repeat, tokens/s, bytes).
function title(name,    w)
{
    split(name, w, " ")
    if (w[1] == "cllm")
        return "CLLM " w[2] ", " w[3] " workers"
    if (w[1] == "llmc")
        return "llm.c " w[2] ", " w[3] " threads"
    return "PyTorch " w[2] ", " (w[3] > 1 ? "DDP, " w[3] " processes" : w[4] " thread" (w[4] > 1 ? "s" : ""))
}
BEGIN { FS = "\t" }
FILENAME ~ /limits.tsv$/ { peak[$1, $2] = peak[$1, $2] " " $3; flop[$1] = $4; next }
!(($1, $2) in tokens) { order[++n] = $1 SUBSEP $2 }
{
    tokens[$1, $2] = tokens[$1, $2] " " $4
    bytes[$1, $2] = $5
}
END {
    for (i = 1; i <= n; i++) {
        split(order[i], key, SUBSEP)
        if (key[2] !~ /^cllm/ && median(tokens[order[i]]) > best[key[1]])
            best[key[1]] = median(tokens[order[i]])
    }
    print "| model | who | tokens/s (least to most) | of the peak | against the best peer | memory (PSS) |"
    print "| --- | --- | --- | --- | --- | --- |"
    for (i = 1; i <= n; i++) {
        split(order[i], key, SUBSEP)
        split(key[2], word, " ")
        limit = median(peak[key[1], word[2]])
        m = median(tokens[order[i]])
        low = least
        high = most
        share = ratio = memory = ""
        if (limit > 0)
            share = sprintf("%.1f %% of %.0f GFLOP/s", 100 * m * flop[key[1]] / (limit * 1e9), limit)
        if (best[key[1]] > 0)
            ratio = sprintf("%.2fx", m / best[key[1]])
        if (bytes[order[i]] > 0)
            memory = sprintf("%.2f GiB", bytes[order[i]] / 1073741824)
        printf "| %s | %s | %.0f (%.0f to %.0f) | %s | %s | %s |\n", key[1], title(key[2]), m, low, high,
            share, ratio, memory
    }
}
