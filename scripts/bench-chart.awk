# Medians of scripts/bench.sh as bars (SVG); files as for bench-table.awk. Every model has its
# own scale: its fastest fills the width.
BEGIN { FS = "\t" }
FILENAME ~ /limits.tsv$/ { next }
!(($1, $2) in tokens) { order[++n] = $1 SUBSEP $2 }
{ tokens[$1, $2] = tokens[$1, $2] " " $4 }
END {
    models = 0
    for (i = 1; i <= n; i++) {
        split(order[i], key, SUBSEP)
        m[i] = median(tokens[order[i]])
        if (!(key[1] in top))
            models++
        if (m[i] > top[key[1]])
            top[key[1]] = m[i]
    }
    height = 20 + models * 40 + n * 22
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"%d\" font-family=\"sans-serif\" font-size=\"13\">\n", height
    printf "<title>Tokens a second in training, by model; longer is faster</title>\n"
    printf "<rect width=\"760\" height=\"%d\" fill=\"#ffffff\"/>\n", height
    y = 10
    for (i = 1; i <= n; i++) {
        split(order[i], key, SUBSEP)
        if (key[1] != last) {
            y += 30
            printf "<text x=\"10\" y=\"%d\" font-weight=\"bold\" fill=\"#222222\">%s, tokens/s</text>\n", y, key[1]
            y += 10
            last = key[1]
        }
        split(key[2], word, " ")
        width = top[key[1]] > 0 ? 420 * m[i] / top[key[1]] : 0
        name = word[1] " " word[2] (word[1] == "pytorch" ? sprintf(", %d x %d", word[3], word[4]) : ", " word[3])
        printf "<text x=\"10\" y=\"%d\" fill=\"#222222\">%s</text>\n", y + 14, name
        printf "<rect x=\"200\" y=\"%d\" width=\"%.1f\" height=\"16\" fill=\"%s\"/>\n", y + 2, width, word[1] == "cllm" ? "#1f6feb" : "#9aa4b2"
        printf "<text x=\"%.1f\" y=\"%d\" fill=\"#222222\">%.0f</text>\n", 206 + width, y + 14, m[i]
        y += 22
    }
    print "</svg>"
}
